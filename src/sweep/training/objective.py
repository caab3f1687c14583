"""The loss that a training makes small, where it is another than that of the evaluation.

Weights of classes and smoothed labels are for training alone: validation and test losses stay those
of the labels as they are, so that strategies and settings can be compared by them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from sweep.config.schema import TrainerConfig

BALANCED = "balanced"
Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes logits, (texts, classes), and labels, (texts,)."""


def of(trainer: TrainerConfig, labels: np.ndarray, num_labels: int) -> Objective | None:
    """Return the loss of the training; None where it is the model's own.

    Args:
        trainer: Says what is weighted and smoothed.
        labels: Class indices of the training texts.
        num_labels: Number of classes.
    """
    weights = _class_weights(trainer, labels, num_labels)
    smoothing = trainer.label_smoothing_factor
    if weights is None and not smoothing:
        return None

    def loss(logits: torch.Tensor, of_texts: torch.Tensor) -> torch.Tensor:
        weight = None if weights is None else weights.to(logits.device)
        return cross_entropy(logits.float(), of_texts, weight, label_smoothing=smoothing)

    return loss


def _class_weights(
    trainer: TrainerConfig, labels: np.ndarray, num_labels: int
) -> torch.Tensor | None:
    """Return one weight per class; `balanced` is that of scikit-learn."""
    if trainer.class_weight is None:
        return None
    if trainer.class_weight != BALANCED:
        return torch.tensor([float(weight) for weight in trainer.class_weight])
    counts = np.bincount(labels, minlength=num_labels)
    # A class without training texts has no loss to weigh.
    return torch.tensor(len(labels) / (num_labels * np.maximum(counts, 1)), dtype=torch.float32)
