"""GPUs handed out to runs: first those that nobody uses, then those of this sweep once more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from filelock import FileLock, Timeout

from sweep.execution import contention


@dataclass
class GpuAllotment:
    """The GPUs of this machine; a lock on each that is in use keeps other sweeps away from it."""

    names: Sequence[str] = ()
    """As all processes on this machine know them, in the order in which this one sees them."""
    _load: Counter[int] = field(default_factory=Counter)
    """Runs of this sweep per GPU."""
    _locks: dict[int, FileLock] = field(default_factory=dict)

    def take(self) -> int | None:
        """Return the number of the least loaded GPU; None while other sweeps use all of them."""
        for number in sorted(range(len(self.names)), key=lambda n: self._load[n]):
            if number in self._locks or self._lock(number):
                self._load[number] += 1
                return number
        return None

    def give_back(self, number: int) -> None:
        """Take note that a run has left a GPU; the last one leaves it to other sweeps."""
        self._load[number] -= 1
        if not self._load[number]:
            self._locks.pop(number).release()

    def _lock(self, number: int) -> bool:
        lock = contention.device_lock(self.names[number])
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self._locks[number] = lock
        return True
