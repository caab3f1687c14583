"""Test every pair of strategies: how large the difference is, and what can be claimed of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from sweep.base.words import Remark, Text
from sweep.comparison import per_text_scores, significance
from sweep.comparison.per_text_scores import Predictions, PredictionsError
from sweep.comparison.results import MIN_SEEDS, Difference
from sweep.config.schema import CompareConfig
from sweep.runs.record import Record
from sweep.tracking.tags import Tag

METRICS = ("accuracy", "f1")
"""Metrics in which strategies are tested."""


@dataclass(frozen=True)
class Scored:
    """A chosen configuration with its stored predictions scored."""

    label: str
    seeds: tuple[int, ...]
    scores: dict[str, np.ndarray]
    """Per metric, (seeds, texts)."""
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, object), repr=False)
    """Class names of the texts, (texts,)."""

    def pick(self, metric: str, seeds: Iterable[int]) -> np.ndarray:
        """Return the scores of these seeds, in this order, (seeds, texts)."""
        return self.scores[metric][[self.seeds.index(seed) for seed in seeds]]


def differences(scored: Sequence[Scored], split: str, options: CompareConfig) -> list[Difference]:
    """Return the difference of every pair of strategies of one group, for every metric.

    Args:
        scored: One per strategy.
        split: Prefix of the metrics' names, such as `test`.
        options: Margin and confidence.
    """
    return [
        difference
        for metric in METRICS
        for difference in _differences_in(scored, f"{split}_{metric}", metric, options)
    ]


@dataclass(frozen=True)
class _Test:
    a: str
    b: str
    estimate: significance.Estimate
    p_value: float
    method: str
    seeds: int
    texts: int


def _differences_in(
    scored: Sequence[Scored], name: str, metric: str, options: CompareConfig
) -> list[Difference]:
    tests = [_test(a, b, metric) for a, b in combinations(scored, 2)]
    adjusted = significance.holm([test.p_value for test in tests])
    level = 1 - options.confidence
    # The level that the next step of Holm's procedure would hold an undecided pair to.
    open_level = level / max(sum(p > level for p in adjusted), 1)
    pairs = []
    for test, p in zip(tests, adjusted, strict=True):
        half = test.estimate.half_width(options.confidence)
        verdict = _verdict(test, half, p, options)
        more = texts = None
        if verdict == "undecided":
            more = significance.more_seeds(test.estimate, test.seeds, options.margin, open_level)
            if more is None and test.seeds >= MIN_SEEDS:
                texts = significance.more_texts(
                    test.estimate, test.texts, options.margin, open_level
                )
        pairs.append(
            Difference(
                metric=name,
                a=test.a,
                b=test.b,
                estimate=test.estimate.mean,
                low=test.estimate.mean - half,
                high=test.estimate.mean + half,
                p_value=test.p_value,
                p_adjusted=p,
                verdict=verdict,
                method=test.method,
                more_seeds=more,
                more_texts=texts,
                seeds=test.seeds,
                texts=test.texts,
                note=_note(test, half, verdict),
            )
        )
    return pairs


def _test(a: Scored, b: Scored, metric: str) -> _Test:
    """Test two strategies in one metric, paired by seed where they share enough seeds.

    The same seed draws the same head and the same order of texts.
    """
    common = [seed for seed in a.seeds if seed in b.seeds]
    seeds = min(len(a.seeds), len(b.seeds))
    if len(common) >= MIN_SEEDS or 2 <= len(common) == seeds:
        left, right = a.pick(metric, common), b.pick(metric, common)
        estimate, seeds = significance.paired(left, right), len(common)
    elif seeds >= 2:
        left, right = a.scores[metric], b.scores[metric]
        estimate = significance.unpaired(left, right)
    else:
        left = a.pick(metric, common or a.seeds[:1])
        right = b.pick(metric, common or b.seeds[:1])
        estimate = significance.paired(left, right)
    p_value, method = estimate.p_value(), "t over seeds and texts"
    if seeds < 2:
        method = "z over texts"
        if metric == "accuracy":
            p_value, method = significance.mcnemar(left[0], right[0]), "exact McNemar"
    return _Test(a.label, b.label, estimate, p_value, method, seeds, left.shape[1])


def _note(test: _Test, half: float, verdict: str) -> Remark | str:
    """Return why an interval that leaves out 0 decides nothing; "" in all other cases."""
    if verdict != "undecided" or abs(test.estimate.mean) <= half:
        return ""
    if test.seeds < MIN_SEEDS:
        return Remark("undecided.seeds", {"seeds": test.seeds, "needed": MIN_SEEDS})
    return Remark("undecided.pairs")


def _verdict(test: _Test, half: float, p: float, options: CompareConfig) -> str:
    """Return what can be claimed; `undecided` whenever there are too few seeds."""
    mean = test.estimate.mean
    if test.seeds < MIN_SEEDS:
        return "undecided"
    if p <= 1 - options.confidence:
        return "better" if mean > 0 else "worse"
    # Two one-sided tests (Schuirmann 1987) would take the 90 % interval. The stricter one is used
    # because it is the one shown: a reader can check the verdict against the numbers.
    if -options.margin < mean - half and mean + half < options.margin:
        return "equivalent"
    return "undecided"


def score(tested: Mapping[str, Sequence[Record]], warnings: list[Text]) -> list[Scored]:
    """Score the stored predictions of every strategy, on the test set that most runs share.

    Args:
        tested: By label of a strategy, its finished runs, one per seed.
        warnings: Extended in place by a remark on each run that cannot be used.
    """
    runs = [(label, record) for label, records in tested.items() for record in records]
    predictions: dict[int, Predictions] = {}
    for index, (_, record) in enumerate(runs):
        try:
            predictions[index] = per_text_scores.read(Path(record.folder))
        except PredictionsError as error:
            warnings.append(Remark("untested.run", {"run": record.name, "problem": error.remark}))
    fingerprints = {i: runs[i][1].tags.get(Tag.DATA_FINGERPRINT, "") for i in predictions}
    test_sets = per_text_scores.test_sets(predictions, fingerprints)
    counts = Counter(test_sets.values())
    shared = max(counts, key=lambda test_set: counts[test_set], default="")
    by_strategy: dict[str, dict[int, Predictions]] = {}
    for index, run in predictions.items():
        label, record = runs[index]
        if test_sets[index] == shared:
            by_seed = by_strategy.setdefault(label, {})
            by_seed[seed_of(record, len(by_seed))] = run
        else:
            warnings.append(Remark("untested.texts", {"run": record.name}))
    return [
        Scored(
            label,
            tuple(by_seed),
            per_text_scores.scores(list(by_seed.values())),
            next(iter(by_seed.values())).labels,
        )
        for label, by_seed in by_strategy.items()
    ]


def seed_of(record: Record, default: int = 0) -> int:
    """Return the seed of a run, or the default where its record does not say."""
    return int(record.params.get("seed", record.swept.get("seed", default)))
