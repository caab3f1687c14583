"""Arrays on disk that are made once and read by many processes: whole, or not there at all.

An entry is a folder whose name is a hash of all that its content depends on. It is written beside
its place and renamed when it is complete; whoever wants the same entry meanwhile waits for it.
Nothing is believed unread: sizes and SHA-256 are compared each time an entry is opened.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from sweep.base.layout import RootPaths

ROOT = RootPaths().cache
FORMAT = 1
"""Of the files; entries of another one are made anew."""
INDEX = "entry.json"
Arrays = Mapping[str, np.ndarray]


class CacheError(OSError):
    """An entry cannot be written; the message is one line that says why."""


@dataclass
class Draft:
    """An entry that is being made."""

    folder: Path
    shapes: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def array(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of zeros to be filled, in a file; its space is taken at once.

        Raises:
            OSError: The disk is full. Without the reservation, a write would kill the process.
        """
        kind = np.dtype(dtype)
        size = max(int(np.prod(shape)) * kind.itemsize, 1)
        self.shapes[name] = (kind.str, shape)
        with (self.folder / f"{name}.bin").open("w+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for start in range(0, size, 2**20):
                    file.write(bytes(min(2**20, size - start)))
                file.flush()
            return _mapped(file.fileno(), kind, shape, mmap.ACCESS_WRITE)

    def add(self, arrays: Arrays) -> None:
        """Take arrays that are in memory."""
        for name, values in arrays.items():
            if values.size:
                self.array(name, values.dtype, values.shape)[:] = values
            else:
                self.array(name, values.dtype, values.shape)


@dataclass(frozen=True)
class Found:
    """An entry that was checked, its arrays mapped read-only."""

    arrays: dict[str, np.ndarray]
    info: dict[str, Any]
    built_s: float
    """Seconds this process spent on making it; 0 when it was there."""


def key_of(*parts: Any) -> str:
    """Name of the entry whose content depends on these values."""
    content = json.dumps([FORMAT, *parts], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def get(kind: str, key: str) -> Found | None:
    """Return the entry if it is whole and undamaged, and touch it, so that it is evicted last."""
    folder = ROOT / kind / key
    return _open(folder) if folder.is_dir() else None


def get_or_make(
    kind: str, key: str, make: Callable[[Draft], dict[str, Any]], limit_mib: int | None = None
) -> Found:
    """Return the entry, made here unless another process has made it or is just making it.

    Args:
        kind: First part of the name, such as `tokens`.
        key: From `key_of`.
        make: Fills a draft and returns what else is to be remembered, as JSON takes it.
        limit_mib: What all entries together may take; those used longest ago go first. None for
            a small entry, which asks no other one to go.

    Raises:
        CacheError: The folder cannot be written, or the disk is full. Nothing is left then.
    """
    folder = ROOT / kind / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            entry = _open(folder) if folder.is_dir() else None
            if entry is not None:
                return entry
            started = time.perf_counter()
            _make(folder, make)
            built_s = time.perf_counter() - started
            entry = _open(folder)
    except OSError as error:
        raise CacheError(f"{ROOT} cannot be written ({error.strerror or error})") from error
    if limit_mib is not None:
        with suppress(OSError):  # the entry is there all the same
            evict(limit_mib, keep=folder)
    if entry is None:
        raise CacheError(f"{ROOT} does not give back what was written to it")
    return Found(entry.arrays, entry.info, built_s)


def evict(limit_mib: int, keep: Path | None = None) -> None:
    """Remove the entries used longest ago until the others fit, and drafts that nobody fills.

    A process that has an entry open keeps what it has mapped, where the system is not Windows.
    """
    for draft in ROOT.glob("*/*.draft"):
        with suppress(Timeout), FileLock(draft.with_suffix(".lock"), timeout=0):
            _remove(draft)
    entries = [
        (used, size, path.parent)
        for path in ROOT.glob(f"*/*/{INDEX}")
        if path.parent.suffix != ".draft"
        for used, size in _use_of(path)
    ]
    total = sum(size for _, size, _ in entries)
    for _, size, folder in sorted(entries):
        if total <= limit_mib * 2**20:
            return
        if folder == keep:
            continue
        with suppress(Timeout), FileLock(f"{folder}.lock", timeout=0):
            total -= size
            _remove(folder)


def _use_of(index: Path) -> list[tuple[float, int]]:
    """Return the time of an entry's last use, and its bytes; nothing if the entry is gone."""
    with suppress(FileNotFoundError):
        return [(index.stat().st_mtime, sum(f.stat().st_size for f in index.parent.iterdir()))]
    return []


def free_mib() -> float:
    """Return the free space on the disk of the cache."""
    there = next(path for path in (ROOT, *ROOT.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free / 2**20


def _make(folder: Path, make: Callable[[Draft], dict[str, Any]]) -> None:
    """Fill a draft, seal it and put it into its place; the caller holds the lock of the entry."""
    draft = Draft(folder.with_name(f"{folder.name}.draft"))
    _remove(draft.folder)  # what a killed process has left
    draft.folder.mkdir()
    try:
        info = make(draft)
        files = {
            name: {"dtype": dtype, "shape": shape, **_seal(draft.folder / f"{name}.bin")}
            for name, (dtype, shape) in draft.shapes.items()
        }
        index = draft.folder / INDEX
        index.write_text(json.dumps({"format": FORMAT, "info": info, "files": files}), "utf-8")
        _remove(folder)  # damaged, or we would not be here
        draft.folder.rename(folder)
    finally:
        _remove(draft.folder)


def _open(folder: Path) -> Found | None:
    """Return the entry of a folder, or None when anything about it is not as it was written."""
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        if index["format"] != FORMAT:
            return None
        arrays = {
            name: _read(folder / f"{name}.bin", expected)
            for name, expected in index["files"].items()
        }
        with suppress(OSError):  # a folder of someone else's can be read all the same
            os.utime(folder / INDEX)
        return Found(arrays, index["info"], 0.0)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(path: Path, expected: Mapping[str, Any]) -> np.ndarray:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != expected["size"]:
            raise ValueError(f"{path} has another size")
        if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
            raise ValueError(f"{path} has another content")
        return _mapped(
            file.fileno(), np.dtype(expected["dtype"]), tuple(expected["shape"]), mmap.ACCESS_READ
        )


def _seal(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "size": os.fstat(file.fileno()).st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def _mapped(number: int, dtype: np.dtype, shape: tuple[int, ...], access: int) -> np.ndarray:
    pages = mmap.mmap(number, 0, access=access)
    return np.frombuffer(pages, dtype, count=int(np.prod(shape))).reshape(shape)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
