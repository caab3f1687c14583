"""The names of Hydra that are not public and used all the same; a new Hydra fails here first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from omegaconf import OmegaConf

SOURCE = Path(__file__).parents[2] / "src"
USED = {"sweep.config.launchers": {"hydra._internal.callbacks.Callbacks"}}
"""Per module, what it imports from packages or modules with an underscore in front."""


def private_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            library, *parts = name.split(".")
            if library in ("hydra", "omegaconf") and any(part.startswith("_") for part in parts):
                yield name


def test_no_other_private_name_of_hydra_is_imported() -> None:
    imported = {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts): set(private_imports(path))
        for path in SOURCE.rglob("*.py")
    }
    assert {module: names for module, names in imported.items() if names} == USED


def test_a_set_of_no_callbacks_takes_what_launchers_tell_it() -> None:
    callbacks, config = Callbacks(), OmegaConf.create()
    callbacks.on_job_start(config=config, task_function=print)
    callbacks.on_job_end(config=config, job_return=None)
    assert callbacks.callbacks == []
