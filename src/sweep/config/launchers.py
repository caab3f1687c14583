"""Which of Hydra's launchers starts the runs of a sweep, and what of it can be set.

Hydra's own keys are its business but for these: hydra/launcher=NAME and hydra.launcher.KEY=VALUE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.config import user_files
from sweep.config.overrides import LAUNCHER, LAUNCHER_KEYS, wrong_type
from sweep.config.schema import SweepSettings

CURE = "Set its keys or correct its YAML file, or use hydra/launcher=local."
LOCAL = "hydra_plugins.sweep_launcher.LocalLauncher"


@dataclass(frozen=True)
class Launch:
    """The launcher of a sweep, and how to compose its configuration again."""

    name: str = "local"
    overrides: tuple[str, ...] = ()
    """Those of the launcher and its keys."""
    config_dir: str | None = None
    is_local: bool = True
    """Whether it is ours, which alone knows `jobs`."""


def choose(
    cfg: DictConfig,
    typed: dict[str, list[Override]],
    config_dir: str | None,
    errors: list[str],
) -> Launch:
    """The launcher that a composed configuration names, after a look whether it can be made.

    Args:
        cfg: With Hydra's own node; takes the launcher's keys.
        typed: Overrides of the launcher and its keys, one value each.
        config_dir: As given on the command line.
        errors: Gets one message per mistake.
    """
    name = cfg.hydra.runtime.choices[LAUNCHER]
    before = len(errors)
    overrides = [f"{LAUNCHER}={name}"]
    for key, (override,) in typed.items():
        if key == LAUNCHER:
            continue
        problem = _set(cfg.hydra.launcher, override, name)
        errors += [problem] if problem else []
        # Only with ++ does Hydra take keys of a mapping that are not there yet.
        overrides.append(f"++{override.input_line}")
    if len(errors) == before:
        try:
            instantiate(cfg, None)
        except Exception as error:  # whatever a plugin raises
            cure = "Install sweep anew." if name == "local" else CURE
            errors.append(f"hydra/launcher={name} cannot be used: {_reason(error)}. {cure}")
        else:
            errors += _several_processes(cfg.hydra.launcher)
    is_local = cfg.hydra.launcher.get("_target_") == LOCAL
    return Launch(name, tuple(overrides), config_dir, is_local)


def _several_processes(node: DictConfig) -> list[str]:
    """A run is one process; submitit would start the same one several times."""
    return [
        f"{LAUNCHER_KEYS}{key}={node.get(key)} would start every run that often, and a run is one"
        f" process on one device. Set {LAUNCHER_KEYS}{key}=1."
        for key in ("nodes", "tasks_per_node")
        if isinstance(node.get(key), int) and node.get(key) > 1
    ]


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    told = " ".join(line for line in lines if line and not line.startswith("full_key:"))
    return told.rstrip(".") or type(error).__name__


def instantiate(cfg: DictConfig, task: Any) -> Any:
    """The launcher of a composed configuration, ready to launch; Hydra has to be initialized."""
    loader = GlobalHydra.instance().config_loader()
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    node = OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
    if nested := user_files.nested_targets(node):
        raise ValueError(f"its key {nested[0]} would run code")
    if cfg.hydra.launcher.get("_target_") == LOCAL:
        launcher = Plugins.instance().class_name_to_class[LOCAL]()
        launcher.setup(hydra_context=context, task_function=task, config=cfg)
        return launcher
    return Plugins.instance().instantiate_launcher(context, task, cfg)


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
    """What of a sweep's settings a launcher that is not ours would silently leave undone."""
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
