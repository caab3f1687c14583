"""Report what became of every tensor of a model."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tensor:
    """One parameter of the model."""

    name: str
    shape: tuple[int, ...]
    """As the model computes with it, also when the values are packed into 4 bits."""
    trainable: bool
    decided_by: str
    depth: int = 0
    """0 for embeddings, 1 for the lowest layer, one more than the top layer for all above it."""
    is_head: bool = False
    stage: int = 1
    """Stage of gradual unfreezing in which it begins to train."""

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def to_json(self) -> dict[str, Any]:
        """Return its entry in freeze.json."""
        keys = ("name", "shape", "trainable", "decided_by", "depth", "stage")
        return {**{key: getattr(self, key) for key in keys}, "head": self.is_head}


@dataclass(frozen=True)
class FreezeReport:
    """Every tensor of the model with what became of it."""

    strategy: str
    tensors: tuple[Tensor, ...]
    adapter: bool = False
    """Whether an adapter is all that has to be saved, beside the head."""

    @property
    def trainable_params(self) -> int:
        """Elements that train."""
        return sum(t.numel for t in self.tensors if t.trainable)

    @property
    def total_params(self) -> int:
        """Elements of the model."""
        return sum(t.numel for t in self.tensors)

    @property
    def trainable_fraction(self) -> float:
        """Share of the elements that train, from 0 to 1."""
        return self.trainable_params / self.total_params

    @property
    def lowest_trained_depth(self) -> int:
        """The depth, as in `Tensor`, that gradients have to reach."""
        return min(t.depth for t in self.tensors if t.trainable)

    @property
    def layers(self) -> int:
        """The number of layers that the model's parts name."""
        return max(t.depth for t in self.tensors) - 1

    @property
    def stages(self) -> int:
        """The number of stages of unfreezing; 1 when all starts at once."""
        return max(t.stage for t in self.tensors)

    @property
    def has_layers(self) -> bool:
        """Whether the model's parts name layers; without them the head is at depth 1."""
        return max(t.depth for t in self.tensors) > 1

    @property
    def checkpoint_params(self) -> int:
        """Elements that are saved: all of the model, or the adapter and the head."""
        return self.trainable_params if self.adapter else self.total_params

    def to_json(self, **others: Any) -> str:
        """Return the content of the artifact freeze.json, with further keys."""
        summary = {
            "strategy": self.strategy,
            "trainable_params": self.trainable_params,
            "total_params": self.total_params,
            "layers": self.layers,
            "lowest_trained_depth": self.lowest_trained_depth,
            **others,
            "tensors": [t.to_json() for t in self.tensors],
        }
        return json.dumps(summary, indent=1)
