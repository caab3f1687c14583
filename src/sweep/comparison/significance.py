"""Test whether a difference is more than chance, from scores per seed and text.

A score matrix has one row per seed and one column per text of the test set; the mean of a row is
the metric of that run. Two sources of chance are separated, as a hierarchical bootstrap over
seeds and texts does, but in closed form. Resampling three seeds cannot show how others would
differ, so where seeds matter much the bootstrap calls A better than A in one sweep of five
(scripts/verify/simulate.py); where texts matter more, it counts the noise of training twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POWER = 0.8
"""Probability that `more_seeds` asks for; the usual convention (Cohen 1988)."""
MOST_SEEDS = 50
"""A difference that needs more additional seeds than this counts as out of reach."""
MOST_TEXTS = 20
"""A difference that needs more than this many times the test texts counts as out of reach."""


@dataclass(frozen=True)
class Estimate:
    """A difference of two means, with the variance from each source of chance."""

    mean: float
    seeds: tuple[tuple[float, int], ...]
    """Per group of seeds, the variance of the mean due to them, and its degrees of freedom."""
    texts: float
    """Variance of the mean due to the choice of test texts; more seeds do not lower it."""

    @property
    def error(self) -> float:
        """Standard error."""
        return float(np.sqrt(sum(variance for variance, _ in self.seeds) + self.texts))

    def half_width(self, confidence: float) -> float:
        """Return half of the interval: the sources' quantiles weighted with their variances.

        Cochran's approximation (Biometrics 20, 1964, 191-195). Welch and Satterthwaite's covers
        less than it claims with two or three seeds, see scripts/verify/simulate.py.
        """
        return self.error * self._quantile((1 - confidence) / 2)

    def p_value(self) -> float:
        """Return the two-sided p-value: the level at which the interval touches zero."""
        from scipy.optimize import brentq

        ratio, smallest = abs(self.mean) / self.error, 1e-16
        if self._quantile(smallest) <= ratio:
            return smallest
        return float(2 * brentq(lambda tail: self._quantile(tail) - ratio, smallest, 0.5))

    def _quantile(self, tail: float) -> float:
        from scipy.special import ndtri, stdtrit

        total = sum(variance for variance, _ in self.seeds) + self.texts
        weighted = sum(variance * stdtrit(df, tail) for variance, df in self.seeds)
        return -float((weighted + self.texts * ndtri(tail)) / total)


def paired(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Estimate the mean of `a - b`, (seeds, texts) each, whose rows are of the same seeds."""
    difference = (a - b).astype(np.float64)
    return _estimate([difference], difference.mean(0))


def unpaired(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Estimate mean `a` minus mean `b`, (seeds, texts) each, whose rows are of different seeds."""
    groups = [a.astype(np.float64), b.astype(np.float64)]
    return _estimate(groups, groups[0].mean(0) - groups[1].mean(0))


def _estimate(groups: Sequence[np.ndarray], by_text: np.ndarray) -> Estimate:
    """Estimate crossed random effects: seeds within each group, texts common to all.

    The noise of training adds to the spread between texts too. It is subtracted there, because the
    spread between seeds has it already (two-way analysis of variance, one score per cell).

    Args:
        groups: Scores whose seeds vary independently, (seeds, texts) each.
        by_text: The difference per text, (texts,).
    """
    count = len(by_text)
    seeds, noise = [], 0.0
    for scores in groups:
        n = len(scores)
        if n > 1:
            rows = scores.mean(1)
            seeds.append((float(rows.var(ddof=1) / n), n - 1))
            noise += _residual(scores) / (n * count)
    between = float(by_text.var(ddof=1)) / count if count > 1 else 0.0
    # One more text on which the two differ, as in Agresti and Min (2005): agreement on all texts
    # of a small set does not prove agreement on all texts.
    texts = max(between - noise, 0.0) + 1 / count**2
    return Estimate(float(by_text.mean()), tuple(seeds), texts)


def _residual(scores: np.ndarray) -> float:
    """Return the mean square that neither the seed nor the text explains."""
    n, count = scores.shape
    if count < 2:
        return 0.0
    left = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    return float((left**2).sum() / ((n - 1) * (count - 1)))


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Return the exact two-sided p-value of McNemar's test of right and wrong answers, (texts,)."""
    from scipy.stats import binomtest

    only_a, only_b = int(((a > 0) & (b == 0)).sum()), int(((b > 0) & (a == 0)).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values after Holm's correction, which limits the chance of any false claim."""
    order = np.argsort(p_values)
    scaled = np.array(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted.tolist()


def more_seeds(estimate: Estimate, seeds: int, margin: float, level: float) -> int | None:
    """Return how many more seeds of each would show a difference, or that it is within the margin.

    A rough guess: it takes the estimated difference and spread for the true ones.

    Args:
        estimate: The difference so far.
        seeds: Number of seeds of each so far.
        margin: Margin of equivalence.
        level: Level of the test, after correction.

    Returns:
        None when a single seed gives no spread, or when more than `MOST_SEEDS` are needed.
    """
    from scipy.special import ndtr, ndtri, stdtrit
    from scipy.stats import nct

    if not estimate.seeds:
        return None
    more = np.arange(1, MOST_SEEDS + 1)
    total = seeds + more
    by_seed = sum(variance for variance, _ in estimate.seeds) * seeds / total
    variance, df = by_seed + estimate.texts, total - 1
    error = np.sqrt(variance)
    share = by_seed / variance

    def critical(tail: float) -> np.ndarray:
        return -np.asarray(share * stdtrit(df, tail) + (1 - share) * ndtri(tail))

    effective = df / np.maximum(share, 1e-3) ** 2
    gap = abs(estimate.mean)
    shown = nct.sf(critical(level / 2), effective, gap / error)
    room = margin - critical(level / 2) * error
    inside = ndtr((room - gap) / error) - ndtr((-room - gap) / error)
    enough = (shown >= POWER) | ((room > 0) & (inside >= POWER))
    return int(more[enough][0]) if enough.any() else None


def more_texts(estimate: Estimate, texts: int, margin: float, level: float) -> int | None:
    """Return how many more test texts would show what `more_seeds` could not, with enough seeds.

    More seeds do not narrow the part of an interval that is due to the texts. A rough guess, as
    `more_seeds` is: it takes the estimated difference and variances for the true ones.

    Args:
        estimate: The difference so far.
        texts: Number of test texts so far.
        margin: Margin of equivalence.
        level: Level of the test, after correction.

    Returns:
        None when the texts are enough, or more than `MOST_TEXTS` times as many are needed.
    """
    from scipy.special import ndtri

    gap = abs(estimate.mean)
    needed = float(ndtri(1 - level / 2) + ndtri(POWER))
    # To leave out 0, or to stay inside the margin, whichever asks for less.
    room = max(gap, margin - gap)
    total = texts * estimate.texts * (needed / room) ** 2
    return int(np.ceil(total)) - texts if texts < total <= MOST_TEXTS * texts else None
