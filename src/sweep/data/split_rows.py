"""A cleaned table -> train, validation and test, reproducibly and without leaks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from sweep.base.characters import bare
from sweep.config.schema import ConfigError, DataConfig, Size
from sweep.data.table_files import shorten

NAMES = ("train", "validation", "test")
ALIASES = {"dev": "validation", "valid": "validation", "val": "validation"}
Parts = dict[str, pd.DataFrame]
"""Rows by split, with the keys of `NAMES`; columns text, label (class index), split, id."""


def names(column: pd.Series) -> pd.Series:
    """Return the names of splits as they are known here; what is unknown stays as it is."""
    return column.str.strip().str.lower().replace(ALIASES) if column.notna().any() else column


def given(cfg: DataConfig) -> dict[str, str]:
    """Return the key that gives each split."""
    if cfg.split_column is not None:
        return dict.fromkeys(NAMES, f"data.split_column={cfg.split_column!r}")
    keys = ("path", "validation_path", "test_path")
    if cfg.dataset is not None:
        keys = ("train_split", "validation_split", "test_split")
    values = {name: (key, getattr(cfg, key)) for name, key in zip(NAMES, keys, strict=True)}
    return {name: f"data.{key}={value!r}" for name, (key, value) in values.items() if value}


def split(
    rows: pd.DataFrame, cfg: DataConfig, label_names: list[str]
) -> tuple[Parts, Counter[str]]:
    """Split into three, and drop what a held-out split already has from the splits before it.

    Args:
        rows: Cleaned, with class indices as labels.
        cfg: Sizes, method and seed.
        label_names: Of the class indices.

    Returns:
        The parts, and how many leaked rows were dropped, by the key of a note.

    Raises:
        ConfigError: A size that cannot be had, or a class that train would lack.
    """
    if rows["split"].notna().any():
        parts = _given_splits(rows, cfg)
    elif cfg.split_method == "random_split":
        parts = _random_split(rows, cfg)
    else:
        _check_rare(rows, cfg, label_names)
        parts = _cut_off(rows, cfg, ("test", "validation"))
    leaked, held_out = Counter[str](), len(parts["validation"])
    if cfg.deduplicate:
        parts, leaked = _drop_leaks(parts)
    parts["train"] = _subset(parts["train"], cfg, len(rows))
    present = set(parts["train"]["label"])
    absent = [name for i, name in enumerate(label_names) if i not in present]
    if absent:
        why = f" {leaked.total():,} rows are not used: their text is in a held-out split too."
        raise ConfigError(
            f"The train split has no row of {shorten(absent)}.{why if leaked.total() else ''}"
            " Remove that class from the data, or change how the data is split."
        )
    if held_out and parts["validation"].empty:
        raise ConfigError(
            f"The validation split has no row left: the texts of all its {held_out:,} rows are in"
            " the test split too. Take them out of one of the two."
        )
    return parts, leaked


def _cut_off(rows: pd.DataFrame, cfg: DataConfig, names: tuple[str, ...]) -> Parts:
    """Cut held-out splits off first, so that another train_size leaves them as they are."""
    sizes = {"test": cfg.test_size, "validation": cfg.validation_size}
    parts, rest = {}, rows
    for name in names:
        parts[name], rest = _take(rest, sizes[name], len(rows), cfg, f"data.{name}_size")
    return {**parts, "train": rest}


def _given_splits(rows: pd.DataFrame, cfg: DataConfig) -> Parts:
    """Return the splits that the data declares; others are cut from train."""
    unknown = sorted(set(rows["split"].unique()) - set(NAMES))
    if unknown:
        raise ConfigError(
            f"data.split_column={cfg.split_column!r} holds {shorten(unknown)}."
            " Known are train, validation (dev, valid, val) and test."
        )
    parts = {name: rows[rows["split"] == name] for name in NAMES}
    if parts["train"].empty:
        raise ConfigError(
            f"data.split_column={cfg.split_column!r} has no row that says train."
            " Known are train, validation (dev, valid, val) and test."
        )
    absent = tuple(name for name in ("test", "validation") if parts[name].empty)
    return parts | _cut_off(parts["train"], cfg, absent)


def _random_split(rows: pd.DataFrame, cfg: DataConfig) -> Parts:
    """Split as `torch.utils.data.random_split(rows, [v, 1 - v])` in notebooks does."""
    import torch

    size, total = cfg.validation_size, len(rows)
    if not 1 <= (size * total if size < 1 else size) <= total - 1:
        raise ConfigError(
            _takes("data.validation_size", size, total, total)
            + " Leave at least one row on both sides."
        )
    lengths = [size, 1 - size] if size < 1 else [int(size), total - int(size)]
    generator = torch.Generator().manual_seed(cfg.split_seed)
    indices: Any = range(total)
    drawn = torch.utils.data.random_split(indices, lengths, generator)
    validation, train = (rows.iloc[list(part.indices)] for part in drawn)
    return {"train": train, "validation": validation, "test": rows.iloc[:0]}


def _take(
    rows: pd.DataFrame, size: Size, total: int, cfg: DataConfig, key: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut a stratified sample off; returns (sample, rest) in row order."""
    if not size:
        return rows.iloc[:0], rows
    count, classes = _count(size, total), rows["label"].nunique()
    if not classes <= count <= len(rows) - classes:
        raise ConfigError(
            _takes(key, size, total, len(rows))
            + f" Leave at least one row for each of the {classes} classes on both sides."
        )
    order = _stratified_order(rows["label"].to_numpy(), cfg.split_seed)
    return rows.iloc[np.sort(order[:count])], rows.iloc[np.sort(order[count:])]


def _stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return a random order whose every beginning has the classes in their overall proportions.

    Each class comes at least once among the first rows, and a smaller sample is part of a larger
    one. The rows of a class, shuffled, are spread evenly over the order.
    """
    random = np.random.RandomState(seed)  # unlike Generator's, its stream never changes
    shuffled = random.permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
        position[members[0]] = 0
    return shuffled[np.argsort(position[shuffled], kind="stable")]


def _subset(train: pd.DataFrame, cfg: DataConfig, total: int) -> pd.DataFrame:
    if cfg.train_size is None:
        return train
    count, classes = _count(cfg.train_size, total), train["label"].nunique()
    if not classes <= count <= len(train):
        raise ConfigError(
            f"data.train_size={cfg.train_size} asks for {count:,} rows. {len(train):,} are left"
            f" for training, and each of the {classes} classes needs one."
            " Set data.train_size=null for all of them."
        )
    order = _stratified_order(train["label"].to_numpy(), cfg.split_seed)
    # Row order of `train`, which random_split has shuffled, and not of the file.
    return train.iloc[np.sort(order[:count])]


def _count(size: float, total: int) -> int:
    return round(size * total) if size < 1 else int(size)


def _takes(key: str, size: float, total: int, available: int) -> str:
    return f"{key}={size} takes {_count(size, total):,} of {available:,} rows."


def _check_rare(rows: pd.DataFrame, cfg: DataConfig, label_names: list[str]) -> None:
    splits = 3 if cfg.test_size else 2
    counts = np.bincount(rows["label"], minlength=len(label_names))
    rare = [f"{label_names[i]!r} ({n})" for i, n in enumerate(counts) if n < splits]
    if rare:
        raise ConfigError(
            f"These classes of data.label_column={cfg.label_column!r} have fewer rows than there"
            f" are splits ({splits}): {', '.join(rare)}. Remove those rows, or merge the class"
            " into another."
        )


def _drop_leaks(parts: Parts) -> tuple[Parts, Counter[str]]:
    """Take texts of a held-out split out of the splits before it; test stays whole.

    Texts that differ in case, width, accents or blanks count as the same: what a tokenizer makes
    one of must not be in two splits.
    """
    seen: set[str] = set()
    alike: set[str] = set()
    left, leaked = {}, Counter[str]()
    for name in reversed(NAMES):
        part = parts[name]
        keys = part["text"].map(bare)
        is_same, is_alike = part["text"].isin(seen), keys.isin(alike)
        leaked["leaked"] += int(is_same.sum())
        leaked["nearly_leaked"] += int((is_alike & ~is_same).sum())
        left[name] = part[~is_alike]
        seen |= set(part["text"])
        alike |= set(keys)
    return {name: left[name] for name in NAMES}, leaked
