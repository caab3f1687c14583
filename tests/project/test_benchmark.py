"""What scripts/measure/benchmark.py makes of its measurements, which are made up here."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.config import script


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return script("measure/benchmark")


def bench(module: ModuleType, out: Path, repeats: int = 2) -> Any:
    return module.Bench(
        out, texts=8, epochs=1.0, repeats=repeats, data=out, model=out, world="here"
    )


def result(name: str, repeat: int, **values: float) -> dict[str, Any]:
    return {"key": [name, repeat, 8, 1.0, "here"], "name": name, **values}


def test_a_ratio_pairs_the_two_sides_of_each_repeat(benchmark: ModuleType) -> None:
    results = [
        result("notebook none", 0, train_s=30.0),
        result("sweep none", 0, train_s=10.0),
        result("notebook none", 1, train_s=80.0),
        result("sweep none", 1, train_s=20.0),
        result("notebook none", 2, train_s=90.0),  # its other side has not been measured yet
    ]
    assert benchmark.ratios(results, "none, training alone") == [3.0, 4.0]


def test_nine_notebook_runs_are_nine_times_one(benchmark: ModuleType) -> None:
    results = [result("notebook full", 0, wall_s=10.0), result("sweep nine", 0, wall_s=45.0)]
    assert benchmark.ratios(results, "nine runs of full") == [2.0]


def test_what_is_no_ratio_is_worked_out_per_repeat(benchmark: ModuleType) -> None:
    results = [
        result("peak", 0, flop_per_s=400.0),
        result("sweep none", 0, flops=1000.0, train_s=10.0),
        result("sweep full", 0, wall_s=20.0),
        result("sweep nine", 0, wall_s=40.0, train_later_s=0.5),
    ]
    others = benchmark.others(results)
    assert others == {
        "overhead per run beyond the first, s": [2.0],
        "from typing to the first step, tokens cached, s": [],
        "achieved over measured bf16 matrix product, none": [0.25],
    }


def test_the_summary_shows_medians_with_their_spread(benchmark: ModuleType, tmp_path: Path) -> None:
    results = []
    for repeat, (theirs, ours) in enumerate([(30.0, 10.0), (80.0, 20.0), (50.0, 10.0)]):
        results.append(result("notebook none", repeat, train_s=theirs, accuracy=0.5))
        results.append(result("sweep none", repeat, train_s=ours, accuracy=0.6))
    benchmark.write_summary(bench(benchmark, tmp_path), results)
    text = (tmp_path / "summary.md").read_text("utf-8")
    assert "| none, training alone | 4.0 | 3.0 | 5.0 | 3 | 3.3 | 4.5 |" in text
    assert "| notebook none train_s | 50 | 30 | 80 | 3 |" in text
    content = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert content["medians"]["sweep none accuracy"]["median"] == 0.6


def test_what_is_stored_is_not_measured_again(benchmark: ModuleType, tmp_path: Path) -> None:
    calls: list[tuple[str, int]] = []

    def measure(name: str) -> Any:
        return lambda _, repeat: calls.append((name, repeat)) or {"wall_s": 1.0}

    measures = {"one": measure("one"), "other": measure("other")}
    benchmark.run(bench(benchmark, tmp_path, repeats=1), measures)
    benchmark.run(bench(benchmark, tmp_path, repeats=2), measures)
    assert calls == [("one", 0), ("other", 0), ("one", 1), ("other", 1)]


def test_what_another_commit_or_machine_measured_is_measured_again(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    calls: list[int] = []
    measures = {"one": lambda _, repeat: calls.append(repeat) or {"wall_s": 1.0}}
    for world in ("here", "there", "here"):
        own = benchmark.Bench(tmp_path, 8, 1.0, 1, tmp_path, tmp_path, world)
        benchmark.run(own, measures)
    assert calls == [0, 0]


@pytest.mark.parametrize("fails", [True, False])
def test_a_measurement_that_failed_shows_in_the_exit_status(
    fails: bool, benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object) -> dict[str, float]:
        if fails:
            raise RuntimeError("no such model")
        return {"wall_s": 1.0}

    monkeypatch.setattr(benchmark, "MEASURES", {"one": measure})
    monkeypatch.setattr(benchmark, "prepare", lambda _: bench(benchmark, tmp_path))
    monkeypatch.setattr("sys.argv", ["benchmark.py"])
    assert benchmark.main() == int(fails)


def test_a_measurement_that_fails_leaves_the_others(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> dict[str, float]:
        raise RuntimeError("no such model")

    measures = {"broken": fail, "whole": lambda *_: {"wall_s": 1.0}}
    measured = benchmark.run(bench(benchmark, tmp_path, repeats=1), measures)
    assert [result["name"] for result in measured] == ["whole"]
    assert "broken, repeat 1 of 1: failed: no such model" in capsys.readouterr().out


def test_an_unknown_name_is_answered_with_the_known_ones(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark.py", "--only", "nothing"])
    assert benchmark.main() == 2
    assert "--only nothing names nothing that is measured: peak, notebook none" in (
        capsys.readouterr().err
    )
