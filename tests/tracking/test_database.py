"""The SQLite file of a store is there as a whole or not at all, and knows where its project is."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.store.tracking import sqlalchemy_store

from sweep.config import address
from sweep.config.schema import ConfigError, TrackingConfig
from sweep.tracking import connect, database
from sweep.tracking.store import Store

KILLS = """
import multiprocessing, os, signal, sys
from pathlib import Path
import mlflow, sqlalchemy
import mlflow.store.tracking.sqlalchemy_store
from sweep.config.schema import TrackingConfig
from sweep.tracking import connect, database

root = Path(sys.argv[1])
count = 0

def open_it(last):
    def strike(*_):
        global count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
    if last == "before its name":
        database.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", strike)
    connect.open_store(TrackingConfig(uri=None), root).create_run("made", {})

context = multiprocessing.get_context("fork")
for last in (1, 150, "before its name", None):
    process = context.Process(target=open_it, args=(last,))
    process.start()
    process.join()
    print(process.exitcode, (root / "mlflow.db").exists())
"""


def test_the_same_command_mends_a_store_whose_making_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLS, str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    killed = "-9 False\n"
    assert (finished.stdout, finished.stderr) == (3 * killed + "0 True\n", "")
    assert not list(tmp_path.glob(".*"))


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where tables are made, by a stand-in that makes none in no time."""
    made: list[Path] = []

    def make(uri: str, _: str) -> Any:
        file = address.file_of(uri)
        assert file is not None
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE experiments (name TEXT)")
            connection.execute("INSERT INTO experiments VALUES ('Default')")
            connection.commit()
        made.append(file)
        return SimpleNamespace(engine=SimpleNamespace(dispose=lambda: None))

    monkeypatch.setattr(sqlalchemy_store, "SqlAlchemyStore", make)
    return made


def test_what_could_not_be_made_leaves_nothing(
    tables: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(database, "let_read_while_written", full)
    with pytest.raises(ConfigError) as caught:
        connect.open_store(TrackingConfig(uri=None), tmp_path)
    assert caught.value.messages == (
        f"{tmp_path}/mlflow.db cannot be made: database or disk is full. The same command makes it"
        " anew once that is mended.",
    )
    assert len(tables) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db.lock"]


def test_an_empty_file_is_made_anew_and_a_draft_left_behind_is_removed(
    tables: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "mlflow.db"
    for name in ("mlflow.db", ".mlflow.db.draft-journal"):
        (tmp_path / name).touch()
    database.make(file)
    database.make(file)
    assert [path.name for path in tables] == [".mlflow.db.draft"]
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert file.stat().st_size


HALF_MADE = """
CREATE TABLE experiments (name TEXT); CREATE TABLE runs (id TEXT); CREATE TABLE _alembic_tmp (a);
CREATE TABLE alembic_version (version TEXT); INSERT INTO alembic_version VALUES ('867495a8f9d4');
"""


def written(file: Path, script: str) -> bytes:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(script)
    return file.read_bytes()


def test_a_file_whose_making_was_cut_off_is_made_anew(tables: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    written(file, HALF_MADE)
    (tmp_path / "mlflow.db-journal").touch()
    database.make(file)
    database.make(file)
    assert len(tables) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize(
    "script",
    [
        HALF_MADE + "INSERT INTO experiments VALUES ('Default');",
        HALF_MADE + "INSERT INTO runs VALUES ('1');",
        "CREATE TABLE something_else (a);",
    ],
    ids=["whole", "with a run", "not MLflow's"],
)
def test_a_file_that_may_hold_something_is_left(
    script: str, tables: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "mlflow.db"
    before = written(file, script)
    database.make(file)
    assert (tables, file.read_bytes()) == ([], before)


def test_a_file_that_is_no_database_is_left(tables: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"no database at all" * 100)
    database.make(file)
    assert tables == []


def test_a_lock_that_is_never_freed_is_a_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_S", 0.0)
    file = tmp_path / "x.db"
    with database.locked(file), pytest.raises(ConfigError) as caught, database.locked(file):
        pass
    assert caught.value.messages == (
        f"{file} has been held by another process for 0 s. Start again when that one is done; if"
        f" there is none, remove {file}.lock.",
    )


def test_a_folder_where_nothing_can_be_made_is_told() -> None:
    uri = "sqlite:////proc/x.db"
    with pytest.raises(ConfigError) as caught:
        connect.open_store(TrackingConfig(uri=uri), Path())
    assert caught.value.messages == (
        f"tracking.uri={uri!r}: the folder /proc is not there, or cannot be written. Make it, or"
        " correct tracking.uri; an absolute path has four slashes, sqlite:////DIR/FILE.",
    )


def test_a_folder_in_place_of_the_database_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(ConfigError) as caught:
        connect.open_store(TrackingConfig(uri=None), tmp_path)
    assert caught.value.messages == (
        f"{tmp_path}/mlflow.db is a folder, where the database of MLflow has to be. Move it away,"
        " or set tracking.uri=sqlite:///FILE.",
    )


# Moves and copies.


def project(root: Path, folder: Path) -> Path:
    """A project whose store has a run with one file; made from the tables of another store."""
    folder.mkdir()
    with (
        contextlib.closing(sqlite3.connect(root / "mlflow.db")) as source,
        contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as copy,
    ):
        source.backup(copy)
        # Ids are then the same in every copy, so each has an experiment of its own.
        copy.execute("DELETE FROM runs")
        copy.commit()
    return folder


def opened(root: Path, name: str = "moves", uri: str | None = None) -> Store:
    return connect.open_store(TrackingConfig(uri=uri, experiment_name=name), root)


def a_file(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("x", "utf-8")
    return path


def files(store: Store, run_id: str) -> list[str]:
    return [file.path for file in store.client.list_artifacts(run_id)]


@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "moved"])
def test_artifacts_of_a_project_elsewhere_go_there(
    is_copied: bool, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = project(root, tmp_path / "first"), tmp_path / "my%20second"
    before = opened(first)
    old = before.create_run("old", {})
    before.upload(old, [a_file(tmp_path, "old.txt")])
    assert capsys.readouterr().out == ""
    (shutil.copytree if is_copied else shutil.move)(first, second)
    after = opened(second)
    assert capsys.readouterr().out == (
        "this project was moved or copied here; artifacts go to"
        f" {second}/artifacts, not to {first}/artifacts\n"
    )
    new = after.create_run("new", {})
    after.upload(new, [a_file(tmp_path, "new.txt")])
    assert files(after, new) == ["new.txt"]
    # Not asked through `files`: MLflow remembers for a process where a run's files were.
    artifacts = after.client.get_run(old).info.artifact_uri
    assert artifacts == (second / "artifacts" / old / "artifacts").as_uri()
    assert sorted(path.name for path in second.rglob("*.txt")) == ["new.txt", "old.txt"]
    assert first.exists() == is_copied
    assert not (tmp_path / "my%2520second").exists()
    if is_copied:
        assert [path.name for path in first.rglob("*.txt")] == ["old.txt"]
    opened(second)
    assert capsys.readouterr().out == ""


def test_a_report_finds_a_moved_project_too(root: Path, tmp_path: Path) -> None:
    first, second = project(root, tmp_path / "first"), tmp_path / "second"
    opened(first)
    first.rename(second)
    store = connect.existing_store(TrackingConfig(uri=None, experiment_name="moves"), second)
    assert store is not None
    location = store.client.get_experiment(store.experiment_id).artifact_location
    assert location == (second / "artifacts").as_uri()


def test_a_project_reached_through_a_link_has_not_moved(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = project(root, tmp_path / "first")
    opened(first)
    (tmp_path / "link").symlink_to("first")
    opened(tmp_path / "link")
    assert capsys.readouterr().out == ""


def test_a_database_that_others_share_keeps_its_folder(root: Path, tmp_path: Path) -> None:
    shared, first, second = (tmp_path / name for name in ("shared", "first", "second"))
    uri = address.of_file(project(root, shared) / "mlflow.db")
    for folder in (first, second):
        folder.mkdir()

    def location() -> Any:
        store = opened(second, uri=uri)
        return store.client.get_experiment(store.experiment_id).artifact_location

    opened(first, uri=uri)
    assert location() == (first / "artifacts").as_uri()
    first.rmdir()
    assert location() == (second / "artifacts").as_uri()


def test_a_registered_model_moves_with_its_run(root: Path, tmp_path: Path) -> None:
    first, second = project(root, tmp_path / "first"), tmp_path / "second"
    before = opened(first)
    run_id = before.create_run("old", {})
    model = tmp_path / "model"
    model.mkdir()
    a_file(model, "weights")
    before.upload(run_id, [model])
    name = before.register(run_id, "none", "text")
    first.rename(second)
    after = opened(second)
    (version,) = after.client.search_model_versions(f"name = '{name}'")
    assert version.source == (second / "artifacts" / run_id / "artifacts" / "model").as_uri()
