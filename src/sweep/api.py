"""What a notebook calls: runs as a table, the comparison, the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep import checks, records, verdict
from sweep.config import CompareConfig, Config, ConfigError
from sweep.results import Comparison

if TYPE_CHECKING:
    import pandas as pd

Sweeps = str | Path | Sequence[str | Path] | None
"""One sweep, several that are read as one, or the newest."""


def load_runs(sweep: Sweeps = None, root: str | Path = records.ROOT) -> pd.DataFrame:
    """As `sweep.load_runs`."""
    names = records.find_sweeps(str(root)) if sweep is None else _names(sweep)
    return records.frame([run for name in names for run in records.load(name, str(root))])


def compare(sweep: Sweeps = None, root: str | Path = records.ROOT, **options: Any) -> Comparison:
    """As `sweep.compare`."""
    found = [run for name in _names(sweep) for run in records.load(name, str(root))]
    chosen = _options(verdict.saved_options(found), options)
    keep = None
    if "://" not in str(root) and len(_names(sweep)) == 1:
        keep = records.sweep_folder(_names(sweep)[0], str(root))
    return verdict.judge(found, chosen, keep)


def _names(sweep: Sweeps) -> list[str | Path | None]:
    if sweep is None or isinstance(sweep, str | Path):
        return [sweep]
    return list(sweep)


def _options(saved: CompareConfig, changes: dict[str, Any]) -> CompareConfig:
    """Options with changes, which have to be as on the command line."""
    known = [field.name for field in fields(CompareConfig)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: no such option. Options: {', '.join(known)}.")
    options = replace(saved, **changes)
    errors = checks.check_values(Config(compare=options), prefix="compare.")
    if errors:
        raise ConfigError(*errors)
    return options
