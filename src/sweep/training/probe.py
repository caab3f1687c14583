"""A head that trains alone, solved in place of trained: multinomial logistic regression.

With a frozen backbone the head's problem is convex, so it has one best answer, which no rate and no
number of epochs decide. L-BFGS finds it in seconds on the vectors that the head reads, for several
strengths of the penalty; validation loss chooses among them.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits
from torch import nn

from sweep.base.words import Remark, Text
from sweep.config.schema import Config
from sweep.data.encode import Encoded
from sweep.strategies.freeze_report import FreezeReport
from sweep.strategies.proof import Proof, ProofError
from sweep.training import cost, metrics
from sweep.training.stopping import Stopped
from sweep.training.train import Session, TrainResult, check_finite, predict_scored
from sweep.training.trainer import Subject, SweepTrainer, left_as_it_was, make_trainer

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""scikit-learn's C, the inverse of the penalty: the sum of the losses counts C times the half of
the squared weights."""
PATIENCE = 2
"""How many larger ones may be worse in a row before the rest is left out: they take longest."""
MOST_ITERATIONS = 1000
TOLERANCE = {"fp32": 1e-3}
LOOSE = 0.05
"""Largest relative difference of the loss that the model itself gives for its solved head; logits
with 8 bits of mantissa are off by up to that."""


@dataclass(frozen=True)
class _Fit:
    """One solution."""

    strength: float
    weight: np.ndarray  # (classes, width)
    bias: np.ndarray  # (classes,)
    scores: dict[str, float]
    iterations: int


@dataclass(frozen=True)
class _Vectors:
    """What the head reads of a split."""

    values: np.ndarray  # (texts, width), float64
    labels: np.ndarray  # (texts,)


def why_not(subject: Subject, cfg: Config, strategy: FreezeReport) -> Text | None:
    """Say why the head is not solved: None if it is, an empty text if that was not asked for."""
    if not cfg.solves_probe:
        return ""
    if not is_linear(subject.model, strategy):
        return Remark("probe.not_linear")
    cut = subject.cut
    if cut is None or not all(level.pooled and level.name in cut.states for level in cut.levels):
        return Remark("probe.no_features")
    return None


def is_linear(model: nn.Module, strategy: FreezeReport) -> bool:
    """Whether all that trains is one linear layer, whose problem has a single best answer."""
    return _linear(model, strategy) is not None


def solve(
    subject: Subject,
    encoded: dict[str, Encoded],
    cfg: Config,
    session: Session,
    strategy: FreezeReport,
) -> TrainResult:
    """Solve the head, evaluate, and predict on the held-out splits; see `train.train`.

    Raises:
        ProofError: Something else changed, or the model gives another loss than the solution.
        Stopped: As the session asked; it is solved from the start again.
    """
    with left_as_it_was(subject.model), threadpool_limits(torch.get_num_threads()):
        return _solve(subject, encoded, cfg, session, strategy)


def _solve(
    subject: Subject,
    encoded: dict[str, Encoded],
    cfg: Config,
    session: Session,
    strategy: FreezeReport,
) -> TrainResult:
    trainer = make_trainer(subject, encoded, cfg, session.output_dir)
    head = _linear(subject.model, strategy)
    assert head is not None, "asked by why_not"
    proof = Proof(subject.model, strategy)
    cost.reset_peak_memory(trainer.args.device.type)
    started = time.perf_counter()
    train, validation = (_vectors(trainer, head, encoded[name]) for name in ("train", "validation"))
    fits = []
    for step, fit in enumerate(_solutions(train, validation, head.out_features), 1):
        fits.append(fit)
        session.report(fit.scores, step, len(STRENGTHS))
        if session.stop.asked:
            raise Stopped(0)
    best = min(fits, key=lambda fit: fit.scores["eval_loss"])
    _put(best, head)
    seconds = time.perf_counter() - started
    peak = trainer.peak_memory()

    iterations = sum(fit.iterations for fit in fits)
    texts = len(train.labels) * iterations
    results = {
        "train_loss": best.scores["train_loss"],
        "train_runtime_s": seconds,
        "train_samples_per_second": texts / seconds,
        # Logits and the gradient of the weights: two matrix products, 2 operations each.
        "train_flops": 4.0 * head.weight.numel() * texts,
        "probe_c": best.strength,
    }
    if peak is not None:
        results["peak_memory_mib"] = peak / 2**20
    proof.finish()
    scores: dict[str, float] = {}
    probabilities: dict[str, np.ndarray] = {}
    for name, prefix in {"validation": "eval", "test": "test"}.items():
        if len(encoded[name]):
            of_split, probabilities[name] = predict_scored(trainer, encoded[name], prefix)
            scores |= of_split
    check_finite(results | scores)
    _check_loss(scores["eval_loss"], best.scores["eval_loss"], subject)
    return TrainResult(results | scores, probabilities, [*proof.notes, _note(best, fits)])


def _note(best: _Fit, fits: list[_Fit]) -> Remark:
    tried = ", ".join(f"{fit.strength:g}" for fit in fits)
    unfinished = best.iterations >= MOST_ITERATIONS
    key = "note.solved_in_part" if unfinished else "note.solved"
    return Remark(key, {"c": f"{best.strength:g}", "tried": tried, "n": best.iterations})


def _linear(model: nn.Module, strategy: FreezeReport) -> nn.Linear | None:
    """Return the layer that holds all that trains; None where more than one does."""
    trained = {tensor.name for tensor in strategy.tensors if tensor.trainable}
    paths = {name.rpartition(".")[0] for name in trained}
    if len(paths) != 1:
        return None
    layer = model.get_submodule(paths.pop())
    if type(layer) is not nn.Linear or len(trained) < 2:
        return None
    return layer


def _vectors(trainer: SweepTrainer, head: nn.Linear, part: Encoded) -> _Vectors:
    """Return what the head reads of each text while the model predicts a split."""
    read: list[np.ndarray] = []

    def take(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        (vectors,) = inputs
        read.append(vectors.detach().float().reshape(-1, vectors.shape[-1]).cpu().numpy())

    handle = head.register_forward_pre_hook(take)
    try:
        output = trainer.predict(cast(Any, part))
    finally:
        handle.remove()
    values = np.concatenate(read).astype(np.float64)
    if len(values) != len(part):
        raise ProofError(f"the head reads {len(values):,} vectors of {len(part):,} texts")
    return _Vectors(values, np.asarray(output.label_ids))


def _solutions(train: _Vectors, validation: _Vectors, classes: int) -> Iterator[_Fit]:
    """Yield one solution per strength, from the strongest penalty on, until they get worse."""
    least, worse = np.inf, 0
    # Each solution is the start of the next, which is near.
    model = LogisticRegression(tol=1e-6, max_iter=MOST_ITERATIONS, warm_start=True)
    for strength in STRENGTHS:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by a note
            model.fit(train.values, train.labels)
        fit = _fit_of(model, train, validation, classes)
        yield fit
        worse = worse + 1 if fit.scores["eval_loss"] > least else 0
        least = min(least, fit.scores["eval_loss"])
        if worse == PATIENCE:
            return


def _fit_of(model: LogisticRegression, train: _Vectors, validation: _Vectors, classes: int) -> _Fit:
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # of two classes scikit-learn has one row, the difference of ours
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    known, every = model.classes_, np.arange(classes)
    assert np.array_equal(known, every), "every class has a text to train on"
    probabilities = model.predict_proba(validation.values)
    fitted = model.predict_proba(train.values)
    scores = {
        "train_loss": float(log_loss(train.labels, fitted, labels=every)),
        "eval_loss": float(log_loss(validation.labels, probabilities, labels=every)),
    }
    others = metrics.compute(probabilities.argmax(-1), validation.labels)
    scores |= {f"eval_{name}": value for name, value in others.items()}
    return _Fit(float(model.C), weight, bias, scores, int(np.max(model.n_iter_)))


def _put(fit: _Fit, head: nn.Linear) -> None:
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(fit.weight))
        head.bias.copy_(torch.from_numpy(fit.bias))


def _check_loss(loss: float, solved: float, subject: Subject) -> None:
    """Compare the loss that the model gives with that of the solution.

    Raises:
        ProofError: The head reads something else than what was solved.
    """
    tolerance = TOLERANCE.get(subject.hardware.precision, LOOSE)
    if not abs(loss - solved) <= tolerance * max(solved, 0.1):
        raise ProofError(
            f"the model gives a validation loss of {loss:.4f} with the head that was solved, and"
            f" the solution one of {solved:.4f}"
        )
