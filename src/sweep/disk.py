"""Files that are whole, wherever the process or the machine that writes them dies."""

from __future__ import annotations

import os
from pathlib import Path


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
    """The lines of a file without a last one that is not finished."""
    text = path.read_bytes() if path.exists() else b""
    return text.split(b"\n")[:-1]


def cut_to_whole_lines(path: Path) -> list[bytes]:
    """The same; a last line that a dying process left unfinished is cut off."""
    lines = whole_lines(path)
    size = sum(len(line) + 1 for line in lines)
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)
    return lines
