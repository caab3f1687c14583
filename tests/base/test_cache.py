"""Entries of the cache: made once, whole or absent, damaged ones made anew."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.base import cache
from sweep.base.disk import sha256


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def counting(values: np.ndarray, log: Path) -> Callable[[cache.Draft], dict[str, Any]]:
    """Makes an entry of these values and writes a line about it."""

    def make(draft: cache.Draft) -> dict[str, Any]:
        with log.open("a") as file:
            file.write("made\n")
        draft.add({"values": values})
        return {"about": "test"}

    return make


VALUES = np.arange(3000, dtype=np.int32).reshape(1000, 3)


def get(key: str = "k", limit_mib: int = 100) -> tuple[cache.Found, int]:
    """The entry, and how often it has been made in all."""
    log = Path(f"{key}.log")
    entry = cache.get_or_make("test", key, counting(VALUES, log), limit_mib)
    return entry, len(log.read_text().splitlines())


def data_file(key: str = "k") -> Path:
    return cache.ROOT / "test" / key / "values.bin"


def test_an_entry_is_made_once_and_given_back() -> None:
    (first, _), (second, made) = get(), get()
    assert made == 1
    assert first.built_s > 0
    assert second.built_s == 0
    np.testing.assert_array_equal(second.arrays["values"], VALUES)
    assert second.arrays["values"].dtype == np.int32
    assert second.info == {"about": "test"}


def test_what_is_read_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        get()[0].arrays["values"][0, 0] = 1


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
def test_an_array_may_be_empty(shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape, np.float32)
    entry = cache.get_or_make("test", "e", counting(empty, Path("log")), 100)
    assert entry.arrays["values"].shape == shape


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def older(path: Path) -> None:
    index = path.parent / cache.INDEX
    told = json.loads(index.read_text())
    index.write_text(json.dumps(told | {"format": cache.FORMAT - 1}))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip, id="a bit in the middle"),
        pytest.param(lambda path: os.truncate(path, 100), id="cut off"),
        pytest.param(lambda path: os.truncate(path, 10**6), id="too long"),
        pytest.param(lambda path: path.unlink(), id="a file is gone"),
        pytest.param(lambda path: (path.parent / cache.INDEX).unlink(), id="no index"),
        pytest.param(lambda path: (path.parent / cache.INDEX).write_text("{"), id="half an index"),
        pytest.param(older, id="of another version"),
    ],
)
def test_a_damaged_entry_is_made_anew(damage: Callable[[Path], Any]) -> None:
    get()
    damage(data_file())
    found, made = get()
    assert made == 2
    np.testing.assert_array_equal(found.arrays["values"], VALUES)


def slowly(draft: cache.Draft) -> dict[str, Any]:
    with Path("slow.log").open("a") as file:
        file.write("made\n")
    draft.add({"values": VALUES})
    time.sleep(0.3)
    return {}


def read_slowly() -> None:
    entry = cache.get_or_make("test", "slow", slowly, 100)
    assert np.array_equal(entry.arrays["values"], VALUES)


def test_processes_that_start_together_make_an_entry_once() -> None:
    processes = [multiprocessing.get_context("fork").Process(target=read_slowly) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert Path("slow.log").read_text() == "made\n"


def test_a_killed_process_leaves_nothing_that_is_believed() -> None:
    script = (
        "import os, signal, numpy as np; from sweep.base import cache\n"
        "def make(draft):\n"
        "    draft.array('values', np.int32, (1000, 3))[:500] = 7\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "cache.get_or_make('test', 'k', make, 100)"
    )
    killed = subprocess.run([sys.executable, "-c", script], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert data_file().parent.with_name("k.draft").exists()
    found, made = get()
    assert made == 1
    np.testing.assert_array_equal(found.arrays["values"], VALUES)
    assert not data_file().parent.with_name("k.draft").exists()


def test_the_entry_used_longest_ago_goes_first() -> None:
    megabyte = np.zeros(2**20, np.uint8)
    for key in ("old", "used", "new"):
        cache.get_or_make("test", key, counting(megabyte, Path("log")), 100)
    for age, key in enumerate(("new", "used", "old")):
        stamp = time.time() - 1000 * (age + 1)
        os.utime(cache.ROOT / "test" / key / cache.INDEX, (stamp, stamp))
    assert cache.get("test", "old") is not None  # which makes it the youngest
    cache.evict(limit_mib=3)
    assert {p.parent.name for p in cache.ROOT.glob("*/*/entry.json")} == {"old", "new"}


def test_a_new_entry_stays_even_above_the_limit() -> None:
    get("first")
    get("second", limit_mib=0)
    assert cache.get("test", "first") is None
    assert cache.get("test", "second") is not None


def test_an_entry_that_another_process_holds_is_not_removed() -> None:
    get()
    with cache.FileLock(f"{data_file().parent}.lock"):
        cache.evict(limit_mib=0)
    assert cache.get("test", "k") is not None


def test_what_a_killed_process_has_left_is_removed_with_the_rest() -> None:
    get()
    left, filled = (cache.ROOT / "test" / f"{key}.draft" for key in ("left", "filled"))
    for draft in (left, filled):
        draft.mkdir()
        (draft / cache.INDEX).write_text("{}")
    with cache.FileLock(filled.with_suffix(".lock")):
        cache.evict(limit_mib=0)
    assert not left.exists()
    assert filled.exists()
    assert cache.get("test", "k") is None


def test_an_entry_that_goes_meanwhile_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    get("first")
    gone = cache.ROOT / "test" / "gone" / cache.INDEX
    original = Path.glob
    monkeypatch.setattr(Path, "glob", lambda *given: [gone, *original(*given)])
    get("second", limit_mib=0)
    assert cache.get("test", "first") is None
    assert cache.get("test", "second") is not None


def test_an_entry_that_was_made_is_given_back_whatever_becomes_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(cache, "evict", refuse)
    found, _ = get()
    np.testing.assert_array_equal(found.arrays["values"], VALUES)


def test_a_full_disk_is_an_error_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(cache.CacheError) as caught:
        get()
    assert str(caught.value) == f"{cache.ROOT} cannot be written (No space left on device)"
    assert not list(cache.ROOT.glob("*/k*/"))


def test_a_folder_that_cannot_be_made_is_an_error() -> None:
    Path("mlruns").write_text("a file in its place")
    with pytest.raises(cache.CacheError, match="cannot be written"):
        get()


@pytest.mark.parametrize("other", [("a", 2), ("b", 1), ("a", "1"), ("a",)], ids=str)
def test_a_key_tells_its_parts_apart(other: tuple[Any, ...]) -> None:
    assert cache.key_of(*other) != cache.key_of("a", 1)


def test_a_file_that_changes_has_another_hash(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    found = []
    for text in ("one", "two"):  # of one length, as weights of one shape are
        path.write_text(text, "utf-8")
        found.append(sha256(path))
    assert found == [hashlib.sha256(text).hexdigest() for text in (b"one", b"two")]
