"""Records of runs read back, from the folders of sweeps or from the MLflow store.

Where a file is missing or cut short, the run is left out; what is there can still be read.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.base.layout import HOST, ROOT, RootPaths, RunPaths, SweepPaths
from sweep.config.schema import ConfigError
from sweep.runs import read_store
from sweep.runs.integrity import checked_record
from sweep.runs.record import Record

if TYPE_CHECKING:
    import pandas as pd

_RUN = RunPaths(Path())
FILES = tuple(
    str(path)
    for path in (
        *(_RUN.record, _RUN.predictions, _RUN.config, _RUN.freeze, _RUN.curves),
        *(_RUN.environment, _RUN.log),
    )
)
"""What is fetched from a store that is elsewhere."""


def find_sweeps(root: str | Path = ROOT) -> list[str]:
    """Return the names of the sweeps below a folder, or in a store; the newest last.

    Raises:
        ConfigError: There is no such folder or store.
    """
    if _is_uri(root):
        return [name for _, name in read_store.sweeps(str(root))]
    folder = RootPaths(Path(root)).sweeps
    if not folder.is_dir():
        raise ConfigError(
            f"There are no sweeps in {str(root)!r} (looked for {folder.absolute()}). Give the"
            " folder mlruns of a sweep, or the address of an MLflow store."
        )
    # A folder of something else has no records.
    sweep_folders = {path for path in folder.glob("*") if SweepPaths(path).records()}
    return [path.name for path in sorted(sweep_folders, key=began)]


def began(folder: Path) -> tuple[float, str]:
    """Return a key that sorts folders of sweeps by when they began, in whatever time zone.

    Their names hold the local time of a machine, which is another one in a container.
    """
    try:
        started = json.loads(SweepPaths(folder).plan.read_text("utf-8"))["started"]
        return datetime.fromisoformat(started).timestamp(), folder.name
    except (OSError, ValueError, KeyError, TypeError):  # it was cut short before it wrote that
        pass
    try:
        return (folder / HOST).stat().st_mtime, folder.name  # written when it began
    except OSError:
        return _named_time(folder.name), folder.name


def _named_time(name: str) -> float:
    try:
        return datetime.strptime(name[:19], "%Y-%m-%d_%H-%M-%S").timestamp()
    except ValueError:
        return 0.0


def load(sweep: str | Path | None = None, root: str | Path = ROOT) -> list[Record]:
    """Load the records of one sweep, in the order of its runs.

    Args:
        sweep: Its name, its folder, or in a store its id; None is the newest.
        root: Folder `mlruns`, or the address of an MLflow store.

    Raises:
        ConfigError: There is no such sweep, or it has no records.
    """
    if _is_uri(root):
        return _from_store(None if sweep is None else str(sweep), str(root))
    records = _from_folder(sweep_folder(sweep, root))
    if not records:
        raise ConfigError(f"The sweep {str(sweep)!r} has no run that left a record.")
    return records


def sweep_folder(sweep: str | Path | None = None, root: str | Path = ROOT) -> Path:
    """Return the folder of a sweep, by its name, as a path, or of the newest.

    Raises:
        ConfigError: There is none.
    """
    if sweep is not None and Path(sweep).is_dir():
        return Path(sweep)
    names = find_sweeps(root)
    if sweep is None and names:
        return RootPaths(Path(root)).sweeps / names[-1]
    if str(sweep) in names:
        return RootPaths(Path(root)).sweeps / str(sweep)
    shown = ", ".join(names[-5:]) or "none"
    raise ConfigError(
        f"There is no sweep {str(sweep)!r} in {str(root)!r}. The newest are: {shown}."
    )


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per run; params.*, metrics.* and tags.* are named as MLflow names them."""
    import pandas as pd

    rows = [
        {
            "run_id": record.run_id,
            "name": record.name,
            "strategy": record.strategy,
            "status": record.status,
            "reason": str(record.reason),
            "folder": record.folder,
            **{f"params.{key}": value for key, value in record.params.items()},
            **{f"metrics.{key}": value for key, value in record.metrics.items()},
            **{f"tags.{key}": value for key, value in record.tags.items()},
        }
        for record in records
    ]
    return pd.DataFrame(rows)


def _is_uri(root: str | Path) -> bool:
    return "://" in str(root)


def _from_folder(folder: Path) -> list[Record]:
    """Return the record of each run of the sweep that has one; of several tries, the best.

    A run that was taken over from another sweep has its files there and its name here.
    """
    try:
        planned = json.loads(SweepPaths(folder).plan.read_text("utf-8"))["runs"]
        runs = [(best_try(_where_it_is(run["folder"], folder)), run) for run in planned]
    except (OSError, ValueError, KeyError, TypeError):  # it was cut short before it wrote its plan
        paths = SweepPaths(folder).records()
        return [record for path in paths if (record := checked_record(path.parent)) is not None]
    return [
        replace(record, **{key: run[key] for key in ("name", "strategy", "swept") if key in run})
        for record, run in runs
        if record is not None
    ]


def _where_it_is(path: str, sweep: Path) -> Path:
    """Return the folder of a run, perhaps of another sweep, also if mlruns/ was moved or copied."""
    relocated = sweep.absolute().parent.joinpath(*Path(path).parts[-2:])
    return relocated if relocated.is_dir() else Path(path)


def best_try(folder: Path) -> Record | None:
    """Return the finished try of a run, or its last one."""
    tries = [folder]
    while (following := RunPaths(tries[-1]).next_try()).is_dir():
        tries.append(following)
    records = [record for path in tries if (record := checked_record(path)) is not None]
    finished = [record for record in records if record.status == "FINISHED"]
    return next(iter((finished or records)[::-1]), None)


def _from_store(sweep: str | None, uri: str) -> list[Record]:
    sweeps = read_store.sweeps(uri)
    chosen = [key for key, name in sweeps if sweep in (None, key, name)]
    if not chosen:
        shown = ", ".join(name for _, name in sweeps[-5:]) or "none"
        raise ConfigError(f"There is no sweep {sweep!r} in {uri!r}. The newest are: {shown}.")
    folder = Path(tempfile.mkdtemp(prefix="sweep-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # records name files in it
    return [_from_run(run, folder / run.run_id, uri) for run in read_store.runs(uri, chosen[-1])]


def _from_run(run: Record, folder: Path, uri: str) -> Record:
    """Return a run of the store; its artifacts come first, for MLflow keeps texts alone."""
    artifact_folder = read_store.fetch(uri, run.run_id, FILES, folder)
    written = checked_record(artifact_folder) or run
    damaged = run.status == "FINISHED" and written.status == "FAILED"
    return replace(
        written,
        run_id=run.run_id,
        status=written.status if damaged else run.status,
        reason=written.reason or run.reason,
        folder=str(artifact_folder),
        params=run.params | written.params,
        metrics=run.metrics | written.metrics,
        tags=run.tags | written.tags,
    )
