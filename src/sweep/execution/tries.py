"""The tries that have not begun: which are due, which wait for their time or for another sweep."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sweep.runs.record import RunSpec


@dataclass(frozen=True)
class Try:
    """A run that has not ended; once more after each fault that may have passed."""

    index: int
    """Of the run in its sweep."""
    spec: RunSpec
    passed: int = 0
    """How many faults that pass have been met with another try."""
    not_before: float = 0.0
    """By the monotonic clock."""

    def later(self, seconds: float) -> Try:
        """Return it to begin after a while."""
        return replace(self, not_before=time.monotonic() + seconds)


class Queue:
    """Tries in the order in which they begin, unless it is too early for one."""

    def __init__(self, tries: Iterable[Try]) -> None:
        self._tries = list(tries)

    def __bool__(self) -> bool:
        return bool(self._tries)

    def due(self) -> list[Try]:
        """Return those that may begin now, the first to begin first."""
        now = time.monotonic()
        return [each for each in self._tries if each.not_before <= now]

    def remove(self, due: Try) -> None:
        """Take out a try that begins, or that is not needed any more."""
        self._tries.remove(due)

    def postpone(self, due: Try, seconds: float) -> None:
        """Let a try wait where it stands."""
        self._tries[self._tries.index(due)] = due.later(seconds)

    def add_first(self, again: Try) -> None:
        """Add a try that begins before all others once its time has come."""
        self._tries.insert(0, again)

    def add_last(self, again: Try) -> None:
        """Add a try that begins after the others."""
        self._tries.append(again)
