"""Steps of a training: as typed, or the floor of `auto`."""

from __future__ import annotations

import pytest
from support.config import compose

from sweep.config import budget
from sweep.config.schema import TrainerConfig

OWN = ("freeze=none", "data=csv", "data.path=own.csv")


@pytest.mark.parametrize(
    ("settings", "texts", "steps"),
    [
        ({}, 100, 200),
        ({}, 3_200, 200),
        ({}, 3_201, 202),
        ({}, 64_000, 4_000),
        ({"gradient_accumulation_steps": 4}, 64_000, 1_000),
        ({"max_steps": 7}, 64_000, 7),
        ({"num_train_epochs": 3.0}, 100, 12),
        ({"num_train_epochs": 0.5}, 100, 2),
        ({"num_train_epochs": 0.01}, 100, 1),
    ],
)
def test_steps_are_counted_as_the_trainer_counts_them(
    settings: dict[str, float], texts: int, steps: int
) -> None:
    assert budget.steps(TrainerConfig(**settings), texts) == steps  # type: ignore[arg-type]


def test_auto_is_settled_in_steps_and_epochs() -> None:
    settled = budget.settled(TrainerConfig(), 320)
    assert (settled.max_steps, settled.num_train_epochs) == (200, 20.0)


def test_what_is_typed_stays() -> None:
    typed = TrainerConfig(num_train_epochs=3.0)
    assert budget.settled(typed, 320) is typed


def test_own_data_gets_auto_and_the_standard_comparison_what_was_measured() -> None:
    assert compose("freeze=none").trainer.num_train_epochs == 2.0
    assert compose(*OWN).trainer.num_train_epochs == "auto"
    assert compose("freeze=none", "data=hub", "data.dataset=own").trainer.num_train_epochs == "auto"
    assert compose(*OWN, "trainer.num_train_epochs=3").trainer.num_train_epochs == 3.0
    assert budget.steps(compose(*OWN, "trainer=debug").trainer, 10_000) == 2


def test_two_and_two_point_zero_are_one_run() -> None:
    whole, point = (compose(*OWN, f"trainer.num_train_epochs={text}") for text in ("2", "2.0"))
    assert repr(whole) == repr(point)


def test_patience_judges_by_the_compared_metric_unless_another_is_asked_for() -> None:
    patience = "trainer.early_stopping_patience=3"
    by_default = compose("freeze=none", patience, "compare.metric=f1")
    by_loss = compose("freeze=none", patience, "trainer.metric_for_best_model=loss")
    assert by_default.trainer.metric_for_best_model == "f1"
    assert by_loss.trainer.metric_for_best_model == "loss"
    assert compose("freeze=none", "compare.metric=f1").trainer.metric_for_best_model is None


def test_a_head_with_weighted_classes_is_trained_and_not_solved() -> None:
    assert compose("freeze=full").solves_probe
    assert not compose("freeze=full", "trainer.class_weight=balanced").solves_probe
    assert not compose("freeze=full", "trainer.label_smoothing_factor=0.1").solves_probe
