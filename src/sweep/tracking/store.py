"""The record of sweeps and runs in MLflow: what is written to it, and where to look at it.

A `Store` is a plain address that can be sent to another process. With tracking switched off it
has none, and every call does nothing. `opening` makes one, `stored` reads runs back.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sweep.config import address
from sweep.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Read when mlflow is imported; its defaults print a line per run and a bar per file, and send
# usage data.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Whoever delivers has its own patience; mlflow would hold a process for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

IDENTITY = (Tag.PLACE, Tag.HOST)
"""Tags that no two runs share."""
MOST_LISTED = 100
"""Runs that are found by their ids: the tag that holds the list has 5,000 characters."""
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

        return MlflowClient(None if self.uri is None else address.real(self.uri))

    def create_run(self, name: str, tags: Mapping[str, str]) -> str:
        """Create a run with status RUNNING; returns its id."""
        with _sorted_errors():
            run = self.client.create_run(self.experiment_id, tags=dict(tags), run_name=name)
        return str(run.info.run_id)

    def find_run(self, tags: Mapping[str, str]) -> str:
        """Return the id of the run of this folder and machine; empty if it was never created."""
        identity = {key: tags[key].replace('"', "") for key in IDENTITY if key in tags}
        wanted = [f'tags.`{key}` = "{value}"' for key, value in identity.items()]
        runs = self._search(" and ".join(wanted), limit=1) if wanted else []
        return str(runs[0].info.run_id) if runs else ""

    def running(self) -> list[tuple[str, dict[str, str]]]:
        """Return id and tags of all runs and sweeps of this tool that are RUNNING in the store."""
        runs = self._search(f"attributes.status = 'RUNNING' and tags.`{Tag.KIND}` LIKE '%'")
        return [(str(run.info.run_id), dict(run.data.tags)) for run in runs]

    def known(self, run_ids: Sequence[str]) -> set[str]:
        """Return those of the runs that the store has, also if they were deleted in it."""
        from mlflow.entities import ViewType

        known_ids: set[str] = set()
        for start in range(0, len(run_ids), MOST_LISTED):
            listed = ", ".join(f"'{run_id}'" for run_id in run_ids[start : start + MOST_LISTED])
            query, view = f"attributes.run_id IN ({listed})", ViewType.ALL
            experiments = [self.experiment_id]
            with _sorted_errors():
                runs = self.client.search_runs(experiments, query, view, max_results=MOST_LISTED)
            known_ids |= {str(run.info.run_id) for run in runs}
        return known_ids

    def _search(self, wanted: str, limit: int = 10_000) -> list[Any]:
        with _sorted_errors():
            runs = self.client.search_runs([self.experiment_id], wanted, max_results=limit)
        return list(runs)

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
        """Record which data went in, for MLflow's lineage; see `facts.dataset_inputs`."""
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

    def upload(self, run_id: str, paths: Sequence[Path]) -> None:
        """Copy files and folders to a run's artifacts; what is gone is left out."""
        with _sorted_errors():
            for path in paths:
                if path.exists():
                    self.client.log_artifact(run_id, str(path))

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
        query = f"tags.`{Tag.ID}` = '{sweep_id}' and tags.`{Tag.RECOMMENDED}` = 'true'"
        for run in self.client.search_runs([self.experiment_id], query):  # by an earlier report
            if run.info.run_id not in run_ids:
                self.client.delete_tag(run.info.run_id, Tag.RECOMMENDED)
        for run_id in run_ids:
            self.client.set_tag(run_id, Tag.RECOMMENDED, "true")

    def register(self, run_id: str, name: str, text: str) -> str:
        """Register the `model/` of a run with the alias `recommended`.

        Returns:
            The model's name: that of the experiment, then the given one.
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
        if not versions:
            made = self.client.create_model_version(
                full, source, run_id, description=text[:5000], await_creation_for=0
            )
            versions = [made.version]
        self.client.set_registered_model_alias(full, "recommended", str(versions[0]))
        return full

    def ui_command(self) -> str:
        """Return the command that opens the web interface."""
        if self.uri is None or self.uri.startswith("http"):
            return ""
        store = shlex.quote(self.uri)
        return f"mlflow ui --backend-store-uri {store} --host 127.0.0.1 --port 5000"

    def share_view(
        self, sweep_id: str, run_ids: Sequence[str], columns: Sequence[str], order_by: str
    ) -> None:
        """Prepare MLflow's run list and charts for one sweep; `runs_url` opens them so.

        By default the list shows no metric at all, and the charts of the summary run, of which
        each holds one number, push those of the runs off the page.
        """
        if self.uri is None:
            return
        # Runs that were taken over carry the id of the sweep that trained them.
        listed = ", ".join(f"'{run_id}'" for run_id in run_ids)
        few = 0 < len(run_ids) <= MOST_LISTED
        view = {
            "selectedColumns": [f"metrics.`{name}`" for name in columns],
            "runsHiddenMode": "SHOWALL",
            "searchFilter": f"attributes.run_id IN ({listed})"
            if few
            else f"tags.`{Tag.ID}` = '{sweep_id}'",
            "orderByKey": f"metrics.`{order_by}`",
            "orderByAsc": False,
        }
        # The tag that the interface's own button for sharing a view writes.
        key = f"mlflow.sharedViewState.{sweep_id}"
        self.client.set_experiment_tag(self.experiment_id, key, json.dumps(view))

    def runs_url(self, sweep_id: str) -> str:
        """Return the address of MLflow's list of a sweep's runs, as `share_view` prepared it."""
        if self.uri is None:
            return ""
        return (
            f"{self._base()}/#/experiments/{self.experiment_id}/runs?viewStateShareKey={sweep_id}"
        )

    def _base(self) -> str:
        base = self.uri if self.uri and self.uri.startswith("http") else "http://127.0.0.1:5000"
        return re.sub(r"//[^/]*@", "//", base).rstrip("/")  # no password on a screen

    def compare_url(self, run_ids: Sequence[str]) -> str:
        """Return the address of MLflow's page that compares these runs."""
        if self.uri is None:
            return ""
        runs, experiments = (
            quote(json.dumps(list(ids))) for ids in (run_ids, [self.experiment_id])
        )
        return f"{self._base()}/#/compare-runs?runs={runs}&experiments={experiments}"


@contextlib.contextmanager
def _sorted_errors() -> Iterator[None]:
    """Tell what a store will never take from a store that is away for a moment."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code in REFUSALS:
            raise RefusedError(address.masked(" ".join(str(error).split()))) from None
        raise
