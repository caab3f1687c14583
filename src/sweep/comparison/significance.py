"""Whether a difference is more than chance: arithmetic over scores per seed and text.

A score matrix has one row per seed and one column per text of the test set; the mean of a row is
the metric of that run. Two sources of chance are told apart, as a hierarchical bootstrap over
seeds and texts does, but in closed form: resampling three seeds cannot show how others would
differ, so where seeds matter much the bootstrap calls A better than A in one sweep of five
(scripts/verify/simulate.py), and where texts matter more it counts the noise of training twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POWER = 0.8
"""What `more_seeds` takes for probable; the usual convention (Cohen 1988)."""
MOST_SEEDS = 50
"""Beyond this many more seeds a difference counts as out of reach."""


@dataclass(frozen=True)
class Estimate:
    """A difference of two means, with the variance of either source of chance."""

    mean: float
    seeds: tuple[tuple[float, int], ...]
    """Per group of seeds, the variance that they give the mean, and its degrees of freedom."""
    texts: float
    """Variance that the choice of test texts gives the mean; more seeds do not lower it."""

    @property
    def error(self) -> float:
        """Standard error."""
        return float(np.sqrt(sum(variance for variance, _ in self.seeds) + self.texts))

    def half_width(self, confidence: float) -> float:
        """Half of the interval: the quantiles of the sources, weighted with their variances.

        Cochran's approximation (Biometrics 20, 1964, 191-195). Welch's and Satterthwaite's covers
        less than it says with two or three seeds, see scripts/verify/simulate.py.
        """
        return self.error * self._quantile((1 - confidence) / 2)

    def p_value(self) -> float:
        """Two-sided: the level at which the interval touches zero."""
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
    """Mean of `a - b`, row by row of the same seed and column by column of the same text."""
    difference = (a - b).astype(np.float64)
    return _estimate([difference], difference.mean(0))


def unpaired(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Mean of `a` minus mean of `b`, whose rows are of different seeds; columns are paired."""
    groups = [a.astype(np.float64), b.astype(np.float64)]
    return _estimate(groups, groups[0].mean(0) - groups[1].mean(0))


def _estimate(groups: Sequence[np.ndarray], by_text: np.ndarray) -> Estimate:
    """Crossed random effects: seeds within each group, texts common to all.

    Of the spread between texts, what the noise of training alone makes is in the spread between
    seeds already, so it is taken out (two-way analysis of variance with one score per cell).
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
    # One text more on which the two differ, as in Agresti and Min (2005): that all texts of a
    # small set agree does not show that all texts do.
    texts = max(between - noise, 0.0) + 1 / count**2
    return Estimate(float(by_text.mean()), tuple(seeds), texts)


def _residual(scores: np.ndarray) -> float:
    """Mean square of what neither the seed nor the text explains."""
    n, count = scores.shape
    if count < 2:
        return 0.0
    left = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    return float((left**2).sum() / ((n - 1) * (count - 1)))


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p-value of two rows of right and wrong: a sign test of where they differ."""
    from scipy.stats import binomtest

    only_a, only_b = int(((a > 0) & (b == 0)).sum()), int(((b > 0) & (a == 0)).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: the chance of even one false claim among all stays below the level."""
    order = np.argsort(p_values)
    scaled = np.array(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted.tolist()


def more_seeds(found: Estimate, seeds: int, margin: float, level: float) -> int | None:
    """How many more seeds each would show the difference, or show that it is within the margin.

    Takes the estimated difference and spread for the true ones, so it is a rough guess; None when
    one or fewer seeds give no spread to go by, or when more than `MOST_SEEDS` are needed.

    Args:
        found: Of `seeds` seeds each.
        seeds: How many there are.
        margin: Of equivalence.
        level: Of the test, after a correction.
    """
    from scipy.special import ndtr, ndtri, stdtrit
    from scipy.stats import nct

    if not found.seeds:
        return None
    more = np.arange(1, MOST_SEEDS + 1)
    total = seeds + more
    by_seed = sum(variance for variance, _ in found.seeds) * seeds / total
    variance, df = by_seed + found.texts, total - 1
    error = np.sqrt(variance)
    share = by_seed / variance

    def critical(tail: float) -> np.ndarray:
        return -np.asarray(share * stdtrit(df, tail) + (1 - share) * ndtri(tail))

    effective = df / np.maximum(share, 1e-3) ** 2
    gap = abs(found.mean)
    shown = nct.sf(critical(level / 2), effective, gap / error)
    room = margin - critical(level / 2) * error
    inside = ndtr((room - gap) / error) - ndtr((-room - gap) / error)
    enough = (shown >= POWER) | ((room > 0) & (inside >= POWER))
    return int(more[enough][0]) if enough.any() else None
