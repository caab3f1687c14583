"""Baselines are candidates of the rule: where none is beaten, that comes first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.runs import some_right, write_sweep

from sweep.comparison import compare, verdict
from sweep.comparison.results import Baseline, Comparison
from sweep.reporting import recommendation_file

LABELS = np.array(["a", "b"] * 500)


def baseline(share: float, name: str = "TF-IDF", texts: int = 1000) -> Baseline:
    """A baseline that gets this share of the texts right."""
    labels = LABELS[:texts]
    right = some_right(share, texts, seed=77)
    predictions = np.where(right, labels, np.where(labels == "a", "b", "a"))
    accuracy = float(np.mean(right))
    metrics = {"test_accuracy": accuracy, "test_f1": accuracy, "runtime_s": 3.0}
    return Baseline(name, metrics, tuple(predictions))


def judged(
    tmp_path: Path, shares: dict[str, float], *baselines: Baseline, seeds: int = 3
) -> Comparison:
    return compare.compare(write_sweep(tmp_path, shares, seeds), None, baselines)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("share", [0.8, 0.9], ids=["as good", "better"])
def test_a_baseline_that_is_not_beaten_comes_first(
    seeds: int, share: float, tmp_path: Path
) -> None:
    comparison = judged(tmp_path, {"none": 0.8, "full": 0.7}, baseline(share), seeds=seeds)
    first = verdict.text(comparison).splitlines()[0]
    assert first.startswith(
        "“none”, the best of these strategies, is not shown to beat TF-IDF, which"
    )
    assert " in 3 s without fine-tuning (difference " in first
    assert comparison.recommendation is not None
    assert str(comparison.recommendation.unbeaten) == first
    assert json.loads(recommendation_file.to_json(comparison))["verdict"] == [first]


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_baseline_that_is_beaten_is_not_mentioned(seeds: int, tmp_path: Path) -> None:
    comparison = judged(tmp_path, {"none": 0.8, "full": 0.7}, baseline(0.6), seeds=seeds)
    assert comparison.unbeaten == {}
    assert "TF-IDF" not in verdict.text(comparison)
    (test,) = comparison.against_baselines.values()
    assert test.is_beaten
    assert test.strategy == "none"
    assert test.low < test.estimate < test.high
    assert test.estimate == pytest.approx(0.2, abs=0.03)


def test_the_best_baseline_counts(tmp_path: Path) -> None:
    majority, words = baseline(0.5, "majority class"), baseline(0.85)
    comparison = judged(tmp_path, {"none": 0.8, "full": 0.7}, majority, words)
    assert comparison.against_baselines[""].baseline.name == "TF-IDF"


@pytest.mark.parametrize(
    "other",
    [
        baseline(0.9, texts=900),
        Baseline("order", {"test_accuracy": 0.9}, tuple(LABELS[::-1])),
        Baseline("none", {"test_accuracy": 0.9}),
    ],
    ids=["other number", "other order", "no predictions"],
)
def test_a_baseline_of_other_texts_is_not_compared(other: Baseline, tmp_path: Path) -> None:
    comparison = judged(tmp_path, {"none": 0.8, "full": 0.7}, other)
    assert comparison.against_baselines == {}


def test_a_clear_winner_needs_a_runner_up_that_is_worse(tmp_path: Path) -> None:
    close = judged(tmp_path / "close", {"none": 0.8, "full": 0.795}, seeds=2)
    assert verdict.text(close).splitlines()[0].startswith("no clear winner: ")
    clear = judged(tmp_path / "clear", {"none": 0.8, "full": 0.5})
    assert verdict.text(clear).startswith("recommended: none.")
