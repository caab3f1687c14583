"""Test the best strategy against the best baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sweep.comparison import significance
from sweep.comparison.pairwise import Scored
from sweep.comparison.per_text_scores import accuracy_scores, macro_f1_scores
from sweep.comparison.results import Baseline, BaselineTest
from sweep.config.schema import CompareConfig


def compare_best(
    scored: Sequence[Scored], baselines: Sequence[Baseline], metric: str, options: CompareConfig
) -> BaselineTest | None:
    """Compare the best strategy with the best baseline of the same texts.

    The best of several strategies is also the luckiest, so its p-value is corrected by Holm's
    procedure over all of them. A baseline has no seed: every seed is compared with the same scores.

    Args:
        scored: The strategies of one group.
        baselines: Those of other texts are left out.
        metric: Name with its split, such as `test_accuracy`.
        options: Confidence and the metric.

    Returns:
        The test; None when there is no baseline of these texts, or no strategy.
    """
    known = [b for b in baselines if metric in b.metrics]
    matching = [(b, row) for b in known for row in [_scores(b, scored, metric)] if row is not None]
    if not scored or not matching:
        return None
    baseline, row = max(matching, key=lambda pair: pair[0].metrics[metric])
    name = options.metric
    estimates = [
        significance.paired(s.scores[name], _repeat_per_seed(s, row, name)) for s in scored
    ]
    p_values = [_p_value(s, row, name, e) for s, e in zip(scored, estimates, strict=True)]
    adjusted = significance.holm(p_values)
    best = max(range(len(scored)), key=lambda index: estimates[index].mean)
    estimate, half = estimates[best], estimates[best].half_width(options.confidence)
    return BaselineTest(
        baseline=baseline,
        strategy=scored[best].label,
        score=baseline.metrics[metric],
        estimate=estimate.mean,
        low=estimate.mean - half,
        high=estimate.mean + half,
        is_beaten=estimate.mean > 0 and adjusted[best] <= 1 - options.confidence,
    )


def _scores(baseline: Baseline, scored: Sequence[Scored], metric: str) -> np.ndarray | None:
    """Return the baseline's scores, (texts,); None when it was computed on other texts."""
    labels = scored[0].labels if scored else ()
    if len(baseline.predictions) != len(labels) or not len(labels):
        return None
    predictions = np.array(baseline.predictions, dtype=object)
    split = metric.partition("_")[0]
    share = float(np.mean(predictions == labels))
    # Other texts, or the same ones in another order, are recognised by their accuracy.
    if abs(share - baseline.metrics.get(f"{split}_accuracy", -1)) > 1e-9:
        return None
    codes = pd.factorize(np.concatenate([labels, predictions]))[0].reshape(2, -1)
    function = accuracy_scores if metric.endswith("accuracy") else macro_f1_scores
    return np.asarray(function(codes[0], codes[1]))


def _repeat_per_seed(strategy: Scored, row: np.ndarray, name: str) -> np.ndarray:
    """Return the baseline's scores once for each seed of a strategy, (seeds, texts)."""
    return np.broadcast_to(row, strategy.scores[name].shape)


def _p_value(
    strategy: Scored, row: np.ndarray, name: str, estimate: significance.Estimate
) -> float:
    scores = strategy.scores[name]
    if len(scores) == 1 and name == "accuracy":
        return significance.mcnemar(scores[0], row)
    return estimate.p_value()
