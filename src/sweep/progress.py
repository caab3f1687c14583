"""What a running sweep shows: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class View(Protocol):
    """Told about every run; one run at a time has index `index` of `total`."""

    def start(self, index: int, name: str) -> None:
        """A run begins."""

    def step(self, metrics: dict[str, float], step: int, steps: int) -> None:
        """The run has come to an optimizer step."""

    def end(self, message: str) -> None:
        """The run is over."""

    def __enter__(self) -> View: ...

    def __exit__(self, *_: object) -> None: ...


class LiveView:
    """A bar for the sweep and one for the run."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
        )
        self._bars = Progress(*columns, console=console, transient=True)
        self._sweep = self._bars.add_task("runs", total=total, note="")
        self._run = self._bars.add_task("", total=None, note="", visible=False)
        self._name = ""

    def start(self, index: int, name: str) -> None:
        """Show the run's bar."""
        self._name = name
        self._bars.reset(self._run, description=escape(name), total=None, visible=True, note="")
        self._bars.update(self._run, note="loading")

    def step(self, metrics: dict[str, float], step: int, steps: int) -> None:
        """Move the run's bar."""
        self._bars.update(self._run, completed=step, total=steps)
        if "train_loss" in metrics:
            self._bars.update(self._run, note=f"loss {metrics['train_loss']:.3f}")

    def end(self, message: str) -> None:
        """Print the outcome above the bars."""
        self._bars.console.print(escape(f"{self._name}: {message}"))
        self._bars.update(self._run, visible=False)
        self._bars.advance(self._sweep)

    def __enter__(self) -> LiveView:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


class LineView:
    """One line when a run starts, about every ten seconds, and when it ends."""

    EVERY_S = 10.0

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._prefix, self._started, self._shown = "", 0.0, 0.0

    def start(self, index: int, name: str) -> None:
        """Say which run begins."""
        self._prefix = f"[{index + 1}/{self._total}] {name}:"
        self._started = self._shown = time.monotonic()
        self._print("started")

    def step(self, metrics: dict[str, float], step: int, steps: int) -> None:
        """Say how far the run is, unless that was said a moment ago."""
        now = time.monotonic()
        if now - self._shown < self.EVERY_S or "train_loss" not in metrics:
            return
        self._shown = now
        left = (now - self._started) / step * (steps - step)
        loss = metrics["train_loss"]
        self._print(f"step {step}/{steps}, loss {loss:.3f}, about {left:.0f} s left")

    def end(self, message: str) -> None:
        """Say how the run ended."""
        self._print(message)

    def _print(self, text: str) -> None:
        self._console.print(f"{self._prefix} {text}", markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def view(console: Console, total: int) -> View:
    """The view that fits where the output goes."""
    return LiveView(console, total) if console.is_terminal else LineView(console, total)
