"""One training: the strategy is watched, proven and paid for, and held-out splits are predicted.

The model arrives with its strategy applied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import EarlyStoppingCallback

from sweep.base.loading import loading
from sweep.base.words import Remark, Text
from sweep.config.schema import Config
from sweep.data.encode import Encoded
from sweep.data.split_rows import NAMES
from sweep.strategies.freeze_report import FreezeReport
from sweep.strategies.gradual import Thaw, discriminate
from sweep.strategies.proof import Proof
from sweep.training import checkpoint, cost
from sweep.training.progress import Progress
from sweep.training.resume import Keeper, State
from sweep.training.stopping import StopRequest
from sweep.training.trainer import (
    DivergedError,
    Subject,
    SweepTrainer,
    Watcher,
    left_as_it_was,
    make_trainer,
)

_SCORES = ("loss", "accuracy", "f1")


@dataclass(frozen=True)
class Session:
    """The checkpoints of a training, the listeners to it, and the request that may stop it."""

    output_dir: Path
    """Emptied by the caller. A whole checkpoint in it is gone on from."""
    report: Progress
    stop: StopRequest = field(default_factory=StopRequest)

    @cached_property
    def resume_from(self) -> Path | None:
        """The checkpoint to go on from, if there is one."""
        return checkpoint.newest_whole(self.output_dir)


@dataclass(frozen=True)
class TrainResult:
    """The results of one training."""

    metrics: dict[str, float]
    """train_loss, train_runtime_s, ...; loss, accuracy and F1 of every held-out split."""
    probabilities: dict[str, np.ndarray]
    """Per held-out split, (rows, classes), float32, rows in the order of the split."""
    notes: list[Text] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    """When what was thawed, if unfreezing is gradual; see `stages.Thaw`."""
    train_losses: list[float] = field(default_factory=list)
    """The points of the training loss, in order of the steps."""

    @property
    def reported(self) -> str:
        """The split that the files of the run are about."""
        return "test" if "test" in self.probabilities else "validation"


def train(
    subject: Subject,
    encoded: dict[str, Encoded],
    cfg: Config,
    session: Session,
    strategy: FreezeReport,
) -> TrainResult:
    """Train, evaluate, and predict on the held-out splits.

    Args:
        subject: Its model is trained in place.
        encoded: By the names train, validation and test; test may be empty.
        cfg: The run.
        session: Checkpoints, progress, stop.
        strategy: What trains: to be proven, thawed in stages and given rates by depth.

    Raises:
        DivergedError: The loss is not finite.
        ProofError: The strategy did not do what it says.
        Stopped: As the session asked; a checkpoint is kept.
    """
    with left_as_it_was(subject.model):
        return _train(subject, encoded, cfg, session, strategy)


def _train(
    subject: Subject,
    encoded: dict[str, Encoded],
    cfg: Config,
    session: Session,
    strategy: FreezeReport,
) -> TrainResult:
    model, cut = subject.model, subject.cut
    with loading():  # which moves the model to its device
        trainer = make_trainer(subject, encoded, cfg, session.output_dir)
    if cfg.optimizer.layer_decay is not None:
        discriminate(trainer.create_optimizer(), model, strategy, cfg.optimizer.layer_decay)
    proof = Proof(model, strategy, trainer.clock.paused)
    thaw = Thaw(model, strategy, cut.use if cut else lambda _: None)
    watchers: list[Proof | Thaw] = [proof, thaw] if strategy.stages > 1 else [proof]
    state: State = {type(each).__name__: (each.keep, each.restore) for each in watchers}
    resume_from = session.resume_from
    resumed = checkpoint.kept_in(resume_from) if resume_from else None
    state |= _add_patience(trainer, cfg.trainer.early_stopping_patience)
    keeper = Keeper(trainer, session.stop, trainer.kept() | state, resumed)
    for callback in (*watchers, Watcher(trainer.clock, session.report), keeper):
        trainer.add_callback(callback)

    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    costs = _costs(trainer, strategy, encoded["train"])
    proof.finish(trainer.optimizer)
    scores, probabilities = _evaluate(trainer, encoded, cfg)
    check_finite(costs | scores)
    notes = [note for watcher in watchers for note in watcher.notes] + _late_notes(trainer, cfg)
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return TrainResult(costs | scores, probabilities, notes, thaw.begun, losses)


def _add_patience(trainer: SweepTrainer, evaluations: int | None) -> State:
    """Let a training end after evaluations without a better one; return what a stop keeps."""
    if evaluations is None:
        return {}
    patience = EarlyStoppingCallback(evaluations)
    trainer.add_callback(patience)

    def restore(counter: int) -> None:
        patience.early_stopping_patience_counter = counter

    return {"patience": (lambda: patience.early_stopping_patience_counter, restore)}


def predict(subject: Subject, part: Encoded, cfg: Config, output_dir: Path) -> np.ndarray:
    """Return the probabilities of a split, (rows, classes), in the order of the split."""
    with left_as_it_was(subject.model):
        trainer = make_trainer(subject, dict.fromkeys(NAMES, part), cfg, output_dir)
        return predict_scored(trainer, part, "test")[1]


def _costs(trainer: SweepTrainer, strategy: FreezeReport, texts: Encoded) -> dict[str, float]:
    """Return the costs of the training; to be asked before anything else needs memory."""
    clock, cut = trainer.clock, trainer.cut
    epochs = trainer.state.epoch or 0.0
    costs = {
        "train_loss": _last_logged(trainer, "loss"),
        "train_steps": float(trainer.state.global_step),
        "train_epochs": epochs,
        "train_runtime_s": clock.elapsed_s,
        "train_samples_per_second": cost.throughput(clock, epochs * len(texts)),
        "train_flops": cost.flops(
            strategy, epochs * texts.tokens, cut.computes if cut else lambda *_: True
        ),
    }
    if (peak := trainer.peak_memory()) is not None:
        costs["peak_memory_mib"] = peak / 2**20
    if trainer.args.device.type == "cpu":  # elsewhere steps are queued, and a clock sees that alone
        costs |= {f"train_{phase}_s": seconds for phase, seconds in clock.phases.items()}
    return costs


def _evaluate(
    trainer: SweepTrainer, encoded: dict[str, Encoded], cfg: Config
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return the scores and probabilities of the held-out splits."""
    t = cfg.trainer
    all_scores, probabilities = {}, {}
    held_out = {"validation": "eval", "test": "test"}
    if len(encoded["test"]) and not t.load_best_model_at_end and not t.eval_steps:
        del held_out["validation"]  # the end of the last epoch has just evaluated it
        all_scores = {f"eval_{name}": _last_logged(trainer, f"eval_{name}") for name in _SCORES}
    for name, prefix in held_out.items():
        if len(encoded[name]):
            scores, probabilities[name] = predict_scored(trainer, encoded[name], prefix)
            all_scores |= scores
    return all_scores, probabilities


def predict_scored(
    trainer: SweepTrainer, part: Encoded, prefix: str
) -> tuple[dict[str, float], np.ndarray]:
    """Return the scores of a split, named with a prefix, and its probabilities in its order."""
    output = trainer.predict(cast(Any, part), metric_key_prefix=prefix)
    logits = torch.from_numpy(output.predictions).float()
    probabilities = np.full((len(part.labels), logits.shape[1]), np.nan, np.float32)
    probabilities[part.order] = torch.softmax(logits, -1).numpy()
    metrics = output.metrics or {}
    return {f"{prefix}_{name}": metrics[f"{prefix}_{name}"] for name in _SCORES}, probabilities


def _last_logged(trainer: SweepTrainer, key: str) -> float:
    return next(float(entry[key]) for entry in trainer.state.log_history[::-1] if key in entry)


def _late_notes(trainer: SweepTrainer, cfg: Config) -> list[Text]:
    wanted, steps = cfg.trainer.eval_steps, trainer.state.max_steps
    if not wanted or wanted <= steps:
        return []
    return [Remark("note.evaluated", {"every": wanted, "steps": steps})]


def check_finite(metrics: dict[str, float]) -> None:
    bad = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if bad:
        raise DivergedError(
            f"{', '.join(bad)} ended as NaN or infinite. Lower optimizer.learning_rate."
        )
