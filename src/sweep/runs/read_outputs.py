"""Read the files of a sweep's runs, for its report.

Any file may be missing, cut short or moved: what cannot be read is left out, and the report says
what it has.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sweep.base.layout import SweepPaths
from sweep.config.schema import Config, ConfigError, SweepSettings
from sweep.runs import predictions as stored_predictions
from sweep.runs import sweep_settings
from sweep.runs.read_records import load as load_records
from sweep.runs.record import Record, saved_config

NAMED = "%Y-%m-%d_%H-%M-%S"
"""How the name of a sweep begins."""
Curves = dict[str, list[tuple[int, float]]]
"""Per metric, its points in the order of their steps."""


@dataclass(frozen=True)
class Plan:
    """The sweep as it was asked for; empty where sweep.json is missing."""

    name: str
    command: str = ""
    started: str = ""
    host: str = ""
    id: str = ""
    """Of the summary run."""
    runs: tuple[Mapping[str, Any], ...] = ()
    settings: SweepSettings | None = None
    """None where sweep.json does not say, as that of older versions."""

    @property
    def began(self) -> float:
        """Seconds since 1970, to tell which sweep is newer; 0 where nothing says it."""
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(self.started).timestamp()
        with contextlib.suppress(ValueError):
            return datetime.strptime(self.name[:19], NAMED).timestamp()
        return 0.0

    def missing(self, records: Iterable[Record]) -> list[str]:
        """Return the names of planned runs of which there is no record."""
        records = list(records)
        there = {(record.name, record.key) for record in records}
        names = {record.name for record in records if not record.key}
        return [
            str(run.get("name"))
            for run in self.runs
            if (run.get("name"), run.get("key")) not in there and run.get("name") not in names
        ]


@dataclass(frozen=True)
class Predictions:
    """The predictions of one run for the texts of the reported split."""

    ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    predictions: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    """In the order of the data."""

    @property
    def pairs(self) -> Counter[tuple[str, str]]:
        """The number of times that each label got each prediction."""
        return Counter(zip(self.labels, self.predictions, strict=True))


def read_plan(folder: Path) -> Plan:
    """Return what sweep.json says, as far as there is one.

    Raises:
        ConfigError: It has settings that cannot be used.
    """
    content = _json(SweepPaths(folder).plan)
    settings = content.get("settings")
    texts = {key: str(content.get(key) or "") for key in ("command", "started", "host", "id")}
    runs = content.get("runs")
    return Plan(
        name=str(content.get("name") or folder.name),
        **texts,
        runs=tuple(run for run in runs if isinstance(run, dict)) if isinstance(runs, list) else (),
        settings=(
            sweep_settings.from_json(settings, SweepPaths(folder).plan)
            if isinstance(settings, dict)
            else None
        ),
    )


def read_records(folder: Path) -> list[Record]:
    """Return the records of a sweep in the order of its runs; none where no run has left one."""
    try:
        return load_records(folder)
    except ConfigError:
        return []


def predictions(record: Record) -> Predictions:
    """Return the run's predictions, empty where there are none."""
    try:
        table = stored_predictions.read(Path(record.folder))
    except (OSError, ValueError):
        return Predictions()
    ids, labels, guesses = (table[name].tolist() for name in stored_predictions.COLUMNS)
    return Predictions(ids, labels, guesses, [n[2:] for n in table.columns if n.startswith("p_")])


def curves(record: Record) -> Curves:
    """Return the run's metrics over its optimizer steps, without values that are not finite."""
    series: Curves = {}
    try:
        lines = record.paths.curves.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    for line in lines:
        try:
            point = json.loads(line)
            for metric, value in point["metrics"].items():
                if abs(float(value)) < float("inf"):
                    series.setdefault(metric, []).append((int(point["step"]), float(value)))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # the last line of a run that was killed
    return {metric: sorted(points) for metric, points in series.items()}


def tensors(runs: Sequence[Record]) -> list[dict[str, Any]]:
    """Return every tensor of the model with its entry, from the first run that has them."""
    for record in runs:
        entries = _json(record.paths.freeze).get("tensors")
        if isinstance(entries, list) and entries:
            known = [t for t in entries if isinstance(t, dict) and "trainable" in t]
            return [t for t in known if isinstance(t.get("name"), str)]
    return []


def log_tail(record: Record, lines: int = 15) -> str:
    """Return the end of run.log."""
    try:
        with record.paths.log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - 20_000, 0))
            content = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    plain_lines = [
        re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line[:400]) for line in content.splitlines()
    ]
    return "\n".join(plain_lines[-lines:])


def settings(record: Record) -> Config | None:
    """Return the configuration that the run was made with."""
    try:
        return saved_config(Path(record.folder))
    except Exception:  # not there, cut short, or of another version
        return None


def environment(record: Record) -> dict[str, Any]:
    """Return the versions and hardware of the run."""
    return _json(record.paths.environment)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
