"""Rows as they were read -> rows that can be learnt from; what is dropped is counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pandas as pd

from sweep.base.characters import is_blank
from sweep.base.words import Remark
from sweep.config.schema import ConfigError, DataConfig
from sweep.data import labels

REASONS = ("empty", "no_label", "two_labels", "repeated")
"""Why a row is dropped: keys of notes, in the order in which they are asked."""


def clean(rows: pd.DataFrame, cfg: DataConfig) -> tuple[pd.DataFrame, pd.Series]:
    """Drop rows that cannot be learnt from.

    Args:
        rows: Columns text, label, split and id; labels without blanks around them.
        cfg: Its columns, `label_pattern` and `deduplicate`.

    Returns:
        The rows that are left with their labels as classes are named, and per row of `rows` why it
        was dropped, the key of a note; empty where it was not.

    Raises:
        ConfigError: No row is left, or `label_pattern` does not fit.
    """
    reasons = pd.Series("", rows.index)

    def drop(mask: pd.Series, reason: str) -> None:
        nonlocal rows
        reasons[rows.index[mask]] = reason
        rows = rows[~mask].copy()

    drop(rows["text"].map(is_blank).astype(bool), "empty")
    if rows.empty:
        raise ConfigError(
            f"data.text_column={cfg.text_column!r} is empty in every row. Choose another column."
        )
    drop(rows["label"] == "", "no_label")
    if rows.empty:
        raise ConfigError(
            f"data.label_column={cfg.label_column!r} is empty in every row that has a text."
            " Choose another column."
        )
    if cfg.label_pattern:
        rows["label"] = labels.extract(rows["label"], cfg)
    if cfg.deduplicate:
        drop(rows.groupby("text")["label"].transform("nunique") > 1, "two_labels")
        # Within one split only: the same text in two splits is settled when they are split.
        drop(rows.duplicated(["text", "split"]), "repeated")
        if rows.empty:
            raise ConfigError(
                f"Every text of data.text_column={cfg.text_column!r} carries two labels. Choose"
                " other columns, or set data.deduplicate=false."
            )
    return rows, reasons


def counted(counts: Mapping[str, int]) -> tuple[Remark, ...]:
    """Return one remark per count; the key of a count is that of its note."""
    return tuple(Remark(f"note.{what}", {"n": f"{n:,}"}) for what, n in counts.items())


def check_given(rows: pd.DataFrame, reasons: pd.Series, sources: Mapping[str, str]) -> None:
    """Refuse a split that was given and of which no row is left.

    Args:
        rows: As read, with names of splits; None where there are none.
        reasons: Per row why it was dropped; empty where it was not.
        sources: Per split, what gives it.

    Raises:
        ConfigError: It would be filled from another split, or stay empty.
    """
    errors = []
    for split in rows["split"].dropna().unique():
        why = reasons[rows["split"] == split]
        if split in sources and (why != "").all():
            source, counts = sources[split], ", ".join(map(str, counted(Counter(why))))
            key = source.partition("=")[0]
            cut = f"set {key}=null to have the split cut from the training rows"
            by_itself = split == "train" or key == "data.split_column"
            errors.append(
                f"{source} gives the {split} split, and none of its {len(why):,} rows can be used:"
                f" {counts}. A split that is given is never filled from another one. Mend its rows,"
                f" or {'leave them out' if by_itself else cut}."
            )
    if errors:
        raise ConfigError(*errors)
