"""Verdicts of whole sweeps, from predictions on disk to words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.runs import some_right, told, write_run, write_sweep

from sweep.comparison import compare, per_text_scores
from sweep.comparison import rows as grouping
from sweep.comparison.per_text_scores import PredictionsError
from sweep.comparison.results import Comparison, Difference
from sweep.config.schema import CompareConfig
from sweep.runs.record import Record


def only(found: Comparison, metric: str = "test_accuracy") -> Difference:
    """The only pair of a metric."""
    (difference,) = [d for d in found.differences if d.metric == metric]
    return difference


def test_a_large_difference_is_better_or_worse(tmp_path: Path) -> None:
    found = compare.compare(write_sweep(tmp_path, {"none": 0.8, "full": 0.6}))
    pair = only(found)
    assert (pair.a, pair.b, pair.verdict) == ("none", "full", "better")
    assert pair.estimate == pytest.approx(0.2, abs=0.01)
    assert 0.1 < pair.low < pair.estimate < pair.high < 0.3
    assert (pair.seeds, pair.texts, pair.more_seeds) == (3, 1000, None)
    assert pair.method == "t over seeds and texts"
    turned = compare.compare(write_sweep(tmp_path / "2", {"full": 0.6, "none": 0.8}))
    assert only(turned).verdict == "worse"
    assert only(turned).estimate == pytest.approx(-pair.estimate, abs=0.01)


def test_the_same_runs_under_two_names_are_equivalent(tmp_path: Path) -> None:
    right = some_right(0.8)
    runs = [write_run(tmp_path, name, s, right) for name in ("none", "again") for s in range(5)]
    for metric in ("test_accuracy", "test_f1"):
        pair = only(compare.compare(runs), metric)
        assert (pair.estimate, pair.verdict) == (0, "equivalent")
        assert pair.p_value == pytest.approx(1)


def test_on_ten_texts_nothing_is_equivalent(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, n, s, [True] * 10) for n in ("none", "again") for s in range(5)]
    assert only(compare.compare(runs)).verdict == "undecided"


def test_a_wider_margin_makes_more_equivalent(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "again": 0.8}, seeds=5)
    assert only(compare.compare(runs, CompareConfig(margin=0.001))).verdict == "undecided"
    assert only(compare.compare(runs, CompareConfig(margin=0.05))).verdict == "equivalent"


def test_an_undecided_pair_says_how_many_more_seeds(tmp_path: Path) -> None:
    shares = {0: 0.80, 1: 0.83, 2: 0.81}
    runs = [write_run(tmp_path, "none", s, some_right(v)) for s, v in shares.items()]
    runs += [write_run(tmp_path, "full", s, some_right(0.79)) for s in shares]
    pair = only(compare.compare(runs))
    assert pair.verdict == "undecided"
    assert pair.more_seeds is not None
    assert 1 <= pair.more_seeds <= 20


def test_a_pair_that_seeds_cannot_decide_says_how_many_texts_would(tmp_path: Path) -> None:
    # All seeds alike: what is left open is due to the few texts.
    rows = {"none": [True] * 60 + [False] * 40, "full": [True] * 57 + [False] * 43}
    runs = [write_run(tmp_path, name, s, right) for name, right in rows.items() for s in range(3)]
    pair = only(compare.compare(runs, CompareConfig(margin=0.001)))
    assert (pair.verdict, pair.more_seeds) == ("undecided", None)
    assert pair.more_texts is not None
    assert 150 < pair.more_texts < 400


def test_one_seed_decides_nothing_and_says_so(tmp_path: Path) -> None:
    found = compare.compare(write_sweep(tmp_path, {"none": 0.9, "full": 0.6}, seeds=1))
    pair = only(found)
    assert (pair.method, pair.verdict, pair.more_seeds) == ("exact McNemar", "undecided", None)
    assert pair.p_value < 1e-10
    assert only(found, "test_f1").method == "z over texts"
    assert told(found.warnings) == [
        "one seed of none, full: one seed says nothing about training noise, so nothing is called"
        " better or worse. Run seed=0,1,2 or more."
    ]


def test_p_values_are_corrected_for_the_number_of_pairs(tmp_path: Path) -> None:
    shares = {"a": 0.8, "b": 0.8, "c": 0.8, "d": 0.6}
    found = compare.compare(write_sweep(tmp_path, shares))
    pairs = [d for d in found.differences if d.metric == "test_accuracy"]
    assert len(pairs) == 6
    smallest = min(pairs, key=lambda d: d.p_value)
    assert smallest.p_adjusted == pytest.approx(6 * smallest.p_value)
    assert all(d.p_adjusted >= d.p_value for d in pairs)


def test_seeds_that_both_have_are_paired(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.6}, seeds=4)
    pair = only(compare.compare(runs[:-2]))
    assert pair.seeds == 2


def test_different_seeds_are_compared_too(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "none", s, some_right(0.8, seed=s)) for s in (0, 1, 2)]
    runs += [write_run(tmp_path, "again", s, some_right(0.6, seed=s)) for s in (5, 6, 7)]
    pair = only(compare.compare(runs))
    assert (pair.seeds, pair.verdict) == (3, "better")


# Predictions that cannot be used.


def test_a_run_without_predictions_is_left_out_and_named(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.6})
    (Path(runs[0].folder) / "predictions.csv").unlink()
    found = compare.compare(runs)
    assert only(found).seeds == 2
    assert told(found.warnings) == [
        "none seed=0 is left out of the tests: its predictions are missing (no predictions.csv in"
        " its folder)"
    ]


def test_runs_on_other_test_texts_are_never_paired(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.6}, seeds=2)
    odd = write_run(tmp_path, "bias", 0, some_right(0.7, texts=999))
    found = compare.compare([odd, *runs])
    assert {(d.a, d.b) for d in found.differences} == {("none", "full")}
    assert any("bias seed=0 is left out" in warning for warning in told(found.warnings))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("id,label\n1,a\n", "cannot be read"),
        ("id,label,prediction\n", "are empty"),
        ('id,label,prediction\n1,"a\n', "cannot be read"),
    ],
    ids=["nothing", "a-column-missing", "no-rows", "cut-short"],
)
def test_damaged_predictions_have_a_reason(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text(content)
    with pytest.raises(PredictionsError, match=message):
        per_text_scores.read(tmp_path)


def test_classes_keep_their_names_as_written(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text(
        'id,label,prediction\n0,NA,01\n1,"a,b",\U0001f600\n', "utf-8"
    )
    found = per_text_scores.read(tmp_path)
    assert list(found.labels) == ["NA", "a,b"]
    assert list(found.predictions) == ["01", "\U0001f600"]


# Choices by validation.


def tuned(tmp_path: Path, losses: dict[str, list[float]]) -> list[Record]:
    """Runs of `none` per learning rate and seed with these validation losses; one of `full`."""
    runs = [
        write_run(
            tmp_path,
            "none",
            seed,
            some_right(0.8, seed=seed),
            swept={"lr": rate},
            metrics={"eval_loss": loss},
        )
        for rate, own in losses.items()
        for seed, loss in enumerate(own)
    ]
    return runs + [write_run(tmp_path, "full", s, some_right(0.6, seed=s)) for s in range(2)]


def test_validation_chooses_and_budgets_are_told(tmp_path: Path) -> None:
    found = compare.compare(tuned(tmp_path, {"1": [0.9, 0.9], "2": [0.5, 0.7]}))
    assert [row.name for row in found.chosen] == ["none lr=2", "full"]
    assert found.budgets == {"none": 2, "full": 1}
    assert found.choice != ""
    assert [w.partition(":")[0] for w in told(found.warnings)] == [
        "two seeds of none, full",
        "tuning budgets differ",
    ]


def test_test_scores_choose_nothing(tmp_path: Path) -> None:
    runs = tuned(tmp_path, {"1": [0.9, 0.9], "2": [0.5, 0.7]})
    for run in runs:
        run.metrics["test_accuracy"] = 0.99 if "lr=1" in run.name else 0.1
        run.metrics["test_loss"] = 0.01 if "lr=1" in run.name else 9.0
    assert compare.compare(runs).chosen[0].name == "none lr=2"


def test_equal_losses_go_to_accuracy_and_then_to_the_first(tmp_path: Path) -> None:
    runs = tuned(tmp_path, {"1": [0.5, 0.5], "2": [0.5, 0.5]})
    for run in runs:
        run.metrics["eval_accuracy"] = 0.5
    assert compare.compare(runs).chosen[0].name == "none lr=1"
    for run in runs:
        run.metrics["eval_accuracy"] += "lr=2" in run.name
    assert compare.compare(runs).chosen[0].name == "none lr=2"


def test_a_configuration_that_lost_a_run_is_not_preferred(tmp_path: Path) -> None:
    runs = tuned(tmp_path, {"1": [0.9, 0.9], "2": [0.5, 0.7]})
    runs[3].status = "FAILED"
    assert compare.compare(runs).chosen[0].name == "none lr=1"


def test_a_seed_is_tested_with_what_the_other_seeds_prefer(tmp_path: Path) -> None:
    runs = tuned(tmp_path, {"1": [0.1, 0.6, 0.6], "2": [0.5, 0.5, 0.5]})
    rows = grouping.table(runs)
    (chosen, _) = grouping.choose(rows)
    picked = grouping.runs_to_test(chosen, rows)
    # Without the lucky seed 0, rate 2 has the lower loss.
    assert chosen.name == "none lr=1"
    assert [run.name for run in picked] == [
        "none seed=0 lr=2",
        "none seed=1 lr=1",
        "none seed=2 lr=1",
    ]
    assert any("without each of its seeds" in w for w in told(compare.compare(runs).warnings))


def test_a_clear_choice_tests_its_own_runs(tmp_path: Path) -> None:
    rows = grouping.table(tuned(tmp_path, {"1": [0.9, 0.9], "2": [0.5, 0.7]}))
    chosen = grouping.choose(rows)[0]
    assert grouping.runs_to_test(chosen, rows) == list(chosen.records)


# Models and data.


def test_strategies_of_different_models_are_never_paired(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, name, seed, some_right(0.8), swept={"model": model})
        for model in ("x", "y")
        for name in ("none", "full")
        for seed in range(2)
    ]
    found = compare.compare(runs)
    assert {(d.a, d.b) for d in found.differences} == {
        ("none model=x", "full model=x"),
        ("none model=y", "full model=y"),
    }
    assert found.recommendation is None
    assert set(found.recommendations) == {"model=x", "model=y"}
    assert "strategies are compared within each of model=x; model=y, and never across" in (
        told(found.warnings)
    )


def test_a_repeated_run_is_no_replicate(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.6}, seeds=2)
    found = compare.compare([*runs, *runs])
    assert [row.finished for row in found.rows] == [2, 2]
    assert "4 runs repeat others exactly, so each counts once" in told(found.warnings)


# Sweeps with little in them.


@pytest.mark.parametrize("runs", [0, 1])
def test_nothing_to_compare_is_said(runs: int, tmp_path: Path) -> None:
    found = compare.compare(write_sweep(tmp_path, {"none": 0.8}, seeds=1)[:runs])
    assert found.differences == []
    assert found.recommendation is None
    assert len(found.chosen) == runs


def test_no_finished_run_is_a_comparison_without_numbers(tmp_path: Path) -> None:
    found = compare.compare(
        write_sweep(tmp_path, {"none": 0.8, "full": 0.7}, status="FAILED", reason="out of memory")
    )
    assert (found.chosen, found.recommendation) == ([], None)
    assert "no run of none finished, so it is not compared" in told(found.warnings)
    assert found.rows[0].failures[0] == "none seed=0: FAILED: out of memory"


def test_a_strategy_whose_runs_all_failed_is_left_out_and_named(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.7, "bias": 0.7})
    for run in runs[-3:]:
        run.status = "FAILED"
    found = compare.compare(runs)
    assert [row.label for row in found.chosen] == ["none", "full"]
    assert "no run of bias finished, so it is not compared" in told(found.warnings)


def test_a_metric_that_is_not_a_number_is_left_out_of_the_means(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.7})
    runs[0].metrics["eval_loss"] = float("nan")
    runs[1].metrics["eval_loss"] = 3.0
    found = compare.compare(runs)
    assert found.rows[0].metrics["eval_loss"].mean == 2.0
    assert "none seed=0: eval_loss is not a number and is left out of the means" in told(
        found.warnings
    )


def test_without_a_test_split_validation_is_compared(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.7})
    for run in runs:
        run.metrics["eval_f1"] = run.metrics.pop("test_f1")
        del run.metrics["test_accuracy"]
    found = compare.compare(runs)
    assert (found.split, found.metric) == ("eval", "eval_accuracy")
    assert {d.metric for d in found.differences} == {"eval_accuracy", "eval_f1"}


def test_ten_strategies_on_ten_thousand_texts_make_ninety_pairs(tmp_path: Path) -> None:
    from sweep.comparison import pairwise as pairs
    from sweep.comparison import per_text_scores

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 10_000)
    scored = []
    for index in range(10):
        wrong = rng.random((5, 10_000)) < 0.2
        predicted = np.where(wrong, (labels + 1) % 6, labels)
        f1 = np.stack([per_text_scores.macro_f1_scores(labels, row) for row in predicted])
        scores = {"accuracy": per_text_scores.accuracy_scores(labels, predicted), "f1": f1}
        scored.append(pairs.Scored(str(index), tuple(range(5)), scores))
    assert len(pairs.differences(scored, "test", CompareConfig())) == 90


def shift(record: Record, rows: int, fingerprint: str) -> Record:
    """The run as if its file had more rows on top."""
    path = Path(record.folder) / "predictions.csv"
    table = pd.read_csv(path, dtype={"label": str, "prediction": str})
    table.assign(id=table["id"] + rows).to_csv(path, index=False)
    record.tags["sweep.data_fingerprint"] = fingerprint
    return record


@pytest.mark.parametrize(
    ("ones", "others", "paired"),
    [
        ((0, "data"), (3, "data"), True),
        ((0, "data"), (0, "less of its train split"), True),
        ((0, "data"), (3, "other data"), False),
    ],
    ids=["its rows have moved", "other texts to train on", "other texts to test on"],
)
def test_runs_on_the_same_texts_are_tested_together(
    ones: tuple[int, str], others: tuple[int, str], paired: bool, tmp_path: Path
) -> None:
    right = some_right(0.8)
    runs = [shift(write_run(tmp_path, "none", s, right), *ones) for s in range(2)]
    runs += [shift(write_run(tmp_path, "full", s, right), *others) for s in range(2)]
    found = compare.compare(runs)
    assert bool(found.differences) is paired
    left_out = [str(text) for text in found.warnings if "test texts are not those" in str(text)]
    assert len(left_out) == (0 if paired else 2)
