"""The writer of a folder: a lock for processes of this machine, a heartbeat for all others.

The system frees a lock however its process dies; of another machine, silence is all there is.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from filelock import FileLock, Timeout

from sweep.base.layout import HOST, LOCK
from sweep.base.locks import is_held
from sweep.tracking.outbox import Outbox
from sweep.tracking.tags import Tag

PROBE_S = 2.0
"""Others hold a lock for a moment when they look whether somebody has it."""
BEAT_S = 30.0
"""How often a run or sweep shows other machines that it is alive."""
SILENT_S = 180.0
"""A run of another host is taken for dead when it has not touched its lock for that long: six
beats, as a shared file system may show a change a minute late (NFS: acregmax of 60 s)."""


def lock_of(folder: Path) -> FileLock:
    """Return the lock that the writer to a folder holds; the system frees it at its death."""
    return FileLock(folder / LOCK)


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, and say which machine does, as long as the block lasts.

    Whoever leaves in order takes the name away: other machines then need not wait for a silence.

    Raises:
        filelock.Timeout: Another process has it.
    """
    with lock_of(folder).acquire(timeout=PROBE_S):
        (folder / HOST).write_text(platform.node(), "utf-8")
        began = (folder / HOST).stat()
        try:
            yield
        finally:
            with suppress(OSError):  # somebody removed the folder
                (folder / HOST).write_text("", "utf-8")
                # Its time says when the run or sweep began.
                os.utime(folder / HOST, ns=(began.st_atime_ns, began.st_mtime_ns))


@contextmanager
def heartbeat(folder: Path, box: Outbox) -> Iterator[None]:
    """Touch the lock, and tell the store, for those who cannot see this process."""
    over = Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            with suppress(OSError):  # somebody removed the folder; the run will notice
                os.utime(folder / LOCK)
                box.describe(tags={Tag.HEARTBEAT: f"{time.time():.0f}"})

    box.describe(tags={Tag.HEARTBEAT: f"{time.time():.0f}"})
    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def left_behind(folder: Path) -> Iterator[bool]:
    """Hold a folder whose process is gone, against others that start now; says if it is so."""
    lock = lock_of(folder)
    try:
        held = not is_alive(folder) and bool(lock.acquire(timeout=0))
    except Timeout:
        held = False
    try:
        yield held
    finally:
        lock.release()


def is_alive(folder: Path) -> bool:
    """Whether the process that writes to a folder is still there."""
    path = folder / LOCK
    if not path.exists():
        return False
    if host_of(folder) not in ("", platform.node()):
        return _silence_s(path) < SILENT_S
    return is_held(lock_of(folder))


def host_of(folder: Path) -> str:
    """Name of the machine that a run or sweep was started on."""
    try:
        return (folder / HOST).read_text("utf-8")
    except OSError:
        return ""


def _silence_s(path: Path) -> float:
    """Return the seconds since a file was touched, by the clock of the shared file system."""
    with tempfile.NamedTemporaryFile(dir=path.parent) as probe:
        return os.stat(probe.name).st_mtime - path.stat().st_mtime
