"""predictions.csv of a run: one row per text of the reported split, in the order of the split."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.base import csv_cells
from sweep.base.disk import write_atomically
from sweep.base.layout import RunPaths

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("id", "label", "prediction")
"""Beside them there is a probability per class, `p_NAME`."""


def write(table: pd.DataFrame, folder: Path) -> None:
    """Write a table of id, label, prediction and probabilities; no cell is a formula."""
    texts = {name: table[name].map(csv_cells.harmless) for name in ("label", "prediction")}
    write_atomically(RunPaths(folder).predictions, table.assign(**texts).to_csv(index=False))


def read(folder: Path) -> pd.DataFrame:
    """Return the columns of a run's file as texts: a class may be called NA, or 01.

    Raises:
        OSError: There is no file.
        ValueError: It is damaged.
    """
    import pandas as pd

    # pandas' errors are subclasses of ValueError.
    table = pd.read_csv(RunPaths(folder).predictions, dtype=str, keep_default_na=False)
    if missing := [name for name in COLUMNS if name not in table]:
        raise ValueError(f"it has no column {', '.join(missing)}")
    if any((cells == "").any() for _, cells in table.items()):  # none is written empty
        raise ValueError("a row is cut short")
    return table.assign(**{name: table[name].map(csv_cells.original) for name in COLUMNS[1:]})


def renew_ids(folder: Path, ids: Sequence[int]) -> bool:
    """Name the texts by their rows in the file as it is now.

    Args:
        folder: Of a run that was made with the same texts in the same order.
        ids: Their rows.

    Returns:
        Whether there was something to change. A file that does not fit is left as it is.
    """
    try:
        with RunPaths(folder).predictions.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        column = header.index("id")
        before = [row[column] for row in rows]
    except (OSError, ValueError, IndexError, csv.Error):
        return False
    now = [str(number) for number in ids]
    if before == now or len(before) != len(now):
        return False
    for row, number in zip(rows, now, strict=True):
        row[column] = number
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_atomically(RunPaths(folder).predictions, text.getvalue())
    return True
