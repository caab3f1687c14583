"""Read sweeps and runs back from a store."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from sweep.config import address
from sweep.config.schema import ConfigError
from sweep.runs.record import Record
from sweep.tracking.connect import in_one_sentence
from sweep.tracking.store import Store
from sweep.tracking.tags import Tag


def sweeps(uri: str) -> list[tuple[str, str]]:
    """Return the id and name of every sweep in a store, the newest last."""
    runs = _search(uri, f"tags.`{Tag.KIND}` = 'sweep'")
    return [(run.info.run_id, str(run.info.run_name)) for run in runs]


def runs(uri: str, sweep_id: str) -> list[Record]:
    """Return the trainings of a sweep, in the order in which they began; their params are texts."""
    if not re.fullmatch(r"[\w-]+", sweep_id):  # it goes into a query
        return []
    return [
        Record(
            run.info.run_id,
            name=str(run.info.run_name),
            strategy=run.data.params.get("freeze", str(run.info.run_name)),
            status=str(run.info.status),
            reason=run.data.tags.get(Tag.STATUS_REASON, ""),
            params=dict(run.data.params),
            metrics=dict(run.data.metrics),
            tags=dict(run.data.tags),
        )
        for run in _search(uri, f"tags.`{Tag.ID}` = '{sweep_id}'")
    ]


def fetch(uri: str, run_id: str, names: Sequence[str], folder: Path) -> Path:
    """Return a folder with those artifacts of a run that go by these names and exist.

    Where the store keeps them on this machine, that is where they are; else they are copied.
    """
    from mlflow.exceptions import MlflowException

    client = Store(uri).client
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
    """Return the runs of all experiments, the oldest first."""
    file = address.file_of(uri)
    if file is not None and not file.is_file():  # MLflow would make an empty one
        raise ConfigError(f"{uri!r} cannot be read: there is no such file. Correct the address.")
    all_runs: list[Any] = []
    token: str | None = None
    with in_one_sentence(f"{uri!r} cannot be read", "Correct the address."):
        client = Store(uri).client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        while True:
            page = client.search_runs(
                experiments, query, order_by=["attributes.start_time ASC"], page_token=token
            )
            all_runs += page
            token = page.token
            if not token:
                return all_runs
