"""The record of sweeps and runs in MLflow, the only module that imports it.

A `Store` is a plain address that can be sent to another process. With tracking switched off it
has none, and every call does nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import sqlite3
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from filelock import FileLock

from sweep.config import ConfigError, TrackingConfig
from sweep.data import NAMES, Splits

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Read when mlflow is imported; its defaults print a line per run and send usage data.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

Sources = Mapping[str, tuple[str, Mapping[str, str | None]]]
"""Per split, the type and the fields of its source; see `table.sources`."""


@dataclass(frozen=True)
class Store:
    """Address of an MLflow experiment, or of nothing."""

    uri: str | None
    experiment_id: str = ""
    nested: bool = False

    @cached_property
    def client(self) -> MlflowClient:
        """Connection of this process."""
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def start_sweep(self, name: str, description: str) -> str:
        """Create the summary run of a sweep; returns its id, or `name` when nothing is tracked."""
        if self.uri is None:
            return name
        tags = {"sweep.kind": "sweep", "mlflow.note.content": description}
        return self._create(name, tags)

    def start_run(self, sweep_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Create the MLflow run of one training, with status RUNNING."""
        if self.uri is None:
            return name
        own = {"sweep.kind": "run", "sweep.id": sweep_id, **tags}
        if self.nested:
            own["mlflow.parentRunId"] = sweep_id
        return self._create(name, own)

    def _create(self, name: str, tags: dict[str, str]) -> str:
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
        return str(run.info.run_id)

    def log(
        self, run_id: str, metrics: Mapping[str, float], step: int = 0, timestamp_s: float = 0.0
    ) -> None:
        """Store metrics of one step."""
        self.log_curves(run_id, [(metrics, step, timestamp_s or time.time())])

    def log_curves(
        self, run_id: str, points: Sequence[tuple[Mapping[str, float], int, float]]
    ) -> None:
        """Store metrics of many steps in few requests; each point is (metrics, step, seconds)."""
        if self.uri is None:
            return
        from mlflow.entities import Metric

        found = [
            Metric(key, float(value), int(at * 1000), step)
            for metrics, step, at in points
            for key, value in metrics.items()
        ]
        for start in range(0, len(found), 1000):  # the server's limit for one request
            self.client.log_batch(run_id, metrics=found[start : start + 1000])

    def describe(
        self, run_id: str, params: Mapping[str, Any] = {}, tags: Mapping[str, str] = {}
    ) -> None:
        """Store parameters and tags."""
        if self.uri is None:
            return
        from mlflow.entities import Param, RunTag

        self.client.log_batch(
            run_id,
            params=[Param(k, str(v)) for k, v in params.items()],
            tags=[RunTag(k, str(v)) for k, v in tags.items()],
        )

    def log_data(self, run_id: str, splits: Splits, name: str, sources: Sources) -> None:
        """Record which data went in, one dataset per split, for MLflow's lineage."""
        if self.uri is None:
            return
        from mlflow.entities import Dataset, DatasetInput, InputTag

        self.client.log_inputs(
            run_id,
            [
                DatasetInput(
                    Dataset(
                        # MLflow merges datasets of one name and digest, and limits names.
                        name=f"{name[:400]} ({split})",
                        digest=splits.fingerprint[:32],
                        source_type=sources[split][0],
                        source=json.dumps(sources[split][1]),
                        profile=json.dumps({"num_rows": len(getattr(splits, split))}),
                    ),
                    [InputTag("mlflow.data.context", split)],
                )
                for split in NAMES
                if len(getattr(splits, split))
            ],
        )

    def add_artifacts(self, run_id: str, folder: Path, subfolder: str | None = None) -> None:
        """Copy a folder's content to the run's artifacts."""
        if self.uri is not None:
            self.client.log_artifacts(run_id, str(folder), subfolder)

    def add_file(self, run_id: str, path: Path) -> None:
        """Copy one file to the run's artifacts."""
        if self.uri is not None:
            self.client.log_artifact(run_id, str(path))

    def finish(self, run_id: str, status: str, reason: str = "") -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        if self.uri is None:
            return
        if reason:
            self.client.set_tag(run_id, "sweep.status_reason", reason[:5000])
        self.client.set_terminated(run_id, status)

    def ui_command(self) -> str:
        """What opens the web interface."""
        if self.uri is None or self.uri.startswith("http"):
            return ""
        store = shlex.quote(self.uri)
        return f"mlflow ui --backend-store-uri {store} --host 127.0.0.1 --port 5000"

    def compare_url(self, run_ids: Sequence[str]) -> str:
        """Address of MLflow's page that compares these runs."""
        if self.uri is None:
            return ""
        base = self.uri if self.uri.startswith("http") else "http://127.0.0.1:5000"
        base = re.sub(r"//[^/]*@", "//", base)  # no password on a screen
        runs, experiments = (
            quote(json.dumps(list(ids))) for ids in (run_ids, [self.experiment_id])
        )
        return f"{base.rstrip('/')}/#/compare-runs?runs={runs}&experiments={experiments}"


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


def open_store(cfg: TrackingConfig, root: Path) -> Store:
    """Create or open the store, once per sweep and before its first run.

    A fresh SQLite file that several processes open at once breaks for good, so it is made under
    a lock; WAL lets runs write while others read. Both hold for a file that the user names, too.
    """
    if not cfg.enabled:
        return Store(None)
    import mlflow  # noqa: F401  # sets the level of its loggers, so they are silenced after it

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Logs the traceback of an error that it raises, and that is told below in one sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
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
    name = cfg.experiment_name
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(name)
        if found is None:
            _create_experiment(client, name, artifacts)
            found = client.get_experiment_by_name(name)
            assert found is not None, "there is one now, made here or by another sweep"
    except (MlflowException, SQLAlchemyError, ImportError) as error:  # ImportError: no driver
        reason = " ".join(str(error).split()).partition(" [SQL: ")[0][:300].rstrip(".")
        if cfg.uri is None:
            raise ConfigError(
                f"{uri.removeprefix('sqlite:///')} cannot be used: {reason}. Move it away, and a"
                " new one is made; the files of all runs are in mlruns/sweeps and stay."
            ) from None
        raise ConfigError(
            f"tracking.uri={uri!r} cannot be used: {reason}."
            " Correct tracking.uri or tracking.experiment_name."
        ) from None
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
