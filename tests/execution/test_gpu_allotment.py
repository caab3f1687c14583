"""GPUs are shared out among the runs of a sweep, and kept from other sweeps while they are used."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from sweep.execution import contention
from sweep.execution.gpu_allotment import GpuAllotment


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contention, "device_lock", lambda name: FileLock(tmp_path / f"{name}.lock"))


def test_runs_are_spread_over_the_gpus_before_two_share_one() -> None:
    gpus = GpuAllotment("ab")
    assert [gpus.take() for _ in range(3)] == [0, 1, 0]
    gpus.give_back(1)
    assert gpus.take() == 1


def test_another_sweep_gets_what_this_one_does_not_use() -> None:
    gpus, others = GpuAllotment("ab"), GpuAllotment("ab")
    assert gpus.take() == 0
    assert others.take() == 1
    assert gpus.take() == 0  # its own once more, for the other is taken


def test_a_gpu_is_free_for_others_once_the_last_run_has_left_it() -> None:
    gpus, others = GpuAllotment("a"), GpuAllotment("a")
    assert (gpus.take(), gpus.take()) == (0, 0)
    gpus.give_back(0)
    assert others.take() is None
    gpus.give_back(0)
    assert others.take() == 0


def test_a_gpu_is_one_whatever_number_it_has() -> None:
    """CUDA_VISIBLE_DEVICES=0,1 and =1 call one GPU 1 and 0."""
    gpus, others = GpuAllotment("ab"), GpuAllotment("b")
    assert gpus.take() == 0
    assert others.take() == 0
    assert gpus.take() == 0


def test_without_gpus_none_is_given() -> None:
    assert GpuAllotment().take() is None
