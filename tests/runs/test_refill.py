"""A store that was moved away gets what is on disk again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.store import FakeStore, Server

from sweep.runs import liveness
from sweep.runs.ledger import Ledger
from sweep.runs.record import Record, read_record, write_record
from sweep.runs.refill import refill, restart_lost
from sweep.tracking import outbox
from sweep.tracking.outbox import Outbox


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "Store", FakeStore)
    monkeypatch.setattr(outbox, "PAUSES_S", (0.01,))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return FakeStore(f"fake:{tmp_path}", "1")


@pytest.fixture
def run(tmp_path: Path, store: Any) -> Path:
    """Folder of a finished run that the store has, in a sweep that it has too."""
    sweep = tmp_path / "sweeps" / "one"
    folder = sweep / "000_none"
    folder.mkdir(parents=True)
    summary = Outbox(sweep, store)
    summary.create("one", {"sweep.kind": "sweep"})
    summary.finish("FINISHED")
    assert summary.close(1.0)
    (sweep / "sweep.json").write_text(json.dumps({"id": summary.run_id, "name": "one"}), "utf-8")
    box = Outbox(folder, store)
    box.create("none", {"sweep.id": summary.run_id})
    box.log([({"loss": 0.5}, 1, 1.0)])
    (folder / "predictions.csv").write_text("id\n", "utf-8")
    box.upload([folder / "predictions.csv"])
    box.finish("FINISHED")
    assert box.close(1.0)
    write_record(Record(box.run_id, "none", "none", "FINISHED"), folder)
    return folder


def put_away(store: Any) -> Server:
    """A new, empty store at the same address; it has had runs of others."""
    store.servers[store.uri] = Server()
    for name in ("a", "b", "c"):
        store.create_run(name, {})
    store.server.runs = {f"new-{key}": entry for key, entry in store.server.runs.items()}
    return store.servers[store.uri]  # type: ignore[no-any-return]


def test_a_run_and_its_sweep_are_told_to_a_new_store(run: Path, store: Any) -> None:
    server = put_away(store)
    ids = refill([run], store, 1.0)
    assert ids == {run.parent: "run-3", run: "run-4"}
    entry = server.runs["run-4"]
    assert (entry.status, entry.files, len(entry.points)) == ("FINISHED", ["predictions.csv"], 1)
    assert entry.tags["sweep.id"] == "run-3"
    record = read_record(run)
    assert record is not None
    assert record.run_id == "run-4"
    about = json.loads((run.parent / "sweep.json").read_text("utf-8"))
    assert about == {"id": "run-3", "name": "one"}
    calls = len(server.calls)
    assert refill([run], store, 1.0) == {}
    assert server.calls[calls:] == ["known"]


def test_a_store_that_has_the_run_is_left_alone(run: Path, store: Any) -> None:
    assert refill([run], store, 1.0) == {}
    assert store.server.calls[-1] == "known"


@pytest.mark.parametrize("calls", [1, 3])
def test_a_store_that_is_away_is_filled_the_next_time(calls: int, run: Path, store: Any) -> None:
    server = put_away(store)
    server.away = 10_000
    if calls == 3:
        known = store.servers[store.uri].call
        server.call = lambda name, act: act() if name == "known" else known(name, act)  # type: ignore[method-assign]
    assert refill([run], store, 0.05) == {}
    server.away = 0
    Ledger(run.parents[2]).deliver(1.0)
    assert set(refill([run], store, 1.0)) >= {run}
    record = read_record(run)
    assert record is not None
    assert record.run_id in server.runs
    assert len([entry for entry in server.runs.values() if entry.name == "one"]) == 1


def test_a_run_that_is_in_use_is_left_to_its_process(run: Path, store: Any) -> None:
    put_away(store)
    with liveness.claim(run):
        assert set(refill([run], store, 1.0)) == {run.parent}


def test_runs_without_tracking_have_nothing_to_tell(tmp_path: Path, store: Any) -> None:
    (tmp_path / "sweeps" / "x" / "y").mkdir(parents=True)
    assert refill([tmp_path / "sweeps" / "x" / "y"], store, 1.0) == {}
    assert refill([tmp_path], FakeStore(None), 1.0) == {}  # type: ignore[arg-type]


def test_what_waits_for_a_store_that_is_no_more_begins_anew(run: Path, store: Any) -> None:
    store.server.away = 10_000
    box = Outbox(run, store)
    box.describe({}, {"late": "true"})
    box.close(0.05)
    server = put_away(store)
    assert Ledger(run.parents[2]).deliver(1.0, store) == 0
    (entry,) = [entry for entry in server.runs.values() if entry.name == "none"]
    assert entry.tags["late"] == "true"
    assert entry.files == ["predictions.csv"]


def test_what_waits_for_another_store_is_left_to_it(run: Path, store: Any, tmp_path: Path) -> None:
    before = (run / "store.json").read_text("utf-8")
    restart_lost([run], FakeStore("fake:other", "1"))  # type: ignore[arg-type]
    assert (run / "store.json").read_text("utf-8") == before
