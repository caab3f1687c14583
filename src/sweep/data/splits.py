"""Labelled texts, ready to train on: configuration -> cleaned rows -> three splits -> token ids.

What was dropped or cut is counted and told in `Splits.notes`, never silently.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sweep.base.words import Remark, Text
from sweep.config.schema import DataConfig
from sweep.data import cleaning, labels, split_rows, table_files
from sweep.data.split_rows import NAMES


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
    def reported(self) -> Split:
        """The split that predictions are kept of: test, where there is one."""
        return self.test if len(self.test) else self.validation

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
    table = table_files.read(cfg)
    written = table.rows["label"].str.strip()
    raw = table.rows.assign(
        label=labels.unify(written), split=split_rows.names(table.rows["split"])
    )
    rows, reasons = cleaning.clean(raw, cfg)
    cleaning.check_given(raw, reasons, split_rows.given(cfg))
    label_names, classes = labels.classes(rows["label"], cfg, table.label_names)
    spelled = rows["label"].map(classes)
    respelled = (raw["label"] != written)[rows.index] | (spelled != rows["label"])
    rows["label"] = spelled.map({name: i for i, name in enumerate(label_names)})
    parts, leaked = split_rows.split(rows, cfg, label_names)
    dropped = Counter({why: int((reasons == why).sum()) for why in cleaning.REASONS}) + leaked
    available = len(rows) - leaked.total()
    notes: list[Text] = [_note(cfg, parts, dropped, available, len(label_names))]
    if respelled.any():
        values = {"data": cfg.name, "n": f"{int(respelled.sum()):,}"}
        notes.append(Remark("note.respelled", values))
    return Splits(
        **{name: _to_split(part) for name, part in parts.items()},
        label_names=label_names,
        notes=notes,
    )


def _note(
    cfg: DataConfig, parts: split_rows.Parts, dropped: Counter[str], available: int, classes: int
) -> Remark:
    """Return one line on the texts that are trained and tested on, and those that are not."""
    sizes = {name: len(part) for name, part in parts.items()}
    unused = available - sum(sizes.values())
    left = Remark("note.left", {"unused": f"{unused:,}", "size": cfg.train_size})
    values = {
        "data": cfg.name,
        "sizes": cleaning.counted(sizes),
        "classes": classes,
        "left": left if unused else "",
        "dropped": cleaning.counted(+dropped) or (Remark("note.nothing"),),
    }
    return Remark("note.data", values)


def _to_split(rows: pd.DataFrame) -> Split:
    return Split(
        rows["text"].tolist(), rows["label"].to_numpy(np.int64), rows["id"].to_numpy(np.int64)
    )
