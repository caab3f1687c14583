"""Means, intervals and tables, against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from support.runs import some_right, write_run

from sweep.comparison import compare
from sweep.comparison import rows as grouping
from sweep.comparison.results import Comparison, Interval, Row
from sweep.config.schema import CompareConfig
from sweep.reporting import report_files
from sweep.runs.record import Record


def record(
    name: str = "none", status: str = "FINISHED", reason: str = "", **metrics: Any
) -> Record:
    """A run of the strategy that its name starts with."""
    strategy = name.split()[0]
    tags = {"sweep.trains": f"what {strategy} trains"} if status == "FINISHED" else {}
    swept = dict(word.split("=") for word in name.split() if "=" in word)
    return Record("id", name, strategy, status, reason, swept=swept, metrics=metrics, tags=tags)


def row(name: str = "none", failures: tuple[str, ...] = (), **means: float) -> Row:
    """A row of one finished run, or of none if it has no metrics."""
    metrics = {metric: Interval(mean, 1) for metric, mean in means.items()}
    return Row(
        name, name.split()[0], "head" if means else "", len(means and [1]), failures, metrics
    )


# Statistics.


def test_the_interval_is_students() -> None:
    found = grouping.interval([0.7, 0.8, 0.9])
    # Standard deviation 0.1; t of 2 degrees of freedom at 97.5 % is 4.3027.
    half = 4.302652729911275 * 0.1 / math.sqrt(3)
    assert (found.mean, found.n) == (pytest.approx(0.8), 3)
    assert (found.low, found.high) == (pytest.approx(0.8 - half), pytest.approx(0.8 + half))


def test_every_interval_is_at_the_level_that_is_asked() -> None:
    accuracies = (0.725, 0.75, 0.775)
    runs = [record(f"none seed={seed}", test_accuracy=a) for seed, a in enumerate(accuracies)]
    comparison = compare.compare(runs, CompareConfig(confidence=0.8))
    # Standard deviation 0.025; t of 2 degrees of freedom at 90 % is 0.8 * sqrt(2 / 0.36) = 1.8856.
    half = 1.885618 * 0.025 / math.sqrt(3)
    assert half == pytest.approx(0.0272, abs=1e-4)
    for rows in (comparison.rows, comparison.chosen, compare.untested(runs, 0.8).rows):
        shown = rows[0].metrics["test_accuracy"]
        assert (shown.low, shown.high) == (pytest.approx(0.75 - half), pytest.approx(0.75 + half))
    stored = report_files.summary_metrics(comparison)
    assert stored["none/test_accuracy_ci_low"] == pytest.approx(0.75 - half)
    assert stored["none/test_accuracy_ci_high"] == pytest.approx(0.75 + half)
    assert (comparison.confidence, compare.untested(runs, 0.8).confidence) == (0.8, 0.8)


def test_two_values_stand_in_place_of_an_interval() -> None:
    # Student's t would say -4.9 to 7.9, of an accuracy too.
    two = grouping.interval([1.0, 2.0])
    assert (two.mean, two.n, two.low, two.high, two.values) == (1.5, 2, None, None, (1.0, 2.0))


def test_equal_values_have_an_interval_without_width() -> None:
    assert grouping.interval([0.5, 0.5, 0.5]) == Interval(0.5, 3, 0.5, 0.5)


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("test_accuracy", [0.90, 0.99, 0.999], 1.0),
        ("eval_f1", [0.9, 0.99, 0.999], 1.0),
        ("train_runtime_s", [1.0, 90.0, 3.0], 0.0),
        ("peak_memory_mib", [1.0, 90.0, 3.0], 0.0),
    ],
)
def test_an_interval_ends_where_the_quantity_does(
    metric: str, values: list[float], expected: float
) -> None:
    whole = grouping.interval(values)
    cut = grouping.interval(values, limits=grouping.limits_of(metric))
    assert expected in (cut.low, cut.high)
    assert expected not in (whole.low, whole.high)


def test_one_value_has_no_interval() -> None:
    assert grouping.interval([0.5]) == Interval(0.5, 1, None, None)


# Configurations.


@pytest.mark.parametrize(
    ("swept", "expected"),
    [
        ({}, "none"),
        ({"freeze": "none", "seed": "1"}, "none"),
        ({"seed": "12", "optimizer.learning_rate": "1e-4"}, "none optimizer.learning_rate=1e-4"),
        ({"data.split_seed": "1"}, "none data.split_seed=1"),
        ({"data.text_column": "a seed=1"}, "none data.text_column=a seed=1"),
    ],
)
def test_a_configuration_is_what_was_swept_without_the_seed(
    swept: dict[str, str], expected: str
) -> None:
    run = Record("id", "any name", "none", "FINISHED", swept=swept)
    assert grouping.configuration(run) == expected


def test_replicates_are_averaged_and_configurations_keep_their_order() -> None:
    rows = grouping.table(
        [
            record("none seed=0", test_accuracy=0.6, eval_loss=1.0),
            record("full seed=0", test_accuracy=0.5, eval_loss=2.0),
            record("none seed=1", test_accuracy=0.8, eval_loss=3.0),
            record("full seed=1", test_accuracy=0.4, eval_loss=4.0),
        ]
    )
    means = {(r.name, m): r.metrics[m].mean for r in rows for m in ("test_accuracy", "eval_loss")}
    assert [r.name for r in rows] == ["none", "full"]
    assert [r.finished for r in rows] == [2, 2]
    assert means == {
        ("none", "test_accuracy"): pytest.approx(0.7),
        ("none", "eval_loss"): pytest.approx(2.0),
        ("full", "test_accuracy"): pytest.approx(0.45),
        ("full", "eval_loss"): pytest.approx(3.0),
    }


def test_what_was_swept_beside_the_seed_makes_configurations() -> None:
    names = [f"none seed={s} optimizer.learning_rate={r}" for s in (0, 1) for r in ("1e-4", "2e-5")]
    rows = grouping.table([record(name, eval_loss=1.0) for name in names])
    assert [(r.name, r.finished) for r in rows] == [
        ("none optimizer.learning_rate=1e-4", 2),
        ("none optimizer.learning_rate=2e-5", 2),
    ]


def test_a_failed_replicate_is_left_out_of_the_mean_and_named() -> None:
    (found,) = grouping.table(
        [
            record("none seed=0", eval_loss=1.0),
            record("none seed=1", "FAILED", "DivergedError: step 2", eval_loss=900.0),
            record("none seed=2", eval_loss=2.0),
        ]
    )
    assert (found.metrics["eval_loss"].mean, found.metrics["eval_loss"].n) == (1.5, 2)
    assert found.finished == 2
    assert found.failures == ("none seed=1: FAILED: DivergedError: step 2",)
    assert found.trains == "what none trains"


def test_a_metric_that_a_replicate_lacks_is_averaged_over_the_others() -> None:
    (found,) = grouping.table(
        [record("none seed=0", eval_loss=1.0, test_f1=0.5), record("none seed=1", eval_loss=2.0)]
    )
    assert (found.metrics["test_f1"], found.metrics["eval_loss"].n) == (Interval(0.5, 1), 2)


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_strategy_of_which_no_run_finished_is_a_row_without_numbers(status: str) -> None:
    rows = grouping.table([record("none", status, "reason"), record("full", eval_loss=1.0)])
    assert rows[0] == Row("none", "none", "", 0, (f"none: {status}: reason",), {})


def test_no_runs_make_no_rows() -> None:
    assert grouping.table([]) == []


# The best.


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("test_accuracy", {"b"}),
        ("test_loss", {"a"}),
        ("train_samples_per_second", {"b"}),
        ("train_runtime_s", {"a"}),
        ("peak_memory_mib", {"a"}),
    ],
)
def test_the_best_is_the_highest_or_the_lowest(metric: str, expected: set[str]) -> None:
    assert grouping.best([row("a", **{metric: 1.0}), row("b", **{metric: 2.0})], metric) == expected


def test_equal_means_share_the_mark() -> None:
    rows = [row("a", test_f1=0.5), row("b", test_f1=0.5), row("c", test_f1=0.4)]
    assert grouping.best(rows, "test_f1") == {"a", "b"}


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([row("a", test_f1=0.5)], id="alone"),
        pytest.param([row("a", test_f1=0.5), row("b", ("b: FAILED",))], id="the-other-failed"),
    ],
)
def test_nothing_is_best_where_nothing_can_be_compared(rows: list[Row]) -> None:
    assert grouping.best(rows, "test_f1") == set()


# Metrics of the summary run.


def test_the_summary_holds_means_and_intervals() -> None:
    rows = [
        Row("none", "none", "", 3, (), {"test_f1": Interval(0.5, 3, 0.4, 0.6)}),
        Row("full", "full", "", 1, (), {"test_f1": Interval(0.3, 1)}),
        Row("bias", "bias", "", 0, ("bias: FAILED: x",), {}),
    ]
    assert grouping.rollup(rows) == {
        "none/test_f1_mean": 0.5,
        "none/test_f1_ci_low": 0.4,
        "none/test_f1_ci_high": 0.6,
        "full/test_f1_mean": 0.3,
    }


def test_other_choices_stay_readable_in_the_summary() -> None:
    names = grouping.rollup([row("none optimizer.learning_rate=2e-5", test_f1=0.5)])
    assert names == {"none optimizer.learning_rate 2e-5/test_f1_mean": 0.5}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("none data.path=a/b", "none data.path=a,b", id="characters"),
        pytest.param("x" * 300 + "a", "x" * 300 + "b", id="ends"),
    ],
)
def test_configurations_never_share_a_name_in_the_summary(one: str, other: str) -> None:
    found = grouping.rollup([row(one, test_f1=0.1), row(other, test_f1=0.2)])
    assert sorted(found.values()) == [0.1, 0.2]
    assert max(map(len, found)) <= 250


# Several models and data.


@pytest.fixture
def groups(tmp_path: Path) -> Comparison:
    """`full` is worse than `none` on one model and better on the other, each with its own data."""
    shares = {("x", "none"): 0.9, ("x", "full"): 0.6, ("y", "none"): 0.5, ("y", "full"): 0.8}
    return compare.compare(
        [
            write_run(
                tmp_path,
                strategy,
                seed,
                some_right(share, seed=seed),
                swept={"model": model, "data": f"of_{model}"},
                tags={"sweep.data_fingerprint": model},
            )
            for (model, strategy), share in shares.items()
            for seed in range(3)
        ]
    )


def test_every_group_has_its_own_recommendation(groups: Comparison) -> None:
    found = {group: choice.strategy for group, choice in groups.recommendations.items()}
    assert found == {"model=x data=of_x": "none", "model=y data=of_y": "full"}
    assert groups.recommendation is None


def test_strategies_are_judged_within_their_group(groups: Comparison) -> None:
    found = [(d.a, d.b, d.verdict) for d in groups.differences if d.metric == groups.metric]
    assert found == [
        ("none model=x data=of_x", "full model=x data=of_x", "better"),
        ("none model=y data=of_y", "full model=y data=of_y", "worse"),
    ]


def test_no_mean_goes_over_two_groups(groups: Comparison) -> None:
    means = {row.label: round(row.metrics["test_accuracy"].mean, 1) for row in groups.rows}
    assert list(means.values()) == [0.9, 0.6, 0.5, 0.8]
    assert {row.finished for row in groups.rows} == {3}


def test_other_data_of_another_group_is_no_unfairness(groups: Comparison) -> None:
    keys = [remark.key for remark in groups.warnings]  # type: ignore[union-attr]
    # `none` at 0.5 of two balanced classes is not above the majority class.
    assert keys == ["warning.groups", "warning.learnt_nothing"]


def test_reasons_and_uses_are_given_per_group(groups: Comparison) -> None:
    labels = [row.label for row in groups.rows]
    assert list(groups.reasons) == labels
    assert set(groups.uses) == set(labels)
    best = {label for label, use in groups.uses.items() if "quality" in str(use)}
    assert best == {"none model=x data=of_x", "full model=y data=of_y"}


def test_each_group_is_tuned_on_its_own(tmp_path: Path) -> None:
    losses = {("x", "1"): 0.2, ("x", "2"): 0.4, ("y", "1"): 0.4, ("y", "2"): 0.2}
    runs = [
        write_run(
            tmp_path,
            "none",
            seed,
            swept={"model": model, "optimizer.learning_rate": rate},
            metrics={"eval_loss": loss},
        )
        for (model, rate), loss in losses.items()
        for seed in range(2)
    ]
    found = compare.compare(runs)
    assert [row.name for row in found.chosen] == [
        "none model=x optimizer.learning_rate=1",
        "none model=y optimizer.learning_rate=2",
    ]
    assert found.budgets == {"none model=x": 2, "none model=y": 2}


def test_a_longer_limit_on_texts_makes_no_group(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, "none", seed, swept={"data.max_length": length})
        for length in ("32", "64")
        for seed in range(2)
    ]
    found = compare.compare(runs)
    assert {row.group for row in found.rows} == {""}
    assert len(found.chosen) == 1
