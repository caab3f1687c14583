"""Detect trainings that share a machine: their times say little, and are marked.

Every training of this user keeps a locked file in one folder per device for as long as it lives;
whoever comes while others are there marks them and itself. All trainings on a CPU share its caches
and memory, also when each has cores of its own.
"""

from __future__ import annotations

import os
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from sweep.config.schema import ConfigError


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
    """Be seen on a device, by the name that `device.shared_name` gives it, while the block runs.

    Raises:
        ConfigError: As `shared_folder`.
    """
    folder = (root or shared_folder()) / device
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


def device_lock(name: str) -> FileLock:
    """Return the lock held by the sweep that uses a GPU, among all of this user on this machine."""
    return FileLock(shared_folder() / f"{name}.lock")


def shared_folder() -> Path:
    """Return the folder that all processes of this user on this machine share, and nobody else.

    Raises:
        ConfigError: Somebody else has made it, or can write to it.
    """
    user = os.getuid()
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{user}"):
        if parent and _is_private(Path(parent)):
            return _made(Path(parent) / "sweep")
    return _made(Path(tempfile.gettempdir()) / f"sweep-{user}")


def _made(folder: Path) -> Path:
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made ({error.strerror}), where the sweeps of a user see each"
            " other. Set TMPDIR or XDG_RUNTIME_DIR to a folder that only you can write to."
        ) from None
    if _is_private(folder):
        return folder
    raise ConfigError(
        f"{folder} is where the sweeps of a user see each other, but it is a link, belongs to"
        " somebody else, or can be written by others. Remove it, or set XDG_RUNTIME_DIR to a"
        " folder that only you can write to."
    )


def _is_private(folder: Path) -> bool:
    """Whether it is a folder, no link to one, and its owner, who is this user, alone can write."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not others_write


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
