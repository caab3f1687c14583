"""Trainings that share a device are marked, those that are alone are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from sweep.execution import contention, worker
from sweep.execution.contention import present

STAY = """
import sys, time
from pathlib import Path
from sweep.execution.contention import present
with present("cpu", Path(sys.argv[1])):
    print("here", flush=True)
    time.sleep(60)
"""


def test_a_training_that_is_alone_is_not_marked(tmp_path: Path) -> None:
    with present("cpu", tmp_path) as mine:
        assert not mine.contended
    assert not mine.contended


def test_two_at_once_are_both_marked(tmp_path: Path) -> None:
    with present("cpu", tmp_path) as first:
        with present("cpu", tmp_path) as second:
            assert second.contended
            assert first.contended
        assert first.contended  # also when the other one has gone


def test_one_after_the_other_are_not_marked(tmp_path: Path) -> None:
    for _ in range(2):
        with present("cpu", tmp_path) as mine:
            assert not mine.contended


def test_trainings_on_different_devices_are_not_marked(tmp_path: Path) -> None:
    with present("cuda0", tmp_path) as first, present("cuda1", tmp_path) as second:
        assert not first.contended
        assert not second.contended


def test_nothing_is_left(tmp_path: Path) -> None:
    with present("cpu", tmp_path), present("cpu", tmp_path):
        pass
    assert list((tmp_path / "cpu").iterdir()) == []


def test_another_process_counts_until_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STAY, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        with present("cpu", tmp_path) as mine:
            assert mine.contended
        process.kill()
    assert len(list((tmp_path / "cpu").glob("*.live"))) == 1
    with present("cpu", tmp_path) as alone:
        assert not alone.contended
    assert list((tmp_path / "cpu").iterdir()) == []


def test_a_device_belongs_to_one_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contention, "_root", lambda: tmp_path / "new")
    with contention.device_lock(0).acquire(timeout=0):
        with pytest.raises(Timeout):
            contention.device_lock(0).acquire(timeout=0)
        contention.device_lock(1).acquire(timeout=0).lock.release()
    contention.device_lock(0).acquire(timeout=0).lock.release()


@pytest.mark.parametrize(
    ("given", "number", "expected"),
    [
        pytest.param("", 1, "1", id="all-visible"),
        pytest.param("3", 0, "3", id="one-left-by-a-scheduler"),
        pytest.param("4,GPU-abc", 1, "GPU-abc", id="by-name"),
    ],
)
def test_a_run_sees_its_own_gpu_alone(
    given: str, number: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    worker._show_only(number)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
