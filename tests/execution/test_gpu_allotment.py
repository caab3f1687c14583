"""GPUs are shared out among the runs of a sweep, and kept from other sweeps while they are used."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from sweep.execution import contention
from sweep.execution.gpu_allotment import GpuAllotment


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        contention, "device_lock", lambda number: FileLock(tmp_path / f"cuda{number}.lock")
    )


def test_runs_are_spread_over_the_gpus_before_two_share_one() -> None:
    gpus = GpuAllotment(2)
    assert [gpus.take() for _ in range(3)] == [0, 1, 0]
    gpus.give_back(1)
    assert gpus.take() == 1


def test_another_sweep_gets_what_this_one_does_not_use() -> None:
    gpus, others = GpuAllotment(2), GpuAllotment(2)
    assert gpus.take() == 0
    assert others.take() == 1
    assert gpus.take() == 0  # its own once more, for the other is taken


def test_a_gpu_is_free_for_others_once_the_last_run_has_left_it() -> None:
    gpus, others = GpuAllotment(1), GpuAllotment(1)
    assert (gpus.take(), gpus.take()) == (0, 0)
    gpus.give_back(0)
    assert others.take() is None
    gpus.give_back(0)
    assert others.take() == 0


def test_without_gpus_none_is_given() -> None:
    assert GpuAllotment(0).take() is None
