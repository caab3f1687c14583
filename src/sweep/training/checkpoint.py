"""Checkpoints to go on from: written when a run is stopped, believed only when they are whole.

The Trainer's checkpoint holds weights, optimizer, schedule, random state and step. What else has
to go on (stopwatch, stages, proof, the window of the logged loss) is in `resume.json` beside it,
with the size and checksum of every file. It is written last, so a checkpoint without it, or with
another content, was cut off while being written, and the one before is taken.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sweep.base.disk import changed_file, fingerprints, write_atomically

MANIFEST = "resume.json"


def seal(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the manifest that makes a checkpoint whole."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    content = {"step": step, "files": fingerprints(folder, paths), "kept": state}
    write_atomically(folder / MANIFEST, json.dumps(content))


def newest_whole(folder: Path) -> Path | None:
    """Return the last checkpoint in a folder that nothing is missing from, or None."""
    checkpoints = [path.parent for path in folder.glob(f"checkpoint-*/{MANIFEST}")]
    checkpoints.sort(key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in checkpoints if is_whole(path)), None)


def kept_in(checkpoint: Path) -> dict[str, Any]:
    """Return the values of `Keeper.state` that the checkpoint keeps."""
    return dict(_manifest(checkpoint)["kept"])


def step_of(checkpoint: Path) -> int:
    """Return the optimizer steps done when the checkpoint was made."""
    return int(_manifest(checkpoint)["step"])


def _manifest(checkpoint: Path) -> Any:
    return json.loads((checkpoint / MANIFEST).read_text("utf-8"))


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint has its manifest and every file that it lists."""
    try:
        return not changed_file(checkpoint, _manifest(checkpoint)["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
