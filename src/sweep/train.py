"""One training with the Hugging Face Trainer, the only module that imports it.

The model arrives with its strategy applied; this module adds what a comparison needs and the
Trainer lacks: time of the training steps alone, memory of training alone, a stop on losses that
are not finite, frozen modules in evaluation mode, and cost in FLOPs that knows what is frozen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from sweep import adapters, metrics
from sweep.config import Config, ConfigError, TrainerConfig
from sweep.data import NAMES, Encoded
from sweep.freeze import FreezeReport, set_frozen_modes
from sweep.proof import Proof
from sweep.stages import Thaw, discriminate

Report = Callable[[dict[str, float], int, int], None]
"""Takes metrics, the optimizer step they belong to, and how many steps there will be."""
WARMUP_STEPS = 2
"""Steps left out of the throughput: kernels are chosen and memory is mapped in them."""


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


@dataclass
class Stopwatch:
    """Seconds of the training steps, with evaluation, logging and saving taken out."""

    elapsed_s: float = 0.0
    warmup_s: float = 0.0
    steps: int = 0
    _since: float | None = None

    def start(self) -> None:
        """Begin or go on."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Hold until the next start."""
        if self._since is not None:
            self.elapsed_s += time.perf_counter() - self._since
            self._since = None

    def lap(self) -> None:
        """Count one optimizer step."""
        self.stop()
        self.steps += 1
        if self.steps == WARMUP_STEPS:
            self.warmup_s = self.elapsed_s
        self.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave a block out, if the watch is running."""
        running = self._since is not None
        self.stop()
        try:
            yield
        finally:
            if running:
                self.start()


class SweepTrainer(Trainer):
    """Trainer with a stopwatch, and with frozen modules in evaluation mode if so configured."""

    def __init__(self, *args: Any, frozen_dropout: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock = Stopwatch()
        self.frozen_dropout = frozen_dropout
        # Text classifiers take the Trainer's count of items but average over their own batch all
        # the same, so that losses and gradients of accumulated batches would add up.
        self.model_accepts_loss_kwargs = False

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], **kwargs: Any) -> Any:
        """As the Trainer's; it has just called `model.train()`, which wakes frozen dropout."""
        if model.training:
            set_frozen_modes(model, self.frozen_dropout)
        found = super().compute_loss(model, inputs, **kwargs)
        loss = found[0] if isinstance(found, tuple) else found
        # On a GPU this would wait for the device in every step; there the log decides.
        if loss.device.type == "cpu" and model.training:
            check_loss(loss.item(), self.state.global_step + 1)
        return found

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's, off the clock."""
        with self.clock.paused():
            return cast(dict[str, float], super().evaluate(*args, **kwargs))

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

    clock: Stopwatch
    report: Report

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        reset_peak_memory()
        self.clock.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
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


def resolve_device(cfg: TrainerConfig) -> str:
    """`cuda`, `mps` or `cpu`.

    Raises:
        ConfigError: The device asked for is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if cfg.device == "auto":
        return next(name for name, there in available.items() if there)
    if not available[cfg.device]:
        there = ", ".join(sorted(name for name, found in available.items() if found))
        raise ConfigError(
            f"trainer.device={cfg.device!r} is not available here. Use one of {there}."
        )
    return cfg.device


def resolve_precision(cfg: TrainerConfig, device: str) -> str:
    """`fp32`, `bf16` or `fp16`; auto takes what the device computes fast without loss of accuracy.

    A CPU gets bf16 only with native instructions for it: emulated, a matrix product is hundreds
    of times slower than in fp32 (measured on AVX2: 0.25 against 145 GFLOP/s).

    Raises:
        ConfigError: The precision asked for does not work on the device.
    """
    if cfg.precision == "fp16" and device == "cpu":
        # The Trainer ignores it silently there.
        raise ConfigError("trainer.precision='fp16' needs a GPU. Use bf16, fp32 or auto on a CPU.")
    if cfg.precision != "auto":
        return cfg.precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device == "cpu":
        has = torch.cpu.get_capabilities()
        native = any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        return "bf16" if native else "fp32"
    return "fp32"


def precision_and_device(cfg: TrainerConfig) -> tuple[str, str]:
    """What a run computes in and where.

    Raises:
        ConfigError: As `resolve_device` and `resolve_precision`.
    """
    device = resolve_device(cfg)
    return resolve_precision(cfg, device), device


def train(
    model: nn.Module,
    tokenizer: Any,
    encoded: dict[str, Encoded],
    cfg: Config,
    output_dir: Path,
    report: Report,
    strategy: FreezeReport,
) -> tuple[TrainResult, Trainer]:
    """Train, evaluate, and predict on the held-out splits.

    Args:
        model: Trained in place; its strategy is already applied.
        tokenizer: Pads the batches.
        encoded: By the names train, validation and test; test may be empty.
        cfg: The run.
        output_dir: For checkpoints; emptied by the caller.
        report: Called while training.
        strategy: What trains: to be proven, thawed in stages and given rates by depth.

    Raises:
        DivergedError: The loss is not finite.
        ProofError: The strategy did not do what it says.
    """
    trainer = _trainer(model, tokenizer, encoded, cfg, output_dir)
    clock = trainer.clock
    watchers = _watch_strategy(trainer, cfg, strategy)
    trainer.add_callback(_Watcher(clock, report))
    trainer.train()
    peak_memory_mib = peak_memory() / 2**20
    for watcher in watchers:
        if isinstance(watcher, Proof):
            watcher.finish(trainer.optimizer)
    found = {
        "train_loss": _last_logged(trainer, "loss"),
        "train_runtime_s": clock.elapsed_s,
        "train_samples_per_second": _throughput(clock, trainer),
        "peak_memory_mib": peak_memory_mib,
        "train_flops": _flops(trainer, encoded["train"], strategy),
    }
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
    stages = [stage for watcher in watchers if isinstance(watcher, Thaw) for stage in watcher.begun]
    return TrainResult(found, probabilities, notes, stages), trainer


def predict(
    model: nn.Module, tokenizer: Any, part: Encoded, cfg: Config, output_dir: Path
) -> np.ndarray:
    """Probabilities that a model gives a split, (rows, classes), in the order of the split."""
    encoded = dict.fromkeys(NAMES, part)
    return _predict(_trainer(model, tokenizer, encoded, cfg, output_dir), part, "test")[1]


def _watch_strategy(
    trainer: SweepTrainer, cfg: Config, strategy: FreezeReport
) -> list[Proof | Thaw]:
    """Add what the strategy needs while training, and what proves it."""
    model, decay = cast(nn.Module, trainer.model), cfg.optimizer.layer_decay
    if decay is not None:
        discriminate(trainer.create_optimizer(), model, strategy, decay)
    watchers: list[Proof | Thaw] = [Proof(model, strategy, trainer.clock.paused)]
    if strategy.stages > 1:
        watchers.append(Thaw(model, strategy))
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
    trainer = SweepTrainer(
        model=model,
        args=training_arguments(cfg, output_dir),
        train_dataset=cast(Any, encoded["train"]),
        eval_dataset=cast(Any, encoded["validation"]),
        data_collator=DataCollatorWithPadding(
            tokenizer,
            padding=cfg.trainer.padding,
            max_length=cfg.data.max_length if cfg.trainer.padding == "max_length" else None,
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
    device = resolve_device(t)
    precision = resolve_precision(t, device)
    when = "steps" if t.eval_steps else "epoch"
    return TrainingArguments(
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
        save_strategy=when if t.load_best_model_at_end else "no",
        save_steps=t.eval_steps or 500,
        save_total_limit=1,
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


def reset_peak_memory() -> None:
    """Start measuring the peak of this process, or of its GPU."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif (clear := Path("/proc/self/clear_refs")).exists():
        clear.write_text("5")  # resets VmHWM, see proc(5)


def peak_memory() -> int:
    """Bytes at the peak since the reset: device memory on CUDA, resident memory elsewhere."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # macOS: bytes, and since the start of the process

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _compute_metrics(prediction: Any) -> dict[str, float]:
    return metrics.compute(prediction.predictions.argmax(-1), prediction.label_ids)


def _throughput(clock: Stopwatch, trainer: Trainer) -> float:
    """Texts per second of training, without the first steps if there are others."""
    warm = WARMUP_STEPS if clock.steps > WARMUP_STEPS else 0
    texts = len(cast(Any, trainer.train_dataset)) * (trainer.state.epoch or 0.0)
    seconds = clock.elapsed_s - (clock.warmup_s if warm else 0.0)
    return texts * (clock.steps - warm) / clock.steps / seconds


def _flops(trainer: Trainer, train: Encoded, strategy: FreezeReport) -> float:
    """Floating-point operations of training, counting what freezing saves.

    Per token and weight of a matrix product: 2 for the forward pass, 2 for the gradient of the
    activations wherever something at or below that weight trains, 2 for the gradient of the
    weight if it trains (Kaplan et al. 2020, 2001.08361, split into its three parts). Attention
    scores are left out: below 5 % at the lengths of sentences. Stages of gradual unfreezing are
    equally long, so they count equally.
    """
    # From the bottom up; XLM-RoBERTa, for one, declares its head before its backbone.
    used = sorted(strategy.tensors, key=lambda t: t.depth)
    per_token = 0.0
    for stage in range(1, strategy.stages + 1):
        reached = False
        for tensor in used:
            trains = tensor.trainable and tensor.stage <= stage
            is_matrix = len(tensor.shape) == 2 and "embeddings" not in tensor.name
            if is_matrix and not adapters.is_unused_copy(tensor.name):
                per_token += tensor.numel * (2 + 2 * reached + 2 * trains) / strategy.stages
            reached = reached or trains
    tokens = sum(len(example["input_ids"]) for example in train.examples)
    return per_token * tokens * (trainer.state.epoch or 0.0)


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
