"""Tensors of a model -> a picture of which train: one row per layer, one cell per tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

HEAD, EMBEDDINGS = "head", "embeddings"
TRAINED, FROZEN, ADAPTED = "trained", "frozen", "adapted"
"""State of a tensor: trains, does not, or does not but has a small adapter that does."""
Tensors = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class LayerMap:
    """States of all tensors, the head first and the embeddings last."""

    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """Per row its name, which for a layer is its number from 1, and the state of each tensor."""
    groups: tuple[tuple[str, int], ...]
    """Names over the cells of a layer, each with how many cells it spans."""

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return sum(name.isdigit() for name, _ in self.rows)

    @property
    def passed(self) -> int:
        """How many layers gradients have to pass through."""
        touched = [name for name, states in self.rows if set(states) - {FROZEN}]
        if EMBEDDINGS in touched:
            return self.layers
        return max((self.layers - int(name) + 1 for name in touched if name.isdigit()), default=0)


def layer_map(tensors: Tensors) -> LayerMap:
    """Arrange the tensors of freeze.json; the names decide where each stands."""
    kept = [t for t in tensors if "not used" not in str(t.get("decided_by"))]
    base = {_original(t["name"]): t for t in kept if not _is_adapter(t)}
    modules = {name.rpartition(".")[0] for name in base}
    adapted = {_module_of(t["name"], modules) for t in kept if _is_adapter(t)}
    rows: dict[str, list[tuple[str, str]]] = {}
    for name, tensor in base.items():
        module, _, last = name.rpartition(".")
        state = TRAINED if tensor["trainable"] else FROZEN
        if state == FROZEN and module in adapted and last == "weight":
            state = ADAPTED
        rows.setdefault(_row(name, tensor), []).append((name, state))
    ordered = sorted(rows, key=_rank)
    layer = next((rows[name] for name in ordered if name.isdigit()), [])
    return LayerMap(
        rows=tuple((name, tuple(state for _, state in rows[name])) for name in ordered),
        groups=tuple((k, len(list(g))) for k, g in groupby(_group(name) for name, _ in layer)),
    )


def _original(name: str) -> str:
    """The tensor's name without what an adapter wraps around it."""
    name = name.removeprefix("base_model.model.")
    return re.sub(r"\.base_layer\.|\.modules_to_save\.default\.", ".", name)


def _is_adapter(tensor: Mapping[str, Any]) -> bool:
    return str(tensor.get("decided_by")).startswith("adapter")


def _module_of(name: str, modules: set[str]) -> str:
    module = _original(name)
    while module and module not in modules:
        module = module.rpartition(".")[0]
    return module


def _row(name: str, tensor: Mapping[str, Any]) -> str:
    layer = re.search(r"\.(\d+)\.", name)
    if str(tensor.get("decided_by")).startswith(HEAD):
        return HEAD
    if layer:
        return str(int(layer[1]) + 1)
    if "embed" in name:
        return EMBEDDINGS
    steps = name.split(".")
    return steps[1] if len(steps) > 2 else steps[0]


def _rank(row: str) -> tuple[int, int]:
    if row.isdigit():
        return 2, -int(row)
    return {HEAD: 0, EMBEDDINGS: 3}.get(row, 1), 0


def _group(name: str) -> str:
    step = re.sub(r"^.*?\.\d+\.", "", name).split(".")[0]
    if "norm" in step.lower():
        return "norm"
    return "attention" if "att" in step else "feed-forward"
