"""The Hugging Face Trainer as a comparison needs it, and the only module that imports it.

It adds what the Trainer lacks: time of the training steps alone, memory of training alone, a stop
on losses that are not finite, frozen modules in evaluation mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from sweep.base import process_groups
from sweep.base.device import Hardware
from sweep.config import budget
from sweep.config.schema import Config
from sweep.data.collate import Padding
from sweep.data.encode import Encoded
from sweep.data.sampler import EpochOrder
from sweep.features.cut import Cut
from sweep.strategies.freeze import FrozenModes
from sweep.training import cost, metrics, objective
from sweep.training.progress import Progress


class DivergedError(RuntimeError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Subject:
    """The model and data that a Trainer works on."""

    model: nn.Module
    """With its strategy applied."""
    tokenizer: Any
    """Pads the batches."""
    hardware: Hardware
    cut: Cut | None = None
    """Stored states in place of the frozen lower part, while `cut_model` lasts."""
    kernels: frozenset[str] = frozenset()
    """With which it computes, while `cpu_kernels.faster` lasts."""


class SweepTrainer(Trainer):
    """Trainer with a stopwatch, and with frozen modules in evaluation mode if so configured."""

    def __init__(
        self, *args: Any, frozen_dropout: bool, cut: Cut | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.clock = cost.Stopwatch(partial(cost.settle, self.args.device.type))
        self.order: EpochOrder | None = None
        self._earlier_peak: int | None = None
        self.frozen_modes = FrozenModes(cast(nn.Module, self.model), frozen_dropout)
        self.cut = cut
        self.objective: objective.Objective | None = None
        # Text classifiers take the Trainer's count of items but average over their own batch all
        # the same, so that losses and gradients of accumulated batches would add up.
        self.model_accepts_loss_kwargs = False

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Move inputs as the Trainer does; the numbers of the rows are not for the model."""
        rows = inputs["row"]
        others = {name: values for name, values in inputs.items() if name != "row"}
        prepared = cast(dict[str, Any], super()._prepare_inputs(others))
        if self.cut is not None:
            self.cut.load(rows, prepared["input_ids"].shape[1], self.args.device)
        return prepared

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], **kwargs: Any) -> Any:
        """Compute the loss after `model.train()`, which has just woken frozen dropout."""
        if model.training:
            self.frozen_modes.set()
            self.clock.mark("data")
        result = self._loss(model, inputs, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        # On a GPU this would wait for the device in every step; there the log decides.
        if loss.device.type == "cpu" and model.training:
            check_loss(loss.item(), self.state.global_step + 1)
            self.clock.mark("forward")
        return result

    def _loss(self, model: nn.Module, inputs: dict[str, Any], **kwargs: Any) -> Any:
        if self.objective is None or not model.training:
            return super().compute_loss(model, inputs, **kwargs)
        wanted = kwargs.pop("return_outputs", False)
        _, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        loss = self.objective(outputs["logits"], inputs["labels"])
        return (loss, outputs) if wanted else loss

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Do the Trainer's step; what follows the forward pass is the backward pass."""
        loss = cast(torch.Tensor, super().training_step(*args, **kwargs))
        self.clock.mark("backward")
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: a count in each step walks over all parameters; see `cost.flops`."""
        return 0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate, with time and memory kept apart from those of the training."""
        with self._apart():
            return cast(dict[str, float], super().evaluate(*args, **kwargs))

    def peak_memory(self) -> int | None:
        """Return the peak of the steps in bytes, before a stop and an evaluation included."""
        now = cost.peak_memory(self.args.device.type)
        return None if now is None else max(now, self._earlier_peak or 0)

    def kept(self) -> dict[str, tuple[Callable[[], Any], Callable[[Any], None]]]:
        """Return the state for a checkpoint beside the Trainer's own; see `Keeper.state`."""
        return {
            "window": (self._window, self._restore_window),
            "clock": (self.clock.keep, self.clock.restore),
            "peak_memory": (self.peak_memory, self._keep_earlier_peak),
        }

    def _keep_earlier_peak(self, peak: int | None) -> None:
        self._earlier_peak = peak

    def _window(self) -> list[float]:
        return [self._tr_loss.item(), self._globalstep_last_logged]

    def _restore_window(self, window: list[float]) -> None:
        """Restore the window of the logged loss: a new one would show in the curve."""
        self._tr_loss = torch.tensor(window[0], device=self.args.device)
        self._globalstep_last_logged = int(window[1])

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
        """Log off the clock."""
        with self.clock.paused():
            super().log(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self._apart():
            super()._save_checkpoint(*args, **kwargs)

    def _load_best_model(self) -> None:
        with self._apart():
            super()._load_best_model()

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Leave a block out of the time and of the peak of memory."""
        self._earlier_peak = self.peak_memory()
        with self.clock.paused():
            yield
        cost.reset_peak_memory(self.args.device.type)


@dataclass
class Watcher(TrainerCallback):
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
            check_loss(loss, state.global_step, "by")
        points = {_CURVES[k]: float(v) for k, v in (logs or {}).items() if k in _CURVES}
        if points:
            self.report(points, state.global_step, state.max_steps)


_CURVES = {"loss": "train_loss"} | {
    name: name for name in ("learning_rate", "grad_norm", "eval_loss", "eval_accuracy", "eval_f1")
}
"""What the Trainer logs -> the name of its curve."""


def check_loss(loss: float, step: int, when: str = "at") -> None:
    """Raise DivergedError for a loss that is NaN or infinite.

    Args:
        loss: Of one step, or the mean of several.
        step: Which, or the last of them.
        when: `at` one step, or `by` the last of several.
    """
    if not math.isfinite(loss):
        raise DivergedError(
            f"The training loss became {loss} {when} step {step}. Lower optimizer.learning_rate,"
            " raise optimizer.warmup_steps, or use trainer.precision=fp32."
        )


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo what a Trainer replaces on a model: its forward pass, for autocast, and `use_cache`."""
    # With the last name left, the next Trainer would take it for wrapped, and compute in fp32.
    names = "forward", "_original_forward", "_is_accelerate_prepared"
    before = {name: model.__dict__[name] for name in names if name in model.__dict__}
    config: Any = getattr(model, "config", None)
    use_cache = getattr(config, "use_cache", None)
    try:
        yield
    finally:
        for name in names:
            model.__dict__.pop(name, None)
        model.__dict__.update(before)
        if hasattr(config, "use_cache"):
            config.use_cache = use_cache


def make_trainer(
    subject: Subject, encoded: dict[str, Encoded], cfg: Config, output_dir: Path
) -> SweepTrainer:
    """Return the Trainer of a run, without anything that watches it."""
    trainer = SweepTrainer(
        model=subject.model,
        args=training_arguments(cfg, subject.hardware, output_dir, len(encoded["train"])),
        train_dataset=cast(Any, encoded["train"]),
        eval_dataset=cast(Any, encoded["validation"]),
        data_collator=Padding.of(
            subject.tokenizer, cfg.data.max_length if cfg.trainer.padding == "max_length" else None
        ),
        processing_class=subject.tokenizer,
        compute_metrics=lambda p: metrics.compute(p.predictions.argmax(-1), p.label_ids),
        frozen_dropout=cfg.freeze.frozen_dropout,
        cut=subject.cut,
    )
    num_labels = cast(Any, subject.model).config.num_labels
    trainer.objective = objective.of(cfg.trainer, encoded["train"].labels, num_labels)
    trainer.remove_callback(PrinterCallback)
    return trainer


def training_arguments(
    cfg: Config, hardware: Hardware, output_dir: Path, train_examples: int
) -> TrainingArguments:
    """Return the Trainer's arguments for a run; everything not named here keeps its default.

    Raises:
        ConfigError: This process is one of several, whose batches accelerate would mix.
    """
    process_groups.refuse()
    t, o = budget.settled(cfg.trainer, train_examples), cfg.optimizer
    best_by = t.metric_for_best_model or "loss"
    when = "steps" if t.eval_steps else "epoch"
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        seed=cfg.seed,
        use_cpu=hardware.device == "cpu",
        bf16=hardware.precision == "bf16",
        fp16=hardware.precision == "fp16",
        tf32=None,
        torch_compile=t.torch_compile,
        optim=o.optim,
        optim_args=o.optim_args,
        learning_rate=cfg.learning_rate,
        weight_decay=o.weight_decay,
        lr_scheduler_type=o.lr_scheduler_type,
        warmup_steps=o.warmup_steps,
        max_grad_norm=o.max_grad_norm,
        num_train_epochs=float(t.num_train_epochs),
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
        metric_for_best_model=f"eval_{best_by}",
        greater_is_better=best_by != "loss",
        logging_steps=t.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # the default writes a diverged loss down as 0
        dataloader_pin_memory=hardware.device == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],  # which the Trainer cannot tell from the wrapper of an adapter
        report_to="none",
        disable_tqdm=True,
    )
    if arguments.world_size > 1:
        raise RuntimeError(f"a run is one process, and this one is among {arguments.world_size}")
    # With more than one GPU the Trainer would split every batch over all of them, which is another
    # batch size than the one that was asked for.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
