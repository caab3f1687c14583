"""Read the runs of sweeps by name, from their folders and from the MLflow store."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from sweep.base.layout import RootPaths, SweepPaths
from sweep.base.words import Remark
from sweep.comparison import rows
from sweep.config import decides
from sweep.config.decides import Decides
from sweep.config.schema import Config, ConfigError, SweepSettings
from sweep.runs import liveness, read_outputs, read_records, read_store, sweep_settings
from sweep.runs.read_outputs import Plan
from sweep.runs.record import Record
from sweep.tracking.store import Store
from sweep.tracking.tags import Tag

NOT_CHOICES = tuple(
    f"{key}."
    for key in (
        *decides.keys_without(Config, Decides.CONFIGURATION),
        *(each.name for each in fields(SweepSettings)),  # in what older versions wrote
    )
)
"""Settings that do not tell configurations apart; each ends with a dot."""


@dataclass(frozen=True)
class Gathered:
    """One sweep, or several that are read as one."""

    folder: Path
    """Folder whose `report/` receives the report."""
    plan: Plan
    records: list[Record]
    sweep_ids: list[str] = field(default_factory=list)
    """Ids of the known summary runs."""
    notes: list[Remark] = field(default_factory=list)
    """Caveats of sweeps that are read as one, or that have not ended."""
    is_running: bool = False
    """True while one of the sweeps is running, so that its results may still change."""

    @property
    def settings(self) -> SweepSettings:
        """Return the settings for comparing and reporting; of several sweeps, the newest one's."""
        return self.plan.settings or sweep_settings.of_runs(self.records)


def gather(names: Sequence[str], root: Path, store: Store | None) -> Gathered:
    """Read sweeps by their names or folders; without a name, read the newest.

    Args:
        names: Names under `root`/sweeps, names of summary runs in the store, or folders.
        root: Folder of all sweeps, as `layout.ROOT`.
        store: Read for runs that are not on disk; None if there is no store.

    Raises:
        ConfigError: A sweep is unknown or has no run, or there is no sweep at all.
    """
    wanted = list(dict.fromkeys(names)) or [path.name for path in newest(root)[:1]]
    if not wanted:
        raise ConfigError(
            f"{root.absolute()}/sweeps holds no sweep. Run one with `python -m sweep`, or name the"
            " folder of one."
        )
    sweeps = [_read_one(name, root, store) for name in wanted]
    empty = [sweep.plan.name for sweep in sweeps if not sweep.records and not sweep.plan.runs]
    if empty:
        raise ConfigError(f"{', '.join(empty)}: no run of this sweep has left anything.")
    if len(sweeps) == 1:
        return sweeps[0]
    settings, notes = _settings_of_newest(sweeps)
    merged = rows.unique([record for sweep in sweeps for record in sweep.records])
    name_choices(merged)
    names = [sweep.plan.name for sweep in sweeps]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    return Gathered(
        RootPaths(root).reports / f"{len(sweeps)}_sweeps_{digest}",
        replace(_joined([sweep.plan for sweep in sweeps]), settings=settings),
        merged,
        [sweep_id for sweep in sweeps for sweep_id in sweep.sweep_ids],
        [*notes, *(note for sweep in sweeps for note in sweep.notes)],
        any(sweep.is_running for sweep in sweeps),
    )


def from_address(names: Sequence[str | Path | None], uri: str) -> Gathered:
    """Read sweeps from the store at an address; a name of None means the newest.

    Raises:
        ConfigError: The store or a sweep does not exist.
    """
    summaries, sweeps = read_store.sweeps(uri), []
    for name in names:
        records = read_records.load(name, uri)
        matching = [each for each in summaries if name is None or str(name) in each]
        sweep_id, sweep_name = matching[-1]
        plan = Plan(sweep_name, id=sweep_id, settings=stored_settings(uri, sweep_id))
        sweeps.append(Gathered(Path(), plan, records, [sweep_id]))
    settings, notes = _settings_of_newest(sweeps)
    return Gathered(
        Path(),
        replace(_joined([sweep.plan for sweep in sweeps]), settings=settings),
        [record for sweep in sweeps for record in sweep.records],
        [sweep_id for sweep in sweeps for sweep_id in sweep.sweep_ids],
        notes,
    )


def _settings_of_newest(sweeps: Sequence[Gathered]) -> tuple[SweepSettings, list[Remark]]:
    """Return the newest sweep's settings, and a remark if those of other sweeps differ."""
    newest_sweep = max(sweeps, key=lambda sweep: sweep.plan.began)
    distinct = {repr((sweep.settings.compare, sweep.settings.report)) for sweep in sweeps}
    note = Remark("warning.settings", {"sweep": newest_sweep.plan.name})
    return newest_sweep.settings, [note] if len(distinct) > 1 else []


def newest(root: Path) -> list[Path]:
    """Return the folders of sweeps, the newest first."""
    folders = filter(_is_sweep, RootPaths(root).sweeps.glob("*"))
    return sorted(folders, key=read_records.began, reverse=True)


def _is_sweep(folder: Path) -> bool:
    return SweepPaths(folder).plan.is_file() or bool(SweepPaths(folder).records())


def name_choices(runs: Sequence[Record]) -> None:
    """Add settings that differ between sweeps to each record's `swept`.

    Without them, runs with different settings would be taken for replicates.
    """
    flat = [_flat(_config(record)) for record in runs]
    values: dict[str, set[str]] = {}
    for record, settings in zip(runs, flat, strict=True):
        for key, value in settings.items():
            values.setdefault(_scope(record, key), set()).add(value)
    same_data = len({record.tags.get(Tag.DATA_FINGERPRINT) for record in runs}) == 1
    for record, settings in zip(runs, flat, strict=True):
        for key, value in settings.items():
            differs = len(values[_scope(record, key)]) > 1
            if differs and not (same_data and key.startswith("data.")):
                record.swept.setdefault(key, value)
        if not same_data:
            fingerprint = record.tags.get(Tag.DATA_FINGERPRINT, "unknown")[:8]
            name = f"{record.params.get('data', 'unknown')}@{fingerprint}"
            record.swept.setdefault("data", name)


def _scope(record: Record, key: str) -> str:
    """Return the scope of a setting: those of a strategy are compared within that strategy only."""
    return f"{record.strategy} {key}" if key.startswith("freeze.") else key


def _read_one(name: str, root: Path, store: Store | None) -> Gathered:
    folders = (RootPaths(root).sweeps / name, Path(name))
    folder = next((f.absolute() for f in folders if _is_sweep(f)), None)
    if folder is None:
        return _from_store(name, root, store)
    plan, records = read_outputs.read_plan(folder), read_outputs.read_records(folder)
    sweep_id = plan.id or _summary_id(store, plan.name)
    if store is not None and sweep_id and (not records or plan.missing(records)):
        run_ids = {record.run_id for record in records}
        # A run writes its folder before it has an id, so it is recognised by its key too.
        keys = {record.key for record in records}
        records += [
            record
            for record in _stored_records(store, sweep_id)
            if record.run_id not in run_ids and record.key not in keys
        ]
    return with_running_note(Gathered(folder, plan, records, [sweep_id] if sweep_id else []))


def with_running_note(sweep: Gathered) -> Gathered:
    """Return the sweep, with a note if it is still running."""
    if not liveness.is_alive(sweep.folder):
        return sweep
    finished = sum(record.status == "FINISHED" for record in sweep.records)
    values = {"finished": finished, "planned": max(len(sweep.plan.runs), len(sweep.records))}
    note = Remark("warning.running", values)
    return replace(sweep, notes=[*sweep.notes, note], is_running=True)


def _from_store(name: str, root: Path, store: Store | None) -> Gathered:
    sweep_id = _summary_id(store, name)
    if store is None or not sweep_id:
        listed = ", ".join(path.name for path in newest(root)[:5]) or "none"
        raise ConfigError(
            f"{name!r} is no sweep: there is no such folder under {root}/sweeps, and"
            f" {'no store to ask' if store is None else 'the store has none'}."
            f" The newest are: {listed}."
        )
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    folder = RootPaths(root.absolute()).reports / (safe.strip(".") or "sweep")
    plan = Plan(name, id=sweep_id, settings=stored_settings(str(store.uri), sweep_id))
    return Gathered(folder, plan, _stored_records(store, sweep_id), [sweep_id])


def stored_settings(uri: str, sweep_id: str) -> SweepSettings | None:
    """Return the settings in the store's copy of sweep.json; None if it has no copy."""
    with tempfile.TemporaryDirectory() as folder:
        fetched = read_store.fetch(uri, sweep_id, [SweepPaths(Path()).plan.name], Path(folder))
        return read_outputs.read_plan(fetched).settings


def _summary_id(store: Store | None, name: str) -> str:
    """Return the id of the newest summary run with this name or id; empty if there is none."""
    if store is None or store.uri is None:
        return ""
    sweep_ids = [
        sweep_id
        for sweep_id, sweep_name in read_store.sweeps(store.uri)
        if name in (sweep_id, sweep_name)
    ]
    return sweep_ids[-1] if sweep_ids else ""


def _stored_records(store: Store, sweep_id: str) -> list[Record]:
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
        text = record.paths.config.read_text("utf-8")
        config = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    settings: dict[str, str] = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            settings |= _flat(value, f"{key}.")
        elif not f"{key}.".startswith(NOT_CHOICES):
            settings[key] = "null" if value is None else str(value)
    return settings
