"""Texts -> token ids, tokenised once for all runs that read the same texts the same way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sweep.base import cache
from sweep.base.words import Remark, Text
from sweep.config.schema import Config, ConfigError, DataConfig
from sweep.data.split_rows import NAMES
from sweep.data.splits import Split, Splits
from sweep.models import model_files

_COUNTS = ("lengths", "kept")
VERSION = 1
"""Raise it when `tokenize` gives something else."""


@dataclass(frozen=True)
class Tokens:
    """The encoded splits of a run."""

    encoded: dict[str, Encoded]
    """By the names train, validation and test."""
    key: str
    """Hash of all that the ids depend on."""
    runtime_s: float
    """Seconds of tokenising; 0 when another run has done it."""
    notes: list[Text]


def encode_splits(
    splits: Splits, tokenizer: Any, cfg: Config, folder: Path | None = None
) -> Tokens:
    """Return the token ids of every split, cached if possible; held-out ones by length.

    A cache that cannot be written costs time only, and is told in a note.

    Args:
        splits: The texts.
        tokenizer: Of the model.
        cfg: The run.
        folder: Of the model's files; they are fetched if it is None.
    """
    key = cache.key_of(
        VERSION,
        splits.fingerprint,
        model_files.tokenizer_fingerprint(cfg.model, folder),
        cfg.data.max_length,
        {name: version(name) for name in ("tokenizers", "transformers")},
    )

    def make(draft: cache.Draft) -> dict[str, Any]:
        draft.add(_tokenize(splits, tokenizer, cfg))
        return {}

    started = time.perf_counter()
    try:
        entry = cache.get_or_make("tokens", key, make, cfg.trainer.cache_limit_mib)
    except cache.CacheError as error:
        arrays = _tokenize(splits, tokenizer, cfg)
        runtime_s, notes = (
            time.perf_counter() - started,
            [Remark("note.tokens", {"reason": str(error)})],
        )
    else:
        arrays, runtime_s, notes = entry.arrays, entry.built_s, []
    encoded = _arrange(arrays, splits, cfg)
    if cfg.data.deduplicate:
        encoded, leaked = _drop_leaks(encoded)
        notes += [Remark("note.same_tokens", {"n": f"{leaked:,}"})] if leaked else []
    return Tokens(encoded, key, runtime_s, [*notes])


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
        columns = {
            k.removeprefix(f"{name}."): v for k, v in arrays.items() if k.startswith(f"{name}.")
        }
        part = arrange(columns, getattr(splits, name), cfg.data, by_length=name != "train")
        encoded[name] = replace(part, first=first)
        first += len(part)
    return encoded


def _drop_leaks(encoded: dict[str, Encoded]) -> tuple[dict[str, Encoded], int]:
    """Leave texts out that the model cannot tell from one of a later split; test stays whole.

    They may differ in unknown characters, or behind `max_length`.

    Returns:
        The splits without them, and how many they are.

    Raises:
        ConfigError: Training would lack a class, or validation be empty.
    """
    seen: set[bytes] = set()
    left, leaked = dict(encoded), 0
    for name in reversed(NAMES):
        part = encoded[name]
        ids = part.ids()
        is_new = np.array([each not in seen for each in ids], bool)
        seen.update(ids)
        leaked += int((~is_new).sum())
        left[name] = replace(part, order=part.order[is_new[part.order]])
    if set(left["train"].labels) != set(left["train"].labels[left["train"].order]) or (
        len(encoded["validation"]) and not len(left["validation"])
    ):
        raise ConfigError(
            f"the tokenizer gives {leaked:,} texts the token ids of a text in a later split, and"
            " without them training lacks a class, or validation is empty. Choose a model for the"
            " language of the data, or raise data.max_length."
        )
    return left, leaked


@dataclass(frozen=True)
class Encoded:
    """Token ids of a split, all texts one after the other; an example is a view of them."""

    columns: dict[str, np.ndarray]
    """What the tokenizer gives: input_ids, attention_mask, ..., each (tokens,)."""
    ends: np.ndarray  # (rows + 1,), where the text of each row begins, and the last one ends
    labels: np.ndarray  # (rows,)
    order: np.ndarray  # (rows,), row of the split that each example is
    truncated: int
    """How many texts were longer than `max_length`."""
    first: int = 0
    """Number of the first row when the rows of all splits are counted through."""

    @property
    def tokens(self) -> int:
        """Token ids of all examples, without padding."""
        return sum(self.lengths)

    @property
    def lengths(self) -> list[int]:
        """Token ids of each example."""
        return [int(length) for length in np.diff(self.ends)[self.order]]

    def ids(self) -> list[bytes]:
        """Return the token ids of each row, to be compared."""
        ids = self.columns.get("input_ids", np.zeros(0))
        return [ids[start:end].tobytes() for start, end in pairwise(self.ends)]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.order[index]
        start, end = self.ends[row], self.ends[row + 1]
        example: dict[str, Any] = {name: ids[start:end] for name, ids in self.columns.items()}
        return {**example, "labels": int(self.labels[row]), "row": self.first + int(row)}


def encode(split: Split, tokenizer: Any, cfg: DataConfig, by_length: bool) -> Encoded:
    """Tokenise a split once; padding is left to the batches.

    Args:
        split: The texts.
        tokenizer: Of the model.
        cfg: Its `max_length`.
        by_length: Put long texts first, so that batches read in order hold texts of one length
            and one that does not fit into memory shows at once.
    """
    return arrange(tokenize(split.texts, tokenizer, cfg.max_length), split, cfg, by_length)


def tokenize(texts: list[str], tokenizer: Any, max_length: int) -> dict[str, np.ndarray]:
    """Cut token ids at `max_length`, in columns; `lengths` and `kept` count before and after."""
    if not texts:
        return dict.fromkeys(_COUNTS, np.zeros(0, np.int32))
    encoded = tokenizer(texts)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    long = [i for i, length in enumerate(lengths) if length > max_length]
    if long:
        cut = tokenizer([texts[i] for i in long], truncation=True, max_length=max_length)
        for key, values in cut.items():
            for i, value in zip(long, values, strict=True):
                encoded[key][i] = value
    columns = {name: np.array([*chain(*ids)], np.int32) for name, ids in encoded.items()}
    cut_lengths = [len(ids) for ids in encoded["input_ids"]]
    counts = zip(_COUNTS, (lengths, cut_lengths), strict=True)
    return columns | {name: np.array(values, np.int32) for name, values in counts}


def arrange(
    arrays: Mapping[str, np.ndarray], split: Split, cfg: DataConfig, by_length: bool
) -> Encoded:
    """Return a split that `tokenize` made, in the order in which it is read; see `encode`."""
    lengths = arrays["lengths"]
    rows = np.arange(len(split))
    return Encoded(
        columns={name: ids for name, ids in arrays.items() if name not in _COUNTS},
        ends=np.concatenate([[0], arrays["kept"].cumsum()]),
        labels=split.labels,
        order=np.argsort(lengths, kind="stable")[::-1] if by_length else rows,
        truncated=int((lengths > cfg.max_length).sum()),
    )
