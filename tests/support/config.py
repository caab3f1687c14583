"""What several test modules need beside the fixtures."""

from __future__ import annotations

import copy
import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from sweep.config.compose import compose_jobs
from sweep.config.schema import Config, FreezeConfig

STRATEGIES = (
    "none",
    "attention",
    "full",
    "all_layers",
    "feed_forward",
    "top_layers",
    "layer_norm",
    "bias",
)
"""Those that choose tensors and do no more; adapters and stages have tests of their own."""


@functools.cache
def _composed(overrides: tuple[str, ...]) -> Config:
    (job,) = compose_jobs(overrides)
    return job.cfg


def compose(*overrides: str) -> Config:
    """The one configuration that these overrides of the real conf/ make; a copy to change."""
    return copy.deepcopy(_composed(overrides))


def strategy(name: str) -> FreezeConfig:
    """An option of the group freeze; a copy to change."""
    return compose(f"freeze={name}").freeze


def of_folder(folder: Path, *, max_length: int = 32) -> Config:
    """A configuration for a model that is already saved."""
    unset = "model.name_or_path=unset"
    cfg = compose("freeze=none", "data=csv", "data.path=unused.csv", "model=hub", unset)
    cfg.model.name_or_path = str(folder)
    cfg.data.max_length = max_length
    return cfg


def script(name: str) -> ModuleType:
    """A file of scripts/ as a module, such as `verify/simulate`."""
    path = Path(__file__).parents[2] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
