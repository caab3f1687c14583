"""Which trainings share a machine: their times say little, and are marked.

Every training of this user keeps a locked file in one folder per device for as long as it lives;
whoever comes while others are there marks them and itself. All trainings on a CPU share its caches
and memory, also when each has cores of its own.
"""

from __future__ import annotations

import getpass
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout


@dataclass(frozen=True)
class Presence:
    """This training among the others on its device."""

    mark: Path

    @property
    def contended(self) -> bool:
        """Whether another training has been here at the same time."""
        return self.mark.exists()


@contextmanager
def present(device: str, root: Path | None = None) -> Iterator[Presence]:
    """Be seen on a device, such as `cpu` or `cuda0`, while the block runs."""
    folder = (root or _root()) / device
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    mine, lock = Presence(folder / f"{name}.mark"), FileLock(folder / f"{name}.live")
    lock.acquire()
    try:
        for other in folder.glob("*.live"):
            if other.stem != name and _is_held(other):
                other.with_suffix(".mark").touch()
                mine.mark.touch()
        yield mine
    finally:
        lock.release()
        for path in (folder / f"{name}.live", mine.mark):
            path.unlink(missing_ok=True)


def device_lock(number: int) -> FileLock:
    """Held by the sweep that uses a GPU, among all sweeps of this user on this machine."""
    _root().mkdir(parents=True, exist_ok=True)
    return FileLock(_root() / f"cuda{number}.lock")


def _root() -> Path:
    return Path(tempfile.gettempdir()) / f"sweep-{getpass.getuser()}"


def _is_held(path: Path) -> bool:
    """Whether the process behind a file lives; the file of a dead one is removed."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    path.unlink(missing_ok=True)
    path.with_suffix(".mark").unlink(missing_ok=True)
    lock.release()
    return False
