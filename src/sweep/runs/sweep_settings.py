"""The settings of a sweep, as sweep.json keeps them for reports and for those who ask later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.config import checks
from sweep.config.launchers import Launch
from sweep.config.schema import Composed, ConfigError, SweepSettings
from sweep.runs.record import Record

JUDGED_BY = ("compare", "report")
"""Groups of settings that a comparison and its report go by."""


def to_json(settings: SweepSettings, launch: Launch) -> dict[str, Any]:
    """Return what sweep.json says of the settings and the launcher.

    The store's address is left out: it may hold a password, and stands under `store` as it is safe
    to show.
    """
    written = asdict(settings)
    del written["tracking"]["uri"]
    return written | {"launcher": launch.name}


def from_json(written: Mapping[str, Any], path: Path) -> SweepSettings:
    """Return the settings that a file holds; defaults stand in for what it does not say.

    Args:
        written: What `to_json` made, perhaps of another version, whose keys may be unknown here.
        path: The file, for the message.

    Raises:
        ConfigError: A value cannot be used.
    """
    known = _known(SweepSettings(), written)
    known.setdefault("tracking", {})["uri"] = None
    try:
        loaded = OmegaConf.merge(OmegaConf.structured(SweepSettings), known)
        settings = cast(SweepSettings, OmegaConf.to_object(loaded))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"{path} has settings that cannot be read: {reason}.") from None
    composed = Composed(compare=settings.compare, report=settings.report)
    wrong = [m for name in JUDGED_BY for m in checks.check_values(composed, prefix=f"{name}.")]
    if wrong:
        raise ConfigError(*(f"{path}: {message}" for message in wrong))
    return settings


def of_runs(records: Sequence[Record]) -> SweepSettings:
    """Return the settings of a sweep that an older version made, which each run wrote down.

    Defaults where no run has them.
    """
    for record in records:
        path = record.paths.config
        try:
            written = yaml.load(path.read_text("utf-8"), yaml.SafeLoader)
            if isinstance(written, dict) and any(name in written for name in JUDGED_BY):
                return from_json(written, path)
        except (OSError, ValueError, yaml.YAMLError, ConfigError):
            continue  # damaged; others say the same
    return SweepSettings()


def _known(node: Any, written: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out keys that the schema does not have."""
    return {
        each.name: _known(value, written[each.name]) if is_dataclass(value) else written[each.name]
        for each in fields(node)
        if each.name in written
        if not is_dataclass(value := getattr(node, each.name))
        or isinstance(written[each.name], Mapping)
    }
