"""Ctrl-C and SIGTERM taken for requests, which a loop looks at when it can."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)
NOTICES = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""What a scheduler sends ahead of a time limit or a preemption, as submitit asks Slurm to."""
Handler = Callable[[int, FrameType | None], Any]


class StopRequests:
    """Counts requests to stop as long as the block lasts; nothing is interrupted by them.

    A launcher that handles a scheduler's notice, say, to have the job queued again, is called at
    the end of the block: by then every run has left a checkpoint. It may raise SystemExit.
    """

    def __init__(self) -> None:
        self.count = 0
        self._notices: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> StopRequests:
        # Nobody else's notice is taken: without a handler of a launcher's, nobody waits for it.
        handled = [number for number in NOTICES if callable(signal.getsignal(number))]
        self._handlers: dict[int, Any] = {
            number: signal.signal(number, self._ask) for number in (*STOPS, *handled)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for number, frame in self._notices:
            self._handlers[number](number, frame)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if number in NOTICES:
            self._notices = [(number, frame)]
