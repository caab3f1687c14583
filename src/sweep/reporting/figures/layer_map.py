"""Arrange the tensors of a model as a map of what trains: a row per layer, a cell per tensor."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sweep.strategies import adapters

HEAD, EMBEDDINGS = "head", "embeddings"
TRAINED, FROZEN, ADAPTED = "trained", "frozen", "adapted"
"""State of a tensor: it trains, it is frozen, or it is frozen but has an adapter that trains."""
Tensors = Sequence[Mapping[str, Any]]
ABOVE = sys.maxsize
"""Depth above all layers, where their number is unknown."""


@dataclass(frozen=True)
class LayerMap:
    """The states of all tensors, the head first and the embeddings last."""

    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """Name of each row (of a layer, its number from 1) and the state of each of its tensors."""
    groups: tuple[tuple[str, int], ...]
    """Headings of the cells of a layer, each with the number of cells that it spans."""

    @property
    def layers(self) -> int:
        return sum(name.isdigit() for name, _ in self.rows)

    @property
    def passed(self) -> int:
        """Return the number of layers that gradients have to pass through."""
        touched = [name for name, states in self.rows if set(states) - {FROZEN}]
        if EMBEDDINGS in touched:
            return self.layers
        return max((self.layers - int(name) + 1 for name in touched if name.isdigit()), default=0)


def layer_map(tensors: Tensors) -> LayerMap:
    """Arrange the tensors of freeze.json by their depth in the model."""
    used = [t for t in tensors if not adapters.is_unused_copy(t["name"])]
    base, adapted = {}, set()
    for tensor in used:
        name = adapters.original_name(tensor["name"])
        if adapters.is_adapter(tensor["name"]):
            adapted.add(name.removesuffix(".weight"))
        else:
            base[name] = {**_position_by_name(name, tensor), **tensor}
    top = max((tensor["depth"] for tensor in base.values()), default=0)
    rows: dict[str, list[tuple[str, str]]] = {}
    for name, tensor in base.items():
        module, _, last = name.rpartition(".")
        state = TRAINED if tensor["trainable"] else FROZEN
        if state == FROZEN and module in adapted and last == "weight":
            state = ADAPTED
        rows.setdefault(_row(name, tensor, top), []).append((name, state))
    ordered = sorted(rows, key=_rank)
    layer = next((rows[name] for name in ordered if name.isdigit()), [])
    return LayerMap(
        rows=tuple((name, tuple(state for _, state in rows[name])) for name in ordered),
        groups=tuple((k, len(list(g))) for k, g in groupby(_group(name) for name, _ in layer)),
    )


def _position_by_name(name: str, tensor: Mapping[str, Any]) -> dict[str, Any]:
    """Guess the depth of a tensor from its name: freeze.json up to version 0.1.0 lacks it."""
    layer = re.search(r"\.(\d+)\.", name)
    depth = int(layer[1]) + 1 if layer else 0 if "embed" in name else ABOVE
    return {"depth": depth, "head": str(tensor.get("decided_by")).startswith(HEAD)}


def _row(name: str, tensor: Mapping[str, Any], top: int) -> str:
    if tensor["head"]:
        return HEAD
    if tensor["depth"] == 0:
        return EMBEDDINGS
    if tensor["depth"] < top:
        return str(tensor["depth"])
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
