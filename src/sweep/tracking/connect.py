"""Opening the MLflow store, and what is wrong with it in one sentence."""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.base.layout import RootPaths
from sweep.config import address
from sweep.config.schema import ConfigError, TrackingConfig
from sweep.tracking import database
from sweep.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DENIED = re.compile(
    r"error code 40[13]\b|\b(UNAUTHENTICATED|PERMISSION_DENIED|Unauthorized|Forbidden)\b"
)
CREDENTIALS = (
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to what"
    " the server takes."
)


def check(cfg: TrackingConfig) -> None:
    """Complain within seconds about a server that does not answer.

    MLflow itself retries for minutes.
    """
    if not cfg.enabled or not cfg.uri or not cfg.uri.startswith("http"):
        return
    try:
        asked = address.without_credentials(address.real(cfg.uri))
        urllib.request.urlopen(f"{asked.rstrip('/')}/health", timeout=5)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        # What wants credentials or certificates is there; MLflow knows about those.
        is_there = isinstance(error, urllib.error.HTTPError) and error.code < 500
        if is_there or isinstance(reason, ssl.SSLError):
            return
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
    a lock. That holds for a file that the user names, too.
    """
    if not cfg.enabled:
        return Store(None)
    load(cfg)
    uri = cfg.uri or address.of_file(RootPaths(root).database)
    file = _sqlite_file(uri)
    with database.locked(file) if file else contextlib.nullcontext():
        if file:
            anew = "The same command makes it anew once that is mended."
            with in_one_sentence(f"{file} cannot be made", anew):
                database.make(file)
        with in_one_sentence(*_unusable(uri, cfg)):  # a damaged file may fail at any of these
            experiment = _experiment(uri, cfg.experiment_name, _artifacts(uri, root))
            if file:
                database.let_read_while_written(file)
            _set_right(uri, experiment, root)
    return Store(uri, str(experiment.experiment_id), cfg.nested)


def _artifacts(uri: str, root: Path) -> str | None:
    """Return the place for a new experiment's artifacts; a server knows that itself.

    A database would put them into the current directory.
    """
    return None if uri.startswith("http") else RootPaths(root.absolute()).artifacts.as_uri()


def _set_right(uri: str, experiment: Any, root: Path) -> None:
    """Keep artifacts from going to the place that a project was moved or copied from."""
    if uri.startswith("http"):
        return
    file, folder = address.file_of(uri), RootPaths(root.absolute()).artifacts
    is_ours = file is not None and file.absolute().parent == root.absolute()
    old = database.move_artifacts(uri, experiment, folder, is_ours)
    if old is not None:
        print(f"this project was moved or copied here; artifacts go to {folder}, not to {old}")


def existing_store(cfg: TrackingConfig, root: Path) -> Store | None:
    """Return the store if there is one; unlike with `open_store`, nothing is created.

    Raises:
        ConfigError: It is there and cannot be read.
    """
    file = RootPaths(root.absolute()).database
    if not cfg.enabled or (not cfg.uri and not file.is_file()):
        return None
    check(cfg)
    load(cfg)
    store = Store(cfg.uri or address.of_file(file), nested=cfg.nested)
    assert store.uri is not None
    remedy = "Correct tracking.uri, or use tracking=none to read folders alone."
    with in_one_sentence(f"{store.uri} cannot be read", remedy):
        experiment = store.client.get_experiment_by_name(cfg.experiment_name)
        if experiment is None:
            return None
        _set_right(store.uri, experiment, root)
    return replace(store, experiment_id=str(experiment.experiment_id))


@contextlib.contextmanager
def in_one_sentence(problem: str, remedy: str) -> Iterator[None]:
    """Tell what MLflow raises about an address as a ConfigError, with its reason."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError) as error:  # no driver
        reason = " ".join(str(error).split()).partition(" [SQL: ")[0]
        if _DENIED.search(reason):
            reason, remedy = "it does not let you in", CREDENTIALS
        raise ConfigError(f"{problem}: {reason[:300].rstrip('.')}. {remedy}") from None


def _sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite address, or None for any other.

    Raises:
        ConfigError: It names no file, or one in a folder that is not there or not writable.
    """
    if not uri.startswith("sqlite"):
        return None
    file = address.file_of(uri)
    if file is None:
        raise ConfigError(
            f"tracking.uri={uri!r} names no file, and runs are other processes, which could not"
            " see it. Use sqlite:///FILE."
        )
    file = file.absolute()
    if file.is_dir():  # MLflow would try to open it for minutes
        raise ConfigError(
            f"{file} is a folder, where the database of MLflow has to be. Move it away, or set"
            " tracking.uri=sqlite:///FILE."
        )
    try:
        Path(f"{file}.lock").open("ab").close()
    except OSError:
        raise ConfigError(
            f"tracking.uri={uri!r}: the folder {file.parent} is not there, or cannot be written."
            " Make it, or correct tracking.uri; an absolute path has four slashes,"
            " sqlite:////DIR/FILE."
        ) from None
    return file


def _unusable(uri: str, cfg: TrackingConfig) -> tuple[str, str]:
    """Return what to say of a store that cannot be used, and what to do."""
    if cfg.uri is None:
        return (
            f"{address.file_of(uri)} cannot be used",
            "Move it away, and a new one is made; the files of all runs are in mlruns/sweeps and"
            " stay.",
        )
    return (
        f"tracking.uri={uri!r} cannot be used",
        "Correct tracking.uri or tracking.experiment_name.",
    )


def _experiment(uri: str, name: str, artifacts: str | None) -> Any:
    """Return MLflow's experiment, which is created if there is none."""
    from mlflow import MlflowClient

    client = MlflowClient(address.real(uri))
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        _create_experiment(client, name, artifacts)
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None, "there is one now, made here or by another sweep"
    if experiment.lifecycle_stage != "active":
        raise ConfigError(
            f"tracking.experiment_name={name!r} was deleted in MLflow. Restore it there, or choose"
            " another name."
        )
    return experiment


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
