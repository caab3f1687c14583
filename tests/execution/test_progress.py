"""What a running sweep shows, on a terminal and in a file."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from sweep.execution import progress
from sweep.execution.progress import LineView, LiveView, Pace, duration, view

Tick = Callable[[float], None]


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> Tick:
    """Lets seconds pass."""
    now = [1_000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=80, force_terminal=False, file=io.StringIO())


@pytest.fixture
def lines(console: Console) -> Callable[[], list[str]]:
    return lambda: console.export_text().splitlines()


# How long it takes.


def test_the_time_left_is_that_of_the_runs_that_are_left(tick: Tick) -> None:
    pace = Pace(total=4)
    assert pace.left_s() is None
    tick(60)
    pace.finish(0, failed=False)
    assert pace.left_s() == 180
    tick(30)
    pace.move(1, 0.5)
    assert pace.left_s() == pytest.approx(150)
    assert pace.summary() == "1 of 4 done, about 2 min left"


def test_runs_that_were_finished_before_took_no_time(tick: Tick) -> None:
    pace = Pace(total=6, done=3)
    tick(10)
    pace.finish(3, failed=False)
    assert pace.left_s() == 20


def test_runs_side_by_side_count_together(tick: Tick) -> None:
    pace = Pace(total=4)
    tick(100)
    pace.move(0, 0.5)
    pace.move(1, 0.5)
    assert pace.left_s() == 300


def test_failures_are_counted(tick: Tick) -> None:
    pace = Pace(total=2)
    tick(1)
    pace.finish(0, failed=True)
    pace.finish(1, failed=False)
    assert pace.summary() == "2 of 2 done, 1 failed"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (40, "40 s"), (99, "99 s"), (720, "12 min"), (12_000, "3 h 20 min")],
)
def test_a_duration_is_put_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# In a file.


def test_lines_of_runs_side_by_side_say_which_run_they_are_about(
    console: Console, lines: Callable[[], list[str]], tick: Tick
) -> None:
    with LineView(console, Pace(6)) as shown:
        shown.start(2, "none seed=1")
        shown.start(3, "full seed=1")
        shown.step(2, {"train_loss": 1.5}, 1, 10)
        shown.step(3, {"train_loss": 1.0}, 1, 10)
        tick(11)
        shown.step(3, {"train_loss": 0.9}, 5, 10)
        shown.step(2, {"train_loss": 1.25}, 2, 10)
        shown.end(3, "full seed=1", "finished, test accuracy 0.750")
        shown.end(2, "none seed=1", "FAILED: it went wrong", failed=True)
    assert lines() == [
        "[3/6] none seed=1: started",
        "[4/6] full seed=1: started",
        "[4/6] full seed=1: step 5/10, loss 0.900, about 14 s left; 0 of 6 done, about 99 s left",
        "[3/6] none seed=1: step 2/10, loss 1.250, about 88 s left; 0 of 6 done, about 83 s left",
        "[4/6] full seed=1: finished, test accuracy 0.750",
        "[3/6] none seed=1: FAILED: it went wrong",
    ]


def test_a_run_is_heard_of_every_ten_seconds(
    console: Console, lines: Callable[[], list[str]], tick: Tick
) -> None:
    shown = LineView(console, Pace(1))
    shown.start(0, "none")
    for step in range(1, 101):
        tick(1)
        shown.step(0, {"train_loss": 1.0}, step, 100)
    steps = [int(found[1]) for line in lines() if (found := re.search(r"step (\d+)/100", line))]
    assert steps == list(range(10, 101, 10))


def test_a_single_run_shows_its_own_time_left_alone(
    console: Console, lines: Callable[[], list[str]], tick: Tick
) -> None:
    shown = LineView(console, Pace(1))
    shown.start(0, "none")
    shown.step(0, {"train_loss": 1.0}, 1, 10)
    tick(20)
    shown.step(0, {"train_loss": 0.5}, 5, 10)
    assert lines()[-1] == "[1/1] none: step 5/10, loss 0.500, about 25 s left"


def test_waiting_is_said_once(console: Console, lines: Callable[[], list[str]]) -> None:
    shown = LineView(console, Pace(2))
    for _ in range(3):
        shown.wait(0, "none")
    shown.end(0, "none", "finished by another sweep")
    assert lines() == [
        "[1/2] none: waits, another sweep trains the same",
        "[1/2] none: finished by another sweep",
    ]


def test_a_run_that_is_tried_again_says_why(
    console: Console, lines: Callable[[], list[str]], tick: Tick
) -> None:
    shown = LineView(console, Pace(1))
    shown.start(0, "none")
    shown.step(0, {"train_loss": 1.0}, 50, 100)
    shown.retry(0, "none", "out of memory with batches of 8")
    shown.start(0, "none")
    shown.step(0, {"train_loss": 1.0}, 1, 200)
    tick(20)
    shown.step(0, {"train_loss": 1.0}, 101, 200)
    assert lines() == [
        "[1/1] none: started",
        "[1/1] none: out of memory with batches of 8",
        "[1/1] none: started",
        "[1/1] none: step 101/200, loss 1.000, about 20 s left",
    ]


AWKWARD = "none data.label_pattern=[red]x[/red] data.separator=\\"


def test_names_are_shown_as_they_are(console: Console, lines: Callable[[], list[str]]) -> None:
    shown = LineView(console, Pace(1))
    shown.start(0, AWKWARD)
    shown.end(0, AWKWARD, "FAILED: [bold]no[/bold]", failed=True)
    assert lines() == [f"[1/1] {AWKWARD}: started", f"[1/1] {AWKWARD}: FAILED: [bold]no[/bold]"]


def test_a_long_line_is_not_broken(console: Console, lines: Callable[[], list[str]]) -> None:
    LineView(console, Pace(1)).say("x" * 200)
    assert lines() == ["x" * 200]


# On a terminal.


@pytest.fixture
def terminal() -> Console:
    return Console(record=True, width=80, force_terminal=True, file=io.StringIO())


def bars(shown: LiveView) -> list[str]:
    """The bars as they stand, without their drawing."""
    plain = Console(width=80, file=io.StringIO(), record=True, force_terminal=False)
    plain.print(shown._bars.get_renderable())
    return [" ".join(re.sub(r"[━╸╺]+", "", x).split()) for x in plain.export_text().splitlines()]


def test_there_is_a_bar_for_the_sweep_and_one_per_run_at_work(
    terminal: Console, tick: Tick
) -> None:
    shown = LiveView(terminal, Pace(6, done=2))
    shown.start(2, "none")
    shown.start(3, "full")
    tick(10)
    shown.step(2, {"train_loss": 1.5}, 5, 10)
    sweep, none, full = bars(shown)
    assert sweep.startswith("runs ")
    assert "2 of 6 done, about 70 s left" in sweep
    assert none.startswith("none 5/10 loss 1.500")
    assert full.startswith("full 0/? loading")


def test_the_bar_of_a_run_goes_with_it_and_its_end_stays(terminal: Console, tick: Tick) -> None:
    shown = LiveView(terminal, Pace(3))
    shown.start(0, "none")
    shown.step(0, {"train_loss": 1.5}, 5, 10)
    tick(10)
    shown.end(0, "none", "FAILED: it went wrong", failed=True)
    (sweep,) = bars(shown)
    assert "1 of 3 done, 1 failed, about 20 s left" in sweep
    assert "none: FAILED: it went wrong" in terminal.export_text()


def test_a_run_that_waits_or_is_tried_again_has_one_bar(terminal: Console) -> None:
    shown = LiveView(terminal, Pace(2))
    shown.wait(0, "none")
    assert bars(shown)[1].startswith("none 0/? another sweep trains the same")
    shown.wait(0, "none")
    shown.start(0, "none")
    shown.retry(0, "none", "out of memory")
    shown.start(0, "none")
    assert len(bars(shown)) == 2
    assert "none: out of memory" in terminal.export_text()


def test_names_on_bars_are_shown_as_they_are(terminal: Console) -> None:
    shown = LiveView(terminal, Pace(1))
    shown.start(0, "none [red]x[/red]")
    assert bars(shown)[1].startswith("none [red]x[/red]")
    shown.end(0, AWKWARD, "finished")
    assert f"{AWKWARD}: finished" in terminal.export_text()


def test_lines_above_the_bars_come_whole(terminal: Console, tick: Tick) -> None:
    with LiveView(terminal, Pace(2)) as shown:
        shown.start(0, "none")
        shown.start(1, "full")
        shown.end(0, "none", "finished, test accuracy 0.750, trained in 1.0 s")
        shown.say("stopping after a checkpoint; Ctrl-C again stops at once")
    text = terminal.export_text()
    assert "none: finished, test accuracy 0.750, trained in 1.0 s" in text
    assert "stopping after a checkpoint; Ctrl-C again stops at once" in text


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, LiveView), (False, LineView)])
def test_the_view_fits_where_the_output_goes(is_terminal: bool, kind: type) -> None:
    assert isinstance(view(Console(force_terminal=is_terminal), Pace(1)), kind)
