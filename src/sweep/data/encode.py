"""Texts -> token ids, tokenised once for all runs that read the same texts the same way."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from sweep.base import cache
from sweep.base.words import Remark
from sweep.config.schema import Config
from sweep.data.splits import NAMES, Encoded, Splits, arrange, tokenize
from sweep.models import model_files

VERSION = 1
"""Raise it when `data.tokenize` gives something else."""


@dataclass(frozen=True)
class Tokens:
    """The encoded splits of a run."""

    encoded: dict[str, Encoded]
    """By the names train, validation and test."""
    key: str
    """Hash of all that the ids depend on."""
    runtime_s: float
    """Seconds of tokenising; 0 when another run has done it."""
    notes: list[str]


def encode_splits(splits: Splits, tokenizer: Any, cfg: Config) -> Tokens:
    """Token ids of every split, from the cache if they are there; held-out ones by length.

    A cache that cannot be written costs time only, and is told in a note.
    """
    key = cache.key_of(
        VERSION,
        splits.fingerprint,
        model_files.tokenizer_fingerprint(cfg.model),
        cfg.data.max_length,
        {name: version(name) for name in ("tokenizers", "transformers")},
    )

    def make(draft: cache.Draft) -> dict[str, Any]:
        draft.add(_tokenize(splits, tokenizer, cfg))
        return {}

    started = time.perf_counter()
    try:
        found = cache.get_or_make("tokens", key, make, cfg.trainer.cache_limit_mib)
    except cache.CacheError as error:
        encoded = _arrange(_tokenize(splits, tokenizer, cfg), splits, cfg)
        note = str(Remark("note.tokens", {"reason": str(error)}))
        return Tokens(encoded, key, time.perf_counter() - started, [note])
    return Tokens(_arrange(found.arrays, splits, cfg), key, found.built_s, [])


def _tokenize(splits: Splits, tokenizer: Any, cfg: Config) -> dict[str, Any]:
    return {
        f"{name}.{column}": ids
        for name in NAMES
        for column, ids in tokenize(
            getattr(splits, name).texts, tokenizer, cfg.data.max_length
        ).items()
    }


def _arrange(arrays: cache.Arrays, splits: Splits, cfg: Config) -> dict[str, Encoded]:
    encoded: dict[str, Encoded] = {}
    first = 0
    for name in NAMES:
        own = {k.removeprefix(f"{name}."): v for k, v in arrays.items() if k.startswith(f"{name}.")}
        part = arrange(own, getattr(splits, name), cfg.data, by_length=name != "train")
        encoded[name] = replace(part, first=first)
        first += len(part)
    return encoded
