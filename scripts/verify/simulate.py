"""Measure how often the verdict is right, on simulated sweeps with a known truth.

python scripts/verify/simulate.py            # 1,000 sweeps per row
python scripts/verify/simulate.py 200        # fewer

Every text has a difficulty that all strategies share, each strategy its own strengths among texts,
and each training a shift that is common to its texts (what a seed does to accuracy), and noise
per text (what a seed does to single predictions).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest, t

from sweep.comparison import rows as grouping
from sweep.comparison import significance
from sweep.comparison.pairwise import Scored, differences, seed_of
from sweep.comparison.per_text_scores import accuracy_scores, macro_f1_scores
from sweep.comparison.results import Interval, Row
from sweep.comparison.significance import Estimate
from sweep.config.schema import CompareConfig
from sweep.runs.record import Record

SEED_SD = 0.007
"""Spread of a strategy's accuracy over seeds, on a test set of 2,000 texts."""
TEXTS = 2000
VALIDATION = 500
OPTIONS = CompareConfig()


@dataclass(frozen=True)
class World:
    """How texts and trainings vary; spreads are in units of the noise per text and training."""

    accuracy: float = 0.8
    difficulty: float = 2.5
    strengths: float = 0.0
    """Spread of the ease of texts between strategies; 0 for two names of one strategy."""
    seed_sd: float = SEED_SD
    classes: int = 3

    @property
    def scale(self) -> float:
        """Spread of everything but the shift of the seeds."""
        return float(np.sqrt(1 + self.difficulty**2 + self.strengths**2))

    @property
    def shift(self) -> float:
        """Spread of the shift for which accuracy has the spread `seed_sd` between seeds."""
        slope = np.exp(-(ndtri(self.accuracy) ** 2) / 2) / np.sqrt(2 * np.pi) / self.scale
        return float(self.seed_sd / slope)


def sweep(
    rng: np.random.Generator,
    world: World,
    seeds: int,
    gaps: Sequence[float] = (0.0, 0.0),
    texts: int = TEXTS,
) -> list[Scored]:
    """Simulate a sweep of strategies whose true accuracies lie `gaps` above the world's."""
    labels = rng.choice(world.classes, texts, p=class_shares(world.classes))
    shared_ease = world.difficulty * rng.normal(size=texts)
    strategies = []
    for index, gap in enumerate(gaps):
        ease = shared_ease + world.strengths * rng.normal(size=texts)
        # Averaged over shifts, so that `accuracy + gap` is the mean over seeds.
        level = ndtri(world.accuracy + gap) * np.hypot(world.scale, world.shift)
        shifts = world.shift * rng.normal(size=(seeds, 1))
        right = level + ease + shifts + rng.normal(size=(seeds, texts)) > 0
        wrong = (labels + rng.integers(1, world.classes, (seeds, texts))) % world.classes
        predicted = np.where(right, labels, wrong)
        scores = {
            "accuracy": accuracy_scores(labels, predicted),
            "f1": np.stack([macro_f1_scores(labels, row) for row in predicted]),
        }
        strategies.append(Scored(f"s{index}", tuple(range(seeds)), scores))
    return strategies


def class_shares(classes: int) -> np.ndarray:
    """Return uneven shares of the classes: the largest is three times the smallest."""
    weights = np.linspace(3, 1, classes)
    return np.asarray(weights / weights.sum())


@dataclass
class Count:
    """How often something happened."""

    hits: int = 0
    of: int = 0

    def add(self, hit: bool) -> None:
        """Count one more trial."""
        self.hits += bool(hit)
        self.of += 1

    def __str__(self) -> str:
        interval = binomtest(self.hits, self.of).proportion_ci(method="wilson")
        return f"{self.hits / self.of:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def false_calls(
    sweeps: int, seeds: int, world: World | None = None, strategies: int = 2
) -> dict[str, Count]:
    """Count how often any pair of equal strategies is called better or worse."""
    counts = {"accuracy": Count(), "f1": Count()}
    for rng in generators(sweeps, seeds):
        simulated = sweep(rng, world or World(), seeds, [0.0] * strategies)
        pairs = differences(simulated, "test", OPTIONS)
        for metric, count in counts.items():
            of_metric = [d for d in pairs if d.metric == f"test_{metric}"]
            count.add(any(d.verdict in ("better", "worse") for d in of_metric))
    return counts


def false_calls_of_mcnemar(sweeps: int) -> Count:
    """Count how often McNemar's test alone calls a difference of equal strategies with one seed."""
    count = Count()
    for rng in generators(sweeps, 1):
        (first, _) = differences(sweep(rng, World(), 1), "test", OPTIONS)
        count.add(first.p_value <= 0.05)
    return count


def false_calls_of_bootstrap(sweeps: int, seeds: int, world: World, resamples: int = 400) -> Count:
    """Count how often a plain hierarchical bootstrap calls a difference of equal strategies."""
    count = Count()
    for rng in generators(sweeps, seeds):
        a, b = (scored.scores["accuracy"] for scored in sweep(rng, world, seeds))
        by_seed = rng.multinomial(seeds, [1 / seeds] * seeds, resamples) / seeds
        by_text = rng.multinomial(TEXTS, [1 / TEXTS] * TEXTS, resamples) / TEXTS
        means = ((by_seed @ (a - b)) * by_text).sum(1)
        low, high = np.quantile(means, [0.025, 0.975])
        count.add(not low <= 0 <= high)
    return count


def coverage(sweeps: int, seeds: int, world: World, gap: float) -> dict[str, Count]:
    """Count how often the interval of a difference covers the true difference."""
    truth = {"accuracy": -gap, "f1": -true_f1_gap(world, gap)}
    counts = {"accuracy": Count(), "f1": Count()}
    for rng in generators(sweeps, seeds):
        for d in differences(sweep(rng, world, seeds, (0.0, gap)), "test", OPTIONS):
            metric = d.metric.removeprefix("test_")
            counts[metric].add(d.low <= truth[metric] <= d.high)
    return counts


@cache
def true_f1_gap(world: World, gap: float) -> float:
    """Return macro-F1 of the second strategy minus the first, over many seeds and texts."""
    if gap == 0:
        return 0.0
    gaps = []
    for rng in generators(25, 7):
        a, b = (one.scores["f1"].mean() for one in sweep(rng, world, 20, (0.0, gap), 20_000))
        gaps.append(b - a)
    return float(np.mean(gaps))


def coverage_of_means(sweeps: int, seeds: int) -> Count:
    """Count how often the interval over seeds covers the strategy's mean accuracy."""
    count = Count()
    for rng in generators(sweeps, seeds):
        values = 0.8 + SEED_SD * rng.normal(size=seeds)
        interval: Interval = grouping.interval(list(values))
        count.add(interval.low is not None and interval.low <= 0.8 <= (interval.high or 0))
    return count


def power(sweeps: int, seeds: int, gap: float = 0.02) -> tuple[Count, float]:
    """Count how often a true gap is shown, and return the share that theory expects."""
    world = World(strengths=0.7)
    count, estimates = Count(), []
    for rng in generators(sweeps, seeds):
        simulated = sweep(rng, world, seeds, (0.0, gap))
        first = differences(simulated, "test", OPTIONS)[0]
        count.add(first.verdict == "worse")
        a, b = (scored.scores["accuracy"] for scored in simulated)
        estimates.append(significance.paired(b, a))
    return count, theory(estimates, seeds, gap)


def theory(estimates: Sequence[Estimate], seeds: int, gap: float) -> float:
    """Return the share shown if means are normal with these variances, and those chi-squared."""
    rng = np.random.default_rng(1)
    by_seed = float(np.mean([e.seeds[0][0] for e in estimates]))
    by_text = float(np.mean([e.texts for e in estimates]))
    means = gap + np.sqrt(by_seed + by_text) * rng.normal(size=200_000)
    drawn = by_seed * rng.chisquare(seeds - 1, 200_000) / (seeds - 1)
    weights = drawn * t.ppf(0.975, seeds - 1) + by_text * ndtri(0.975)
    return float(np.mean(means > weights / np.sqrt(drawn + by_text)))


def false_calls_after_tuning(
    sweeps: int, configurations: int = 8, seeds: int = 3
) -> tuple[Count, float, float]:
    """Compare A with the best of several equal configurations of A.

    Returns:
        How often a difference is called; the mean gap, in points, when validation chooses; the
        mean gap if test scores chose.
    """
    called, chosen_gaps, cheating = Count(), [], []
    for rng in generators(sweeps, configurations):
        simulated = sweep(rng, World(), seeds, [0.0] * (1 + configurations), TEXTS + VALIDATION)
        a, *others = (one.scores["accuracy"][:, :TEXTS] for one in simulated)
        held_out = [one.scores["accuracy"][:, TEXTS:].mean(1) for one in simulated[1:]]
        rows = [_row(accuracies, index) for index, accuracies in enumerate(held_out)]
        picked = grouping.runs_to_test(grouping.choose(rows)[0], rows)
        b = np.stack([others[int(run.name)][seed_of(run)] for run in picked])
        first = differences([_scored("b", b), _scored("a", a)], "test", OPTIONS)[0]
        called.add(first.verdict in ("better", "worse"))
        chosen_gaps.append(first.estimate)
        cheating.append(max(other.mean() for other in others) - a.mean())
    return called, 100 * float(np.mean(chosen_gaps)), 100 * float(np.mean(cheating))


def _row(accuracies: np.ndarray, index: int) -> Row:
    """Return a configuration with its validation scores, one run per seed."""
    runs = tuple(
        Record(
            "", str(index), "b", "FINISHED", params={"seed": seed}, metrics={"eval_loss": -score}
        )
        for seed, score in enumerate(accuracies)
    )
    return Row(str(index), "b", "", len(runs), (), {}, tuple(runs))


def _scored(label: str, scores: np.ndarray) -> Scored:
    return Scored(label, tuple(range(len(scores))), {"accuracy": scores, "f1": scores})


def generators(sweeps: int, stream: int) -> Iterator[np.random.Generator]:
    """Yield one generator per sweep, the same ones every time."""
    for index in range(sweeps):
        yield np.random.default_rng([stream, index])


def lines(sweeps: int) -> Iterator[tuple[str, str, str]]:
    """Yield rows of the table: what was simulated, what was expected, and what came out."""
    for seeds in (1, 2, 3, 5, 10):
        for metric, count in false_calls(sweeps, seeds).items():
            yield (
                f"A against A, {seeds} seeds, {metric}: difference called",
                "at most 5 %",
                f"{count}",
            )
    yield "the same with McNemar's test alone, 1 seed", "-", f"{false_calls_of_mcnemar(sweeps)}"
    for seed_sd in (SEED_SD, 0.02):
        for seeds in (3, 5):
            count = false_calls_of_bootstrap(sweeps, seeds, World(seed_sd=seed_sd))
            name = f"the same with a plain bootstrap, {seeds} seeds of sd {100 * seed_sd:g} points"
            yield name, "-", f"{count}"
            count = false_calls(sweeps, seeds, World(seed_sd=seed_sd))["accuracy"]
            yield name.replace("a plain bootstrap", "this method"), "at most 5 %", f"{count}"
    for metric, count in false_calls(sweeps, 3, strategies=5).items():
        yield f"five names of A, 3 seeds, {metric}: any pair called", "at most 5 %", f"{count}"
    for seeds in (3, 5, 10):
        yield (
            f"interval of a mean over {seeds} seeds covers",
            "95 %",
            f"{coverage_of_means(sweeps, seeds)}",
        )
    worlds: dict[str, tuple[World, float]] = {
        "A against A": (World(), 0.0),
        "gap of 2 points": (World(strengths=0.7), 0.02),
        "gap of 5 points, 20 classes": (World(0.6, strengths=1.5, classes=20), 0.05),
    }
    for name, (world, gap) in worlds.items():
        for seeds in (2, 3, 5, 10):
            for metric, count in coverage(sweeps, seeds, world, gap).items():
                yield f"interval of {name}, {seeds} seeds, {metric} covers", "93-97 %", f"{count}"
    for seeds in (3, 5, 10):
        count, expected = power(sweeps, seeds)
        yield f"gap of 2 points found, {seeds} seeds", f"{expected:.1%}", f"{count}"
    called, gap, cheat = false_calls_after_tuning(sweeps)
    yield "A against the best of 8 of A by validation, 3 seeds: called", "at most 5 %", f"{called}"
    yield "its mean gap in test accuracy, points", "0", f"{gap:+.2f}"
    yield "its mean gap if test scores chose, points", "-", f"{cheat:+.2f}"


def main(arguments: Sequence[str]) -> None:
    """Print the table row by row."""
    sweeps = int(arguments[0]) if arguments else 1000
    print(f"| {sweeps:,} sweeps each, {TEXTS:,} test texts | expected | found (95 % interval) |")
    print("|---|---|---|")
    for line in lines(sweeps):
        print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
