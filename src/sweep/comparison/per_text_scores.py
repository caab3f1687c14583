"""Read the stored predictions of runs, and score them text by text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from sweep.base.layout import RunPaths
from sweep.base.words import Remark
from sweep.runs import predictions as stored_predictions


class PredictionsError(Exception):
    """A run's predictions cannot be used; the remark completes "its predictions ..."."""

    def __init__(self, key: str, **values: str) -> None:
        self.remark = Remark(f"untested.{key}", values)
        super().__init__(str(self.remark))


@dataclass(frozen=True)
class Predictions:
    """The predictions of one run on one split; all arrays hold strings, (rows,)."""

    ids: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray

    @cached_property
    def rows(self) -> str:
        """A checksum of rows and labels in order, the same for the same rows of a file."""
        return _checksum([*self.ids, *self.labels])

    def content(self, data_fingerprint: str) -> str:
        """Return a checksum of data and labels, the same for the same texts in any rows."""
        return _checksum([data_fingerprint, *self.labels])


def _checksum(texts: Iterable[str]) -> str:
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()


def test_sets(runs: Mapping[int, Predictions], fingerprints: Mapping[int, str]) -> dict[int, str]:
    """Return a name of the test set of each run, equal for the same rows or the same texts.

    Rows alone would separate runs on a file whose rows have moved, and texts alone would separate
    runs that train on different parts of one file.

    Args:
        runs: Predictions by number of the run.
        fingerprints: Fingerprints of their data by the same number, as far as they are known.
    """
    names: dict[str, str] = {}
    test_sets = {}
    for index, run in runs.items():
        data = fingerprints.get(index)
        keys = [run.rows, *([run.content(data)] if data else [])]
        test_sets[index] = next((names[key] for key in keys if key in names), run.rows)
        names |= dict.fromkeys(keys, test_sets[index])
    return test_sets


def read(folder: Path) -> Predictions:
    """Read predictions.csv of a run.

    Raises:
        PredictionsError: It is missing, damaged or empty.
    """
    try:
        written = RunPaths(folder).predictions.stat()
        return _read(folder, (written.st_mtime_ns, written.st_size))
    except OSError:
        raise PredictionsError("missing") from None


@lru_cache(
    maxsize=16
)  # each comparison asks for them twice: for its tests, and for what was learnt
def _read(folder: Path, written: tuple[int, int]) -> Predictions:
    """Read a file that was written at a time, with a size."""
    try:
        table = stored_predictions.read(folder)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise PredictionsError("damaged", reason=reason) from None
    if table.empty:
        raise PredictionsError("empty")
    return Predictions(*(table[name].to_numpy(object) for name in stored_predictions.COLUMNS))


def scores(runs: Sequence[Predictions]) -> dict[str, np.ndarray]:
    """Return score matrices of runs on the same test set, (runs, texts): `accuracy` and `f1`."""
    stacked = np.concatenate([runs[0].labels, *(run.predictions for run in runs)])
    codes = pd.factorize(stacked)[0].reshape(1 + len(runs), -1)
    labels, predictions = codes[0], codes[1:]
    return {
        "accuracy": accuracy_scores(labels, predictions),
        "f1": np.stack([macro_f1_scores(labels, row) for row in predictions]),
    }


def accuracy_scores(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return 1 for each right prediction and 0 for each wrong one; any shape."""
    return np.asarray(labels == predictions, np.float32)


def macro_f1_scores(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return a number per text, (texts,), whose mean and spread are those of macro-F1.

    Macro-F1 is not a mean over texts. Its first-order expansion in the weight of each text is one,
    and its variance is what resampling the texts tends to (infinitesimal jackknife, Efron and
    Stein 1981).

    Args:
        labels: Class indices, (texts,).
        predictions: Class indices, (texts,).
    """
    length = int(max(labels.max(), predictions.max())) + 1
    right = labels == predictions
    hits = np.bincount(labels[right], minlength=length)
    size = np.bincount(labels, minlength=length) + np.bincount(predictions, minlength=length)
    weight = 1 / np.maximum(size, 1)
    classes = (size > 0).sum()  # those in labels or predictions, as scikit-learn does
    f1 = 2 * hits * weight
    # One text changes the F1 of its label and of its prediction.
    slope = 2 * right * weight[labels] - (f1 * weight)[labels] - (f1 * weight)[predictions]
    return np.asarray(f1.sum() / classes + len(labels) * slope / classes)
