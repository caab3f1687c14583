"""Names of files: spelt in one module, and those of a run's tries."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.base import layout
from sweep.base.layout import RunPaths, SweepPaths

SOURCE = Path(layout.__file__).parents[1]


def strings(path: Path) -> Iterator[str]:
    """Every string that a module spells."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


FILES = {text for text in strings(Path(layout.__file__)) if re.fullmatch(r"\w+\.\w+", text)}


def test_no_other_module_spells_the_name_of_a_file() -> None:
    assert {"record.json", "sweep.json", "predictions.csv", "alive.lock"} <= FILES
    others = [path for path in SOURCE.rglob("*.py") if path != Path(layout.__file__)]
    assert [(path.name, text) for path in others for text in strings(path) if text in FILES] == []


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("003_none", "003_none_2"),
        ("003_none_2", "003_none_3"),
        ("003_none_9", "003_none_10"),
        ("003_layer_norm", "003_layer_norm_2"),
    ],
)
def test_the_next_try_has_a_folder_with_a_number(name: str, after: str) -> None:
    assert RunPaths(Path("/sweeps/one") / name).next_try() == Path("/sweeps/one") / after


@pytest.mark.parametrize("strategy", ["none", "top_3", "12", "a_2"])
def test_folders_of_tries_are_never_the_same(strategy: str) -> None:
    names, folder = [], Path(f"/sweeps/one/003_{strategy}")
    for _ in range(12):
        names.append(folder.name)
        folder = RunPaths(folder).next_try()
    assert len(set(names)) == 12
    assert all(name.startswith("003_") for name in names)


def test_what_only_this_machine_needs_is_no_artifact(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    paths.checkpoints.mkdir()
    for path in (
        paths.record,
        paths.log,
        *(tmp_path / n for n in (".x", layout.LOCK, "store.json")),
    ):
        path.touch()
    assert paths.artifacts() == [paths.record, paths.log]


def test_records_of_a_sweep_come_in_the_order_of_its_runs(tmp_path: Path) -> None:
    sweep = SweepPaths(tmp_path)
    for index in (2, 0, 1):
        sweep.run(index, "none").mkdir()
        if index:
            RunPaths(sweep.run(index, "none")).record.touch()
    assert [path.parent.name for path in sweep.records()] == ["001_none", "002_none"]
