"""Names of sweeps -> their runs, from the folders they left and from the MLflow store."""

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
"""Settings that make no other configuration, each with a dot behind it."""


@dataclass(frozen=True)
class Gathered:
    """One sweep or several, read as one."""

    folder: Path
    """Gets the report in `report/`."""
    plan: Plan
    records: list[Record]
    sweep_ids: list[str] = field(default_factory=list)
    """Ids of the summary runs, as far as they are known."""
    notes: list[Remark] = field(default_factory=list)
    """What to bear in mind of sweeps that are read as one, or that are not over."""
    is_running: bool = False
    """Whether a sweep among them is at work: what it shows is not its last word."""

    @property
    def settings(self) -> SweepSettings:
        """How the sweep was asked to compare and report; of several sweeps the newest one's."""
        return self.plan.settings or sweep_settings.of_runs(self.records)


def gather(names: Sequence[str], root: Path, store: Store | None) -> Gathered:
    """Read sweeps by their names or folders; without any, the newest.

    Args:
        names: Names under `root`/sweeps, names of summary runs in the store, or folders.
        root: As `layout.ROOT`.
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
    settings, notes = _settings_of_newest(found)
    merged = rows.unique([record for sweep in found for record in sweep.records])
    name_choices(merged)
    names = [sweep.plan.name for sweep in found]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    return Gathered(
        RootPaths(root).reports / f"{len(found)}_sweeps_{digest}",
        replace(_joined([sweep.plan for sweep in found]), settings=settings),
        merged,
        [sweep_id for sweep in found for sweep_id in sweep.sweep_ids],
        [*notes, *(note for sweep in found for note in sweep.notes)],
        any(sweep.is_running for sweep in found),
    )


def from_address(names: Sequence[str | Path | None], uri: str) -> Gathered:
    """Read sweeps from the store at an address; the newest in place of None.

    Raises:
        ConfigError: There is no such store or sweep.
    """
    sweeps, found = read_store.sweeps(uri), []
    for name in names:
        records = read_records.load(name, uri)
        sweep_id, called = [s for s in sweeps if name is None or str(name) in s][-1]
        plan = Plan(called, id=sweep_id, settings=stored_settings(uri, sweep_id))
        found.append(Gathered(Path(), plan, records, [sweep_id]))
    settings, notes = _settings_of_newest(found)
    return Gathered(
        Path(),
        replace(_joined([sweep.plan for sweep in found]), settings=settings),
        [record for sweep in found for record in sweep.records],
        [sweep_id for sweep in found for sweep_id in sweep.sweep_ids],
        notes,
    )


def _settings_of_newest(found: Sequence[Gathered]) -> tuple[SweepSettings, list[Remark]]:
    """Return how the newest sweep was judged, and a word on it where others were otherwise."""
    newest_sweep = max(found, key=lambda sweep: sweep.plan.began)
    asked = {repr((s.settings.compare, s.settings.report)) for s in found}
    note = Remark("warning.settings", {"sweep": newest_sweep.plan.name})
    return newest_sweep.settings, [note] if len(asked) > 1 else []


def newest(root: Path) -> list[Path]:
    """Folders of sweeps, the newest first."""
    folders = filter(_is_sweep, RootPaths(root).sweeps.glob("*"))
    return sorted(folders, key=read_records.began, reverse=True)


def _is_sweep(folder: Path) -> bool:
    return SweepPaths(folder).plan.is_file() or bool(SweepPaths(folder).records())


def name_choices(runs: Sequence[Record]) -> None:
    """Write into each record's `swept` what differs between sweeps, though none of them swept it.

    Else runs with other settings would be taken for replicates.
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
    """Settings of a strategy are compared with those of the same strategy alone."""
    return f"{record.strategy} {key}" if key.startswith("freeze.") else key


def _one(name: str, root: Path, store: Store | None) -> Gathered:
    folders = (RootPaths(root).sweeps / name, Path(name))
    folder = next((f.absolute() for f in folders if _is_sweep(f)), None)
    if folder is None:
        return _from_store(name, root, store)
    plan, found = read_outputs.read_plan(folder), read_outputs.read_records(folder)
    sweep_id = plan.id or _id_in(store, plan.name)
    if store is not None and sweep_id and (not found or plan.missing(found)):
        known = {record.run_id for record in found}
        # A run at work stands in its folder before it knows its id; it is no repetition of itself.
        keys = {record.key for record in found}
        found += [
            r for r in _stored(store, sweep_id) if r.run_id not in known and r.key not in keys
        ]
    return with_state(Gathered(folder, plan, found, [sweep_id] if sweep_id else []))


def with_state(gathered: Gathered) -> Gathered:
    """Return the same with a note where the sweep of its folder is still at work."""
    if not liveness.is_alive(gathered.folder):
        return gathered
    finished = sum(record.status == "FINISHED" for record in gathered.records)
    values = {"finished": finished, "planned": max(len(gathered.plan.runs), len(gathered.records))}
    note = Remark("warning.running", values)
    return replace(gathered, notes=[*gathered.notes, note], is_running=True)


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
    folder = RootPaths(root.absolute()).reports / (safe.strip(".") or "sweep")
    plan = Plan(name, id=sweep_id, settings=stored_settings(str(store.uri), sweep_id))
    return Gathered(folder, plan, _stored(store, sweep_id), [sweep_id])


def stored_settings(uri: str, sweep_id: str) -> SweepSettings | None:
    """Return what the store's copy of sweep.json says; None where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        fetched = read_store.fetch(uri, sweep_id, [SweepPaths(Path()).plan.name], Path(folder))
        return read_outputs.read_plan(fetched).settings


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
        text = record.paths.config.read_text("utf-8")
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
        elif not f"{key}.".startswith(NOT_CHOICES):
            found[key] = "null" if value is None else str(value)
    return found
