"""Tables on a terminal, CSV and Markdown: nothing is cut, and no text is taken for markup."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from sweep.base.words import Remark
from sweep.comparison.results import Baseline, Comparison, Difference, Interval, Row
from sweep.reporting import tables, terminal
from sweep.tracking import store as track

NUMBERS: dict[str, float] = {
    "eval_loss": 12.345,
    "eval_accuracy": 0.7654,
    "eval_f1": 0.7,
    "test_loss": 12.345,
    "test_accuracy": 0.7,
    "test_f1": 0.7,
    "train_runtime_s": 12_912.34,
    "train_samples_per_second": 12_345.6,
    "peak_memory_mib": 123_456.7,
    "trainable_params": 177_858_054,
    "trainable_fraction": 1.0,
}
SHOWN = ["0.765", "0.700", "12,912.3", "12,346", "123,457", "177,858,054", "100.00%", "±0.050"]
LONG = "none optimizer.learning_rate=2e-05 trainer.per_device_train_batch_size=32"


def row(name: str = "none", failures: tuple[str, ...] = (), **means: float) -> Row:
    """A row of three finished runs, or of none if it has no metrics."""
    metrics = {key: Interval(mean, 3, mean - 0.05, mean + 0.05) for key, mean in means.items()}
    finished = 3 if means else 0
    return Row(name, name.split()[0], "head" if means else "", finished, failures, metrics)


def compared(*rows: Row, **more: object) -> Comparison:
    """A comparison in which every row that has results was chosen."""
    chosen = [row for row in rows if row.finished]
    comparison = Comparison(list(rows), chosen, "test", [], [], [], None)
    return Comparison(**{**comparison.__dict__, **more})


def difference(a: str, b: str, verdict: str) -> Difference:
    """A difference of two points."""
    method = "t over seeds and texts"
    return Difference("test_accuracy", a, b, -0.02, -0.03, -0.01, 0.01, 0.01, verdict, method)


def printed(comparison: Comparison, width: int = 80) -> list[str]:
    """Lines of the comparison on a terminal of a given width."""
    console = Console(width=width, file=io.StringIO())
    terminal.print_comparison(console, comparison)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 120, 130, 160, 200])
@pytest.mark.parametrize("name", ["none", LONG, "an_unbreakable_name_" * 4], ids=["a", "b", "c"])
def test_no_number_is_wrapped_or_cut(name: str, width: int) -> None:
    lines = printed(compared(row(name, **NUMBERS), row("full", **NUMBERS)), width)
    words = [word.rstrip("*") for line in lines for word in line.split()]
    assert [number for number in SHOWN if words.count(number) < 2] == []
    assert not any("…" in line for line in lines)
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [80, 120, 160])
def test_no_letter_of_a_long_name_is_lost(width: int) -> None:
    lines = printed(compared(row(LONG, **NUMBERS), row("full", **NUMBERS)), width)
    first_column = "".join(re.split(r"\s{2,}", line[1:])[0] for line in lines)
    assert LONG.replace(" ", "") in first_column.replace(" ", "")


@pytest.mark.parametrize(("width", "tables"), [(80, 3), (180, 1)])
def test_a_narrow_terminal_gets_three_tables(width: int, tables: int) -> None:
    lines = printed(compared(row("none", **NUMBERS), row("full", **NUMBERS)), width)
    assert sum(line.startswith(" strategy") for line in lines) == tables


def test_the_best_of_a_column_has_a_mark_and_the_others_a_verdict() -> None:
    worse = {**NUMBERS, "test_accuracy": 0.68}
    comparison = compared(
        row("full", **worse),
        row("none", **NUMBERS),
        differences=[difference("full", "none", "worse")],
    )
    lines = printed(comparison)
    by_table = [[line.split()[1:] for line in lines[start : start + 2]] for start in (2, 6)]
    assert by_table == [
        [
            ["12.345*", "0.765*", "0.700*", "12.345*", "0.680", "0.700*"],
            ["12.345*", "0.765*", "0.700*", "12.345*", "0.700*", "0.700*"],
        ],
        [
            ["0.680", "±0.050", "0.700*", "±0.050", "worse", "3"],
            ["0.700*", "±0.050", "0.700*", "±0.050", "best", "3"],
        ],
    ]


def test_baselines_are_printed() -> None:
    comparison = compared(
        row("none", **NUMBERS),
        baselines=[Baseline(Remark("baseline.majority"), {"test_accuracy": 0.4, "runtime_s": 0.1})],
    )
    lines = printed(comparison, 120)
    assert "without fine-tuning, majority class: test acc 0.400" in lines


def test_a_strategy_that_failed_says_so_and_why() -> None:
    failure = "bias: FAILED: DivergedError: [loss] became nan"
    lines = printed(compared(row("none", **NUMBERS), row("bias", (failure,))))
    assert [line.split() for line in lines if line.startswith(" bias")] == [["bias", "failed"]] * 3
    assert failure in lines


def test_of_many_configurations_the_chosen_are_printed() -> None:
    rates = [row(f"{name} rate={r}", **NUMBERS) for r in range(6) for name in ("none", "full")]
    lost = [row(f"bias rate={r}", (f"bias rate={r}: FAILED: x",)) for r in range(2)]
    comparison = compared(*rates, *lost, chosen=[rates[4], rates[7]])
    lines = printed(comparison, 180)
    names = [" ".join(line.split()[:2]) for line in lines if " rate=" in line[:12]]
    assert names[:3] == ["none rate=2", "full rate=3", "bias rate=0"]
    assert "11 more configurations, not chosen by validation, are in report/summary.csv" in lines
    assert sum("FAILED" in line for line in lines) == 2


def test_few_configurations_are_all_printed() -> None:
    rows = [row(f"none rate={r}", **NUMBERS) for r in range(terminal.MOST_ROWS)]
    lines = printed(compared(*rows, chosen=rows[:1]), 180)
    assert sum(line.startswith(" none rate=") for line in lines) == terminal.MOST_ROWS
    assert not any("summary.csv" in line for line in lines)


def test_no_colour_is_sent_into_a_pipe() -> None:
    console = Console(width=80, file=io.StringIO())
    terminal.print_comparison(console, compared(row("bias", ("bias: FAILED: x",))))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b" not in console.file.getvalue()


def test_the_table_says_what_trains() -> None:
    assert "none: trains head, 100.00%" in printed(compared(row("none", **NUMBERS)))


def test_names_are_not_taken_for_markup() -> None:
    rows = [row("none data.label_names=[red]", **NUMBERS), row("full", **NUMBERS)]
    assert printed(compared(*rows), 160)[2].startswith(" none data.label_names=[red] ")


def test_the_csv_has_every_metric_with_its_interval(tmp_path: Path) -> None:
    spread = {"m": Interval(2, 2, 1, 3, 0.5)}
    rows = [
        Row("none, x", "none", "everything", 2, ("none: FAILED: x",), spread),
        Row("full", "full", "head", 1, (), {"m": Interval(5, 1)}),
        Row("bias", "bias", "", 0, ("bias: FAILED: x",), {}),
    ]
    tables.write(compared(*rows), tmp_path / "report")
    with (tmp_path / "report" / "summary.csv").open(newline="", encoding="utf-8") as file:
        head, *lines = list(csv.reader(file))
    assert head[:7] == [
        "configuration",
        "strategy",
        "trains",
        "runs",
        "failed",
        "chosen",
        "verdict",
    ]
    assert head[7:] == ["m", "m_low", "m_high", "m_sd", "m_n"]
    assert [[*line[:6], *line[7:]] for line in lines] == [
        ["none, x", "none", "everything", "2", "1", "1", "2", "1", "3", "0.5", "2"],
        ["full", "full", "head", "1", "0", "1", "5", "", "", "", "1"],
        ["bias", "bias", "", "0", "1", "0", "", "", "", "", ""],
    ]


@pytest.mark.parametrize("start", ["=cmd|'/c calc'!A1", "+1+1", "-1+1", "@x", "\ttab"])
def test_no_text_is_a_formula_for_a_spreadsheet(start: str, tmp_path: Path) -> None:
    tables.write(compared(Row(start, start, start, 1, (), {"m": Interval(-5, 1)})), tmp_path)
    with (tmp_path / "summary.csv").open(newline="", encoding="utf-8") as file:
        line = list(csv.DictReader(file))[0]
    assert line["configuration"] == line["strategy"] == line["trains"] == f"'{start}"
    assert line["m"] == "-5"


def test_the_markdown_has_the_verdict_the_table_and_the_failures(tmp_path: Path) -> None:
    comparison = compared(row("none", **NUMBERS), row("bias", ("bias: FAILED: x",)), warnings=["w"])
    tables.write(comparison, tmp_path)
    text = (tmp_path / "summary.md").read_text("utf-8")
    assert text.startswith("“none” alone has a result, 70.0 % \\[65.0, 75.0\\] test accuracy;")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table == [
        "| strategy | trainable | share | val loss | val acc | val F1 | test loss | test acc"
        " | test F1 | verdict | n | train s | texts /s | peak MiB |",
        "|---" + "|---:" * 13 + "|",
        "| none | 177,858,054 | 100.00% | 12.345 | 0.765 | 0.700 | 12.345 | 0.700 ±0.050"
        " | 0.700 ±0.050 | - | 3 | 12,912.3 | 12,346 | 123,457 |",
        "| bias | - | - | - | - | - | - | - | - | - | 0 | - | - | - |",
    ]
    assert text.splitlines()[-2:] == ["- w", "- bias: FAILED: x"]


def test_nothing_in_a_name_or_reason_breaks_the_markdown(tmp_path: Path) -> None:
    failure = "none: FAILED: <script>\nsecond | line"
    tables.write(compared(row("none data.separator=|", (failure,))), tmp_path)
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert [line for line in lines if line.startswith(r"| none data.separator=\| | - |")]
    assert lines[-1] == r"- none: FAILED: &lt;script&gt; second \| line"


def test_links_are_printed_whole_however_long(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").touch()
    console = Console(width=40, file=io.StringIO())
    store = track.Store("sqlite:////x/mlflow.db", "1")
    terminal.print_links(console, tmp_path, store, "s", ["a" * 32, "b" * 32])
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        f"results: {tmp_path}",
        f"report: {tmp_path}/report/index.html",
        f"open: {store.ui_command()}",
        "runs: http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=s",
        f"compare: {store.compare_url(['a' * 32, 'b' * 32])}",
    ]


def test_without_tracking_only_the_folder_is_printed() -> None:
    console = Console(width=40, file=io.StringIO())
    terminal.print_links(console, Path("here"), track.Store(None), "s", ["a"])
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "results: here\n"
