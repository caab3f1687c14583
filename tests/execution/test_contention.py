"""Trainings that share a device are marked, those that are alone are not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import Timeout

from sweep.config.schema import ConfigError
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
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with contention.device_lock("cuda-a").acquire(timeout=0):
        with pytest.raises(Timeout):
            contention.device_lock("cuda-a").acquire(timeout=0)
        contention.device_lock("cuda-b").acquire(timeout=0).lock.release()
    contention.device_lock("cuda-a").acquire(timeout=0).lock.release()


@pytest.fixture
def no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine where users have no folder of their own but for what they make in this one."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    monkeypatch.setattr(contention.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(Path, "lstat", as_owned_by_nobody(Path.lstat))
    return tmp_path / f"sweep-{NOBODY}"


NOBODY = 4_000_000_000


def as_owned_by_nobody(lstat: Callable[[Path], os.stat_result]) -> Callable[[Path], Any]:
    def look(path: Path) -> Any:
        status = lstat(path)
        return SimpleNamespace(st_mode=status.st_mode, st_uid=NOBODY)

    return look


def test_the_folder_of_a_session_is_taken_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert contention.shared_folder() == tmp_path / "sweep"
    assert (tmp_path / "sweep").stat().st_mode & 0o777 == 0o700


def test_without_one_a_folder_is_made_that_nobody_else_can_write(no_session: Path) -> None:
    assert contention.shared_folder() == no_session
    assert no_session.stat().st_mode & 0o777 == 0o700
    assert contention.shared_folder() == no_session


def make_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


def make_open(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make_link, id="link"),
        pytest.param(make_open, id="others-can-write"),
        pytest.param(lambda folder: folder.symlink_to("nowhere"), id="link-to-nothing"),
        pytest.param(lambda folder: folder.write_text(""), id="file"),
    ],
)
def test_a_folder_that_is_not_this_users_alone_is_refused(
    make: Callable[[Path], object], no_session: Path
) -> None:
    make(no_session)
    with pytest.raises(ConfigError) as caught:
        contention.shared_folder()
    assert caught.value.messages == (
        f"{no_session} is where the sweeps of a user see each other, but it is a link, belongs to"
        " somebody else, or can be written by others. Remove it, or set XDG_RUNTIME_DIR to a"
        " folder that only you can write to.",
    )
    assert not list(no_session.parent.glob("elsewhere/*"))


def test_a_folder_of_another_user_is_refused(
    no_session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_session.mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: NOBODY + 1)
    (no_session.parent / f"sweep-{NOBODY + 1}").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        contention.shared_folder()


def test_a_session_folder_that_others_can_write_is_passed_over(
    no_session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = no_session.parent / "session"
    make_open(session)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
    assert contention.shared_folder() == no_session


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
