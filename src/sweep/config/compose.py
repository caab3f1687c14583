"""Command line -> checked jobs: composes the configuration of every run with Hydra.

Every job is composed before the first one starts, and all mistakes are reported together. Only
Hydra, OmegaConf and the schema are imported here, so that an error shows within a second.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, cast

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from sweep.config import address, checks, launchers, schema, user_files
from sweep.config.checks import value_at
from sweep.config.composed_base import Base, apply, one_line
from sweep.config.launchers import Launch
from sweep.config.overrides import (
    LAUNCHER,
    LAUNCHER_KEYS,
    parse,
    too_many,
    value_of,
    wrong_type,
)
from sweep.config.schema import Composed, Config, ConfigError, SweepSettings, keys

GROUPS = ("data", "model", "freeze", "optimizer", "rates", "trainer", "tracking", "experiment")
SWEEP_WIDE = tuple(field.name for field in fields(SweepSettings))
Axes = dict[str, list[Override]]
"""Per key, the overrides to try, in the order typed; one entry for what does not vary."""
Bases = dict[tuple[str, ...], Base | None]
"""Composed configuration per choice of groups, None for one that failed: composing is slow."""


@dataclass(frozen=True)
class Job:
    """One run to be: its overrides as typed, the ones that vary in the sweep, and its config."""

    overrides: tuple[str, ...]
    swept: dict[str, str]
    cfg: Config

    @property
    def name(self) -> str:
        """Name of the run, from the strategy and whatever else was swept."""
        others = [f"{k}={v}" for k, v in self.swept.items() if k != "freeze"]
        return " ".join([self.cfg.freeze.name, *others])


@dataclass(frozen=True)
class ComposedSweep:
    """The runs that the command line asks for, and all that holds for them together."""

    jobs: list[Job]
    settings: SweepSettings
    launch: Launch


def compose_jobs(overrides: Sequence[str], config_dir: str | None = None) -> list[Job]:
    """Return the runs that the command line asks for, as `compose_sweep` does."""
    return compose_sweep(overrides, config_dir).jobs


def compose_sweep(overrides: Sequence[str], config_dir: str | None = None) -> ComposedSweep:
    """Expand the command line into jobs; what would be one and the same run comes once.

    Args:
        overrides: As typed; `key=a,b` sweeps.
        config_dir: A folder laid out like `conf/`, searched first.

    Raises:
        ConfigError: With all mistakes of all jobs.
    """
    errors: list[str] = []
    bases: Bases = {}
    with initialized(config_dir):
        axes, launch = _axes(overrides, bases, errors)
        jobs, settings = _jobs(axes, _limit(axes, bases), bases, errors)
    errors += launchers.check(launch, settings)
    errors += _duplicate_errors(jobs)
    if errors:
        raise ConfigError(*errors)
    if settings.tracking.uri:  # from here on, nothing that is written down knows a password
        settings.tracking.uri = address.hide(settings.tracking.uri)
    return ComposedSweep(jobs, settings, launch)


def options(config_dir: str | None = None) -> dict[str, dict[str, str]]:
    """Return the options of each group, with the first comment line of each file."""
    with initialized(config_dir):
        return {
            group: {name: _summary(group, name) for name in _names(group)}
            for group in (*GROUPS, LAUNCHER)
        }


class _ConfigDirPlugin(SearchPathPlugin):
    """Puts the folder given with --config-dir in front of the built-in configuration."""

    # Hydra makes the instances, and a class that it knows it never forgets: one that held its own
    # folder would go on giving it to every later search.
    folder: ClassVar[str | None] = None

    def manipulate_search_path(self, search_path: Any) -> None:
        if self.folder:
            search_path.prepend(provider="command-line", path=f"file://{self.folder}")


@contextmanager
def initialized(config_dir: str | None) -> Iterator[None]:
    """Let Hydra read `conf/`, behind a folder of the user's, as long as the block lasts."""
    if config_dir is not None and not os.path.isdir(config_dir):
        raise ConfigError(
            f"--config-dir {config_dir!r} is not a folder. Give one that is laid out like conf/."
        )
    schema.register()
    Plugins.instance().register(_ConfigDirPlugin)
    GlobalHydra.instance().clear()
    _ConfigDirPlugin.folder = os.path.abspath(config_dir) if config_dir else None
    try:
        with initialize_config_module("sweep.conf", version_base="1.3"):
            if _ConfigDirPlugin.folder:
                user_files.guard(_loader().repository, Path(_ConfigDirPlugin.folder))
            yield
    finally:
        _ConfigDirPlugin.folder = None


def _axes(overrides: Sequence[str], bases: Bases, errors: list[str]) -> tuple[Axes, Launch]:
    """Return the axes of the command line, behind the sweep that the configuration itself asks for.

    The launcher's keys are not among them: they say how runs are started, not what they compute.
    """
    groups = {group: partial(_choices, group) for group in (*GROUPS, LAUNCHER)}
    typed = parse(overrides, groups, _loader(), errors)
    launcher_axes = _launcher_overrides(typed, errors)
    fixed = _fixed_groups(typed)
    try:
        starter = [str(o.input_line) for o in launcher_axes.get(LAUNCHER, [])]
        cfg = _compose([*fixed, *starter], return_hydra_config=True)
    except ConfigError as error:
        raise ConfigError(*errors, *error.messages) from None
    launch = launchers.choose(cfg, launcher_axes, errors)
    params = cfg.hydra.sweeper.get("params") or {}
    with open_dict(cfg):
        del cfg["hydra"]
    bases[fixed] = Base(copy.deepcopy(cfg))
    default = parse([f"{key}={value}" for key, value in params.items()], groups, _loader(), errors)
    return _accepted(default | typed, cfg, errors), launch


def _launcher_overrides(typed: Axes, errors: list[str]) -> Axes:
    """Take those of the launcher out of the others; it is one for the whole sweep."""
    launcher_axes = {
        k: typed.pop(k) for k in list(typed) if k == LAUNCHER or k.startswith(LAUNCHER_KEYS)
    }
    errors += [_sweep_wide(key, values) for key, values in launcher_axes.items() if len(values) > 1]
    return {key: values for key, values in launcher_axes.items() if len(values) == 1}


def _fixed_groups(axes: Axes) -> tuple[str, ...]:
    return _groups([values[0] for values in axes.values() if len(values) == 1])


def _groups(line: Sequence[Override]) -> tuple[str, ...]:
    """Return the choices of groups among overrides, in one order, to look them up in `bases`."""
    choices = {o.key_or_group: str(o.input_line) for o in line}
    return tuple(choices[group] for group in GROUPS if group in choices)


def _accepted(axes: Axes, scratch: DictConfig, errors: list[str]) -> Axes:
    """Return the axes that the schema takes, so that all of those can be checked still."""
    accepted = {}
    for key, values in axes.items():
        if len(values) > 1 and key.partition(".")[0] in SWEEP_WIDE:
            errors.append(_sweep_wide(key, values))
            continue
        settings = values if key not in GROUPS else []
        refused = [(value, reason) for value in settings if (reason := apply(scratch, value))]
        errors += [wrong_type(value, reason) for value, reason in refused]
        if not refused:
            accepted[key] = values
    return accepted


def _sweep_wide(key: str, values: Sequence[Override]) -> str:
    typed = ",".join(value_of(value) for value in values)
    return f"{key}={typed} holds for a whole sweep. Give it one value."


def _limit(axes: Axes, bases: Bases) -> int:
    """Return how many runs the sweep may have, as typed or as the configuration says."""
    base = cast(Base, next(iter(bases.values())))
    return int(axes["max_runs"][0].value() if "max_runs" in axes else base.cfg.max_runs)


def _jobs(
    axes: Axes, limit: int, bases: Bases, errors: list[str]
) -> tuple[list[Job], SweepSettings]:
    varying = {key for key, values in axes.items() if len(values) > 1} | {"freeze"} & set(axes)
    damaged = bool(errors)
    jobs: dict[str, Job] = {}
    settings: dict[str, SweepSettings] = {}
    count = math.prod(len(values) for values in axes.values())
    if count > limit:
        errors.append(too_many(f"These are {count} runs,", limit))
        return [], SweepSettings()
    for line in product(*axes.values()):
        before = len(errors)
        cfg = _job_config(line, bases, errors)
        if cfg is None:
            continue
        # What was left out for a mistake cannot be held against the values that are there.
        whole = not damaged and len(errors) == before
        errors += checks.check(cfg) if whole else checks.check_values(cfg)
        swept = {o.key_or_group: value_of(o) for o in line if o.key_or_group in varying}
        run, sweep = cfg.run(), cfg.sweep()
        jobs.setdefault(repr(run), Job(tuple(str(o.input_line) for o in line), swept, run))
        settings.setdefault(repr(sweep), sweep)
    errors += _settings_errors(list(settings.values()))
    return list(jobs.values()), next(iter(settings.values()), SweepSettings())


def _settings_errors(settings: Sequence[SweepSettings]) -> list[str]:
    """Return errors where an option of a group varies what has to be one for the whole sweep."""
    values = {
        key: list(dict.fromkeys(repr(value_at(each, key)) for each in settings))
        for key, kind in keys(SweepSettings).items()
        if not is_dataclass(kind)
    }
    return [
        f"{key} holds for a whole sweep, but the options chosen set it to {' and to '.join(given)}."
        f" Give it one value with {key}=VALUE."
        for key, given in values.items()
        if len(given) > 1
    ]


def _job_config(line: tuple[Override, ...], bases: Bases, errors: list[str]) -> Composed | None:
    groups = _groups(line)
    try:
        if groups not in bases:
            bases[groups] = None
            bases[groups] = Base(_compose(groups))
        base = bases[groups]
        if base is None:
            return None
        settings = [override for override in line if override.key_or_group not in GROUPS]
        return base.with_settings(settings, errors)
    except ConfigError as error:
        errors += error.messages
        return None


def _compose(groups: Sequence[str], return_hydra_config: bool = False) -> DictConfig:
    chosen = [group for group in groups if group != "experiment=null"]  # that is the default
    try:
        return cast(DictConfig, compose("config", chosen, return_hydra_config))
    except RecursionError:
        raise ConfigError(
            f"The configuration ({' '.join(groups) or 'by default'}) cannot be composed: a defaults"
            " list in it leads back to its own file. Correct the YAML file of that option."
        ) from None
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        asked = f" ({' '.join(groups)})" if groups else ""
        raise ConfigError(
            f"The configuration{asked} cannot be composed: {one_line(error.__cause__ or error)}."
            " Correct the YAML file of that option."
        ) from None


def _duplicate_errors(jobs: list[Job]) -> list[str]:
    """Return errors for YAML files that claim one name: every table would merge them."""
    owners: dict[str, set[str]] = {}
    for job in jobs:
        option = dict(text.split("=", 1) for text in job.overrides).get("freeze", "")
        owners.setdefault(job.cfg.freeze.name, set()).add(option)
    return [
        f"freeze={','.join(sorted(choices))}: these options share the name {name!r}."
        " Give each strategy's YAML its own `name`."
        for name, choices in owners.items()
        if len(choices) > 1
    ]


def _loader() -> Any:
    return GlobalHydra.instance().config_loader()


def _choices(group: str) -> list[str]:
    return [*_names(group), *(["null"] if group == "experiment" else [])]


def _names(group: str) -> list[str]:
    return [name for name in _loader().get_group_options(group) if not name.startswith("_")]


def _summary(group: str, name: str) -> str:
    """Return the first comment line of an option file that is not a Hydra directive."""
    for source in _loader().get_sources():
        ours = source.scheme() == "file" or source.path == "sweep.conf"
        if ours and source.is_config(f"{group}/{name}"):
            is_folder = source.scheme() == "file"
            folder = Path(source.path) if is_folder else resources.files("sweep.conf")
            lines = folder.joinpath(group, f"{name}.yaml").read_text("utf-8").splitlines()
            comments = [line[1:].strip() for line in lines if line.startswith("#")]
            return next((c for c in comments if c and not c.startswith("@")), "")
    return "comes with Hydra or a plugin of it" if group == LAUNCHER else ""


def as_yaml(cfg: Config) -> str:
    """Return the configuration of a run as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(cfg))
