"""Check that what a checkpoint stores are the weights of a model: finite numbers, not codes.

Every file is read once, tensor by tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep.models.agreement import Checkpoint
from sweep.models.model_files import weight_files
from sweep.models.parts import Parts

FLOATS = ("F64", "F32", "F16", "BF16")
"""What safetensors calls the types that weights are trained in."""


def value_errors(where: str, folder: Path, checkpoint: Checkpoint, parts: Parts) -> list[str]:
    """Complain about weights of which no model can be made; the head is drawn anew anyway.

    Args:
        where: The model as the user named it.
        folder: Of its files.
        checkpoint: Says which tensors the model has a place for.
        parts: Of the model.
    """
    codes: list[str] = []
    broken: list[str] = []
    for name, kind, stored in _tensors(folder, checkpoint, parts):
        if kind not in FLOATS:
            codes.append(f"{name!r} ({kind})")
        elif not bool(stored[:].isfinite().all()):
            broken.append(repr(name))
    return [*_code_errors(where, codes), *_broken_errors(where, broken)]


def _tensors(folder: Path, checkpoint: Checkpoint, parts: Parts) -> Iterator[tuple[str, str, Any]]:
    """Yield name, type and content, unread, of each tensor that becomes a parameter."""
    from safetensors import safe_open

    names, head = frozenset(checkpoint.names), str(parts["head"])
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                full = name if name in names else f"{checkpoint.prefix}.{name}"
                if full in names and not re.fullmatch(head, full):
                    stored = file.get_slice(name)
                    yield name, stored.get_dtype(), stored


def _code_errors(where: str, codes: list[str]) -> list[str]:
    if not codes:
        return []
    return [
        f"{where} has weights that are stored as whole numbers or in 8 bits, {_counted(codes)}:"
        " codes of a quantised model, which would be taken for its weights. Give the folder of the"
        " original model; freeze=qlora packs it into 4 bits while loading."
    ]


def _broken_errors(where: str, broken: list[str]) -> list[str]:
    if not broken:
        return []
    return [
        f"{where} has weights that are NaN or infinite, {_counted(broken)}. Copy the model again,"
        " or take one from before its training diverged."
    ]


def _counted(names: list[str]) -> str:
    return f"for example {names[0]} of {len(names)} such tensors" if names[1:] else names[0]
