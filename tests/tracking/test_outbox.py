"""What waits on disk reaches the store in order and once, whatever dies or is away meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout
from support.store import FakeStore, Server

from sweep.base.disk import write_atomically
from sweep.config.schema import TrackingConfig
from sweep.runs import liveness
from sweep.tracking import connect, outbox
from sweep.tracking.outbox import Outbox
from sweep.tracking.queue import ENTRIES, STATE, has_waiting, status_in
from sweep.tracking.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run, where a sweep would have it."""
    path = tmp_path / "sweeps" / "one" / "000_none"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A store that can be away; no wait between two tries takes longer than a moment."""
    monkeypatch.setattr(outbox, "Store", FakeStore)
    monkeypatch.setattr(outbox, "PAUSES_S", (0.01,))
    fake = FakeStore(f"fake:{tmp_path}", "1")
    yield fake
    fake.server.answers.set()


@pytest.fixture
def server(store: Any) -> Server:
    return store.server  # type: ignore[no-any-return]


def fill(box: Outbox) -> None:
    """Put in what a short run puts in."""
    box.create("none seed=1", {"sweep.kind": "run"})
    box.describe({"learning_rate": 2e-5}, {"sweep.device": "CPU"})
    box.log([({"train_loss": 1.5, "grad_norm": 2.0}, 1, 100.0)])
    box.log([({"train_loss": 0.5}, 2, 101.0)])
    box.inputs([{"name": "rows (train)"}])
    (box.folder / "run.log").write_text("done\n", "utf-8")
    box.upload([box.folder / "run.log"])
    box.finish("FINISHED")


CALLS = [
    *("find_run", "create_run", "describe", "log_metrics", "log_inputs", "upload", "set_status"),
]
POINTS = [("train_loss", 1.5, 100_000, 1), ("grad_norm", 2.0, 100_000, 1)]
POINTS += [("train_loss", 0.5, 101_000, 2)]


def assert_whole(server: Server) -> None:
    """The store has what `fill` put in, once."""
    (entry,) = server.runs.values()
    assert (entry.name, entry.status) == ("none seed=1", "FINISHED")
    assert entry.params == {"learning_rate": "2e-05"}
    assert entry.tags["sweep.device"] == "CPU"
    assert entry.points == POINTS
    assert entry.inputs == [{"name": "rows (train)"}]
    assert entry.files == ["run.log"]


def test_everything_arrives_in_order_and_the_status_last(store: Any, folder: Path) -> None:
    box = Outbox(folder, store)
    fill(box)
    assert store.server.calls == []
    assert box.close(0)
    assert_whole(store.server)
    assert store.server.calls == CALLS
    assert box.run_id == "run-0"


def test_nothing_is_sent_twice(store: Any, folder: Path) -> None:
    fill(Outbox(folder, store))
    for _ in range(2):
        box = outbox.open_in(folder)
        assert box is not None
        assert box.close(0)
        assert not has_waiting(folder)
    assert store.server.calls == CALLS


def test_metrics_go_in_requests_that_mlflow_takes(store: Any, folder: Path) -> None:
    box = Outbox(folder, store)
    box.create("none", {})
    for step in range(2_500):
        box.log([({"train_loss": 0.5}, step, 1.0)])
    box.close(0)
    assert store.server.calls.count("log_metrics") == 3
    (entry,) = store.server.runs.values()
    assert [step for _, _, _, step in entry.points] == list(range(2_500))


# The store is away.


def test_a_thread_delivers_when_the_store_is_back(
    store: Any, server: Server, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.away = 3
    box = Outbox(folder, store)
    box.start()
    fill(box)
    assert box.close(30)
    assert_whole(server)
    told = "the store cannot be reached, and is tried again: nobody is there\n"
    assert capfd.readouterr().out == told * 3


def test_without_a_thread_closing_tries_for_a_while(store: Any, folder: Path) -> None:
    store.server.away = 3
    box = Outbox(folder, store)
    fill(box)
    assert box.close(30)
    assert_whole(store.server)


def test_a_store_that_stays_away_gets_everything_later(store: Any, folder: Path) -> None:
    store.server.away = 1_000
    box = Outbox(folder, store)
    fill(box)
    assert not box.close(0.05)
    assert has_waiting(folder)
    store.server.away = 0
    later = outbox.open_in(folder)
    assert later is not None
    assert later.close(0)
    assert_whole(store.server)


def test_putting_in_does_not_wait_for_a_store_that_hangs(store: Any, folder: Path) -> None:
    store.server.answers.clear()
    box = Outbox(folder, store)
    box.start()
    fill(box)  # hangs here if it waits
    assert not box.close(0.05)
    assert store.server.calls == []
    store.server.answers.set()
    assert box.close(30)
    assert_whole(store.server)


# Answers are lost.


@pytest.mark.parametrize("at", range(len(CALLS)))
def test_a_lost_answer_makes_no_second_run(at: int, store: Any, folder: Path) -> None:
    store.server.lost = at
    box = Outbox(folder, store)
    fill(box)
    with pytest.raises(ConnectionError, match="the answer was lost"):
        box.deliver()
    again = outbox.open_in(folder)  # as a later start does
    assert again is not None
    assert again.close(0)
    (entry,) = store.server.runs.values()
    assert entry.status == "FINISHED"
    assert set(entry.points) == set(POINTS)


@dataclass(frozen=True)
class Forgetful(Store):
    """A real store whose answer to the first request of each kind is lost."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "lost", set())

    def _lose(self, name: str) -> None:
        if name not in self.lost:  # type: ignore[attr-defined]
            self.lost.add(name)  # type: ignore[attr-defined]
            raise ConnectionError("the answer was lost")

    def create_run(self, *arguments: Any) -> str:
        super().create_run(*arguments)
        self._lose("create_run")
        raise AssertionError("a second run was made")

    def log_metrics(self, *arguments: Any) -> None:
        super().log_metrics(*arguments)
        self._lose("log_metrics")

    def log_inputs(self, *arguments: Any) -> None:
        super().log_inputs(*arguments)
        self._lose("log_inputs")

    def set_status(self, *arguments: Any) -> None:
        super().set_status(*arguments)
        self._lose("set_status")


def test_mlflow_has_every_point_once_after_lost_answers(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PAUSES_S", (0.01,))
    real = connect.open_store(TrackingConfig(uri=None, experiment_name="lost answers"), root)
    box = Outbox(folder, Forgetful(real.uri, real.experiment_id))
    box.create("none", {"sweep.host": "here"})
    box.log([({"train_loss": 1.5}, 1, 100.0), ({"train_loss": 0.5}, 2, 101.0)])
    box.inputs([_dataset("rows")])
    box.finish("FINISHED")
    assert box.close(30)
    (run,) = real.client.search_runs([real.experiment_id])
    assert run.info.status == "FINISHED"
    assert len(run.inputs.dataset_inputs) == 1
    history = real.client.get_metric_history(run.info.run_id, "train_loss")
    assert [(point.value, point.step) for point in history] == [(1.5, 1), (0.5, 2)]


def _dataset(name: str) -> dict[str, str]:
    about = {"name": name, "digest": "abc", "source_type": "local", "source": '{"uri": "x"}'}
    return {**about, "context": "train"}


# Entries are refused.


@pytest.mark.parametrize("method", ["describe", "log_metrics", "log_inputs", "upload"])
def test_what_is_refused_is_told_and_does_not_block(method: str, store: Any, folder: Path) -> None:
    store.server.refuses = {method}
    box = Outbox(folder, store)
    fill(box)
    assert box.close(0)
    assert set(box.refused) == {f"{method} is not taken"}
    assert set(CALLS) - set(store.server.calls) == {method}
    reopened = outbox.open_in(folder)
    assert reopened is not None
    assert reopened.refused == box.refused


# The process dies.


def test_a_line_cut_off_in_the_middle_is_forgotten(store: Any, folder: Path) -> None:
    box = Outbox(folder, store)
    box.create("none", {})
    box.log([({"train_loss": 1.5}, 1, 100.0)])
    box.log([({"train_loss": 0.5}, 2, 101.0)])
    path = folder / ENTRIES
    path.write_bytes(path.read_bytes()[:-20])
    after = Outbox(folder, store)
    after.log([({"train_loss": 0.25}, 3, 102.0)])
    assert after.close(0)
    (entry,) = store.server.runs.values()
    assert [(value, step) for _, value, _, step in entry.points] == [(1.5, 1), (0.25, 3)]


def test_looking_at_an_outbox_does_not_touch_a_line_that_is_being_written(
    store: Any, folder: Path
) -> None:
    Outbox(folder, store).create("none", {})
    with (folder / ENTRIES).open("a", encoding="utf-8") as file:
        file.write('{"params": {"see')
        file.flush()
        assert has_waiting(folder)
        file.write('d": "0"}, "tags": {}}\n')
    box = Outbox(folder, store)
    assert box.close(0)
    assert store.server.runs["run-0"].params == {"seed": "0"}


def test_a_line_that_a_power_cut_left_as_zeros_is_passed_over(store: Any, folder: Path) -> None:
    box = Outbox(folder, store)
    box.create("none", {})
    with (folder / ENTRIES).open("ab") as file:
        file.write(b"\0" * 40 + b"\n")
    box = Outbox(folder, store)
    box.finish("FINISHED")
    assert box.close(0)
    assert store.server.runs["run-0"].status == "FINISHED"


def test_a_damaged_state_sends_everything_again_to_the_same_run(store: Any, folder: Path) -> None:
    box = Outbox(folder, store)
    fill(box)
    box.close(0)
    (folder / STATE).write_text('{"run_id', "utf-8")
    again = Outbox(folder, store)
    assert again.close(0)
    assert again.run_id == "run-0"
    assert list(store.server.runs) == ["run-0"]


# A run goes on.


def test_a_stopped_run_goes_on_as_the_same_run(store: Any, folder: Path) -> None:
    first = Outbox(folder, store)
    first.create("none", {})
    first.log([({"train_loss": 1.5}, 1, 100.0), ({"train_loss": 0.7}, 2, 101.0)])
    first.finish("KILLED", "stopped at step 1")
    first.close(0)
    assert store.server.runs["run-0"].tags["sweep.status_reason"] == "stopped at step 1"
    second = Outbox(folder, store)
    second.create("none", {})
    second.log([({"train_loss": 0.7}, 2, 201.0), ({"train_loss": 0.4}, 3, 202.0)])
    second.close(0)
    (entry,) = store.server.runs.values()
    assert entry.status == "RUNNING"
    assert entry.tags["sweep.status_reason"] == ""
    assert [(value, step) for _, value, _, step in entry.points] == [(1.5, 1), (0.7, 2), (0.4, 3)]


def test_the_last_status_is_known_before_it_is_delivered(store: Any, folder: Path) -> None:
    store.server.away = 1_000
    box = Outbox(folder, store)
    assert (box.status, status_in(folder)) == ("", "")
    box.create("none", {})
    assert (box.status, status_in(folder)) == ("RUNNING", "RUNNING")
    box.finish("FAILED", "x" * 9_000)
    assert status_in(folder) == "FAILED"
    store.server.away = 0
    box.close(0)
    assert store.server.runs["run-0"].tags["sweep.status_reason"] == "x" * 5_000


def test_a_run_that_goes_on_under_another_store_is_there_as_a_whole(
    store: Any, folder: Path
) -> None:
    first = Outbox(folder, store)
    first.create("none seed=1", {"sweep.kind": "run"})
    first.close(0)
    other = replace(store, uri=f"{store.uri}-other")
    fill_rest = Outbox(folder, other)
    fill_rest.create("none seed=1", {})
    fill_rest.finish("FINISHED")
    assert fill_rest.close(0)
    assert [entry.status for entry in other.server.runs.values()] == ["FINISHED"]
    later = outbox.open_in(folder)
    assert later is not None
    assert later.store == other


def test_a_run_is_found_again_when_everything_was_moved(
    store: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "mlflow.db"
    database.touch()
    here = replace(store, uri=f"sqlite:///{database}")
    box = Outbox(folder, here)
    box.create("none", {})
    box.close(0)
    box.finish("KILLED", "died")
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    shutil.move(tmp_path, moved)
    there = f"sqlite:///{moved}/mlflow.db"
    FakeStore.servers[there] = here.server  # the same file
    again = outbox.open_in(moved / "sweeps" / "one" / "000_none")
    assert again is not None
    assert again.store.uri == there
    assert again.close(0)
    assert again.run_id == "run-0"
    assert here.server.runs["run-0"].status == "KILLED"


def test_a_database_that_is_gone_is_not_made_anew(store: Any, folder: Path) -> None:
    Outbox(folder, replace(store, uri="sqlite:////nowhere/mlflow.db")).create("none", {})
    assert outbox.open_in(folder) is None


# Without tracking.


def test_without_tracking_there_are_no_files_and_no_calls(folder: Path) -> None:
    box = Outbox(folder, Store(None))
    box.start()
    fill(box)
    assert box.close(5)
    assert (box.run_id, box.status) == ("", "FINISHED")
    assert {path.name for path in folder.iterdir()} == {"run.log"}


def test_a_tracked_run_that_goes_on_without_tracking_sends_nothing(
    store: Any, folder: Path
) -> None:
    Outbox(folder, store).create("none", {})
    kept = (folder / STATE).read_text("utf-8")
    box = Outbox(folder, Store(None))
    box.create("none", {})
    box.finish("FINISHED")
    assert box.close(0)
    assert (folder / STATE).read_text("utf-8") == kept


# Its files.


def test_a_claimed_folder_is_not_given_to_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "PROBE_S", 0.05)
    with liveness.claim(folder), pytest.raises(Timeout), liveness.claim(folder):
        pass
    with liveness.claim(folder):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"unknown": 1}'])
def test_a_folder_whose_state_cannot_be_read_has_no_outbox(text: str, folder: Path) -> None:
    (folder / STATE).write_text(text, "utf-8")
    assert outbox.open_in(folder) is None
    assert status_in(folder) == ""
    assert not has_waiting(folder)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, json.dumps({"a": 1}))

    def cut(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "x" * 1_000)
    assert json.loads(path.read_text("utf-8")) == {"a": 1}


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "PAUSES_S", (0.01,))
    tries: list[float] = []

    def fail() -> None:
        tries.append(time.monotonic())
        raise ConnectionError

    outbox.with_patience(fail, 0.1)
    assert len(tries) > 1
    assert tries[-1] - tries[0] <= 0.1


def test_a_heart_goes_on_beating_where_its_folder_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "BEAT_S", 0.01)
    folder = tmp_path / "run"
    folder.mkdir()
    box = Outbox(folder, Store(None))
    # A thread that dies of an exception fails the test: warnings are errors here.
    with liveness.claim(folder), liveness.heartbeat(folder, box):
        shutil.rmtree(folder)
        time.sleep(0.1)
