"""Real trainings of tiny models, for the tests of adapters, stages and proofs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from support.config import compose
from sweep.base.device import resolve_hardware
from sweep.config.schema import Config
from sweep.data.encode import Encoded, encode
from sweep.data.split_rows import NAMES
from sweep.data.splits import load_splits
from sweep.models import cpu_kernels
from sweep.models import pretrained as model
from sweep.strategies import freeze, freeze_report
from sweep.training import train
from sweep.training.stopping import StopRequest
from sweep.training.trainer import Subject

SavedModel = Callable[[str], Path]


@dataclass
class Trained:
    """A finished training, and the weights from before it."""

    result: train.TrainResult
    trainer: Any
    report: freeze_report.FreezeReport
    before: dict[str, torch.Tensor]
    encoded: dict[str, Encoded]
    reports: list[tuple[dict[str, float], int, int]]

    @property
    def after(self) -> dict[str, torch.Tensor]:
        """Parameters of the trained model."""
        return dict(self.trainer.model.named_parameters())

    @property
    def changed(self) -> set[str]:
        return {name for name, p in self.after.items() if not torch.equal(p, self.before[name])}

    @property
    def trainable(self) -> set[str]:
        return {t.name for t in self.report.tensors if t.trainable}

    def curve(self, name: str) -> dict[int, float]:
        """What was reported of a metric, per optimizer step."""
        return {step: found[name] for found, step, _ in self.reports if name in found}


@dataclass
class Trainings:
    """Trains three steps with a batch of 8, no warm-up, and these overrides."""

    csv_file: Path
    saved_model: SavedModel
    output_dir: Path
    callbacks: Sequence[TrainerCallback] = field(default_factory=list)
    hook: Callable[[torch.nn.Module], None] = lambda model: None
    """Called with the frozen model before it trains."""
    stop: StopRequest = field(default_factory=StopRequest)
    fit: Callable[..., train.TrainResult] = train.train

    def configure(self, *overrides: str, family: str = "bert") -> Config:
        settings = {
            "data": "csv",
            "data.path": str(self.csv_file),
            "data.max_length": "32",
            "model": "hub",
            "model.name_or_path": str(self.saved_model(family)),
            "trainer.device": "cpu",
            "trainer.precision": "fp32",
            "trainer.max_steps": "3",
            "trainer.num_train_epochs": "2",
            "trainer.per_device_train_batch_size": "8",
            "optimizer.warmup_steps": "0",
            "optimizer.learning_rate": "1e-2",
        }
        settings |= dict(override.split("=", 1) for override in overrides)
        return compose(*(f"{key}={value}" for key, value in settings.items()))

    def apply(
        self, cfg: Config
    ) -> tuple[model.Loaded, torch.nn.Module, freeze_report.FreezeReport]:
        splits = load_splits(cfg.data)
        loaded = model.load(cfg, splits.label_names)
        return loaded, *freeze.apply(loaded.model, loaded.parts, cfg.freeze, loaded.new_names)

    def run(self, cfg: Config) -> Trained:
        splits, hardware = load_splits(cfg.data), resolve_hardware(cfg.trainer)
        loaded, frozen, report = self.apply(cfg)
        encoded = {
            name: encode(getattr(splits, name), loaded.tokenizer, cfg.data, name != "train")
            for name in NAMES
        }
        self.hook(frozen)
        before = {name: p.detach().clone() for name, p in frozen.named_parameters()}
        reports: list[tuple[dict[str, float], int, int]] = []
        original, trainers = train.make_trainer, []

        def with_callbacks(*arguments: Any) -> Any:
            trainer = original(*arguments)
            for callback in self.callbacks:
                trainer.add_callback(callback)
            trainers.append(trainer)
            return trainer

        train.make_trainer = with_callbacks
        try:
            session = train.Session(self.output_dir, lambda *step: reports.append(step), self.stop)
            subject = Subject(frozen, loaded.tokenizer, hardware)
            with cpu_kernels.faster(frozen, cpu_kernels.available(hardware, False)):
                result = self.fit(subject, encoded, cfg, session, report)
        finally:
            train.make_trainer = original
        return Trained(result, trainers[-1], report, before, encoded, reports)
