"""Labelled texts, ready to train on: configuration -> cleaned rows -> three splits -> token ids.

What was dropped or cut is counted and told in `Splits.notes`, never silently.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sweep.base.words import Remark, Text
from sweep.config.schema import ConfigError, DataConfig
from sweep.data import split_rows, table_files
from sweep.data.split_rows import NAMES
from sweep.data.table_files import shorten

MAX_LABELS = 1000
"""More distinct labels than this are taken for an id or a number, not for classes."""


@dataclass(frozen=True)
class Split:
    """Texts with their class index and the row they came from."""

    texts: list[str]
    labels: np.ndarray  # (rows,), int64 index into Splits.label_names
    ids: np.ndarray  # (rows,), zero-based row of the file

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Splits:
    """The data of a run, before tokenisation."""

    train: Split
    validation: Split
    test: Split
    label_names: list[str]
    notes: list[Text]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of every text and label in order: what the result depends on, not the path."""
        digest = hashlib.sha256("\x1f".join(self.label_names).encode())
        for name in NAMES:
            part: Split = getattr(self, name)
            digest.update(f"\x1e{name}\x1e".encode())
            digest.update("\x1f".join(part.texts).encode())
            digest.update(part.labels.astype("<i8").tobytes())
        return digest.hexdigest()


def load_splits(cfg: DataConfig) -> Splits:
    """Read, clean and split.

    Raises:
        ConfigError: Anything the user has to mend in the file or in `data.*`.
    """
    found = table_files.read(cfg)
    rows, dropped = _clean(found.rows, cfg)
    label_names = _label_names(rows["label"], cfg, found.label_names)
    rows["label"] = rows["label"].map({name: i for i, name in enumerate(label_names)})
    parts, leaked = split_rows.split(rows, cfg, label_names)
    dropped["leaked"] = leaked
    return Splits(
        **{name: _to_split(part) for name, part in parts.items()},
        label_names=label_names,
        notes=[_note(cfg, parts, dropped, len(rows) - leaked, len(label_names))],
    )


def _clean(rows: pd.DataFrame, cfg: DataConfig) -> tuple[pd.DataFrame, Counter[str]]:
    """Drop rows that cannot be learnt from, counted by reason: the key of a note."""
    dropped: Counter[str] = Counter()

    def keep(mask: pd.Series, reason: str) -> None:
        nonlocal rows
        dropped[reason] = int((~mask).sum())
        rows = rows[mask].copy()

    rows = rows.assign(label=rows["label"].str.strip())
    keep(rows["text"].str.strip() != "", "empty")
    if rows.empty:
        raise ConfigError(
            f"data.text_column={cfg.text_column!r} is empty in every row. Choose another column."
        )
    keep(rows["label"] != "", "no_label")
    if rows.empty:
        raise ConfigError(
            f"data.label_column={cfg.label_column!r} is empty in every row that has a text."
            " Choose another column."
        )
    if cfg.label_pattern:
        rows["label"] = _extract_labels(rows["label"], cfg)
    if cfg.deduplicate:
        labels = rows.groupby("text")["label"].transform("nunique")
        keep(labels == 1, "two_labels")
        # Within one split only: the same text in two splits is settled when they are split.
        keep(~rows.duplicated(["text", "split"]), "repeated")
        if rows.empty:
            raise ConfigError(
                f"Every text of data.text_column={cfg.text_column!r} carries two labels. Choose"
                " other columns, or set data.deduplicate=false."
            )
    return rows, dropped


def _extract_labels(raw: pd.Series, cfg: DataConfig) -> pd.Series:
    labels = raw.str.extract(f"^(?:{cfg.label_pattern})$", expand=True)[0]
    bad = sorted(raw[labels.isna()].unique())
    if bad:
        raise ConfigError(
            f"data.label_pattern={cfg.label_pattern!r} does not match the labels"
            f" {shorten(bad)} of data.label_column={cfg.label_column!r}."
            " Correct the pattern, or choose another column."
        )
    return labels


def _label_names(labels: pd.Series, cfg: DataConfig, declared: list[str] | None) -> list[str]:
    """Classes in the order of `data.label_names`, else as the data set declares, else sorted."""
    found = sorted(labels.unique(), key=_natural)
    source = f"data.label_column={cfg.label_column!r}"
    if len(found) < 2:
        raise ConfigError(
            f"{source} holds one class only, {shorten(found)}. At least two are needed;"
            " choose another column."
        )
    if cfg.label_names is not None:
        _check_label_names(cfg.label_names, found, source)
        return list(cfg.label_names)
    if any(re.fullmatch(r"[-+]?\d*\.\d*[1-9]\d*(e[-+]?\d+)?", name) for name in found):
        raise ConfigError(
            f"{source} holds decimal numbers ({shorten(found)}), not classes. Choose another"
            " column; regression is not supported. If they are classes, list them in"
            " data.label_names."
        )
    if len(found) > MAX_LABELS or (len(labels) >= 20 and len(found) > len(labels) / 2):
        raise ConfigError(
            f"{source} has {len(found):,} distinct values in {len(labels):,} rows"
            f" ({shorten(found)}). That is no class label; choose another column."
        )
    if declared and set(found) <= set(declared):
        return [name for name in declared if name in found]
    return found


def _check_label_names(names: list[str], found: list[str], source: str) -> None:
    unknown = [name for name in found if name not in names]
    unused = [name for name in names if name not in found]
    if unknown or unused:
        raise ConfigError(
            f"data.label_names={names} does not fit {source}:"
            f" in the data only: {shorten(unknown)}; in label_names only: {shorten(unused)}."
            " List exactly the classes of the data, or set data.label_names=null."
        )


def _natural(name: str) -> tuple[int, int, str]:
    """Sort key that puts -1 before 0, and 2 before 10."""
    return (0, int(name), name) if re.fullmatch(r"-?\d{1,18}", name) else (1, 0, name)


def _note(
    cfg: DataConfig, parts: split_rows.Parts, dropped: Counter[str], available: int, classes: int
) -> Remark:
    """One line on what is trained and tested on, and what is not."""
    sizes = {name: len(part) for name, part in parts.items()}
    unused = available - sum(sizes.values())
    left = Remark("note.left", {"unused": f"{unused:,}", "size": cfg.train_size})
    values = {
        "data": cfg.name,
        "sizes": _counted(sizes),
        "classes": classes,
        "left": left if unused else "",
        "dropped": _counted(+dropped) or (Remark("note.nothing"),),
    }
    return Remark("note.data", values)


def _counted(counts: Mapping[str, int]) -> tuple[Remark, ...]:
    return tuple(Remark(f"note.{what}", {"n": f"{n:,}"}) for what, n in counts.items())


def _to_split(rows: pd.DataFrame) -> Split:
    return Split(
        rows["text"].tolist(), rows["label"].to_numpy(np.int64), rows["id"].to_numpy(np.int64)
    )
