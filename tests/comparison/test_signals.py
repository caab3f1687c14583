"""Signs that a strategy could do better: each where it is, none where it is not."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.runs import some_right, told, write_run, write_sweep

from sweep.base import words
from sweep.base.words import Remark
from sweep.commands import conclude
from sweep.comparison import compare
from sweep.comparison.results import Baseline, Comparison
from sweep.config.schema import CompareConfig
from sweep.reporting import recommendation_file, sentences, tables

TF_IDF = Remark("baseline.words", {"strength": "1"})
SEEDS = 3


def sweep(root: Path, shares: dict[str, float], losses: dict[str, tuple[float, float]]) -> list:
    """Runs whose last training loss and validation loss are these."""
    return [
        write_run(
            root,
            name,
            seed,
            some_right(share, seed=seed + 10 * index),
            metrics=dict(zip(("train_loss", "eval_loss"), losses.get(name, ()), strict=False)),
        )
        for index, (name, share) in enumerate(shares.items())
        for seed in range(SEEDS)
    ]


def cautions(comparison: Comparison) -> list[str]:
    return told(sentences.cautions(comparison))


def test_without_a_sign_there_is_no_caution(tmp_path: Path) -> None:
    losses = {"none": (0.4, 0.5), "full": (0.6, 0.61)}
    comparison = compare.compare(sweep(tmp_path, {"none": 0.8, "full": 0.7}, losses))
    assert comparison.signals == {}


def test_a_training_loss_not_below_the_validation_loss_asks_for_steps(tmp_path: Path) -> None:
    losses = {"none": (0.4, 0.5), "full": (0.7, 0.6)}
    comparison = compare.compare(sweep(tmp_path, {"none": 0.8, "full": 0.7}, losses))
    assert cautions(comparison) == [
        "full: the training loss ended at 0.700, not below the validation loss, 0.600, so more"
        " steps may help (trainer.num_train_epochs)"
    ]


def test_a_solved_head_needs_no_steps(tmp_path: Path) -> None:
    solved = {"metrics": {"train_loss": 0.7, "eval_loss": 0.6}, "params": {"probe": "lbfgs"}}
    comparison = compare.compare(write_sweep(tmp_path, {"full": 0.7}, **solved))
    assert comparison.signals == {}


@pytest.mark.parametrize(
    "setting", ["trainer.class_weight=balanced", "trainer.label_smoothing_factor=0.1"]
)
def test_losses_of_two_kinds_are_not_compared(setting: str, tmp_path: Path) -> None:
    from omegaconf import OmegaConf
    from support.config import compose

    runs = sweep(tmp_path, {"none": 0.7}, {"none": (0.7, 0.6)})
    for run in runs:
        cfg = OmegaConf.structured(compose("freeze=none", setting))
        OmegaConf.save(cfg, Path(run.folder) / "config.yaml")
    assert compare.compare(runs).signals == {}


@pytest.mark.parametrize(("of_baseline", "flagged"), [(0.6, []), (0.75, ["full"])])
def test_tf_idf_on_validation_is_to_be_beaten(
    of_baseline: float, flagged: list[str], tmp_path: Path
) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.7})
    baselines = [
        Baseline(TF_IDF, {"eval_accuracy": of_baseline}),
        Baseline(Remark("baseline.majority"), {"eval_accuracy": 0.99}),
    ]
    comparison = compare.compare(runs, None, baselines)
    assert list(comparison.signals) == flagged
    assert all(
        f"on validation is not above TF-IDF, {of_baseline:.3f}" in text
        for text in cautions(comparison)
    )


def test_seeds_far_apart_are_told(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8})
    runs += [
        write_run(tmp_path, "full", seed, some_right(share, seed=seed))
        for seed, share in enumerate((0.8, 0.6, 0.79))
    ]
    comparison = compare.compare(runs)
    (caution,) = cautions(comparison)
    assert caution.startswith("full: its seeds are ")
    assert "so some may have collapsed" in caution


@pytest.mark.parametrize("texts", [50, 200, 1000])
def test_seeds_that_differ_by_chance_are_not_called_far_apart(texts: int, tmp_path: Path) -> None:
    """All texts are drawn anew for each seed, which is more noise than runs of a sweep have."""
    rng = np.random.default_rng(texts)
    rows = []
    for trial in range(40):
        runs = [
            write_run(tmp_path / f"{trial}", "none", seed, rng.random(texts) < 0.7)
            for seed in range(3)
        ]
        rows += [trial for _ in compare.compare(runs).signals]
    assert rows == []


@pytest.mark.parametrize(
    ("losses", "sign"),
    [
        ((0.9, 0.6, 0.5), "0.01, is the highest of 3, so a higher one"),
        ((0.5, 0.6, 0.9), "0.0001, is the lowest of 3, so a lower one"),
        ((0.9, 0.5, 0.6), None),
    ],
)
def test_a_rate_at_the_edge_of_those_tried_is_told(
    losses: tuple[float, ...], sign: str | None, tmp_path: Path
) -> None:
    runs = [
        write_run(
            tmp_path,
            "none",
            seed,
            some_right(0.7, seed=seed),
            swept={"optimizer.learning_rate": rate},
            params={"learning_rate": float(rate)},
            metrics={"eval_loss": loss},
        )
        for rate, loss in zip(("1e-4", "1e-3", "1e-2"), losses, strict=True)
        for seed in range(SEEDS)
    ]
    found = cautions(compare.compare(runs))
    assert len(found) == (sign is not None)
    assert sign is None or sign in found[0]


def test_a_flag_stands_beside_the_word_worse_wherever_it_is_said(tmp_path: Path) -> None:
    losses = {"none": (0.4, 0.5), "full": (0.7, 0.6)}
    comparison = compare.compare(sweep(tmp_path, {"none": 0.8, "full": 0.6}, losses))
    assert [d.verdict for d in comparison.differences if d.metric == "test_accuracy"] == ["better"]
    english = words.load("en")
    assert any("better (full: more steps?)" in s for s in sentences.verdict(comparison, english))
    assert "worse (more steps?)" in tables.markdown(comparison).replace("\\", "")
    stored = json.loads(recommendation_file.to_json(comparison))
    assert [each["flags"] for each in stored["strategies"]] == [[], ["more steps?"]]
    assert list(stored["signals"]) == ["full"]


def test_what_learnt_nothing_is_flagged_as_that_alone(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8})
    always_a = np.arange(1000) % 2 == 0
    metrics = {"train_loss": 0.7, "eval_loss": 0.6}
    runs += [write_run(tmp_path, "full", seed, always_a, metrics=metrics) for seed in range(3)]
    comparison = compare.compare(runs)
    assert comparison.signals == {}
    assert sentences.flags(comparison, "full", words.load("en")) == ["learnt nothing"]


def test_three_cautions_are_printed_and_the_others_counted(tmp_path: Path) -> None:
    shares = {name: 0.7 for name in ("none", "full", "lora", "attention", "bias")}
    losses = {name: (0.7, 0.6) for name in shares}
    comparison = compare.compare(sweep(tmp_path, shares, losses), CompareConfig())
    console = Console(width=400, record=True, file=io.StringIO())
    conclude.print_verdict(console, comparison)
    lines = [x for x in console.export_text().splitlines() if x.startswith("caution: ")]
    assert len(lines) == 4
    assert lines[-1] == "caution: 2 more in the report"


def test_each_strategys_strongest_sign_comes_first(tmp_path: Path) -> None:
    losses = {"none": (0.7, 0.6), "full": (0.7, 0.6)}
    runs = sweep(tmp_path, {"none": 0.72, "full": 0.7}, losses)
    comparison = compare.compare(runs, None, [Baseline(TF_IDF, {"eval_accuracy": 0.9})])
    assert [text.split(":")[0] for text in cautions(comparison)] == ["none", "full"] * 2
    assert ["TF-IDF" in text for text in cautions(comparison)] == [True, True, False, False]
