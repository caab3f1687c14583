"""Which module may import what: the flow has one direction, each outside library its owners."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "sweep"
MODULES = {path.stem: path for path in sorted(SOURCE.glob("*.py")) if path.stem != "__init__"}
ORDER = (
    "server",
    "words",
    "config",
    "cache",
    "strategy",
    "checks",
    "overrides",
    "reference",
    "launching",
    "compose",
    "disk",
    "table",
    "split",
    "data",
    "folder",
    "adapters",
    "model",
    "tokens",
    "batches",
    "patterns",
    "freeze",
    "saving",
    "stages",
    "metrics",
    "environment",
    "plots",
    "proof",
    "cost",
    "device",
    "kernels",
    "cut",
    "frozen",
    "worth",
    "features",
    "track",
    "opening",
    "queue",
    "outbox",
    "claims",
    "record",
    "stored",
    "facts",
    "checkpoint",
    "stopping",
    "keeper",
    "order",
    "trainer",
    "train",
    "outputs",
    "run",
    "estimate",
    "ledger",
    "faults",
    "presence",
    "worker",
    "processes",
    "progress",
    "retries",
    "execute",
    "prepare",
    "results",
    "inference",
    "predictions",
    "fairness",
    "pairs",
    "recommend",
    "reasons",
    "baselines",
    "comparison",
    "records",
    "launcher",
    "verdict",
    "findings",
    "svg",
    "layermap",
    "figures",
    "matrices",
    "sentences",
    "listing",
    "blocks",
    "sections",
    "details",
    "pages",
    "gather",
    "reporting",
    "publish",
    "session",
    "plan",
    "rebuild",
    "report",
    "api",
    "preload",
    "__main__",
)
"""Each module imports only from those above it. A new module is put where its imports allow."""
OWNERS = {
    "bitsandbytes": {"adapters"},
    "evaluate": {"metrics"},
    "huggingface_hub": {"folder"},
    "hydra": {"config", "overrides", "launching", "compose", "launcher"},
    "jinja2": {"pages"},
    "matplotlib": {"plots"},
    # track writes, opening opens, stored reads; preload loads it for the processes to come.
    "mlflow": {"track", "opening", "stored", "preload"},
    # record writes config.yaml with it
    "omegaconf": {"config", "launching", "compose", "launcher", "reference", "record"},
    "peft": {"adapters"},
    "scipy": {"comparison", "inference"},
    "sqlalchemy": {"opening", "preload"},
    "transformers.Trainer": {"trainer"},
    "transformers.TrainingArguments": {"trainer"},
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


def own_modules(source: str) -> set[str]:
    """Modules of this package among them."""
    names = (name.split(".") for name in imported_names(source))
    return {name[1] for name in names if name[0] == "sweep" and len(name) > 1}


def users(library: str) -> set[str]:
    """Modules that import a library, or a name of it."""
    return {
        module
        for module, path in MODULES.items()
        for name in imported_names(path.read_text("utf-8"))
        if f"{name}.".startswith(f"{library}.")
    }


def test_every_module_has_its_place() -> None:
    assert set(MODULES) - set(ORDER) == set()
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_those_above_it(module: str) -> None:
    above = set(ORDER[: ORDER.index(module)])
    assert own_modules(MODULES[module].read_text("utf-8")) - above == set()


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owners_alone(library: str) -> None:
    assert users(library) - OWNERS[library] == set()


@pytest.mark.parametrize("library", ["hydra", "matplotlib", "mlflow", "transformers.Trainer"])
def test_an_owner_really_imports_its_library(library: str) -> None:
    assert users(library) == OWNERS[library] & set(MODULES)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from sweep import track, data", {"track", "data"}),
        ("from sweep.track import Store", {"track"}),
        ("import sweep.track", {"track"}),
        ("def f():\n    from sweep.track import Store", {"track"}),
        ("if TYPE_CHECKING:\n    from sweep.track import Store", {"track"}),
        ("import sweeping.track", set()),
    ],
)
def test_imports_are_seen_however_they_are_written(source: str, expected: set[str]) -> None:
    assert own_modules(source) == expected


def test_mistakes_are_found_without_loading_the_heavy_libraries() -> None:
    script = "import sys, sweep.__main__, sweep.plan, sweep.prepare, sweep.processes"
    script += "; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    assert "sweep.prepare" in loaded
    assert {"torch", "transformers", "mlflow", "datasets", "evaluate"} & set(loaded) == set()
