"""Names of sweeps -> their runs, from the folders they left and from the MLflow store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from sweep.comparison import rows
from sweep.config.schema import ConfigError
from sweep.runs import read_outputs, read_records, read_store
from sweep.runs.read_outputs import Plan
from sweep.runs.record import Record
from sweep.tracking.store import Store

NOT_CHOICES = (
    *("tracking.", "compare.", "report.", "families.", "seed", "trainer.save_model"),
    *("max_runs", "freeze.name", "data.path", "data.sha256", "data.name", "model.parts"),
)
"""Settings that make no other configuration: where things are, and what they are called."""


@dataclass(frozen=True)
class Gathered:
    """One sweep or several, read as one."""

    folder: Path
    """Gets the report in `report/`."""
    plan: Plan
    records: list[Record]
    sweep_ids: list[str] = field(default_factory=list)
    """Ids of the summary runs, as far as they are known."""


def gather(names: Sequence[str], root: Path, store: Store | None) -> Gathered:
    """Read sweeps by their names or folders; without any, the newest.

    Args:
        names: Names under `root`/sweeps, names of summary runs in the store, or folders.
        root: As `prepare.ROOT`.
        store: Asked for what is not on disk; None where there is none.

    Raises:
        ConfigError: A sweep that nobody knows, or none with any run.
    """
    wanted = list(dict.fromkeys(names)) or [path.name for path in newest(root)[:1]]
    if not wanted:
        raise ConfigError(
            f"{root.absolute()}/sweeps holds no sweep. Run one with `python -m sweep`, or name the"
            " folder of one."
        )
    found = [_one(name, root, store) for name in wanted]
    empty = [sweep.plan.name for sweep in found if not sweep.records and not sweep.plan.runs]
    if empty:
        raise ConfigError(f"{', '.join(empty)}: no run of this sweep has left anything.")
    if len(found) == 1:
        return found[0]
    merged = rows.unique([record for sweep in found for record in sweep.records])
    name_choices(merged)
    names = [sweep.plan.name for sweep in found]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    return Gathered(
        root / "reports" / f"{len(found)}_sweeps_{digest}",
        _joined([sweep.plan for sweep in found]),
        merged,
        [sweep_id for sweep in found for sweep_id in sweep.sweep_ids],
    )


def newest(root: Path) -> list[Path]:
    """Folders of sweeps, the newest first."""
    folders = filter(_is_sweep, (root / "sweeps").glob("*"))
    return sorted(folders, key=read_records.began, reverse=True)


def _is_sweep(folder: Path) -> bool:
    return (folder / "sweep.json").is_file() or any(folder.glob("*/record.json"))


def name_choices(runs: Sequence[Record]) -> None:
    """Write into each record's `swept` what differs between sweeps, though none of them swept it.

    Else runs with other settings would be taken for replicates.
    """
    flat = [_flat(_config(record)) for record in runs]
    values: dict[str, set[str]] = {}
    for record, settings in zip(runs, flat, strict=True):
        for key, value in settings.items():
            values.setdefault(_scope(record, key), set()).add(value)
    same_data = len({record.tags.get("sweep.data_fingerprint") for record in runs}) == 1
    for record, settings in zip(runs, flat, strict=True):
        for key, value in settings.items():
            differs = len(values[_scope(record, key)]) > 1
            if differs and not (same_data and key.startswith("data.")):
                record.swept.setdefault(key, value)
        if not same_data:
            fingerprint = record.tags.get("sweep.data_fingerprint", "unknown")[:8]
            name = f"{record.params.get('data', 'unknown')}@{fingerprint}"
            record.swept.setdefault("data", name)


def _scope(record: Record, key: str) -> str:
    """Settings of a strategy are compared with those of the same strategy alone."""
    return f"{record.strategy} {key}" if key.startswith("freeze.") else key


def _one(name: str, root: Path, store: Store | None) -> Gathered:
    folders = (root / "sweeps" / name, Path(name))
    folder = next((f.absolute() for f in folders if _is_sweep(f)), None)
    if folder is None:
        return _from_store(name, root, store)
    plan, found = read_outputs.read_plan(folder), read_outputs.read_records(folder)
    sweep_id = plan.id or _id_in(store, plan.name)
    if store is not None and sweep_id and (not found or plan.missing(found)):
        known = {record.run_id for record in found}
        found += [r for r in _stored(store, sweep_id) if r.run_id not in known]
    return Gathered(folder, plan, found, [sweep_id] if sweep_id else [])


def _from_store(name: str, root: Path, store: Store | None) -> Gathered:
    sweep_id = _id_in(store, name)
    if store is None or not sweep_id:
        listed = ", ".join(path.name for path in newest(root)[:5]) or "none"
        raise ConfigError(
            f"{name!r} is no sweep: there is no such folder under {root}/sweeps, and"
            f" {'no store to ask' if store is None else 'the store has none'}."
            f" The newest are: {listed}."
        )
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    folder = root.absolute() / "reports" / (safe.strip(".") or "sweep")
    return Gathered(folder, Plan(name, id=sweep_id), _stored(store, sweep_id), [sweep_id])


def _id_in(store: Store | None, name: str) -> str:
    """Id of the summary run of this name or id, the newest if there are several."""
    if store is None or store.uri is None:
        return ""
    found = [key for key, known in read_store.sweeps(store.uri) if name in (key, known)]
    return found[-1] if found else ""


def _stored(store: Store, sweep_id: str) -> list[Record]:
    try:
        return read_records.load(sweep_id, str(store.uri))
    except ConfigError:
        return []


def _joined(plans: Sequence[Plan]) -> Plan:
    return Plan(
        name=" + ".join(plan.name for plan in plans),
        command=" ; ".join(plan.command for plan in plans if plan.command),
        started=min((plan.started for plan in plans if plan.started), default=""),
        host=", ".join(dict.fromkeys(plan.host for plan in plans if plan.host)),
        runs=tuple(run for plan in plans for run in plan.runs),
    )


def _config(record: Record) -> Mapping[str, Any]:
    try:
        text = (Path(record.folder) / "config.yaml").read_text("utf-8")
        found = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            found |= _flat(value, f"{key}.")
        elif not key.startswith(NOT_CHOICES):
            found[key] = "null" if value is None else str(value)
    return found
