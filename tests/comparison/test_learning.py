"""Runs that learnt nothing are called that, and are recommended for nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from support.config import compose
from support.runs import some_right, told, write_run, write_sweep

from sweep.comparison import compare
from sweep.comparison.results import Comparison
from sweep.config.schema import CompareConfig
from sweep.runs.record import Record
from sweep.training import loss_curve


def with_curve(record: Record, losses: list[float], every: int = 10) -> Record:
    """Give a run a curve of its training loss."""
    lines = [
        json.dumps({"step": every * (i + 1), "metrics": {"train_loss": loss}})
        for i, loss in enumerate(losses)
    ]
    (Path(record.folder) / "curves.jsonl").write_text("\n".join(lines), "utf-8")
    return record


def one_class(texts: int = 200) -> np.ndarray:
    """Right for every second text: labels alternate, and the prediction is always `a`."""
    return np.arange(texts) % 2 == 0


def sweep_with(tmp_path: Path, right: np.ndarray, seeds: int = 3) -> Comparison:
    """A good strategy, `none`, and one whose runs get these texts right, `full`."""
    good = write_sweep(tmp_path, {"none": 0.8}, seeds)
    others = [write_run(tmp_path, "full", seed, right) for seed in range(seeds)]
    return compare.compare([*good, *others])


def test_one_class_for_every_text_is_nothing_learnt(tmp_path: Path) -> None:
    comparison = sweep_with(tmp_path, one_class(1000))
    assert told(comparison.learnt_nothing.values()) == [
        "3 of 3 runs learnt nothing (predicts “a” for every text)"
    ]
    assert set(comparison.failed_to_learn) == {f"full seed={seed}" for seed in range(3)}


def test_what_is_not_above_the_majority_class_is_nothing_learnt(tmp_path: Path) -> None:
    comparison = sweep_with(tmp_path, some_right(0.45, seed=5))
    assert "is not above the majority class, 0.500" in str(comparison.learnt_nothing["full"])


def test_what_is_above_it_by_little_has_learnt(tmp_path: Path) -> None:
    assert sweep_with(tmp_path, some_right(0.55, seed=5)).learnt_nothing == {}


def test_the_metric_that_is_compared_decides(tmp_path: Path) -> None:
    """A model of rare classes may lie below the majority in accuracy, and above in macro-F1."""
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.6})
    for run in runs:
        run.metrics["test_accuracy"], run.metrics["test_f1"] = 0.4, 0.6
    assert compare.compare(runs, CompareConfig(metric="f1")).learnt_nothing == {}
    assert set(compare.compare(runs).learnt_nothing) == {"none", "full"}


@pytest.mark.parametrize(
    ("losses", "flagged"),
    [
        ([1.0, 1.1, 1.2, 1.4], True),
        ([1.0, 1.0, 1.0, 1.0], True),
        ([1.0, 1.1, 0.9, 0.8], False),
        ([1.0, 1.2, 1.3], False),
    ],
    ids=["rose", "stayed", "fell", "too few points"],
)
def test_a_training_loss_that_did_not_fall_is_nothing_learnt(
    losses: list[float], flagged: bool, tmp_path: Path
) -> None:
    runs = [with_curve(run, losses) for run in write_sweep(tmp_path, {"none": 0.8, "full": 0.7})]
    assert bool(compare.compare(runs).learnt_nothing) is flagged


def share_called_level(
    shape: Callable[[np.ndarray], np.ndarray], noise: float, points: int
) -> float:
    """Share of 200 noisy curves of a shape that are said not to have fallen."""
    random, time = np.random.default_rng(points), np.linspace(0, 1, points)
    curves = (shape(time) + noise * random.normal(size=points) for _ in range(200))
    flags = [not loss_curve.may_have_fallen(list(losses)) for losses in curves]
    return float(np.mean(flags))


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("points", [4, 8, 20, 40])
def test_a_good_run_with_noisy_logs_is_hardly_called_level(
    points: int, noise: float, tmp_path: Path
) -> None:
    def falls(time: np.ndarray) -> np.ndarray:
        return 1.1 - 0.11 * time

    assert share_called_level(falls, noise, points) <= 0.08  # 5 %, and its own noise


def test_a_level_loss_is_called_so_where_the_noise_allows(tmp_path: Path) -> None:
    assert share_called_level(np.ones_like, noise=0.02, points=20) > 0.9
    assert share_called_level(np.ones_like, noise=0.05, points=40) > 0.6


def test_it_is_not_recommended_however_cheap_it_is(tmp_path: Path) -> None:
    good = write_sweep(tmp_path, {"none": 0.8, "lora": 0.7})
    cheap = [
        write_run(tmp_path, "full", seed, one_class(1000), metrics={"train_runtime_s": 0.1})
        for seed in range(3)
    ]
    comparison = compare.compare([*good, *cheap], CompareConfig(margin=0.5))
    assert comparison.recommendation is not None
    assert comparison.recommendation.strategy != "full"
    assert told(comparison.recommendation.excluded) == [
        "full: 3 of 3 runs learnt nothing (predicts “a” for every text)"
    ]
    assert str(comparison.uses["full"]) == (
        "not as it was trained here: 3 of 3 runs learnt nothing (predicts “a” for every text)"
    )
    assert any("try more steps" in text for text in told(comparison.warnings))


def test_where_nothing_learnt_anything_nothing_is_recommended(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, name, seed, one_class())
        for name in ("none", "full")
        for seed in (0, 1, 2)
    ]
    comparison = compare.compare(runs)
    assert comparison.recommendation is None
    assert any("every strategy is ruled out" in text for text in told(comparison.warnings))


def test_one_seed_of_three_is_told_and_leaves_the_strategy_in(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.7}, seeds=2)
    runs.append(write_run(tmp_path, "full", 2, one_class(1000)))
    comparison = compare.compare(runs)
    assert comparison.learnt_nothing == {}
    assert set(comparison.failed_to_learn) == {"full seed=2"}
    assert any(
        text.startswith("full: full seed=2 learnt nothing") for text in told(comparison.warnings)
    )


@pytest.mark.parametrize("steps", [2, 9])
def test_runs_of_a_few_steps_recommend_nothing(steps: int, tmp_path: Path) -> None:
    runs = [
        with_curve(run, [1.0, 0.9], every=steps // 2 or 1)
        for run in write_sweep(tmp_path, {"none": 0.8, "full": 0.7})
    ]
    comparison = compare.compare(runs)
    assert comparison.recommendation is None
    assert (
        "no recommendation: runs of none, full took fewer than ten optimizer steps or ended within"
        " their warm-up, which says nothing about a strategy"
    ) in told(comparison.warnings)


def test_runs_that_end_within_their_warm_up_recommend_nothing(tmp_path: Path) -> None:
    runs = [
        with_curve(run, [1.0, 0.9]) for run in write_sweep(tmp_path, {"none": 0.8, "full": 0.7})
    ]
    cfg = compose("freeze=none", "optimizer.warmup_steps=20")
    for run in runs:
        OmegaConf.save(OmegaConf.structured(cfg), Path(run.folder) / "config.yaml")
    assert compare.compare(runs).recommendation is None


def test_losses_over_penalties_are_no_training_that_did_not_fall(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.6})
    for run in runs:
        with_curve(run, [1.0, 1.1, 1.2, 1.4])
    assert set(compare.compare(runs).learnt_nothing) == {"none", "full"}
    for run in runs:
        run.params["probe"] = "lbfgs"
    assert compare.compare(runs).learnt_nothing == {}
