"""Implement the functions of `import sweep`: runs as a table, the comparison, the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.base.layout import ROOT
from sweep.comparison import verdict
from sweep.comparison.results import Comparison
from sweep.config import checks
from sweep.config.schema import CompareConfig, Composed, ConfigError
from sweep.reporting import collect, report_files
from sweep.reporting.collect import Gathered
from sweep.runs import read_outputs, read_records

if TYPE_CHECKING:
    import pandas as pd

Sweeps = str | Path | Sequence[str | Path] | None
"""Name or folder of a sweep, several that are compared as one, or None for the newest."""


def load_runs(sweep: Sweeps = None, root: str | Path = ROOT) -> pd.DataFrame:
    """Implement `sweep.load_runs`."""
    names = read_records.find_sweeps(str(root)) if sweep is None else _names(sweep)
    return read_records.frame([run for name in names for run in read_records.load(name, str(root))])


def compare(sweep: Sweeps = None, root: str | Path = ROOT, **options: Any) -> Comparison:
    """Implement `sweep.compare`."""
    gathered, folder = _gather(_names(sweep), str(root))
    chosen = _options(gathered.settings.compare, options)
    comparison = verdict.judge(gathered.records, chosen, folder)
    comparison.warnings.extend(gathered.notes)
    return comparison


def predict(model: str | Path | None, texts: Sequence[str], root: str | Path) -> pd.DataFrame:
    """Implement `sweep.predict`."""
    from sweep.commands import predict as command

    name = read_records.sweep_folder(None, root) if model is None else model
    return command.predict(command.find(name, root), texts)


def _gather(names: Sequence[str | Path | None], root: str) -> tuple[Gathered, Path | None]:
    """Return the runs, and the folder of their sweep if they are of one sweep on this disk."""
    if "://" in root:
        return collect.from_address(names, root), None
    if len(names) > 1:
        # Settings that differ between sweeps must not make runs look like replicates.
        return collect.gather([str(name) for name in names], Path(root), None), None
    folder = read_records.sweep_folder(names[0], root)
    plan = read_outputs.read_plan(folder)
    gathered = Gathered(folder, plan, read_records.load(names[0], root))
    return collect.with_running_note(gathered), folder


def report(
    sweep: Sweeps = None,
    root: str | Path = ROOT,
    language: str | None = None,
    **options: Any,
) -> Path:
    """Implement `sweep.report`."""
    names = [str(name) for name in _names(sweep) if name is not None]
    gathered = collect.gather(names, Path(root), None)
    shown = gathered.settings.report
    if language is not None:
        shown = replace(shown, language=language)
    errors = checks.check_values(Composed(report=shown), prefix="report.")
    if errors:
        raise ConfigError(*errors)
    chosen = _options(gathered.settings.compare, options)
    gathered.folder.mkdir(parents=True, exist_ok=True)
    comparison = verdict.judge(gathered.records, chosen, gathered.folder)
    comparison.warnings.extend(gathered.notes)
    return report_files.write(comparison, gathered.records, gathered.plan, gathered.folder, shown)


def _names(sweep: Sweeps) -> list[str | Path | None]:
    if sweep is None or isinstance(sweep, str | Path):
        return [sweep]
    return list(sweep)


def _options(saved: CompareConfig, changes: dict[str, Any]) -> CompareConfig:
    """Return the saved options with changes, which are checked as on the command line."""
    known = [field.name for field in fields(CompareConfig)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: no such option. Options: {', '.join(known)}.")
    options = replace(saved, **changes)
    errors = checks.check_values(Composed(compare=options), prefix="compare.")
    if errors:
        raise ConfigError(*errors)
    return options
