"""A guessed rate that teaches nothing is halved; all that was typed or measured stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.training import SavedModel, Trained, Trainings
from transformers import TrainerCallback

from sweep.base.words import Remark
from sweep.training import safety_net, train
from sweep.training.stopping import Stopped, StopRequest
from sweep.training.train import TrainResult
from sweep.training.trainer import DivergedError

LABELS = np.array([0, 0, 0, 1, 2])
PROBLEM = Remark("restart.one_class")


@pytest.fixture
def trainings(csv_file: Path, saved_model: SavedModel, tmp_path: Path) -> Trainings:
    return Trainings(csv_file, saved_model, tmp_path / "checkpoints")


def run(trainings: Trainings, rate: float, source: str = "guessed", *overrides: str) -> Trained:
    trainings.fit = safety_net.train if source == "guessed" else train.train
    settings = ("freeze=attention", f"optimizer.learning_rate={rate}", *overrides)
    return trainings.run(trainings.configure(*settings))


def problems(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let the first trainings seem to have taught nothing."""
    left = [PROBLEM] * count
    monkeypatch.setattr(safety_net, "_problem", lambda *_: left.pop() if left else None)


def same(one: Trained, other: Trained) -> bool:
    return all(torch.equal(tensor, other.after[name]) for name, tensor in one.after.items())


@pytest.mark.parametrize("strategy", ["attention", "gradual", "lora"])
def test_it_starts_again_as_if_half_the_rate_had_been_asked_for(
    strategy: str, trainings: Trainings, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    asked = run(trainings, 5e-3, "typed", f"freeze={strategy}")
    problems(monkeypatch, 1)
    halved = run(trainings, 1e-2, "guessed", f"freeze={strategy}")
    assert same(asked, halved)
    assert halved.result.metrics["restarts"] == 1.0
    note = (
        "the guessed rate 0.01 taught nothing (validation predicts one class for every text), so"
        " the training started again at half of it, 0.005"
    )
    assert str(halved.result.notes[0]) == note
    assert note in capsys.readouterr().out


def test_it_starts_again_twice_at_most(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems(monkeypatch, 5)
    result = run(trainings, 1e-2).result
    assert result.metrics["restarts"] == 2.0
    assert len([note for note in result.notes if "started again" in note]) == 2


def test_a_training_that_diverges_is_started_again(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, original, left = run(trainings, 5e-3, "typed"), safety_net.train_once, [True]

    def once(*arguments: Any) -> TrainResult:
        result = original(*arguments)
        if left and left.pop():
            raise DivergedError("the loss became NaN")
        return result

    monkeypatch.setattr(safety_net, "train_once", once)
    halved = run(trainings, 1e-2)
    assert same(asked, halved)
    assert "infinite or NaN" in halved.result.notes[0]


def test_a_training_that_diverges_at_every_rate_fails(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []

    def once(subject: Any, encoded: Any, cfg: Any, *others: Any) -> TrainResult:
        rates.append(cfg.learning_rate)
        raise DivergedError("the loss became NaN")

    monkeypatch.setattr(safety_net, "train_once", once)
    with pytest.raises(DivergedError):
        run(trainings, 1e-2)
    assert rates == pytest.approx([1e-2, 5e-3, 2.5e-3])


def test_a_stop_after_a_restart_goes_on_at_the_halved_rate(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = run(trainings, 5e-3, "typed", "trainer.max_steps=4")

    class StopSecond(TrainerCallback):
        began = 0

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self.began += 1

        def on_step_end(self, args: Any, state: Any, *others: Any, **kwargs: Any) -> None:
            if self.began == 2 and state.global_step == 2:
                trainings.stop.ask()

    problems(monkeypatch, 1)
    trainings.callbacks = [StopSecond()]
    with pytest.raises(Stopped):
        run(trainings, 1e-2, "guessed", "trainer.max_steps=4")
    trainings.callbacks, trainings.stop = [], StopRequest()
    halved = run(trainings, 1e-2, "guessed", "trainer.max_steps=4")
    assert same(asked, halved)
    assert halved.result.metrics["restarts"] == 1.0


def result(steps: int, accuracy: float, f1: float, losses: list[float]) -> TrainResult:
    metrics = {"train_steps": float(steps), "eval_accuracy": accuracy, "eval_f1": f1}
    return TrainResult(metrics, {}, train_losses=losses)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (result(200, 0.8, 0.8, [1.1, 1.0, 0.8, 0.6]), None),
        (result(200, 0.8, 0.8, [1.1] * 20), "learnt.no_fall"),
        (result(200, 0.6, 0.25, [1.1, 1.0, 0.8, 0.6]), "restart.one_class"),
        (result(200, 0.2, 1 / 9, [1.1, 1.0, 0.8, 0.6]), "restart.one_class"),
        (result(200, 0.6, 0.5, [1.1, 1.0, 0.8, 0.6]), None),
        (result(9, 0.6, 0.25, [1.1] * 9), None),
    ],
    ids=["learnt", "level", "largest class", "another class", "not one class", "too short"],
)
def test_what_shows_that_nothing_was_taught(found: TrainResult, problem: str | None) -> None:
    remark = safety_net._problem(found, LABELS)
    assert (remark and remark.key) == problem
