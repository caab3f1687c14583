"""Show a running sweep: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


class View(Protocol):
    """Told about every run, by its index among all runs of the sweep; several run at a time."""

    def start(self, index: int, name: str) -> None:
        """Show that a run begins."""

    def wait(self, index: int, name: str) -> None:
        """Show that another sweep trains the same run."""

    def step(self, index: int, metrics: dict[str, float], step: int, steps: int) -> None:
        """Show that a run has come to an optimizer step."""

    def retry(self, index: int, name: str, why: str) -> None:
        """Show that a run failed and will be tried again."""

    def end(self, index: int, name: str, message: str, failed: bool = False) -> None:
        """Show that a run is over."""

    def say(self, message: str) -> None:
        """Show a message about the sweep."""

    def __enter__(self) -> View: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass
class Pace:
    """The pace of a sweep so far, which tells how long the rest takes."""

    total: int
    done: int = 0
    """Runs that are over, those included that an earlier sweep has done."""
    failed: int = 0
    _began: float = field(default_factory=lambda: time.monotonic())
    _parts: dict[int, float] = field(default_factory=dict)
    """Share of each active run that is done."""

    def __post_init__(self) -> None:
        self._reused = self.done

    def move(self, index: int, part: float) -> None:
        """Count the share of its steps that an active run has done."""
        self._parts[index] = part

    def finish(self, index: int, failed: bool) -> None:
        """Count a run that is over."""
        self._parts.pop(index, None)
        self.done += 1
        self.failed += failed

    def left_s(self) -> float | None:
        """Return the seconds left; None while there is nothing to tell it from."""
        parts = self.done + sum(self._parts.values())
        trained = parts - self._reused
        if trained < 0.02:
            return None
        return (time.monotonic() - self._began) / trained * (self.total - parts)

    def summary(self) -> str:
        """Return the counts and time left, for the sweep's own line."""
        left = self.left_s()
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} done{failed}" + (
            f", about {duration(left)} left" if left is not None and self.done < self.total else ""
        )


class LiveView:
    """A bar for the sweep and one for each run at work."""

    def __init__(self, console: Console, pace: Pace) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
        )
        self._pace = pace
        self._bars = Progress(*columns, console=console, transient=True)
        self._sweep = self._bars.add_task("runs", total=pace.total, note="")
        self._runs: dict[int, TaskID] = {}

    def start(self, index: int, name: str) -> None:
        """Show the run's bar."""
        self._hide(index)
        self._runs[index] = self._bars.add_task(escape(name), total=None, note="loading")

    def wait(self, index: int, name: str) -> None:
        """Show that the run waits."""
        self.start(index, name)
        self._bars.update(self._runs[index], note="another sweep trains the same")

    def step(self, index: int, metrics: dict[str, float], step: int, steps: int) -> None:
        """Move the run's bar."""
        bar = self._runs[index]
        self._bars.update(bar, completed=step, total=steps)
        if "train_loss" in metrics:
            self._bars.update(bar, note=f"loss {metrics['train_loss']:.3f}")
        self._pace.move(index, step / steps)
        self._count()

    def retry(self, index: int, name: str, why: str) -> None:
        """Print why above the bars."""
        self._hide(index)
        self.say(f"{name}: {why}")

    def end(self, index: int, name: str, message: str, failed: bool = False) -> None:
        """Print the outcome above the bars."""
        self._hide(index)
        self._pace.finish(index, failed)
        self.say(f"{name}: {message}")
        self._count()

    def say(self, message: str) -> None:
        """Print above the bars."""
        self._bars.console.print(message, markup=False, highlight=False)

    def _count(self) -> None:
        self._bars.update(self._sweep, completed=self._pace.done, note=self._pace.summary())

    def _hide(self, index: int) -> None:
        if index in self._runs:
            self._bars.remove_task(self._runs.pop(index))

    def __enter__(self) -> LiveView:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


class LineView:
    """One line when a run starts, about every ten seconds, and when it ends."""

    EVERY_S = 10.0

    def __init__(self, console: Console, pace: Pace) -> None:
        self._console, self._pace = console, pace
        self._names: dict[int, str] = {}
        self._started: dict[int, tuple[float, int]] = {}
        self._shown: dict[int, float] = {}

    def start(self, index: int, name: str) -> None:
        """Say which run begins."""
        self._shown[index] = time.monotonic()
        self._started.pop(index, None)
        self._names[index] = name
        self._print(index, "started")

    def wait(self, index: int, name: str) -> None:
        """Say once that the run waits."""
        if index not in self._names:
            self._names[index] = name
            self._print(index, "waits, another sweep trains the same")

    def step(self, index: int, metrics: dict[str, float], step: int, steps: int) -> None:
        """Say how far the run is, unless that was said a moment ago."""
        now = time.monotonic()
        begun, first = self._started.setdefault(index, (now, step))
        self._pace.move(index, step / steps)
        if now - self._shown[index] < self.EVERY_S or "train_loss" not in metrics or step == first:
            return
        self._shown[index] = now
        left = (now - begun) / (step - first) * (steps - step)
        loss = metrics["train_loss"]
        about = f"step {step}/{steps}, loss {loss:.3f}, about {duration(left)} left"
        self._print(index, f"{about}; {self._pace.summary()}" if self._pace.total > 1 else about)

    def retry(self, index: int, name: str, why: str) -> None:
        """Say why."""
        self._print(index, why)

    def end(self, index: int, name: str, message: str, failed: bool = False) -> None:
        """Say how the run ended."""
        self._names[index] = name
        self._pace.finish(index, failed)
        self._print(index, message)

    def say(self, message: str) -> None:
        """Print a line."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _print(self, index: int, text: str) -> None:
        self.say(f"[{index + 1}/{self._pace.total}] {self._names[index]}: {text}")

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def duration(seconds: float) -> str:
    """Return a duration such as `40 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def view(console: Console, pace: Pace) -> View:
    """Return the view that fits where the output goes."""
    return LiveView(console, pace) if console.is_terminal else LineView(console, pace)
