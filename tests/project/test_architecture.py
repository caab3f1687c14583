"""Each outside library has its owners; the direction of the rooms is checked by `make lint`."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "sweep"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
    for path in sorted(SOURCE.rglob("*.py"))
}
OWNERS = {
    "bitsandbytes": {"strategies.adapters"},
    "evaluate": {"training.metrics"},
    "huggingface_hub": {"models.model_files"},
    "hydra": {
        "config.schema",
        "config.overrides",
        "config.launchers",
        "config.compose",
        "config.composed_base",
        "execution.launcher",
    },
    "jinja2": {"reporting.page"},
    "matplotlib": {"runs.confusion_plot"},
    # store writes, connect and database open, read_store reads.
    "mlflow": {"tracking.store", "tracking.connect", "tracking.database", "runs.read_store"},
    # record writes config.yaml with it
    "omegaconf": {
        "config.schema",
        "config.launchers",
        "config.compose",
        "config.composed_base",
        "config.key_reference",
        "runs.record",
        "runs.sweep_settings",
    },
    "peft": {"strategies.adapters"},
    "scipy": {"comparison.rows", "comparison.significance", "training.loss_curve"},
    "sqlalchemy": {"tracking.connect", "tracking.database", "execution.preload"},
    "transformers.Trainer": {"training.trainer"},
    "transformers.TrainingArguments": {"training.trainer"},
}
"""The only modules that may import a library, or a name of one."""


def imported_names(source: str) -> Iterator[str]:
    """Dotted names that a module imports, at the top, in functions and for type checking."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def users(library: str) -> set[str]:
    """Modules that import a library, or a name of it."""
    return {
        module
        for module, path in MODULES.items()
        for name in imported_names(path.read_text("utf-8"))
        if f"{name}.".startswith(f"{library}.")
    }


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owners_alone(library: str) -> None:
    assert users(library) - OWNERS[library] == set()


@pytest.mark.parametrize("library", ["hydra", "matplotlib", "mlflow", "transformers.Trainer"])
def test_an_owner_really_imports_its_library(library: str) -> None:
    assert users(library) == OWNERS[library] & set(MODULES)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from mlflow import track, data", {"mlflow.track", "mlflow.data"}),
        ("from mlflow.track import Store", {"mlflow.track.Store"}),
        ("import mlflow.track", {"mlflow.track"}),
        ("def f():\n    from mlflow.track import Store", {"mlflow.track.Store"}),
        ("if TYPE_CHECKING:\n    from mlflow.track import Store", {"mlflow.track.Store"}),
    ],
)
def test_imports_are_seen_however_they_are_written(source: str, expected: set[str]) -> None:
    assert set(imported_names(source)) == expected


def test_mistakes_are_found_without_loading_the_heavy_libraries() -> None:
    script = (
        "import sys, sweep.__main__, sweep.plan, sweep.commands.inputs, sweep.execution.processes"
    )
    script += "; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    assert "sweep.commands.inputs" in loaded
    assert {"torch", "transformers", "mlflow", "datasets", "evaluate"} & set(loaded) == set()
