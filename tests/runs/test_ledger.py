"""Which runs there are, which have died, and which may be gone on with."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import Timeout
from safetensors.torch import save_file
from support.store import FakeStore

from sweep.base.layout import HOST, LOCK
from sweep.runs import liveness
from sweep.runs.ledger import DIED, Ledger
from sweep.runs.liveness import is_alive
from sweep.runs.record import Record, read_record, write_record
from sweep.tracking import outbox
from sweep.tracking.outbox import Outbox
from sweep.tracking.queue import status_in

KEY = "a" * 64
MODEL_FILE = "model/model.safetensors"
Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "Store", FakeStore)
    monkeypatch.setattr(outbox, "PAUSES_S", (0.01,))


@pytest.fixture
def books(tmp_path: Path) -> Ledger:
    (tmp_path / "mlruns" / "sweeps").mkdir(parents=True)
    return Ledger(tmp_path / "mlruns")


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return FakeStore(f"fake:{tmp_path}", "1")


@pytest.fixture
def make(books: Ledger, store: Any) -> Make:
    """Makes the folder of a run of KEY as its process would have left it."""

    def of(name: str, status: str, *, has: tuple[str, ...] = (), delivered: bool = True) -> Path:
        folder = books.root / "sweeps" / "one" / name
        folder.mkdir(parents=True)
        with liveness.claim(folder):
            pass
        box = Outbox(folder, store)
        box.create(name, {"sweep.host": "here"})
        if delivered:
            box.close(0)
        if status != "RUNNING":
            box.finish(status)
        for child in has:
            (folder / child).mkdir()
        record = Record("", name, "none", status, key=KEY, folder=str(folder))
        record.metrics = {"eval_accuracy": 1.0}
        write_record(record, folder)
        with books.lock(KEY):
            books.add(KEY, folder)
        return folder

    return of


# Keys.


def test_a_key_that_nobody_has_trained_has_no_runs(books: Ledger) -> None:
    assert books.runs(KEY) == []
    assert books.finished(KEY) is None
    assert books.stopped(KEY) is None


def test_runs_of_a_key_are_kept_in_order(books: Ledger, make: Make) -> None:
    folders = [make(name, "FAILED") for name in ("000_none", "000_none_2")]
    books.add(KEY, folders[0])  # a run that goes on is not added again
    assert [record.folder for record in books.runs(KEY)] == [str(path) for path in folders]


def test_the_newest_finished_run_is_taken(books: Ledger, make: Make) -> None:
    for name, status in (("1", "FINISHED"), ("2", "FINISHED"), ("3", "FAILED")):
        make(name, status)
    record = books.finished(KEY)
    assert record is not None
    assert record.name == "2"


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "KILLED"])
def test_what_did_not_finish_is_not_taken(status: str, books: Ledger, make: Make) -> None:
    make("000_none", status)
    assert books.finished(KEY) is None


def test_a_run_without_its_weights_is_not_taken_when_they_are_asked(
    books: Ledger, make: Make
) -> None:
    save_file({"a": torch.zeros(1)}, make("with", "FINISHED", has=("model",)) / MODEL_FILE)
    (books.root / "sweeps" / "one" / "with" / "model" / "config.json").write_text("{}")
    make("without", "FINISHED")
    with_model, newest = books.finished(KEY, with_model=True), books.finished(KEY)
    assert with_model is not None
    assert newest is not None
    assert (with_model.name, newest.name) == ("with", "without")


def test_a_run_whose_folder_was_deleted_does_not_count(books: Ledger, make: Make) -> None:
    shutil.rmtree(make("000_none", "FINISHED"))
    assert books.finished(KEY) is None


@pytest.mark.parametrize("text", ["", "{", '["a"', "null"])
def test_a_damaged_list_of_runs_is_an_empty_one(text: str, books: Ledger, make: Make) -> None:
    folder = make("000_none", "FINISHED")
    (books.root / "keys" / f"{KEY}.json").write_text(text, "utf-8")
    assert books.finished(KEY) is None
    books.add(KEY, folder)
    assert books.finished(KEY) is not None


def test_a_key_is_trained_by_one_process_at_a_time(books: Ledger) -> None:
    with books.lock(KEY).acquire(timeout=0), pytest.raises(Timeout):
        books.lock(KEY).acquire(timeout=0)
    books.lock(KEY).acquire(timeout=0).lock.release()


# Going on.


@pytest.mark.parametrize("status", ["KILLED", "RUNNING"])
def test_a_stopped_run_with_checkpoints_is_gone_on_with(
    status: str, books: Ledger, make: Make
) -> None:
    folder = make("000_none", status, has=("checkpoints",))
    assert books.stopped(KEY) == folder


@pytest.mark.parametrize(
    ("status", "has"),
    [("KILLED", ()), ("FAILED", ("checkpoints",)), ("FINISHED", ("checkpoints",))],
    ids=["no-checkpoints", "failed", "finished"],
)
def test_other_runs_are_not_gone_on_with(
    status: str, has: tuple[str, ...], books: Ledger, make: Make
) -> None:
    make("000_none", status, has=has)
    assert books.stopped(KEY) is None


def test_only_the_newest_run_is_gone_on_with(books: Ledger, make: Make) -> None:
    make("000_none", "KILLED", has=("checkpoints",))
    make("001_none", "FAILED", has=("checkpoints",))
    assert books.stopped(KEY) is None


def test_a_run_that_is_alive_is_not_gone_on_with(books: Ledger, make: Make) -> None:
    folder = make("000_none", "RUNNING", has=("checkpoints",))
    with liveness.lock_of(folder).acquire(timeout=0):
        assert books.stopped(KEY) is None
    assert books.stopped(KEY) == folder


def test_runs_are_found_where_mlruns_was_moved_to(
    books: Ledger, make: Make, tmp_path: Path
) -> None:
    make("000_none", "KILLED", has=("checkpoints",))
    make("001_none", "FINISHED")
    moved = Ledger(tmp_path / "elsewhere" / "results")
    moved.root.parent.mkdir()
    shutil.move(books.root, moved.root)
    record = moved.finished(KEY)
    assert record is not None
    assert record.folder == str(moved.root / "sweeps" / "one" / "001_none")
    shutil.rmtree(record.folder)
    assert moved.stopped(KEY) == moved.root / "sweeps" / "one" / "000_none"


# Closing the dead.


def status_of(folder: Path) -> tuple[str, str, str]:
    """Status and reason in the record, and the status that the store is told."""
    record = read_record(folder)
    assert record is not None
    return record.status, record.reason, status_in(folder)


def test_a_run_whose_process_is_gone_is_closed(books: Ledger, store: Any, make: Make) -> None:
    folder = make("000_none", "RUNNING")
    assert books.close_dead() == 1
    assert status_of(folder) == ("KILLED", DIED, "KILLED")
    assert books.close_dead() == 0
    assert books.deliver(0) == 0
    (entry,) = store.server.runs.values()
    assert entry.status == "KILLED"
    assert entry.tags["sweep.status_reason"] == DIED


def test_a_run_that_died_before_its_record_is_closed(books: Ledger, store: Any, make: Make) -> None:
    folder = make("000_none", "RUNNING")
    (folder / "record.json").unlink()
    assert books.close_dead() == 1
    assert status_in(folder) == "KILLED"


def test_a_run_that_died_before_it_told_its_end_keeps_it(
    books: Ledger, store: Any, make: Make
) -> None:
    folder = make("000_none", "RUNNING")
    record = read_record(folder)
    assert record is not None
    write_record(replace(record, status="FINISHED"), folder)
    assert books.close_dead() == 1
    assert status_of(folder) == ("FINISHED", "", "FINISHED")
    assert books.close_dead() == 0
    assert books.deliver(0) == 0
    (entry,) = store.server.runs.values()
    assert (entry.status, entry.files) == ("FINISHED", ["record.json"])


def test_a_dead_sweep_is_closed(books: Ledger, store: Any) -> None:
    folder = books.root / "sweeps" / "two"
    folder.mkdir()
    Outbox(folder, store).create("two", {"sweep.kind": "sweep"})
    assert books.close_dead() == 1
    assert status_in(folder) == "KILLED"


HOLD = """
import sys, time
from pathlib import Path
from sweep.runs import liveness
with liveness.claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_of_a_living_process_is_left_alone_until_it_is_killed(
    books: Ledger, make: Make
) -> None:
    folder = make("000_none", "RUNNING")
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        long_ago = time.time() - 1e6
        os.utime(folder / LOCK, (long_ago, long_ago))  # a clock set back, or a busy machine
        assert is_alive(folder)
        assert books.close_dead() == 0
        assert status_of(folder) == ("RUNNING", "", "RUNNING")
        process.kill()
    assert books.close_dead() == 1


@pytest.mark.parametrize("set_by_s", [-1e6, 1e6], ids=["back", "ahead"])
def test_the_clock_does_not_matter_on_one_machine(
    set_by_s: float, books: Ledger, make: Make
) -> None:
    folder = make("000_none", "RUNNING")
    touched = time.time() + set_by_s
    os.utime(folder / LOCK, (touched, touched))
    assert books.close_dead() == 1


@pytest.mark.parametrize(
    ("silent_s", "dead"), [(0, 0), (liveness.SILENT_S - 60, 0), (liveness.SILENT_S + 60, 1)]
)
def test_a_run_of_another_machine_is_dead_when_it_is_silent_for_long(
    silent_s: float, dead: int, books: Ledger, make: Make
) -> None:
    folder = make("000_none", "RUNNING")
    (folder / HOST).write_text("another-machine", "utf-8")
    touched = time.time() - silent_s
    os.utime(folder / LOCK, (touched, touched))
    assert books.close_dead() == dead
    assert status_of(folder)[0] == ("KILLED" if dead else "RUNNING")


def test_a_run_that_ended_in_order_is_over_for_every_machine_at_once(
    books: Ledger, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("000_none", "KILLED", has=("checkpoints",))
    with monkeypatch.context() as there:
        there.setattr(platform, "node", lambda: "another-machine")
        with liveness.claim(folder):
            began = (folder / HOST).stat().st_mtime_ns
    assert books.stopped(KEY) == folder
    assert (folder / HOST).stat().st_mtime_ns == began


# Delivering.


def test_what_the_dead_left_is_delivered(books: Ledger, store: Any, make: Make) -> None:
    make("000_none", "FINISHED", delivered=False)
    make("001_full", "FAILED", delivered=False)
    assert books.deliver(0) == 0
    statuses = {entry.name: entry.status for entry in store.server.runs.values()}
    assert statuses == {"000_none": "FINISHED", "001_full": "FAILED"}


def test_what_the_living_have_to_say_is_left_to_them(books: Ledger, store: Any, make: Make) -> None:
    folder = make("000_none", "FINISHED", delivered=False)
    with liveness.lock_of(folder).acquire(timeout=0):
        assert books.deliver(0) == 0
    assert store.server.calls == []


def test_a_store_that_is_away_is_asked_once(books: Ledger, store: Any, make: Make) -> None:
    for number in range(5):
        make(f"{number:03d}_none", "FINISHED", delivered=False)
    store.server.away = 1_000
    assert books.deliver(0) == 5
    assert store.server.away == 999
    store.server.away = 0
    assert books.deliver(0) == 0
    assert len(store.server.runs) == 5


def test_a_store_that_is_away_does_not_hold_up_another(
    books: Ledger, store: Any, make: Make
) -> None:
    make("000_none", "FINISHED", delivered=False)
    store.server.away = 1_000
    other = FakeStore(f"{store.uri}-other")
    folder = books.root / "sweeps" / "two"
    folder.mkdir()
    Outbox(folder, other).create("two", {})
    assert books.deliver(0) == 1
    assert [entry.name for entry in other.server.runs.values()] == ["two"]


def test_the_folder_of_a_report_is_no_run(books: Ledger, make: Make) -> None:
    make("000_none", "FINISHED")
    (books.root / "sweeps" / "one" / "report").mkdir()
    assert books.close_dead() == 0
    assert not (books.root / "sweeps" / "one" / "report" / LOCK).exists()
