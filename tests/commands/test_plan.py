"""What would run: the table, what is done already, and what is told about mistakes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.config import compose

from sweep.commands import plan
from sweep.commands.inputs import Checked
from sweep.commands.plan import Entry, main, print_plan
from sweep.commands.sweep import main as sweep
from sweep.config.compose import Job
from sweep.runs.estimate import Guess, Size

SIZE = Size(12_345_678, 177_855_000, 1e8, "bf16", "a CPU")


def entry(name: str, status: str = "to do", left: float = 1.0, *known: float) -> Entry:
    cfg = compose(f"freeze={name}")
    checked = Checked(Job((), {"freeze": name, "optimizer.learning_rate": "2e-5"}, cfg), "", 3, 100)
    return Entry(checked, SIZE, status, left, Guess(*known))


def printed(*entries: Entry, width: int = 80) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    print_plan(console, entries)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_table_says_what_is_there_and_what_is_to_come() -> None:
    head, _, *rows = printed(
        entry("none", "finished", 0.0, 600.0, 2_345.0),
        entry("attention", "goes on from step 120", 0.25, 600.0, 1_800.0),
        entry("full", "to do", 1.0, 60.0, 700.0),
    )
    assert head.split() == ["run", "trainable", "share", "status", "time", "peak", "MiB"]
    assert [" ".join(row.split()) for row in rows] == [
        "none 12,345,678 6.94% finished",
        "optimizer.learnin",
        "g_rate=2e-5",
        "attention 12,345,678 6.94% goes on from step 2 min 1,800",
        "optimizer.learnin 120",
        "g_rate=2e-5",
        "full 12,345,678 6.94% to do 60 s 700",
        "optimizer.learnin",
        "g_rate=2e-5",
        "none: trains everything",
        "attention: trains attention, pooler, head",
        "full: trains head",
        "3 runs: 1 finished, 1 to go on, 1 to do",
        "optimizer steps per run: 8",
        "about 4 min, one after the other",
        "peak memory about 1,800 MiB, per run at a time",
    ]


def test_different_numbers_of_steps_are_told_as_a_range() -> None:
    entries = [entry("none") for _ in range(3)]
    for each, steps in zip(entries, (2_000, 10, 300), strict=True):
        each.checked.job.cfg.trainer.max_steps = steps
    assert "optimizer steps per run: 10 to 2,000" in printed(*entries)


def test_what_is_not_known_is_shown_as_a_dash_and_said_below() -> None:
    lines = printed(entry("none", "to do", 1.0, 600.0, 900.0), entry("full"))
    assert "at least 10 min, one after the other" in lines
    assert "-: nothing like it has finished in mlruns/; --measure times a few steps" in lines


def test_what_each_strategy_trains_is_said_once() -> None:
    lines = printed(entry("full"), entry("full"), entry("none"))
    assert [line for line in lines if ": trains " in line] == [
        "full: trains head",
        "none: trains everything",
    ]


@pytest.mark.parametrize("width", [80, 200])
def test_no_number_is_cut(width: int) -> None:
    long = entry("feed_forward", "goes on from step 123456", 0.5, 400_000.0, 123_456.0)
    long.checked.job.swept["data.path"] = "/a/very/long/path/" * 5
    text = "\n".join(printed(long, width=width))
    for number in ("12,345,678", "6.94%", "123,456", "55 h 33 min"):
        assert number in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_seeds_and_rates_are_measured_once() -> None:
    first, other = entry("none"), entry("full")
    cfg = first.checked.job.cfg
    rate = replace(cfg.optimizer, learning_rate=1.0)
    again = replace(
        first,
        checked=replace(
            first.checked, job=replace(first.checked.job, cfg=replace(cfg, seed=3, optimizer=rate))
        ),
    )
    assert plan._one_of_each([first, again, other]) == [first, other]


def test_nothing_is_trained_and_what_is_finished_is_seen(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["freeze=full,none", "seed=0,1", "tracking=none", *overrides]
    assert main(command) == 0
    before = capsys.readouterr().out
    assert "4 runs: 0 finished, 4 to do" in before
    assert "full seed=0 " in before
    assert list(tmp_path.glob("mlruns/sweeps/*")) == []
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()
    assert sweep(["freeze=full", "tracking=none", *overrides]) == 0
    capsys.readouterr()
    assert main(command) == 0
    after = capsys.readouterr().out
    assert "4 runs: 1 finished, 3 to do" in after
    assert "one after the other" in after
    assert "--measure" not in after
    assert len(list(tmp_path.glob("mlruns/sweeps/*"))) == 1


def test_measuring_tells_what_is_unknown_and_leaves_nothing(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--measure", "freeze=full", "seed=0,1", *overrides]) == 0
    found = capsys.readouterr().out
    assert "[1/1] full seed=0: started" in found
    assert "2 runs: 0 finished, 2 to do" in found
    assert "one after the other" in found
    assert "-: " not in found
    assert list(tmp_path.glob("mlruns/sweeps/*")) == []


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("seed=one", "seed=one has the wrong type. It has to be an integer."),
        ("--mesure", "'--mesure' is no option. The options are"),
    ],
)
def test_a_mistake_is_told_as_the_sweep_would_tell_it(
    typed: str, message: str, capsys: Any
) -> None:
    assert main(["freeze=none", typed]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {message}")


def test_help_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: python -m sweep.plan ")
    assert "--measure" in text
    assert max(map(len, text.splitlines())) <= 100
