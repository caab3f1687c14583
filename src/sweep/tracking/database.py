"""The database of a store: a SQLite file is made as a whole, a moved one set right."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from filelock import FileLock, Timeout

from sweep.config import address
from sweep.config.schema import ConfigError

LOCK_S = 120.0
"""How long the lock of a file is waited for; making the tables takes seconds."""
_BESIDE = ("-journal", "-wal", "-shm")
"""Ends of the names of SQLite's own files beside a database."""


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keep other sweeps from opening a SQLite file while the block lasts.

    Raises:
        ConfigError: Another process has held it for very long.
    """
    lock = FileLock(f"{file}.lock")
    try:
        lock.acquire(timeout=LOCK_S)
    except Timeout:
        raise ConfigError(
            f"{file} has been held by another process for {LOCK_S:.0f} s. Start again when that"
            f" one is done; if there is none, remove {lock.lock_file}."
        ) from None
    try:
        yield
    finally:
        lock.release()


def make(file: Path) -> None:
    """Make the tables of a SQLite file that is not there; the caller holds its lock.

    A process that dies meanwhile leaves a draft, which the next one removes; other programs, and
    version 0.1.0 did, leave the file itself half made. With WAL, runs write while others read.
    """
    if file.exists() and file.stat().st_size and not _is_half_made(file):
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH, sqlalchemy_store

    tables: Any = sqlalchemy_store.SqlAlchemyStore
    draft = file.with_name(f".{file.name}.draft")
    _remove(draft)
    try:
        store = tables(address.of_file(draft), DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        store.engine.dispose()
        let_read_while_written(draft)
        with draft.open("rb") as whole:
            os.fsync(whole.fileno())
        for name in _BESIDE:  # of the half-made file, which they would be taken for parts of
            file.with_name(file.name + name).unlink(missing_ok=True)
        draft.replace(file)
    finally:
        _remove(draft)


def _is_half_made(file: Path) -> bool:
    """Whether the making of a store was cut off: it has MLflow's tables, and nothing in them.

    The last step of the making is the default experiment.
    """
    try:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            listed = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name for (name,) in listed}
            asked = (
                connection.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()
                for name in tables - {"alembic_version"}
            )
            return "experiments" in tables and not any(asked)
    except sqlite3.Error:  # locked, or no database: opening it says so
        return False


def _remove(draft: Path) -> None:
    for path in draft.parent.glob(f"{draft.name}*"):  # SQLite has files of its own beside it
        path.unlink()


def let_read_while_written(file: Path) -> None:
    """Switch a SQLite file to WAL."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def move_artifacts(uri: str, experiment: Any, folder: Path, is_ours: bool) -> Path | None:
    """Set the folder of an experiment's artifacts right after a move or a copy of the project.

    Runs whose files are in the new folder are listed from there.

    Args:
        uri: Of the database.
        experiment: MLflow's.
        folder: Where artifacts belong now.
        is_ours: Whether the database was moved with the project. If not, others may share it, and
            nothing changes as long as the old folder's parent is there.

    Returns:
        The old folder, or None where nothing had to change.
    """
    old = _local(experiment.artifact_location)
    if old is None or os.path.realpath(old) == os.path.realpath(folder):
        return None
    if not is_ours and old.parent.is_dir():
        return None
    from sqlalchemy import create_engine

    engine = create_engine(address.real(uri))
    with engine.begin() as connection:
        _point_to(connection, int(experiment.experiment_id), folder)
    engine.dispose()
    return old


def _point_to(connection: Any, experiment_id: int, folder: Path) -> None:
    from sqlalchemy import text

    values: dict[str, Any] = {"id": experiment_id, "new": folder.as_uri()}
    change = "UPDATE experiments SET artifact_location = :new WHERE experiment_id = :id"
    connection.execute(text(change), values)
    known = "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = :id"
    for run_id, before in connection.execute(text(known), values).all():
        files = folder / run_id / "artifacts"
        if before != files.as_uri() and files.is_dir():
            values = {"run": run_id, "new": files.as_uri(), "old": before}
            change = "UPDATE runs SET artifact_uri = :new WHERE run_uuid = :run"
            connection.execute(text(change), values)
            for column in ("source", "storage_location"):
                change = f"UPDATE model_versions SET {column} = REPLACE({column}, :old, :new)"
                connection.execute(text(f"{change} WHERE run_id = :run"), values)


def _local(location: str) -> Path | None:
    """Return the folder that an artifact location means, if it is on this machine."""
    if location.startswith("/"):
        return Path(location)
    return Path(url2pathname(urlparse(location).path)) if location.startswith("file:") else None
