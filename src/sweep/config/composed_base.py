"""The configuration that one choice of options gives, and the runs that are made of it.

A sweep's runs differ in a few values. Each is made by setting them on what was composed once; to
resolve OmegaConf's nodes anew for every run would take 15 times as long.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.config.checks import value_at
from sweep.config.overrides import OPEN
from sweep.config.schema import Composed, keys

SCALARS = (bool, int, float, str, type(None))
NO_SCALAR = object()


class Base:
    """A composed configuration."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self._values: dict[str, Any] = {}
        """By override as typed, the value that the schema makes of it."""

    def with_settings(self, settings: Sequence[Override], errors: list[str]) -> Composed:
        """Return a run: the configuration with some values set.

        Args:
            settings: Overrides with one value each that the schema accepts; the last one wins.
            errors: Gets one message per key that has no value.
        """
        if self._resolved is not None and all(self._is_scalar(each) for each in settings):
            composed = copy.deepcopy(self._resolved)
            for override in settings:
                _set(composed, override.key_or_group, self._value(override))
            return composed
        cfg = copy.deepcopy(self.cfg)
        for override in settings:
            apply(cfg, override)
        return _to_object(cfg, errors)

    @cached_property
    def _resolved(self) -> Composed | None:
        """What it is without further settings; None if that hangs on what is set."""
        errors: list[str] = []
        text = OmegaConf.to_yaml(self.cfg)  # with interpolations as they stand
        composed = None if "${" in text else _to_object(copy.deepcopy(self.cfg), errors)
        return None if errors else composed

    @cached_property
    def _scratch(self) -> DictConfig:
        return copy.deepcopy(self.cfg)

    def _is_scalar(self, override: Override) -> bool:
        return override.key_or_group in _leaves() and isinstance(self._value(override), SCALARS)

    def _value(self, override: Override) -> Any:
        typed = str(override.input_line)
        if typed not in self._values:
            cfg, key = self._scratch, override.key_or_group
            apply(cfg, override)
            hangs_on_others = OmegaConf.is_interpolation(*_parent(cfg, key))
            self._values[typed] = NO_SCALAR if hangs_on_others else OmegaConf.select(cfg, key)
        return self._values[typed]


def _leaves() -> set[str]:
    return {key for key, kind in keys().items() if not hasattr(kind, "__dataclass_fields__")}


def _set(composed: Composed, key: str, value: Any) -> None:
    parent, _, name = key.rpartition(".")
    setattr(value_at(composed, parent) if parent else composed, name, value)


def _to_object(cfg: DictConfig, errors: list[str]) -> Composed:
    """Resolve; a key that has no value is reported and given one, so that others are checked."""
    for key in keys():
        try:
            missing = OmegaConf.select(cfg, key, throw_on_resolution_failure=True) is None
            if not (missing and OmegaConf.is_missing(*_parent(cfg, key))):
                continue
            errors.append(f"{key} is required. Set it with {key}=VALUE.")
        except OmegaConfBaseException as error:
            reason = one_line(error).partition(" full_key:")[0]
            reason = reason.removeprefix("ConfigError raised while resolving interpolation: ")
            errors.append(f"{key} has no value: {reason}. Set it with {key}=VALUE.")
        OmegaConf.update(cfg, key, PLACEHOLDERS.get(key, value_at(Composed(), key)))
    return cast(Composed, OmegaConf.to_object(cfg))


PLACEHOLDERS = {
    "data.name": "missing",
    "model.name": "missing",
    "model.name_or_path": "missing",
    "freeze.name": "missing",
    "optimizer.optim": "sgd",
    "tracking.uri": None,
}
"""Stand in for required keys that are not set."""


def _parent(cfg: DictConfig, key: str) -> tuple[Any, str]:
    parent, _, name = key.rpartition(".")
    return (OmegaConf.select(cfg, parent) if parent else cfg), name


def apply(cfg: DictConfig, override: Override) -> str:
    """Set a value as Hydra does; returns what is wrong with it, or an empty string."""
    key = override.key_or_group
    if key.startswith("model.parts.") and cfg.model.parts is None:
        return "the model has no parts of its own; set model.parts={head: PATTERN, ...}"
    value, is_open = override.value(), f"{key}.".startswith(OPEN)
    if key == "model.parts" and cfg.model.parts is None and isinstance(value, dict):
        cfg.model.parts = {}  # for OmegaConf cannot merge into null
    try:
        OmegaConf.update(cfg, key, value, merge=True, force_add=is_open)
    except OmegaConfBaseException as error:
        return one_line(error)
    return ""


def one_line(error: BaseException) -> str:
    """Return an error of Hydra or OmegaConf in one line, without their bookkeeping."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    message_lines = [line for line in lines if not line.startswith(("reference_", "object_type"))]
    return " ".join(message_lines).rstrip(".")
