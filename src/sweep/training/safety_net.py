"""Start a training again at half the rate where the rate was guessed, and proved to be wrong.

A rate that was typed, or measured on the model, is never changed: what it does is a result.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sweep.base.disk import write_atomically
from sweep.base.words import Remark, Text
from sweep.config.schema import Config
from sweep.data.encode import Encoded
from sweep.strategies.freeze_report import FreezeReport
from sweep.training import loss_curve
from sweep.training.train import Session, TrainResult
from sweep.training.train import train as train_once
from sweep.training.trainer import DivergedError, Subject

MOST_RESTARTS = 2
LEAST_STEPS = 10
"""Fewer optimizer steps teach nothing at any rate."""
FILE = "restarts.json"
"""Beside the checkpoints: how often the training they are of was started again."""


def train(
    subject: Subject,
    encoded: dict[str, Encoded],
    cfg: Config,
    session: Session,
    strategy: FreezeReport,
    forget: Callable[[], None] = lambda: None,
) -> TrainResult:
    """Train at a guessed rate as `train.train` does; start again at half where it taught nothing.

    Args:
        subject: Its model is trained in place.
        encoded: By the names train, validation and test.
        cfg: The run.
        session: Checkpoints, progress, stop.
        strategy: What trains.
        forget: Drops the curves of a training that is started again.

    Raises:
        DivergedError: The last one that is allowed diverged too. All others as `train.train`.
    """
    start = _trained_tensors(subject.model, strategy)
    restarts, notes = _restarts(session.output_dir), list[Text]()
    while True:
        rate = cfg.learning_rate / 2**restarts
        attempt = replace(cfg, optimizer=replace(cfg.optimizer, learning_rate=rate))
        try:
            result = train_once(subject, encoded, attempt, session, strategy)
            problem = _problem(result, encoded["validation"].labels)
        except DivergedError:
            if restarts == MOST_RESTARTS:
                raise
            problem = Remark("restart.diverged")
        if problem is None or restarts == MOST_RESTARTS:
            metrics = result.metrics | ({"restarts": float(restarts)} if restarts else {})
            return replace(result, metrics=metrics, notes=[*notes, *result.notes])
        values = {"rate": rate, "problem": problem, "half": rate / 2}
        notes.append(Remark("restart.again", values))
        print(notes[-1], flush=True)
        restarts += 1
        _put_back(start, subject.model, strategy)
        _empty(session.output_dir, restarts)
        session = replace(session)  # looks for its checkpoint anew
        forget()


def _problem(result: TrainResult, labels: np.ndarray) -> Remark | None:
    """Return what shows that a training taught nothing, told from training and validation alone."""
    if result.metrics["train_steps"] < LEAST_STEPS:
        return None
    if not loss_curve.may_have_fallen(result.train_losses):
        return Remark("learnt.no_fall")
    return Remark("restart.one_class") if _is_one_class(result.metrics, labels) else None


def _is_one_class(metrics: dict[str, float], labels: np.ndarray) -> bool:
    """Whether accuracy and macro-F1 on validation are those of one class for every text."""
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2:
        return False
    shares = counts / len(labels)
    return any(
        math.isclose(metrics["eval_accuracy"], share, abs_tol=1e-9)
        and math.isclose(metrics["eval_f1"], 2 * share / (1 + share) / len(counts), abs_tol=1e-9)
        for share in shares
    )


def _trained_tensors(model: nn.Module, strategy: FreezeReport) -> dict[str, torch.Tensor]:
    """Return copies of what will train, and of what a model keeps beside its parameters."""
    trained = {tensor.name for tensor in strategy.tensors if tensor.trainable}
    tensors: dict[str, torch.Tensor] = dict(model.named_buffers())
    tensors |= {name: p for name, p in model.named_parameters() if name in trained}
    return {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}


def _put_back(start: dict[str, torch.Tensor], model: nn.Module, strategy: FreezeReport) -> None:
    trained = {tensor.name for tensor in strategy.tensors if tensor.trainable}
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in (parameters | dict(model.named_buffers())).items():
            if name in start:
                tensor.copy_(start[name])
    for name, parameter in parameters.items():
        parameter.grad = None
        parameter.requires_grad_(name in trained)


def _restarts(folder: Path) -> int:
    """Return how often a stopped training that left this folder was started again."""
    try:
        return int(json.loads((folder / FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return 0


def _empty(folder: Path, restarts: int) -> None:
    """Remove the checkpoints of a training that is started again, and note that it is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, json.dumps(restarts))
