"""Accuracy and macro-F1 as `evaluate.Metric` modules that need no hub.

`evaluate.load("accuracy")` fetches code at run time; these are instantiated directly.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import accuracy_score, f1_score

_FEATURES = datasets.Features(
    {"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}
)
_INFO = {"description": "", "citation": "", "inputs_description": "", "features": _FEATURES}


class Accuracy(evaluate.Metric):
    """Share of texts whose class is right, from 0 to 1."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(**_INFO)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


class MacroF1(evaluate.Metric):
    """Mean of the classes' F1; a class that is never predicted right counts as 0."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(**_INFO)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        score = f1_score(references, predictions, average="macro", zero_division=0)
        return {"f1": float(score)}


def compute(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Return all metrics of one split.

    Args:
        predictions: Class indices, (rows,).
        references: Class indices, (rows,).
    """
    # In memory: the default writes a cache file per call outside of mlruns/.
    scores: dict[str, float] = {}
    for metric in (Accuracy(keep_in_memory=True), MacroF1(keep_in_memory=True)):
        scores |= metric.compute(predictions=predictions, references=references)
    return scores
