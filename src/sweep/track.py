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
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlparse
from urllib.request import url2pathname

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


# Whoever delivers has its own patience; mlflow would hold a process for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
IDENTITY = ("sweep.place", "sweep.host")
"""Tags that no two runs share."""
REFUSALS = (
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_DOES_NOT_EXIST",
)
"""MLflow's codes for what will not succeed when it is tried again."""


class RefusedError(Exception):
    """The store will never take this."""


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

    def create_run(self, name: str, tags: Mapping[str, str]) -> str:
        """Create a run with status RUNNING; returns its id."""
        with _sorted_errors():
            run = self.client.create_run(self.experiment_id, tags=dict(tags), run_name=name)
        return str(run.info.run_id)

    def find_run(self, tags: Mapping[str, str]) -> str:
        """Id of the run of this folder and machine, if it was created before, or an empty text."""
        wanted = [f"tags.`{key}` = {_quoted(tags[key])}" for key in IDENTITY if key in tags]
        found = self._search(" and ".join(wanted), limit=1) if wanted else []
        return str(found[0].info.run_id) if found else ""

    def running(self) -> list[tuple[str, dict[str, str]]]:
        """Id and tags of all runs and sweeps of this tool that the store takes for RUNNING."""
        found = self._search("attributes.status = 'RUNNING' and tags.`sweep.kind` LIKE '%'")
        return [(str(run.info.run_id), dict(run.data.tags)) for run in found]

    def _search(self, wanted: str, limit: int = 10_000) -> list[Any]:
        with _sorted_errors():
            found = self.client.search_runs([self.experiment_id], wanted, max_results=limit)
        return list(found)

    def log_metrics(self, run_id: str, points: Sequence[tuple[str, float, int, int]]) -> None:
        """Store metrics, each (name, value, milliseconds since the epoch, step)."""
        from mlflow.entities import Metric

        with _sorted_errors():
            self.client.log_batch(run_id, metrics=[Metric(*point) for point in points])

    def describe(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Store parameters and tags."""
        from mlflow.entities import Param, RunTag

        with _sorted_errors():
            self.client.log_batch(
                run_id,
                params=[Param(key, value) for key, value in params.items()],
                tags=[RunTag(key, value) for key, value in tags.items()],
            )

    def log_inputs(self, run_id: str, datasets: Sequence[Mapping[str, str]]) -> None:
        """Record which data went in, for MLflow's lineage; see `dataset_inputs`."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        with _sorted_errors():
            self.client.log_inputs(
                run_id,
                [
                    DatasetInput(
                        Dataset(**{k: v for k, v in entry.items() if k != "context"}),
                        [InputTag("mlflow.data.context", entry["context"])],
                    )
                    for entry in datasets
                ],
            )

    def upload(self, run_id: str, paths: Sequence[Path], subfolder: str = "") -> None:
        """Copy files and folders, which keep their names, to a run's artifacts.

        What is gone is left out.
        """
        with _sorted_errors():
            for path in paths:
                if path.exists():
                    self.client.log_artifact(run_id, str(path), subfolder or None)

    def set_status(self, run_id: str, status: str) -> None:
        """Set RUNNING, FINISHED, FAILED or KILLED."""
        with _sorted_errors():
            if status == "RUNNING":
                self.client.update_run(run_id, status)
            else:
                self.client.set_terminated(run_id, status)

    def recommend(self, sweep_id: str, run_ids: Sequence[str]) -> None:
        """Mark the runs of the recommended strategy, and no others of the sweep."""
        if self.uri is None:
            return
        query = f"tags.`sweep.id` = '{sweep_id}' and tags.`sweep.recommended` = 'true'"
        for run in self.client.search_runs([self.experiment_id], query):  # by an earlier report
            if run.info.run_id not in run_ids:
                self.client.delete_tag(run.info.run_id, "sweep.recommended")
        for run_id in run_ids:
            self.client.set_tag(run_id, "sweep.recommended", "true")

    def register(self, run_id: str, name: str, text: str) -> str:
        """Register a run's saved model with the alias `recommended`; returns the model's name.

        Args:
            run_id: Its artifacts hold `model/`.
            name: What the model is for; the experiment's name comes before it.
            text: Description of the version.
        """
        if self.uri is None:
            return ""
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment(self.experiment_id).name
        full = re.sub(r"[/:]", "_", f"{experiment}-{name}")
        try:
            self.client.get_registered_model(full)
        except MlflowException:
            self.client.create_registered_model(full)
        source = f"{self.client.get_run(run_id).info.artifact_uri}/model"
        known = self.client.search_model_versions(f"run_id = '{run_id}'")
        versions = [v.version for v in known if v.name == full]
        version = versions[0] if versions else self._version(full, source, run_id, text)
        self.client.set_registered_model_alias(full, "recommended", str(version))
        return full

    def _version(self, name: str, source: str, run_id: str, text: str) -> str:
        made = self.client.create_model_version(
            name, source, run_id, description=text[:5000], await_creation_for=0
        )
        return str(made.version)

    def ui_command(self) -> str:
        """What opens the web interface."""
        if self.uri is None or self.uri.startswith("http"):
            return ""
        store = shlex.quote(self.uri)
        return f"mlflow ui --backend-store-uri {store} --host 127.0.0.1 --port 5000"

    def share_view(self, sweep_id: str, columns: Sequence[str], order_by: str) -> None:
        """Prepare MLflow's run list and charts for one sweep; `runs_url` opens them so.

        By default the list shows no metric at all, and the charts of the summary run, of which
        each holds one number, push those of the runs off the page.

        Args:
            sweep_id: Of the summary run.
            columns: Metrics to show.
            order_by: The metric to sort by, the highest first.
        """
        if self.uri is None:
            return
        view = {
            "selectedColumns": [f"metrics.`{name}`" for name in columns],
            "runsHiddenMode": "SHOWALL",
            "searchFilter": f"tags.`sweep.id` = '{sweep_id}'",
            "orderByKey": f"metrics.`{order_by}`",
            "orderByAsc": False,
        }
        # The tag that the interface's own button for sharing a view writes.
        key = f"mlflow.sharedViewState.{sweep_id}"
        self.client.set_experiment_tag(self.experiment_id, key, json.dumps(view))

    def runs_url(self, sweep_id: str) -> str:
        """Address of MLflow's list of a sweep's runs, as `share_view` prepared it."""
        if self.uri is None:
            return ""
        return (
            f"{self._base()}/#/experiments/{self.experiment_id}/runs?viewStateShareKey={sweep_id}"
        )

    def _base(self) -> str:
        base = self.uri if self.uri and self.uri.startswith("http") else "http://127.0.0.1:5000"
        return re.sub(r"//[^/]*@", "//", base).rstrip("/")  # no password on a screen

    def compare_url(self, run_ids: Sequence[str]) -> str:
        """Address of MLflow's page that compares these runs."""
        if self.uri is None:
            return ""
        runs, experiments = (
            quote(json.dumps(list(ids))) for ids in (run_ids, [self.experiment_id])
        )
        return f"{self._base()}/#/compare-runs?runs={runs}&experiments={experiments}"


def dataset_inputs(splits: Splits, name: str, sources: Sources) -> list[dict[str, str]]:
    """One entry per split for `Store.log_inputs`."""
    return [
        {
            # MLflow merges datasets of one name and digest, and limits names.
            "name": f"{name[:400]} ({split})",
            "digest": splits.fingerprint[:32],
            "source_type": sources[split][0],
            "source": json.dumps(sources[split][1]),
            "profile": json.dumps({"num_rows": len(getattr(splits, split))}),
            "context": split,
        }
        for split in NAMES
        if len(getattr(splits, split))
    ]


@contextlib.contextmanager
def _sorted_errors() -> Iterator[None]:
    """Tell what a store will never take from a store that is away for a moment."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code in REFUSALS:
            raise RefusedError(" ".join(str(error).split())) from None
        raise


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "") + '"'


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
    if cfg.enabled:
        import mlflow  # noqa: F401


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


def existing_store(cfg: TrackingConfig, root: Path) -> Store | None:
    """The store as far as there is one; unlike with `open_store`, nothing is created.

    Raises:
        ConfigError: It is there and cannot be read.
    """
    database = root.absolute() / "mlflow.db"
    if not cfg.enabled or (not cfg.uri and not database.is_file()):
        return None
    check(cfg)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    store = Store(cfg.uri or f"sqlite:///{database}", nested=cfg.nested)
    try:
        found = store.client.get_experiment_by_name(cfg.experiment_name)
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ConfigError(
            f"{store.uri} cannot be read: {reason}. Correct tracking.uri, or use tracking=none to"
            " read folders alone."
        ) from None
    return None if found is None else replace(store, experiment_id=str(found.experiment_id))


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


@dataclass(frozen=True)
class StoredRun:
    """A training as the store has it; params and tags are texts."""

    run_id: str
    name: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def sweeps(uri: str) -> list[tuple[str, str]]:
    """Id and name of every sweep in a store, the newest last."""
    runs = _search(uri, "tags.`sweep.kind` = 'sweep'")
    return [(run.info.run_id, str(run.info.run_name)) for run in runs]


def runs(uri: str, sweep_id: str) -> list[StoredRun]:
    """The trainings of a sweep, in the order in which they began."""
    if not re.fullmatch(r"[\w-]+", sweep_id):  # it goes into a query
        return []
    return [
        StoredRun(
            run.info.run_id,
            str(run.info.run_name),
            str(run.info.status),
            dict(run.data.params),
            dict(run.data.metrics),
            dict(run.data.tags),
        )
        for run in _search(uri, f"tags.`sweep.id` = '{sweep_id}'")
    ]


def fetch(uri: str, run_id: str, names: Sequence[str], folder: Path) -> Path:
    """Folder with the artifacts of a run that go by these names, as far as there are any.

    Where the store keeps them on this machine, that is where they are; else they are copied.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(uri)
    address = client.get_run(run_id).info.artifact_uri or ""
    local = Path(url2pathname(urlparse(address).path))
    if address.startswith(("file:", "/")) and local.is_dir():
        return local
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with contextlib.suppress(MlflowException, OSError):  # not every run has every file
            client.download_artifacts(run_id, name, str(folder))
    return folder


def _search(uri: str, query: str) -> list[Any]:
    """Runs of all experiments, the oldest first."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    found: list[Any] = []
    token: str | None = None
    database = uri.removeprefix("sqlite:///")
    if database != uri and not Path(database).is_file():  # MLflow would make an empty one
        raise ConfigError(f"{uri!r} cannot be read: there is no such file. Correct the address.")
    try:
        client = MlflowClient(uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        while True:
            page = client.search_runs(
                experiments, query, order_by=["attributes.start_time ASC"], page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ConfigError(f"{uri!r} cannot be read: {reason}. Correct the address.") from None
