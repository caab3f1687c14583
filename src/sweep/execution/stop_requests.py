"""Ctrl-C and SIGTERM taken for requests, which a loop looks at when it can."""

from __future__ import annotations

import signal
from typing import Any


class StopRequests:
    """Counts requests to stop as long as the block lasts; nothing is interrupted by them."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> StopRequests:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._handlers = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask(self, *_: Any) -> None:
        self.count += 1
