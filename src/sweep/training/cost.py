"""The cost of a training: time of its steps alone, peak memory, floating-point operations."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sweep.strategies import adapters
from sweep.strategies.freeze_report import FreezeReport, Tensor

WARMUP_STEPS = 2
"""Steps left out of the throughput: kernels are chosen and memory is mapped in them."""
_CLEAR = Path("/proc/self/clear_refs")


@dataclass
class Stopwatch:
    """Seconds of the training steps, with evaluation, logging and saving taken out."""

    settle: Callable[[], None] = lambda: None
    """Waits for what the device has still to do, which would be charged to nobody in a pause."""
    elapsed_s: float = 0.0
    warmup_s: float = 0.0
    steps: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds by phase; they add up to all that was marked."""
    _since: float | None = None
    _marked_s: float = 0.0

    def start(self) -> None:
        """Begin or go on."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Hold until the next start, once the device is done."""
        if self._since is not None:
            self.settle()
        self._hold()

    def _hold(self) -> None:
        if self._since is not None:
            self.elapsed_s += time.perf_counter() - self._since
            self._since = None

    def lap(self) -> None:
        """Count one optimizer step, which the device may not have ended yet."""
        self._hold()
        self.steps += 1
        if self.steps == WARMUP_STEPS:
            self.warmup_s = self.elapsed_s
        self.start()

    def keep(self) -> dict[str, Any]:
        """Return the state that a checkpoint has to keep."""
        return {
            "elapsed_s": self.elapsed_s,
            "warmup_s": self.warmup_s,
            "steps": self.steps,
            "phases": self.phases,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `keep` gave."""
        self.elapsed_s, self.warmup_s = state["elapsed_s"], state["warmup_s"]
        self.steps, self.phases = state["steps"], dict(state["phases"])
        self._marked_s = self.elapsed_s

    def mark(self, phase: str) -> None:
        """Count the time since the last mark, without pauses, for a phase that ends now."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        now = self.elapsed_s + running
        self.phases[phase] = self.phases.get(phase, 0.0) + now - self._marked_s
        self._marked_s = now

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


def settle(device: str) -> None:
    """Wait for the device to end what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def reset_peak_memory(device: str) -> None:
    """Start measuring the peak of this process, or of its GPU, where that can be done."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif device == "cpu" and _can_reset():
        _CLEAR.write_text("5")  # resets VmHWM, see proc(5)


def peak_memory(device: str) -> int | None:
    """Return the peak since the reset in bytes: device memory on `cuda`, resident on `cpu`.

    None where no peak of the training alone can be had: macOS keeps one since the start of the
    process, imports and loading included, and MPS keeps none.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if device != "cpu" or not _can_reset():
        return None
    status = Path("/proc/self/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _can_reset() -> bool:
    return os.access(_CLEAR, os.W_OK)


def throughput(clock: Stopwatch, texts: float) -> float:
    """Return the texts per second of training, without the first steps if there are others."""
    warm = WARMUP_STEPS if clock.steps > WARMUP_STEPS else 0
    seconds = clock.elapsed_s - (clock.warmup_s if warm else 0.0)
    return texts * (clock.steps - warm) / clock.steps / seconds


def flops(
    strategy: FreezeReport,
    tokens: float,
    computes: Callable[[Tensor, int], bool] = lambda tensor, stage: True,
) -> float:
    """Return the floating-point operations of training, counting what freezing saves.

    Per token and weight of a matrix product: 2 for the forward pass, 2 for the gradient of the
    activations wherever something below that weight trains, 2 for the gradient of the
    weight if it trains (Kaplan et al. 2020, 2001.08361, split into its three parts). Attention
    scores are left out: below 5 % at the lengths of sentences. Stages of gradual unfreezing are
    equally long, so they count equally.

    Args:
        strategy: What trains.
        tokens: Read while training.
        computes: Whether a tensor takes part in the forward passes of a stage; those below a cut
            do not.
    """
    # From the bottom up; XLM-RoBERTa, for one, declares its head before its backbone.
    used = sorted(strategy.tensors, key=lambda t: t.depth)
    per_token = 0.0
    for stage in range(1, strategy.stages + 1):
        reached = False
        for tensor in used:
            trains = tensor.trainable and tensor.stage <= stage
            is_matrix = len(tensor.shape) == 2 and "embeddings" not in tensor.name
            skipped = adapters.is_unused_copy(tensor.name) or not computes(tensor, stage)
            if is_matrix and not skipped:
                per_token += tensor.numel * (2 + 2 * reached + 2 * trains) / strategy.stages
            reached = reached or trains
    return per_token * tokens
