"""Device and precision of a run; torch is imported when one of them is asked for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from sweep.config.schema import ConfigError, TrainerConfig


@dataclass(frozen=True)
class Hardware:
    """Device and precision of a run; resolved once, when the run begins."""

    device: str
    """`cuda`, `mps` or `cpu`."""
    precision: str
    """`fp32`, `bf16` or `fp16`."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the precision of the run, as the Trainer does."""
        import torch

        dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
        if self.precision not in dtypes:
            return nullcontext()
        return torch.autocast(self.device, dtype=dtypes[self.precision])


CPU = Hardware("cpu", "fp32")


def gpus() -> tuple[str, ...]:
    """Return what names each GPU that this process may see, the same for all processes."""
    import torch

    # Numbers hang on CUDA_VISIBLE_DEVICES, and on the order that CUDA is asked for.
    numbers = range(torch.cuda.device_count())
    return tuple(f"cuda-{torch.cuda.get_device_properties(n).uuid}" for n in numbers)


def shared_name(device: str) -> str:
    """Return the name of a resolved device by which other processes know it too."""
    return gpus()[0] if device == "cuda" else device


def resolve_device(cfg: TrainerConfig) -> str:
    """Return `cuda`, `mps` or `cpu`.

    Raises:
        ConfigError: The device asked for is not there.
    """
    import torch

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if cfg.device == "auto":
        return next(name for name, there in available.items() if there)
    if not available[cfg.device]:
        there = ", ".join(sorted(name for name, usable in available.items() if usable))
        raise ConfigError(
            f"trainer.device={cfg.device!r} is not available here. Use one of {there}."
        )
    return cfg.device


def resolve_precision(cfg: TrainerConfig, device: str) -> str:
    """Return `fp32`, `bf16` or `fp16`; auto takes the fastest one that loses no accuracy.

    A CPU gets bf16 only with native instructions for it: emulated, a matrix product is hundreds
    of times slower than in fp32 (measured on AVX2: 0.25 against 145 GFLOP/s).

    Raises:
        ConfigError: The precision asked for does not work on the device.
    """
    import torch

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


def resolve_hardware(cfg: TrainerConfig) -> Hardware:
    """Resolve what `trainer.device` and `trainer.precision` mean on this machine.

    Raises:
        ConfigError: As `resolve_device` and `resolve_precision`.
    """
    device = resolve_device(cfg)
    return Hardware(device, resolve_precision(cfg, device))
