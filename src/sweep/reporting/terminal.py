"""A comparison in plain text: the tables of the terminal, CSV and Markdown."""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sweep.base import words
from sweep.base.words import Text
from sweep.comparison.compare import HIGHER_IS_BETTER, best
from sweep.comparison.results import Comparison, Interval, Row
from sweep.reporting import sentences
from sweep.runs.record import Record
from sweep.tracking.store import Store


@dataclass(frozen=True)
class Column:
    """A metric and how to write it."""

    metric: str
    title: str
    form: str
    spread: bool = False
    """Show half the width of the interval behind the mean."""


VALIDATION, TEST = (
    tuple(
        Column(f"{split}_{metric}", f"{title} {short}", ".3f")
        for metric, short in (("loss", "loss"), ("accuracy", "acc"), ("f1", "F1"))
    )
    for split, title in (("eval", "val"), ("test", "test"))
)
COST = (
    Column("train_runtime_s", "train s", ",.1f"),
    Column("train_samples_per_second", "texts /s", ",.0f"),
    Column("peak_memory_mib", "peak MiB", ",.0f"),
)
SIZE = (
    Column("trainable_params", "trainable", ",.0f"),
    Column("trainable_fraction", "share", ".2%"),
)
VERDICT, SEEDS = "verdict", "n"
"""Columns that show no metric: against the best, and how many seeds."""
Columns = Sequence[Column | str]


MOST_ROWS = 12
"""Where there are more configurations, only one per strategy is printed."""


def print_comparison(console: Console, found: Comparison, most: int = MOST_ROWS) -> None:
    """Print one row per configuration, what trains, baselines and failures.

    `*` marks the best mean of a column. Where one table would cut a cell, means, intervals and
    cost come as three.

    Args:
        console: Gets the lines.
        found: What to print.
        most: Above this number of configurations, those that were not chosen are left out.
    """
    rows = found.rows if len(found.rows) <= most else _one_each(found)
    _print_tables(console, replace(found, rows=rows))
    if left := len(found.rows) - len(rows):
        line = f"{left} more configurations, not chosen by validation, are in report/summary.csv"
        console.print(line, highlight=False)
    for row in {row.label: row for row in found.rows if row.trains}.values():
        share = row.metrics.get("trainable_fraction")
        shown = f", {share.mean:.2%}" if share else ""
        console.print(f"{escape(row.label)}: trains {escape(row.trains)}{shown}", highlight=False)
    for line in _baseline_lines(found):
        console.print(line, markup=False, highlight=False)
    if any(row.finished for row in found.rows):
        console.print(_legend(found), highlight=False)
    for failure in (text for row in found.rows for text in row.failures):
        console.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)


def _print_tables(console: Console, found: Comparison) -> None:
    table = _table(found, _all_columns(found))
    if console.measure(table, options=console.options.update(width=1000)).minimum <= console.width:
        console.print(table)
    else:
        console.print(_table(found, (*VALIDATION, *_test(found))))
        console.print(_table(found, (*map(_with_spread, _compared(found)), VERDICT, SEEDS)))
        console.print(_table(found, (*SIZE, *COST)))


def _one_each(found: Comparison) -> list[Row]:
    """Per strategy the chosen configuration, else the first, in the order they were run."""
    first = {row.label: row for row in reversed(found.rows)}
    kept = first | {row.label: row for row in found.chosen}
    return [row for row in found.rows if row is kept[row.label]]


def print_notes(console: Console, records: Sequence[Record]) -> None:
    """Say once what was dropped, cut, drawn anew or not used, and in which runs."""
    owners: dict[str, list[str]] = {}
    for record in records:
        for note in record.notes:
            owners.setdefault(note, []).append(record.name)
    for note, names in owners.items():
        where = "" if len(names) == len(records) else f"{', '.join(names)}: "
        console.print(f"{where}{note}", markup=False, highlight=False, soft_wrap=True)


def print_links(
    console: Console, folder: Path, store: Store, sweep_id: str, run_ids: Sequence[str]
) -> None:
    """Say where the results are and what opens them."""
    page = folder / "report" / "index.html"
    lines = {
        "results": str(folder),
        "report": str(page) if page.exists() else "",
        "open": store.ui_command(),
        "runs": store.runs_url(sweep_id),
        # A page that compares hundreds of runs shows nothing, and its address fills the screen.
        "compare": store.compare_url(run_ids[:MOST_COMPARED]),
    }
    for title, line in lines.items():
        if line:
            console.print(f"{title}: {line}", markup=False, highlight=False, soft_wrap=True)


MOST_COMPARED = 50


def write(found: Comparison, folder: Path) -> None:
    """Write summary.csv with every metric, and summary.md with the table."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = sorted({metric for row in found.rows for metric in row.metrics})
    verdicts = _verdicts(found)
    with (folder / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        ends = ("", "_low", "_high", "_sd", "_n")
        parts = [f"{metric}{end}" for metric in metrics for end in ends]
        writer.writerow(
            ["configuration", "strategy", "trains", "runs", "failed", "chosen", "verdict", *parts]
        )
        for row in found.rows:
            values = [_numbers(row.metrics.get(metric)) for metric in metrics]
            texts = [row.name, row.strategy, row.trains]
            known = [row.finished, len(row.failures), int(_is_chosen(found, row))]
            cells = [*map(_cell_text, texts), *known, verdicts.get(row.name, "")]
            writer.writerow([*cells, *(value for part in values for value in part)])
    (folder / "summary.md").write_text(markdown(found), "utf-8")


def markdown(found: Comparison) -> str:
    """The verdict, the table, the warnings and the failures."""
    columns = _all_columns(found)
    verdict = [_inline(text) for text in sentences.verdict(found, words.load("en"))]
    lines = [
        *(line for text in verdict for line in (text, "")),
        " | ".join(["| strategy", *map(_title, columns)]) + " |",
        "|---" + "|---:" * len(columns) + "|",
    ]
    texts = _texts(found, columns)
    for row, cells in zip(found.rows, texts, strict=True):
        lines.append(" | ".join([f"| {_inline(row.name)}", *cells]) + " |")
    for baseline in found.baselines:
        cells = [_baseline_cell(c, baseline.metrics) for c in columns]
        lines.append(" | ".join([f"| {_inline(baseline.name)}", *cells]) + " |")
    failures = [text for row in found.rows for text in row.failures]
    lines += ["", *(f"- {_inline(text)}" for text in (*found.warnings, *failures))]
    return "\n".join(lines) + "\n"


def _test(found: Comparison) -> tuple[Column, ...]:
    return TEST if found.split == "test" else ()


def _compared(found: Comparison) -> tuple[Column, ...]:
    """Accuracy and F1 of the split that strategies are compared on."""
    return (_test(found) or VALIDATION)[1:]


def _with_spread(column: Column) -> Column:
    return replace(column, spread=True)


def _all_columns(found: Comparison) -> Columns:
    compared = _compared(found)
    scores = [_with_spread(c) if c in compared else c for c in (*VALIDATION, *_test(found))]
    return (*SIZE, *scores, VERDICT, SEEDS, *COST)


def _is_chosen(found: Comparison, row: Row) -> bool:
    return any(row.name == other.name and row.group == other.group for other in found.chosen)


def _baseline_lines(found: Comparison) -> list[str]:
    """What is reached without fine-tuning; its seconds are not the training time of a model."""
    lines = []
    for baseline in found.baselines:
        scores = [
            f"{column.title} {baseline.metrics[column.metric]:{column.form}}"
            for column in _compared(found)
            if column.metric in baseline.metrics
        ]
        lines.append(f"without fine-tuning, {baseline.name}: {', '.join(scores)}")
    return lines


def _legend(found: Comparison) -> str:
    level = f"{found.confidence:.0%}"
    spread = any(i.low is not None for row in found.rows for i in row.metrics.values())
    ends = f" ± is the {level} interval." if spread else ""
    return f"* best of its column, means over n seeds.{ends} Test scores choose nothing."


def _table(found: Comparison, columns: Columns) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("strategy", overflow="fold", min_width=9)
    by_row = _texts(found, columns)
    for place, column in enumerate(columns):
        # Else rich takes a title's longest word for all the room that the column needs.
        width = max(len(text) for text in [_title(column), *(cells[place] for cells in by_row)])
        table.add_column(_title(column), justify="right", no_wrap=True, min_width=width)
    for row, cells in zip(found.rows, by_row, strict=True):
        if row.finished:
            table.add_row(escape(row.name), *cells)
        else:
            table.add_row(escape(row.name), "failed", style="red")
    return table


def _texts(found: Comparison, columns: Columns) -> list[list[str]]:
    """One list of cells per row."""
    verdicts = _verdicts(found)
    by_column = []
    for column in columns:
        if isinstance(column, Column):
            known = column.metric in HIGHER_IS_BETTER
            marked = best(found.rows, column.metric) if known else set()
            by_column.append([_cell(row, column, marked) for row in found.rows])
        elif column == VERDICT:
            by_column.append([verdicts.get(row.name, "-") for row in found.rows])
        else:
            by_column.append([str(row.finished) for row in found.rows])
    return [list(cells) for cells in zip(*by_column, strict=True)]


def _verdicts(found: Comparison) -> dict[str, str]:
    """Per chosen configuration, how it stands against the best of its group."""
    texts = {}
    for group in sentences.groups(found):
        rows = sentences.ranked(found, group)
        for row in rows:
            d = sentences.between(found, row, rows[0]) if len(rows) > 1 else None
            texts[row.name] = d.verdict if d else "best" if row is rows[0] and rows[1:] else "-"
    return texts


def _title(column: Column | str) -> str:
    return column.title if isinstance(column, Column) else column


def _cell(row: Row, column: Column, marked: set[str]) -> str:
    found = row.metrics.get(column.metric)
    if found is None:
        return "-"
    text = format(found.mean, column.form) + ("*" if row.name in marked else "")
    if not column.spread or found.low is None or found.high is None:
        return text
    return f"{text} ±{(found.high - found.low) / 2:{column.form}}"


def _baseline_cell(column: Column | str, metrics: dict[str, float]) -> str:
    if isinstance(column, str) or column.metric not in metrics:
        return "-"
    return format(metrics[column.metric], column.form)


def _numbers(found: Interval | None) -> list[float | int | str]:
    values = [found.mean, found.low, found.high, found.sd, found.n] if found else [None] * 5
    return ["" if value is None else value for value in values]


def _cell_text(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _inline(text: Text) -> str:
    """Text in one cell or line of Markdown, with nothing in it taken for markup."""
    escaped = re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(str(text), quote=False))
    return " ".join(escaped.split())
