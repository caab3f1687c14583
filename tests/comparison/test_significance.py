"""The arithmetic of a verdict against scipy, statsmodels 0.15 and sweeps with a known truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score
from support.config import script

from sweep.comparison import per_text_scores, significance
from sweep.comparison.significance import Estimate

VALUES = [0.02, 0.013, 0.031, 0.005]


def by_seed(values: list[float]) -> Estimate:
    """A mean of differences per seed, on so many texts that they add no chance."""
    return Estimate(float(np.mean(values)), ((float(np.var(values, ddof=1)) / 4, 3),), 0.0)


@pytest.fixture(scope="module")
def simulate() -> Any:
    return script("verify/simulate")


# Shared cases.


def test_seeds_alone_give_the_t_test() -> None:
    expected = stats.ttest_1samp(VALUES, 0)
    assert by_seed(VALUES).p_value() == pytest.approx(expected.pvalue, rel=1e-6)
    # statsmodels' DescrStatsW.ttest_mean and tconfint_mean of the same values.
    assert by_seed(VALUES).p_value() == pytest.approx(0.05211281332532663, rel=1e-6)
    assert by_seed(VALUES).half_width(0.95) == pytest.approx(
        0.03479559547358819 - np.mean(VALUES), rel=1e-6
    )


def test_texts_alone_give_the_z_test() -> None:
    found = Estimate(0.02, (), 0.0001)
    assert found.p_value() == pytest.approx(2 * stats.norm.sf(2), rel=1e-6)
    assert found.half_width(0.9) == pytest.approx(0.01 * stats.norm.ppf(0.95), rel=1e-6)


def test_the_p_value_is_the_level_at_which_the_interval_touches_zero() -> None:
    found = Estimate(0.02, ((0.00004, 2), (0.00002, 4)), 0.00005)
    assert found.half_width(1 - found.p_value()) == pytest.approx(0.02, rel=1e-6)


def test_a_difference_of_nothing_has_no_evidence_and_a_huge_one_has_all() -> None:
    assert Estimate(0.0, (), 1e-6).p_value() == pytest.approx(1.0)
    assert Estimate(1.0, (), 1e-6).p_value() < 1e-12


@pytest.mark.parametrize(
    ("only_a", "only_b", "expected"),
    [
        # statsmodels' mcnemar(exact=True).
        (59, 121, 4.4344492637551645e-06),
        (2, 9, 0.0654296875),
        (0, 0, 1.0),
        (1, 1, 1.0),
        (0, 6, 2 / 2**6),
    ],
)
def test_mcnemar_is_exact(only_a: int, only_b: int, expected: float) -> None:
    both = [1.0] * 5
    a = np.array([1.0] * only_a + [0.0] * only_b + both)
    b = np.array([0.0] * only_a + [1.0] * only_b + both)
    assert significance.mcnemar(a, b) == pytest.approx(expected)


def test_holm_is_that_of_statsmodels() -> None:
    # multipletests(..., method="holm")
    found = significance.holm([0.01, 0.04, 0.03, 0.005, 0.8])
    assert found == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.8])
    assert significance.holm([]) == []


@pytest.mark.parametrize(
    ("effect", "level", "needed"),
    # statsmodels' TTestPower().solve_power, rounded up.
    [(0.5, 0.05, 34), (1.0, 0.01, 16)],
)
def test_more_seeds_are_what_the_power_of_a_t_test_asks_for(
    effect: float, level: float, needed: int
) -> None:
    ten = Estimate(effect, ((1 / 10, 9),), 1e-12)
    assert significance.more_seeds(ten, 10, margin=1e-6, level=level) == needed - 10


def test_seeds_that_would_show_equivalence_count_too() -> None:
    none = Estimate(0.0, ((0.0001, 2),), 1e-8)
    more = significance.more_seeds(none, 3, margin=0.01, level=0.05)
    assert more is not None
    assert 5 < more < 40


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(Estimate(0.001, ((0.01, 2),), 0.0), id="far-too-noisy"),
        pytest.param(Estimate(0.02, ((1e-8, 2),), 0.01), id="too-few-texts"),
        pytest.param(Estimate(0.02, (), 0.0001), id="one-seed"),
    ],
)
def test_what_is_out_of_reach_has_no_number_of_seeds(found: Estimate) -> None:
    assert significance.more_seeds(found, 3, margin=0.01, level=0.05) is None


# Variances.


def test_the_variances_are_those_of_the_two_way_analysis() -> None:
    a = np.array([[1.0, 1, 0, 1], [1, 0, 0, 1]])
    b = np.array([[0.0, 1, 0, 0], [1, 1, 0, 0]])
    # Differences [[1, 0, 0, 1], [0, -1, 0, 1]]: seeds 0.5 and 0; texts 0.5, -0.5, 0, 1;
    # mean square between seeds 0.5, between texts 5/6 = 2.5/3, residual 0.5/3.
    found = significance.paired(a, b)
    assert found.mean == 0.25
    assert found.seeds == ((pytest.approx(0.125 / 2), 1),)
    by_text = np.var([0.5, -0.5, 0, 1], ddof=1) / 4
    assert found.texts == pytest.approx(by_text - (0.5 / 3) / 8 + 1 / 16)


def test_different_seeds_have_a_variance_each() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((n, 50)) for n in (3, 5))
    found = significance.unpaired(a, b)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    expected = [(a.mean(1).var(ddof=1) / 3, 2), (b.mean(1).var(ddof=1) / 5, 4)]
    assert list(found.seeds) == [(pytest.approx(v), df) for v, df in expected]


def test_many_seeds_and_texts_give_the_error_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    seeds, texts = 40, 400
    shift, strength = 0.02 * rng.normal(size=(seeds, 1)), 0.3 * rng.normal(size=texts)
    a = (shift + strength + 0.3 * rng.normal(size=(seeds, texts)) > -0.2).astype(float)
    b = (0.3 * rng.normal(size=(seeds, texts)) > -0.1).astype(float)
    weights = rng.multinomial(seeds, [1 / seeds] * seeds, 3000) / seeds
    by_text = rng.multinomial(texts, [1 / texts] * texts, 3000) / texts
    resampled = ((weights @ (a - b)) * by_text).sum(1)
    assert significance.paired(a, b).error == pytest.approx(resampled.std(), rel=0.1)


def test_texts_on_which_all_agree_are_no_proof_for_other_texts() -> None:
    few, many = (np.ones((3, texts)) for texts in (10, 2000))
    assert significance.paired(few, few).half_width(0.95) > 0.1
    assert significance.paired(many, many).half_width(0.95) < 0.01


# Macro-F1.


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_f1_scores_average_to_the_macro_f1_of_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels, predictions = rng.integers(0, classes, (2, 300))
    predictions[:150] = labels[:150]
    found = per_text_scores.macro_f1_scores(labels, predictions).mean()
    assert found == pytest.approx(f1_score(labels, predictions, average="macro"))


def test_a_class_that_is_never_predicted_counts_as_0() -> None:
    labels, predictions = np.array([0, 0, 1, 2]), np.array([0, 0, 0, 0])
    expected = f1_score(labels, predictions, average="macro", zero_division=0)
    assert per_text_scores.macro_f1_scores(labels, predictions).mean() == pytest.approx(expected)


def test_f1_scores_vary_as_macro_f1_does_when_texts_are_drawn_again() -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice(4, 600, p=[0.5, 0.3, 0.15, 0.05])
    predictions = np.where(rng.random(600) < 0.7, labels, rng.integers(0, 4, 600))
    drawn = [rng.integers(0, 600, 600) for _ in range(400)]
    resampled = [f1_score(labels[i], predictions[i], average="macro") for i in drawn]
    scores = per_text_scores.macro_f1_scores(labels, predictions)
    assert scores.std() / np.sqrt(600) == pytest.approx(np.std(resampled), rel=0.15)


# Sweeps with a known truth; scripts/verify/simulate.py has a thousand of each.

SWEEPS = 150


def at_most(share: float, of: int) -> int:
    """Hits that a true share exceeds once in a million."""
    return int(stats.binom.isf(1e-6, of, share))


@pytest.mark.parametrize("seeds", [1, 3, 5, 10])
def test_a_against_a_is_seldom_called_a_difference(simulate: Any, seeds: int) -> None:
    for count in simulate.false_calls(SWEEPS, seeds).values():
        assert count.of == SWEEPS
        assert count.hits <= at_most(0.05, SWEEPS)


def test_without_seeds_too_many_differences_would_be_called(simulate: Any) -> None:
    found = simulate.false_calls_of_mcnemar(SWEEPS)
    assert found.hits / found.of > 0.08


@pytest.mark.parametrize("seeds", [3, 10])
def test_intervals_cover_the_true_difference(simulate: Any, seeds: int) -> None:
    world = simulate.World(strengths=0.7)
    for count in simulate.coverage(SWEEPS, seeds, world, 0.02).values():
        assert count.of - count.hits <= at_most(0.07, SWEEPS)
        assert count.hits < count.of


def test_a_gap_of_two_points_is_found_as_often_as_theory_says(simulate: Any) -> None:
    count, expected = simulate.power(SWEEPS, 5)
    assert 0.5 < expected < 0.9
    assert abs(count.hits / count.of - expected) < 0.2


def test_the_best_of_eight_by_validation_is_no_better_on_test(simulate: Any) -> None:
    called, gap, cheating = simulate.false_calls_after_tuning(SWEEPS)
    assert called.hits <= at_most(0.05, SWEEPS)
    assert abs(gap) < 0.25  # five standard errors
    assert cheating > 0.4


def test_texts_that_are_missing_narrow_the_interval_to_what_is_asked_for() -> None:
    level, gap = 0.05, 0.02
    found = Estimate(gap, ((1e-9, 2),), 0.01**2)
    assert significance.more_seeds(found, 3, margin=0.001, level=level) is None
    more = significance.more_texts(found, 1_000, margin=0.001, level=level)
    assert more is not None
    # With them, a difference that is truly so large is found in four of five sweeps.
    error = 0.01 * (1_000 / (1_000 + more)) ** 0.5
    drawn = np.random.default_rng(0).normal(gap, error, 20_000)
    assert (np.abs(drawn) > 1.96 * error).mean() == pytest.approx(significance.POWER, abs=0.01)


def test_texts_are_not_asked_for_where_they_are_enough_or_would_never_do() -> None:
    for texts in (1e-8, 0.1):
        found = Estimate(0.02, ((1e-9, 2),), texts)
        assert significance.more_texts(found, 1_000, margin=0.001, level=0.05) is None
