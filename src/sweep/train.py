"""One training with the Hugging Face Trainer, the only module that imports it.

The model arrives with its strategy applied; this module adds what a comparison needs and the
Trainer lacks: time of the training steps alone, memory of training alone, a stop on losses that
are not finite, frozen modules in evaluation mode, and cost in FLOPs that knows what is frozen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from sweep import checkpoint, cost, kernels, metrics
from sweep.batches import Padding
from sweep.config import Config
from sweep.cut import Cut
from sweep.data import NAMES, Encoded
from sweep.device import precision_and_device
from sweep.freeze import FreezeReport, FrozenModes
from sweep.keeper import Keeper
from sweep.order import EpochOrder
from sweep.proof import Proof
from sweep.record import Progress
from sweep.stages import Thaw, discriminate
from sweep.stopping import StopRequest


@dataclass(frozen=True)
class Session:
    """Where a training keeps its checkpoints, whom it tells, and what may stop it."""

    output_dir: Path
    """Emptied by the caller. A whole checkpoint in it is gone on from."""
    report: Progress
    stop: StopRequest = field(default_factory=StopRequest)

    @property
    def resume_from(self) -> Path | None:
        """The checkpoint to go on from, if there is one."""
        return checkpoint.newest_whole(self.output_dir)


class DivergedError(RuntimeError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class TrainResult:
    """What one training gave."""

    metrics: dict[str, float]
    """train_loss, train_runtime_s, ...; loss, accuracy and F1 of every held-out split."""
    probabilities: dict[str, np.ndarray]
    """Per held-out split, (rows, classes), float32, rows in the order of the split."""
    notes: list[str] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    """When what was thawed, if unfreezing is gradual; see `stages.Thaw`."""

    @property
    def reported(self) -> str:
        """The split that the files of the run are about."""
        return "test" if "test" in self.probabilities else "validation"


class SweepTrainer(Trainer):
    """Trainer with a stopwatch, and with frozen modules in evaluation mode if so configured."""

    def __init__(self, *args: Any, frozen_dropout: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock = cost.Stopwatch()
        self.order: EpochOrder | None = None
        self._earlier_peak: int | None = None
        self.frozen_modes = FrozenModes(cast(nn.Module, self.model), frozen_dropout)
        self.cut: Cut | None = None
        # Text classifiers take the Trainer's count of items but average over their own batch all
        # the same, so that losses and gradients of accumulated batches would add up.
        self.model_accepts_loss_kwargs = False

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As the Trainer's; the numbers of the rows are not for the model."""
        rows = inputs["row"]
        others = {name: values for name, values in inputs.items() if name != "row"}
        prepared = cast(dict[str, Any], super()._prepare_inputs(others))
        if self.cut is not None:
            self.cut.load(rows, prepared["input_ids"].shape[1], self.args.device)
        return prepared

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], **kwargs: Any) -> Any:
        """As the Trainer's; it has just called `model.train()`, which wakes frozen dropout."""
        if model.training:
            self.frozen_modes.set()
            self.clock.mark("data")
        found = super().compute_loss(model, inputs, **kwargs)
        loss = found[0] if isinstance(found, tuple) else found
        # On a GPU this would wait for the device in every step; there the log decides.
        if loss.device.type == "cpu" and model.training:
            check_loss(loss.item(), self.state.global_step + 1)
            self.clock.mark("forward")
        return found

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As the Trainer's; what follows the forward pass is the backward pass."""
        loss = cast(torch.Tensor, super().training_step(*args, **kwargs))
        self.clock.mark("backward")
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted in each step, where it costs a walk over all parameters; see `cost.flops`."""
        return 0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's, off the clock."""
        with self.clock.paused():
            return cast(dict[str, float], super().evaluate(*args, **kwargs))

    def peak_memory(self) -> int | None:
        """Bytes at the peak of training, before it was stopped included."""
        now = cost.peak_memory(self.args.device.type)
        return None if now is None else max(now, self._earlier_peak or 0)

    def keep_earlier_peak(self, peak: int | None) -> None:
        """Count a peak that was reached before the training was stopped."""
        self._earlier_peak = peak

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data = train_dataset or self.train_dataset
        strategy = self.args.train_sampling_strategy
        if strategy == "sequential":
            return SequentialSampler(data)
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps
        group = step if strategy == "group_by_length" else 0
        self.order = EpochOrder(data.lengths, group, self.args.seed)
        return self.order

    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler:
        # The Trainer groups these by length too, which shuffles them, and predictions come back
        # in that order. They are sorted by length already.
        return SequentialSampler(eval_dataset)

    def log(self, *args: Any, **kwargs: Any) -> None:
        """As the Trainer's, off the clock."""
        with self.clock.paused():
            super().log(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self.clock.paused():
            super()._save_checkpoint(*args, **kwargs)


@dataclass
class _Watcher(TrainerCallback):
    """Drives the stopwatch, hands on what is logged and stops on a loss that is not finite."""

    clock: cost.Stopwatch
    report: Progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        cost.reset_peak_memory(args.device.type)
        self.clock.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.clock.mark("optimizer")
        self.clock.lap()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.clock.stop()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None:
            check_loss(loss, state.global_step)
        kept = {_CURVES[k]: float(v) for k, v in (logs or {}).items() if k in _CURVES}
        if kept:
            self.report(kept, state.global_step, state.max_steps)


_CURVES = {"loss": "train_loss"} | {
    name: name for name in ("learning_rate", "grad_norm", "eval_loss", "eval_accuracy", "eval_f1")
}
"""What the Trainer logs -> the name of its curve."""
_SCORES = ("loss", "accuracy", "f1")


def check_loss(loss: float, step: int) -> None:
    """Raise DivergedError for a loss that is NaN or infinite."""
    if not math.isfinite(loss):
        raise DivergedError(
            f"The training loss became {loss} at step {step}. Lower optimizer.learning_rate,"
            " raise optimizer.warmup_steps, or use trainer.precision=fp32."
        )


def train(
    model: nn.Module,
    tokenizer: Any,
    encoded: dict[str, Encoded],
    cfg: Config,
    session: Session,
    strategy: FreezeReport,
    cut: Cut | None = None,
) -> tuple[TrainResult, Trainer]:
    """Train, evaluate, and predict on the held-out splits.

    Args:
        model: Trained in place; its strategy is already applied.
        tokenizer: Pads the batches.
        encoded: By the names train, validation and test; test may be empty.
        cfg: The run.
        session: Checkpoints, progress, stop.
        strategy: What trains: to be proven, thawed in stages and given rates by depth.
        cut: Stored states in place of its frozen lower part.

    Raises:
        DivergedError: The loss is not finite.
        ProofError: The strategy did not do what it says.
        Stopped: As the session asked; a checkpoint is kept.
    """
    trainer = _trainer(model, tokenizer, encoded, cfg, session.output_dir)
    trainer.cut = cut
    clock, resume_from = trainer.clock, session.resume_from
    watchers = _watch_strategy(trainer, cfg, strategy)
    trainer.add_callback(_Watcher(clock, session.report))
    keeper = Keeper(trainer, session.stop, _kept(trainer, watchers))
    if resume_from is not None:
        keeper.resumed = checkpoint.kept_in(resume_from)
    trainer.add_callback(keeper)
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    peak_memory = trainer.peak_memory()
    epochs = trainer.state.epoch or 0.0
    for watcher in watchers:
        if isinstance(watcher, Proof):
            watcher.finish(trainer.optimizer)
    found = {
        "train_loss": _last_logged(trainer, "loss"),
        "train_runtime_s": clock.elapsed_s,
        "train_samples_per_second": cost.throughput(clock, epochs * len(encoded["train"])),
        "train_flops": cost.flops(
            strategy, epochs * encoded["train"].tokens, cut.computes if cut else lambda *_: True
        ),
    }
    if peak_memory is not None:
        found["peak_memory_mib"] = peak_memory / 2**20
    if trainer.args.device.type == "cpu":  # elsewhere steps are queued, and a clock sees that alone
        found |= {f"train_{phase}_s": seconds for phase, seconds in clock.phases.items()}
    held_out = {"validation": "eval", "test": "test"}
    if (
        len(encoded["test"])
        and not cfg.trainer.load_best_model_at_end
        and not cfg.trainer.eval_steps
    ):
        del held_out["validation"]  # the end of the last epoch has just evaluated it
        found |= {f"eval_{name}": _last_logged(trainer, f"eval_{name}") for name in _SCORES}
    probabilities = {}
    for name, prefix in held_out.items():
        if len(encoded[name]):
            scores, probabilities[name] = _predict(trainer, encoded[name], prefix)
            found |= scores
    _check_finite(found)
    notes = [note for watcher in watchers for note in watcher.notes]
    if cfg.trainer.eval_steps and cfg.trainer.eval_steps > trainer.state.max_steps:
        notes.append(
            f"trainer.eval_steps={cfg.trainer.eval_steps} is more than the"
            f" {trainer.state.max_steps} steps of the run: it was evaluated at the end only"
        )
    stages = [stage for watcher in watchers if isinstance(watcher, Thaw) for stage in watcher.begun]
    return TrainResult(found, probabilities, notes, stages), trainer


def predict(
    model: nn.Module, tokenizer: Any, part: Encoded, cfg: Config, output_dir: Path
) -> np.ndarray:
    """Probabilities that a model gives a split, (rows, classes), in the order of the split."""
    encoded = dict.fromkeys(NAMES, part)
    return _predict(_trainer(model, tokenizer, encoded, cfg, output_dir), part, "test")[1]


def _kept(
    trainer: SweepTrainer, watchers: Sequence[Proof | Thaw]
) -> dict[str, tuple[Callable[[], Any], Callable[[Any], None]]]:
    """What a checkpoint keeps beside the Trainer's own; see `Keeper.state`."""

    def window() -> list[float]:
        return [trainer._tr_loss.item(), trainer._globalstep_last_logged]

    def restore_window(kept: list[float]) -> None:
        """The Trainer starts its window of the logged loss anew; the curve would show that."""
        trainer._tr_loss = torch.tensor(kept[0], device=trainer.args.device)
        trainer._globalstep_last_logged = int(kept[1])

    return {
        "window": (window, restore_window),
        "clock": (trainer.clock.keep, trainer.clock.restore),
        "peak_memory": (trainer.peak_memory, trainer.keep_earlier_peak),
        **{type(watcher).__name__: (watcher.keep, watcher.restore) for watcher in watchers},
    }


def _watch_strategy(
    trainer: SweepTrainer, cfg: Config, strategy: FreezeReport
) -> list[Proof | Thaw]:
    """Add what the strategy needs while training, and what proves it."""
    model, decay = cast(nn.Module, trainer.model), cfg.optimizer.layer_decay
    if decay is not None:
        discriminate(trainer.create_optimizer(), model, strategy, decay)
    watchers: list[Proof | Thaw] = [Proof(model, strategy, trainer.clock.paused)]
    if strategy.stages > 1:
        watchers.append(Thaw(model, strategy, trainer.cut.use if trainer.cut else lambda _: None))
    for watcher in watchers:
        trainer.add_callback(watcher)
    return watchers


def _trainer(
    model: nn.Module,
    tokenizer: Any,
    encoded: dict[str, Encoded],
    cfg: Config,
    output_dir: Path,
) -> SweepTrainer:
    kernels.speed_up(model, cfg.trainer)
    trainer = SweepTrainer(
        model=model,
        args=training_arguments(cfg, output_dir),
        train_dataset=cast(Any, encoded["train"]),
        eval_dataset=cast(Any, encoded["validation"]),
        data_collator=Padding.of(
            tokenizer, cfg.data.max_length if cfg.trainer.padding == "max_length" else None
        ),
        processing_class=tokenizer,
        compute_metrics=_compute_metrics,
        frozen_dropout=cfg.freeze.frozen_dropout,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def training_arguments(cfg: Config, output_dir: Path) -> TrainingArguments:
    """The Trainer's arguments for a run; everything not named here keeps its default."""
    t, o = cfg.trainer, cfg.optimizer
    precision, device = precision_and_device(t)
    when = "steps" if t.eval_steps else "epoch"
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        seed=cfg.seed,
        use_cpu=device == "cpu",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        tf32=None,
        torch_compile=t.torch_compile,
        optim=o.optim,
        optim_args=o.optim_args,
        learning_rate=cfg.learning_rate,
        weight_decay=o.weight_decay,
        lr_scheduler_type=o.lr_scheduler_type,
        warmup_steps=o.warmup_steps,
        max_grad_norm=o.max_grad_norm,
        num_train_epochs=t.num_train_epochs,
        max_steps=t.max_steps,
        per_device_train_batch_size=t.per_device_train_batch_size,
        per_device_eval_batch_size=t.per_device_eval_batch_size,
        gradient_accumulation_steps=t.gradient_accumulation_steps,
        activation_checkpointing=t.activation_checkpointing,
        # The reentrant kind gives no gradients at all when the first layers are frozen.
        activation_checkpointing_kwargs={"use_reentrant": False},
        train_sampling_strategy=t.train_sampling_strategy,
        eval_strategy=when,
        eval_steps=t.eval_steps,
        save_strategy=when if t.load_best_model_at_end else "steps" if t.save_steps else "no",
        save_steps=t.save_steps or t.eval_steps or 500,
        save_total_limit=2,  # when the last one is damaged, the one before is gone on from
        load_best_model_at_end=t.load_best_model_at_end,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=t.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # the default writes a diverged loss down as 0
        dataloader_pin_memory=device == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],  # which the Trainer cannot tell from the wrapper of an adapter
        report_to="none",
        disable_tqdm=True,
    )
    # With more than one GPU the Trainer would split every batch over all of them, which is another
    # batch size than the one that was asked for.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _compute_metrics(prediction: Any) -> dict[str, float]:
    return metrics.compute(prediction.predictions.argmax(-1), prediction.label_ids)


def _predict(trainer: Trainer, part: Encoded, prefix: str) -> tuple[dict[str, float], np.ndarray]:
    """Scores of a split, and its probabilities in the order of the split."""
    output = trainer.predict(cast(Any, part), metric_key_prefix=prefix)
    probabilities = np.empty(output.predictions.shape, np.float32)
    probabilities[part.order] = _softmax(output.predictions)
    found = output.metrics or {}
    return {f"{prefix}_{name}": found[f"{prefix}_{name}"] for name in _SCORES}, probabilities


def _last_logged(trainer: Trainer, key: str) -> float:
    return next(float(entry[key]) for entry in trainer.state.log_history[::-1] if key in entry)


def _softmax(logits: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(logits).float(), -1).numpy()


def _check_finite(found: dict[str, float]) -> None:
    bad = sorted(name for name, value in found.items() if not math.isfinite(value))
    if bad:
        raise DivergedError(
            f"{', '.join(bad)} ended as NaN or infinite. Lower optimizer.learning_rate."
        )
