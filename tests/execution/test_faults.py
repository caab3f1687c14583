"""Why a run failed, and what the same batch in smaller pieces is."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import Timeout
from support.config import compose

from sweep.config.schema import Config, ConfigError
from sweep.execution import faults
from sweep.execution.faults import MEMORY, OTHER, PASSING, cause_of, death, is_disk_full, smaller
from sweep.training.trainer import DivergedError


def caused_by(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def while_handling(error: Exception, context: BaseException) -> Exception:
    error.__context__ = context
    return error


CAUSES: dict[str, tuple[BaseException, str]] = {
    "python": (MemoryError(), MEMORY),
    "gpu": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), MEMORY),
    "cuda driver": (RuntimeError("CUDA error: out of memory"), MEMORY),
    "cpu": (
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MEMORY,
    ),
    "system call": (OSError(errno.ENOMEM, "Cannot allocate memory"), MEMORY),
    "memory behind another": (caused_by(RuntimeError("in layer 3"), MemoryError()), MEMORY),
    "memory while handling": (while_handling(KeyError("x"), MemoryError()), MEMORY),
    "a text about memory that is no error of it": (ValueError("out of memory"), OTHER),
    "connection refused": (ConnectionRefusedError(), PASSING),
    "connection reset": (ConnectionResetError(), PASSING),
    "time out": (TimeoutError(), PASSING),
    "lock": (Timeout("x.lock"), PASSING),
    "input and output": (OSError(errno.EIO, "Input/output error"), PASSING),
    "stale file handle": (OSError(errno.ESTALE, "Stale file handle"), PASSING),
    "no route": (OSError(errno.EHOSTUNREACH, "No route to host"), PASSING),
    "passing behind another": (caused_by(RuntimeError("download"), ConnectionError()), PASSING),
    "file missing": (FileNotFoundError(errno.ENOENT, "No such file"), OTHER),
    "not allowed": (PermissionError(errno.EACCES, "Permission denied"), OTHER),
    "disk full": (OSError(errno.ENOSPC, "No space left on device"), OTHER),
    "mistake of the user": (ConfigError("freeze.parts names no part"), OTHER),
    "diverged": (DivergedError("The training loss became nan at step 3."), OTHER),
    "bug": (IndexError("list index out of range"), OTHER),
    "exit": (SystemExit(3), OTHER),
}


@pytest.mark.parametrize(("error", "cause"), CAUSES.values(), ids=CAUSES)
def test_the_cause_of_a_failure_is_told_from_its_exception(
    error: BaseException, cause: str
) -> None:
    assert cause_of(error) == cause


def test_exceptions_that_caused_each_other_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert cause_of(first) == OTHER


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (ValueError("No space"), False),
    ],
)
def test_a_full_disk_is_told_from_other_faults(error: BaseException, full: bool) -> None:
    assert is_disk_full(error) is full


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (-9, "the process was killed by SIGKILL"),
        (-11, "the process was killed by SIGSEGV"),
        (3, "the process ended with exit status 3 before the run was done"),
        (0, "the process ended with exit status 0 before the run was done"),
    ],
)
def test_an_end_without_a_word_is_put_in_words(code: int, reason: str) -> None:
    assert death(code) == reason


@pytest.mark.parametrize(
    ("groups", "counter"),
    [
        pytest.param("0::/job\n", "sys/fs/cgroup/job/memory.events", id="version 2"),
        pytest.param(
            "4:cpu,memory:/job\n0::/\n",
            "sys/fs/cgroup/memory/job/memory.oom_control",
            id="version 1",
        ),
        pytest.param("0::/elsewhere\n", "proc/vmstat", id="the machine"),
        pytest.param("", "proc/vmstat", id="no groups"),
    ],
)
def test_kills_for_memory_are_counted(groups: str, counter: str, tmp_path: Path) -> None:
    for name, content in {"proc/self/cgroup": groups, counter: "oom 9\noom_kill 3\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, "utf-8")
    assert faults.kills_for_memory(tmp_path) == 3


def test_where_kills_are_not_counted_there_are_none(tmp_path: Path) -> None:
    assert faults.kills_for_memory(tmp_path) == 0


Sized = Callable[[int, int], Config]


@pytest.fixture
def sized() -> Sized:
    def of(size: int, accumulation: int = 1) -> Config:
        cfg = compose("freeze=none")
        cfg.trainer.per_device_train_batch_size = size
        cfg.trainer.gradient_accumulation_steps = accumulation
        return cfg

    return of


@pytest.mark.parametrize(
    ("before", "after"),
    [((32, 1), (16, 2)), ((16, 2), (8, 4)), ((2, 1), (1, 2)), ((5, 1), (1, 5)), ((9, 2), (3, 6))],
)
def test_smaller_pieces_make_the_same_batch(
    before: tuple[int, int], after: tuple[int, int], sized: Sized
) -> None:
    found = smaller(sized(*before))
    assert found is not None
    trainer = found.trainer
    pieces = trainer.per_device_train_batch_size, trainer.gradient_accumulation_steps
    assert pieces == after
    assert pieces[0] * pieces[1] == before[0] * before[1]


def test_evaluation_shrinks_with_it(sized: Sized) -> None:
    cfg = sized(32, 1)
    cfg.trainer.per_device_eval_batch_size = 64
    pieces = smaller(cfg)
    assert pieces is not None
    assert pieces.trainer.per_device_eval_batch_size == 32
    cfg.trainer.per_device_eval_batch_size = 1
    pieces = smaller(cfg)
    assert pieces is not None
    assert pieces.trainer.per_device_eval_batch_size == 1


def test_single_texts_have_no_smaller_pieces(sized: Sized) -> None:
    assert smaller(sized(1, 8)) is None


def test_nothing_else_changes(sized: Sized) -> None:
    cfg = sized(32, 1)
    pieces = smaller(cfg)
    assert pieces is not None
    pieces.trainer = cfg.trainer
    assert pieces == cfg
    assert cfg.trainer.per_device_train_batch_size == 32
