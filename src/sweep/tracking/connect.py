"""Opening the MLflow store, and what is wrong with it in one sentence."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from sweep.config.schema import ConfigError, TrackingConfig
from sweep.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient


def check(cfg: TrackingConfig) -> None:
    """Complain within seconds about a server that does not answer.

    MLflow itself retries for minutes.
    """
    if not cfg.enabled or not cfg.uri or not cfg.uri.startswith("http"):
        return
    try:
        urllib.request.urlopen(f"{cfg.uri.rstrip('/')}/health", timeout=5)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(
            f"tracking.uri={cfg.uri!r} does not answer ({reason}). Start the server, correct the"
            " address, or use tracking=local."
        ) from None


def load(cfg: TrackingConfig) -> None:
    """Import MLflow, which takes seconds, if it will be needed."""
    if not cfg.enabled:
        return
    import mlflow  # noqa: F401  # sets the level of its loggers, so they are silenced after it

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Logs the traceback of an error that it raises, and that `in_one_sentence` tells.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def open_store(cfg: TrackingConfig, root: Path) -> Store:
    """Create or open the store, once per sweep and before its first run.

    A fresh SQLite file that several processes open at once breaks for good, so it is made under
    a lock; WAL lets runs write while others read. Both hold for a file that the user names, too.
    """
    if not cfg.enabled:
        return Store(None)
    load(cfg)
    uri = cfg.uri or f"sqlite:///{root.absolute() / 'mlflow.db'}"
    database = _sqlite_file(uri)
    # A server knows where its artifacts go; a database would put them into the current directory.
    artifacts = None if uri.startswith("http") else (root.absolute() / "artifacts").as_uri()
    with FileLock(f"{database}.lock") if database else contextlib.nullcontext():
        experiment = _experiment(uri, cfg, artifacts)
        if database:
            with contextlib.closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
    return Store(uri, experiment, cfg.nested)


def existing_store(cfg: TrackingConfig, root: Path) -> Store | None:
    """The store as far as there is one; unlike with `open_store`, nothing is created.

    Raises:
        ConfigError: It is there and cannot be read.
    """
    database = root.absolute() / "mlflow.db"
    if not cfg.enabled or (not cfg.uri and not database.is_file()):
        return None
    check(cfg)
    load(cfg)
    store = Store(cfg.uri or f"sqlite:///{database}", nested=cfg.nested)
    remedy = "Correct tracking.uri, or use tracking=none to read folders alone."
    with in_one_sentence(f"{store.uri} cannot be read", remedy):
        found = store.client.get_experiment_by_name(cfg.experiment_name)
    return None if found is None else replace(store, experiment_id=str(found.experiment_id))


@contextlib.contextmanager
def in_one_sentence(problem: str, remedy: str) -> Iterator[None]:
    """Tell what MLflow raises about an address as a ConfigError, with its reason."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError) as error:  # ImportError: no driver
        reason = " ".join(str(error).split()).partition(" [SQL: ")[0][:300].rstrip(".")
        raise ConfigError(f"{problem}: {reason}. {remedy}") from None


def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite address, or None for any other.

    Raises:
        ConfigError: It names no file, or one in a folder that is not there or not writable.
    """
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    if not name or name == ":memory:":
        raise ConfigError(
            f"tracking.uri={uri!r} names no file, and runs are other processes, which could not"
            " see it. Use sqlite:///FILE."
        )
    file = Path(name).absolute()
    if not os.access(file.parent, os.W_OK):
        raise ConfigError(
            f"tracking.uri={uri!r}: the folder {file.parent} is not there, or cannot be written."
            " Make it, or correct tracking.uri; an absolute path has four slashes,"
            " sqlite:////DIR/FILE."
        )
    return file


def _experiment(uri: str, cfg: TrackingConfig, artifacts: str | None) -> str:
    """Id of the experiment, which is created if there is none."""
    from mlflow import MlflowClient

    name = cfg.experiment_name
    subject = f"tracking.uri={uri!r}"
    remedy = "Correct tracking.uri or tracking.experiment_name."
    if cfg.uri is None:
        subject = uri.removeprefix("sqlite:///")
        remedy = (
            "Move it away, and a new one is made; the files of all runs are in mlruns/sweeps and"
            " stay."
        )
    with in_one_sentence(f"{subject} cannot be used", remedy):
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(name)
        if found is None:
            _create_experiment(client, name, artifacts)
            found = client.get_experiment_by_name(name)
            assert found is not None, "there is one now, made here or by another sweep"
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"tracking.experiment_name={name!r} was deleted in MLflow. Restore it there, or choose"
            " another name."
        )
    return str(found.experiment_id)


def _create_experiment(client: MlflowClient, name: str, artifacts: str | None) -> None:
    """Create it, unless another sweep does so at the same moment."""
    from mlflow.exceptions import MlflowException

    # Without this tag the interface opens on pages for prompts and agents.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    try:
        client.create_experiment(name, artifacts, kind)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
