"""The launcher that starts the runs of a sweep, ours or one of Hydra's, and what of it can be set.

Hydra's own keys are its business but for these: hydra/launcher=NAME and hydra.launcher.KEY=VALUE.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# A launcher's context wants one, and Hydra has no public way to a set of no callbacks.
from hydra._internal.callbacks import Callbacks
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.config import user_files
from sweep.config.overrides import LAUNCHER, LAUNCHER_KEYS, wrong_type
from sweep.config.schema import SweepSettings

CURE = "Set its keys or correct its YAML file, or use hydra/launcher=local."
LOCAL = "hydra_plugins.sweep_launcher.LocalLauncher"


@dataclass(frozen=True)
class Launch:
    """The launcher of a sweep."""

    name: str = "local"
    config: DictConfig | None = None
    """With Hydra's own node, for a launcher of Hydra's; None for ours, which alone knows `jobs`."""

    @property
    def is_local(self) -> bool:
        """Whether it is ours."""
        return self.config is None


def choose(
    cfg: DictConfig,
    typed: dict[str, list[Override]],
    errors: list[str],
) -> Launch:
    """Return the launcher that a composed configuration names, if it can be made.

    Args:
        cfg: With Hydra's own node; takes the launcher's keys.
        typed: Overrides of the launcher and its keys, one value each.
        errors: Gets one message per mistake.
    """
    name = cfg.hydra.runtime.choices[LAUNCHER]
    before = len(errors)
    for key, (override,) in typed.items():
        if key == LAUNCHER:
            continue
        problem = _set(cfg.hydra.launcher, override, name)
        errors += [problem] if problem else []
    if len(errors) == before:
        try:
            _instantiate(cfg, None)
        except Exception as error:  # whatever a plugin raises
            cure = "Install sweep anew." if name == "local" else CURE
            errors.append(f"hydra/launcher={name} cannot be used: {_reason(error)}. {cure}")
        else:
            errors += _several_processes(cfg.hydra.launcher)
    is_local = cfg.hydra.launcher.get("_target_") == LOCAL
    return Launch(name, None if is_local else copy.deepcopy(cfg))


def _several_processes(node: DictConfig) -> list[str]:
    """Complain about several processes per run: submitit would start the same run in each."""
    return [
        f"{LAUNCHER_KEYS}{key}={node.get(key)} would start every run that often, and a run is one"
        f" process on one device. Set {LAUNCHER_KEYS}{key}=1."
        for key in ("nodes", "tasks_per_node")
        if isinstance(node.get(key), int) and node.get(key) > 1
    ]


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    message = " ".join(line for line in lines if line and not line.startswith("full_key:"))
    return message.rstrip(".") or type(error).__name__


@dataclass(frozen=True)
class OneConfiguration:
    """Stands in for Hydra's loader, which would compose a configuration for every job.

    A launcher needs of it only what says which job it is; what a job does is in its task.
    """

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: Sequence[str]
    ) -> DictConfig:
        """Return a copy of the sweep's configuration."""
        return copy.deepcopy(master_config)


def prepare(launch: Launch, task: TaskFunction, folder: Path) -> Launcher:
    """Return a launcher of Hydra's that is ready to launch.

    Args:
        launch: Not ours.
        task: What the launcher calls for each job.
        folder: Where it may write files of its own.
    """
    config = copy.deepcopy(launch.config)
    assert config is not None
    config.hydra.sweep.dir = str(folder)
    return _instantiate(config, task)


def _instantiate(config: DictConfig, task: TaskFunction | None) -> Launcher:
    node = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    if nested := user_files.nested_targets(node):
        raise ValueError(f"its key {nested[0]} would run code")
    context = HydraContext(config_loader=OneConfiguration(), callbacks=Callbacks())
    return Plugins.instance().instantiate_launcher(context, task, config)


def _set(node: DictConfig, override: Override, name: str) -> str:
    """Set a key of a launcher; returns what is wrong with it, or an empty string."""
    key = override.key_or_group.removeprefix(LAUNCHER_KEYS)
    known = sorted(str(k) for k in node if not str(k).startswith("_"))
    first = key.partition(".")[0]
    if first not in known:
        return (
            f"{LAUNCHER_KEYS}{key} is no key of hydra/launcher={name}."
            f" Its keys are: {', '.join(known) or 'none'}. Remove it, or choose the launcher that"
            " has it."
        )
    try:
        OmegaConf.update(node, key, override.value(), merge=True, force_add=True)
    except (OmegaConfBaseException, AssertionError) as error:
        return wrong_type(override, str(error).splitlines()[0].rstrip("."))
    return ""


def check(launch: Launch, settings: SweepSettings) -> list[str]:
    """Complain about settings of a sweep that a launcher of Hydra's would silently ignore."""
    if launch.is_local:
        return []
    asked = {
        f"jobs={settings.jobs}": settings.jobs > 1,
        f"on_failure={settings.on_failure}": settings.on_failure == "stop",
        f"max_failures={settings.max_failures}": settings.max_failures is not None,
    }
    return [
        f"{typed} has no effect with hydra/launcher={launch.name}, which starts runs as its own"
        " keys say. Remove it, or use hydra/launcher=local."
        for typed, is_asked in asked.items()
        if is_asked
    ]
