"""Decide if features of the frozen part pay: with room for them, and work to be saved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import psutil

from sweep.base import cache
from sweep.base.words import Remark, Text
from sweep.config import budget
from sweep.config.schema import Config
from sweep.data.encode import Encoded
from sweep.data.split_rows import NAMES
from sweep.features.cut import Level
from sweep.features.frozen_part import FrozenPart

WORTH = 1.5
"""Saved work has to be this many times the work of computing the features."""


def why_not(part: FrozenPart, levels: Sequence[Level], sharing: int) -> Text | None:
    """Say why features do not pay: None if they do, an empty text if nothing is to be told."""
    t, freeze = part.cfg.trainer, part.cfg.freeze
    frozen = max(level.layers for level in levels)
    if t.cache_features is False or not frozen or freeze.frozen_dropout or t.torch_compile:
        return ""
    size_mib = _size_mib(part, levels)
    if size_mib > t.cache_limit_mib:
        return Remark("note.over_limit", {"size": f"{size_mib:,.0f}"})
    if part.cfg.solves_probe and any(level.pooled for level in levels):
        return None  # they are what it is solved on
    saved = sharing * _saved_work(part.cfg, part.tokens.encoded, levels)
    return "" if t.cache_features == "auto" and saved < WORTH else None


def no_room(part: FrozenPart, level: Level) -> Remark | None:
    """Say why states of a level that are not there yet are not to be computed.

    Runs of one strategy would else be trained in two ways: with the states that the first has
    filled the disk with, and without.
    """
    size_mib = _size_mib(part, [level])
    size = {"size": f"{size_mib:,.0f}"}
    if size_mib > cache.free_mib() / 2:
        return Remark("note.over_disk", size)
    auto = part.cfg.trainer.cache_features == "auto"
    if auto and size_mib > psutil.virtual_memory().available / 2**20 / 2:
        return Remark("note.over_memory", size)
    return None


def _saved_work(cfg: Config, encoded: Mapping[str, Encoded], levels: Sequence[Level]) -> float:
    """Return the forward passes that features save one run, in units of computing them."""
    train, validation, test = (encoded[name].tokens for name in NAMES)
    t = cfg.trainer
    texts = t.per_device_train_batch_size * t.gradient_accumulation_steps
    per_epoch = max(math.ceil(len(encoded["train"]) / texts), 1)
    steps = budget.steps(t, len(encoded["train"]))
    evaluations = max(steps // t.eval_steps if t.eval_steps else steps // per_epoch, 1)
    read = train * steps / per_epoch + validation * evaluations + test
    layers = [level.layers for level in levels]
    return read * sum(layers) / len(layers) / ((train + validation + test) * max(layers))


def _size_mib(part: FrozenPart, levels: Sequence[Level]) -> float:
    """Return an upper bound: a model that hands on bf16 takes half of it."""
    config = getattr(part.model, "config", None)
    width = getattr(config, "hidden_size", 0)
    rows, tokens = len(part.ends) - 1, int(part.ends[-1])
    each = 2 if part.cfg.trainer.feature_dtype == "bf16" else 4
    vectors_per_level = {
        level.name: rows if level.pooled else tokens for level in levels if level.layers
    }
    return sum(vectors_per_level.values()) * width * each / 2**20
