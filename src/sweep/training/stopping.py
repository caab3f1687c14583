"""Requests for a run to stop, and its answer; needs none of the heavy libraries."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from sweep.base.words import Remark


class Stopped(Exception):  # noqa: N818  # nothing went wrong
    """The run was asked to stop, and has."""

    def __init__(self, step: int) -> None:
        self.remark = Remark("end.stopped" if step else "end.not_begun", {"step": step})
        super().__init__(str(self.remark))


@dataclass
class StopRequest:
    """Becomes true when the run is asked to stop: by SIGTERM, or because its sweep is gone."""

    asked: bool = False

    def listen(self) -> None:
        """Let SIGTERM ask from now on, in this process."""
        signal.signal(signal.SIGTERM, self.ask)

    def ask(self, *_: Any) -> None:
        """Stop at the next step."""
        self.asked = True
