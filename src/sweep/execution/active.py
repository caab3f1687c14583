"""A try at work in a process of its own: what it says, and how it ends, without a word included."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from sweep.execution import faults, processes
from sweep.execution.forkserver import Context
from sweep.execution.tries import Try
from sweep.execution.worker import Outcome, close_left, run_worker

Step = tuple[dict[str, float], int, int]
"""Metrics, optimizer step, and how many steps there are."""


@dataclass(frozen=True, eq=False)
class Active:
    """A try that has begun."""

    attempt: Try
    process: Any
    connection: Connection
    started: float
    """By the monotonic clock."""
    memory_kills: int
    """The kernel's count of kills for memory when it was started."""

    def receive(self) -> Outcome | Step:
        """Return what the run says next; if its process died, the end that is recorded for it."""
        try:
            message: Outcome | Step = self.connection.recv()
        except (EOFError, OSError):
            return self._died()
        return message

    def is_late(self) -> bool:
        """Return whether it has taken longer than `trainer.timeout_min`."""
        minutes = self.attempt.spec.cfg.trainer.timeout_min
        return minutes is not None and 0 < minutes * 60 < time.monotonic() - self.started

    def ask_to_stop(self) -> None:
        """Ask for an end after the next checkpoint."""
        processes.ask_to_stop(self.process)

    def kill(self, status: str, reason: str) -> Outcome:
        """End it at once, and write down why."""
        processes.kill(self.process)
        return Outcome(close_left(self.attempt.spec, status, reason))

    def close(self) -> None:
        """Wait for a process that is over."""
        processes.end(self.process, self.connection)

    def _died(self) -> Outcome:
        self.process.join()
        code = self.process.exitcode
        starved = code == -signal.SIGKILL and faults.kills_for_memory() > self.memory_kills
        record = close_left(self.attempt.spec, "FAILED", faults.death(code, starved))
        return Outcome(record, faults.MEMORY if starved else faults.OTHER)


def begin(context: Context, attempt: Try) -> Active:
    """Start the process of a try."""
    started, kills = time.monotonic(), faults.kills_for_memory()
    process, connection = processes.start(context, run_worker, attempt.spec)
    return Active(attempt, process, connection, started, kills)
