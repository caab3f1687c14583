"""Metrics against hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.training import metrics


@pytest.mark.parametrize(
    ("predictions", "references", "accuracy", "f1"),
    [
        pytest.param([0, 1, 2], [0, 1, 2], 1.0, 1.0, id="all-right"),
        pytest.param([1, 2, 0], [0, 1, 2], 0.0, 0.0, id="all-wrong"),
        # Class 0: precision 2/3, recall 1, F1 0.8; class 1: precision 1, recall 1/2, F1 2/3.
        pytest.param([0, 0, 0, 1], [0, 0, 1, 1], 0.75, (0.8 + 2 / 3) / 2, id="two-classes"),
        # Classes count alike, however many texts they have: F1 of 8/9 and of 0.
        pytest.param([0] * 5, [0, 0, 0, 0, 1], 0.8, (8 / 9 + 0) / 2, id="never-predicted"),
    ],
)
def test_accuracy_and_macro_f1(
    predictions: list[int], references: list[int], accuracy: float, f1: float
) -> None:
    found = metrics.compute(np.array(predictions), np.array(references))
    assert found == {"accuracy": pytest.approx(accuracy), "f1": pytest.approx(f1)}
