"""Checkpoints to go on from: written when a run is stopped, believed only when they are whole.

The Trainer's checkpoint holds weights, optimizer, schedule, random state and step. What else has
to go on (stopwatch, stages, proof, the window of the logged loss) is in `resume.json` beside it,
with the size and checksum of every file. It is written last, so a checkpoint without it, or with
another content, was cut off while being written, and the one before is taken.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from sweep.base.disk import write_atomically

MANIFEST = "resume.json"


def seal(folder: Path, step: int, kept: dict[str, Any]) -> None:
    """Write the manifest that makes a checkpoint whole."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[str(path.relative_to(folder))] = _fingerprint(path)
    content = {"step": step, "files": files, "kept": kept}
    write_atomically(folder / MANIFEST, json.dumps(content))


def newest_whole(folder: Path) -> Path | None:
    """The last checkpoint in a folder that nothing is missing from, or None."""
    found = [path.parent for path in folder.glob(f"checkpoint-*/{MANIFEST}")]
    found.sort(key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if is_whole(path)), None)


def kept_in(checkpoint: Path) -> dict[str, Any]:
    """What `Keeper.state` gave when the checkpoint was made."""
    return dict(_manifest(checkpoint)["kept"])


def step_of(checkpoint: Path) -> int:
    """Optimizer steps done when the checkpoint was made."""
    return int(_manifest(checkpoint)["step"])


def _manifest(checkpoint: Path) -> Any:
    return json.loads((checkpoint / MANIFEST).read_text("utf-8"))


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint has its manifest and every file that it lists."""
    try:
        files = _manifest(checkpoint)["files"]
        return all(_fingerprint(checkpoint / name) == known for name, known in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _fingerprint(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]
