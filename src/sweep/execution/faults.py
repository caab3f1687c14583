"""Find out why a run failed, and if another try can help."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sweep.base.words import Remark
from sweep.config.schema import Config

MEMORY, PASSING, OTHER = "memory", "passing", "other"
PAUSES_S = (2.0, 10.0, 30.0)
"""Waits before a run that met a passing fault is tried again; as many tries as there are waits."""
_PASSING_ERRNOS = {
    errno.EIO,
    errno.EAGAIN,
    errno.EBUSY,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ECONNABORTED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETDOWN,
}
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate")


def cause_of(error: BaseException) -> str:
    """Return MEMORY, PASSING or OTHER, from an exception or what caused it."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    if any(_is_memory(e) for e in chain):
        return MEMORY
    return PASSING if any(_is_passing(e) for e in chain) else OTHER


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _MEMORY_WORDS)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError) and error.errno in _PASSING_ERRNOS


def is_disk_full(error: BaseException) -> bool:
    """Whether there was no space left to write to."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # Libraries such as safetensors pass the system's words on in errors of their own.
    return os.strerror(errno.ENOSPC) in str(error)


def kills_for_memory(root: Path = Path("/")) -> int:
    """Count the processes that the kernel has killed for want of memory.

    In this control group where groups are counted (version 1 or 2), else on this machine.

    Args:
        root: Where /proc and /sys are.
    """
    for counter in _counters(root):
        with contextlib.suppress(OSError):
            for line in counter.read_text("utf-8").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _counters(root: Path) -> Iterator[Path]:
    """Yield the files that may have the count, the most specific first."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text("utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            if "memory" in controllers.split(","):
                yield root / f"sys/fs/cgroup/memory{group}/memory.oom_control"
            if not controllers:
                yield root / f"sys/fs/cgroup{group}/memory.events"
    yield root / "proc/vmstat"


def death(code: int | None, starved: bool = False) -> Remark:
    """Describe the end of a process that left no word, perhaps for want of memory."""
    if code is not None and code < 0:
        values = {"signal": signal.Signals(-code).name}
        return Remark("end.starved" if starved else "end.killed", values)
    return Remark("end.status", {"code": code})


def smaller(cfg: Config) -> Config | None:
    """Return the same effective batch in smaller pieces; None when the pieces are single texts."""
    size = cfg.trainer.per_device_train_batch_size
    factor = next((n for n in range(2, size + 1) if size % n == 0), None)
    if factor is None:
        return None
    pieces = replace(
        cfg.trainer,
        per_device_train_batch_size=size // factor,
        per_device_eval_batch_size=max(1, cfg.trainer.per_device_eval_batch_size // factor),
        gradient_accumulation_steps=cfg.trainer.gradient_accumulation_steps * factor,
    )
    return replace(cfg, trainer=pieces)
