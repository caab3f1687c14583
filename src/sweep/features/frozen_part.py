"""The frozen lower part of a run's model and the texts it reads: all that features depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

from sweep.base import cache, environment
from sweep.base.device import Hardware
from sweep.config.schema import Config
from sweep.data.collate import Padding
from sweep.data.encode import Encoded, Tokens
from sweep.data.split_rows import NAMES
from sweep.features.cut import POOLED, Level, backbone, in_backbone, layer_modules
from sweep.models.pretrained import Loaded
from sweep.strategies.freeze_report import FreezeReport
from sweep.strategies.proof import checksums

VERSION = 3
"""Raise it when the files get another content."""
BATCH = 64
"""Texts per forward pass; measured on a CPU, 256 are slower."""
SAMPLE = 8
"""Texts on which a cut model is compared with the whole one."""


@dataclass(frozen=True)
class FrozenPart:
    """The frozen lower part of a model, with the texts of all splits."""

    model: nn.Module
    loaded: Loaded
    report: FreezeReport
    tokens: Tokens
    cfg: Config
    hardware: Hardware

    @property
    def _parts(self) -> list[Encoded]:
        return [self.tokens.encoded[name] for name in NAMES]

    @property
    def ends(self) -> np.ndarray:
        """(rows + 1,) over the rows of all splits."""
        lengths = [np.diff(part.ends) for part in self._parts]
        return np.concatenate([[0], np.concatenate(lengths).cumsum()])

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device

    @property
    def layers(self) -> list[nn.Module]:
        """From the lowest."""
        return layer_modules(self.model, self.loaded.parts)

    def module(self, level: Level) -> nn.Module:
        """Return the last module below a level."""
        return backbone(self.model) if level.pooled else self.layers[level.layers - 1]

    def batches(self) -> Iterator[tuple[dict[str, Any], list[int]]]:
        """Yield all rows, the longest first, with their numbers."""
        order = np.argsort(np.diff(self.ends), kind="stable")[::-1]
        for start in range(0, len(order), BATCH):
            rows = [int(row) for row in order[start : start + BATCH]]
            yield self._batch(rows), rows

    def sample(self) -> dict[str, Any]:
        """Return a few texts of all lengths."""
        order = np.argsort(np.diff(self.ends), kind="stable")
        picked = np.linspace(0, len(order) - 1, min(SAMPLE, len(order))).astype(int)
        return self._batch([int(order[i]) for i in picked])

    def _batch(self, rows: list[int]) -> dict[str, Any]:
        padding = Padding.of(self.loaded.tokenizer, None)
        batch = padding([self._example(row) for row in rows])
        return {name: values.to(self.device) for name, values in batch.items()}

    def _example(self, row: int) -> dict[str, Any]:
        """Return the tokens of a row, counted through all splits."""
        part = next(p for p in self._parts[::-1] if len(p) and row >= p.first)
        start, end = part.ends[row - part.first], part.ends[row - part.first + 1]
        return {**{name: ids[start:end] for name, ids in part.columns.items()}, "row": row}


def keys(part: FrozenPart) -> Callable[[Level], str]:
    """Return the function that names a level in the cache."""
    tensors, rest = checksums(part.model), _surroundings(part)
    return lambda level: cache.key_of(VERSION, level.name, _weights(level, part, tensors), rest)


def _surroundings(part: FrozenPart) -> list[Any]:
    """Return all that features depend on beside the level and the weights."""
    config: Any = getattr(part.model, "config", None)
    settings = config.to_dict() if hasattr(config, "to_dict") else {}
    for name in ("id2label", "label2id", "_name_or_path", "num_labels", "architectures"):
        settings.pop(name, None)
    return [
        part.tokens.key,
        type(part.model).__name__,
        json.dumps(settings, sort_keys=True, default=str),
        (
            part.hardware.precision,
            environment.device_name(part.hardware.device),
            part.cfg.trainer.feature_dtype,
            # Their number decides the order of sums, but for a GPU.
            torch.get_num_threads() if part.hardware.device == "cpu" else None,
        ),
        [version(name) for name in ("torch", "transformers")],
    ]


def _weights(level: Level, part: FrozenPart, tensors: Mapping[str, str]) -> str:
    """Return the hash of the frozen tensors that may take part below a level."""
    digest = hashlib.sha256()
    depths = {tensor.name: tensor for tensor in part.report.tensors}
    for name in sorted(tensors):
        tensor = depths.get(name)
        below = tensor is None or (
            in_backbone(part.model, name)
            if level.name == POOLED
            else tensor.depth <= level.layers and not tensor.is_head
        )
        if below:
            digest.update(f"{name} {tensors[name]}\n".encode())
    return digest.hexdigest()
