"""The training loss with weights of classes and smoothed labels, against other libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from sweep.config.schema import TrainerConfig
from sweep.training import objective

LABELS = np.array([0, 0, 0, 1, 2, 2])
LOGITS = torch.tensor(np.random.default_rng(0).normal(size=(6, 3)), dtype=torch.float32)


def loss(labels: np.ndarray = LABELS, num_labels: int = 3, **settings: object) -> float:
    made = objective.of(TrainerConfig(**settings), labels, num_labels)  # type: ignore[arg-type]
    assert made is not None
    return made(LOGITS, torch.tensor(labels)).item()


def weighted(weights: np.ndarray) -> float:
    return float(log_loss(LABELS, LOGITS.softmax(-1).numpy(), sample_weight=weights[LABELS]))


def test_without_either_it_is_the_models_own() -> None:
    assert objective.of(TrainerConfig(), LABELS, 3) is None


def test_balanced_is_that_of_scikit_learn() -> None:
    weights = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert loss(class_weight="balanced") == pytest.approx(weighted(weights), rel=1e-5)


def test_weights_are_in_the_order_of_the_classes() -> None:
    expected = weighted(np.array([1.0, 5.0, 2.0]))
    assert loss(class_weight=[1, 5, 2]) == pytest.approx(expected, rel=1e-5)


def test_a_class_without_texts_is_no_division_by_zero() -> None:
    assert np.isfinite(loss(np.array([0, 0, 0, 1, 1, 1]), class_weight="balanced"))


def test_smoothing_spreads_a_share_over_all_classes() -> None:
    log_probabilities = LOGITS.log_softmax(-1).numpy()
    targets = np.eye(3)[LABELS] * 0.7 + 0.1
    expected = -(targets * log_probabilities).sum(-1).mean()
    assert loss(label_smoothing_factor=0.3) == pytest.approx(expected, rel=1e-5)
