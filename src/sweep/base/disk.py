"""Files on disk: whole wherever the process that writes them dies, and known by their content."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_atomically(path: Path, text: str, durably: bool = True) -> None:
    """Replace a file as a whole: whoever reads it has all or nothing.

    Durably, so has whoever survives a power cut; the disk takes its time for that.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        if durably:
            os.fsync(file.fileno())
    draft.replace(path)


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file without a last one that is not finished."""
    text = path.read_bytes() if path.exists() else b""
    return text.split(b"\n")[:-1]


def cut_to_whole_lines(path: Path) -> list[bytes]:
    """Cut off a last line that a dying process left unfinished, and return the others."""
    lines = whole_lines(path)
    size = sum(len(line) + 1 for line in lines)
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)
    return lines


def sha256(path: Path) -> str:
    """Return the hash of a file in hexadecimal; read once as long as the file does not change."""
    file_stat = path.stat()
    return _sha256(path, (file_stat.st_ino, file_stat.st_size, file_stat.st_mtime_ns))


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _: tuple[int, int, int]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprints(folder: Path, paths: Iterable[Path]) -> dict[str, list[Any]]:
    """Return size and SHA-256 of files once they are on the disk for good, by their names."""
    known = {}
    for path in sorted(paths):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        known[path.relative_to(folder).as_posix()] = [path.stat().st_size, sha256(path)]
    return known


def changed_file(folder: Path, known: Mapping[str, Any]) -> str:
    """Return the first file that is gone or not as `fingerprints` saw it; empty where none is."""
    for name, fingerprint in known.items():
        path = folder / name
        if not path.is_file() or [path.stat().st_size, sha256(path)] != fingerprint:
            return name
    return ""
