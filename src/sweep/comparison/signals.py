"""Find signs that a strategy could do better than it was seen to: with more steps or another rate.

None of them is a proof. So each is a caution that stands beside the verdict, and no strategy that
has one is called worse without it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from sweep.base.words import Remark
from sweep.comparison import caveats
from sweep.comparison.results import Baseline, Row
from sweep.runs import read_outputs
from sweep.runs.record import Record

TF_IDF = ("baseline.words", "baseline.characters")
LEAST_GAP = 0.1
"""Seeds that are closer than this are not called far apart, however many texts there are."""
STANDARD_ERRORS = 4.0
"""Of the difference of two seeds of one strategy, if only the texts made it."""


def of_strategy(
    row: Row, rows: Sequence[Row], baselines: Sequence[Baseline], metric: str, texts: int
) -> tuple[Remark, ...]:
    """Return one sentence per sign, the strongest first.

    Args:
        row: The configuration that is compared; it has learnt something.
        rows: All configurations, among them those that validation did not prefer.
        baselines: Those of the same data.
        metric: The metric that strategies are compared in, such as `test_accuracy`.
        texts: Number of texts that it was measured on.
    """
    signs = (
        _seeds_apart(row, metric, texts),
        _below_baseline(row, baselines, f"eval_{metric.partition('_')[2]}"),
        _more_steps(row),
        _edge(row, rows),
    )
    return tuple(sign for sign in signs if sign is not None)


def _seeds_apart(row: Row, metric: str, texts: int) -> Remark | None:
    scores = [run.metrics[metric] for run in caveats.finished([row]) if metric in run.metrics]
    if len(scores) < 2 or not texts:
        return None
    mean, low, high = statistics.fmean(scores), min(scores), max(scores)
    noise = math.sqrt(2 * mean * (1 - mean) / texts)
    if high - low <= max(LEAST_GAP, STANDARD_ERRORS * noise):
        return None
    values = {"strategy": row.label, "gap": (high - low) * 100, "low": low, "high": high}
    return Remark("signal.seeds_apart", values)


def _below_baseline(row: Row, baselines: Sequence[Baseline], metric: str) -> Remark | None:
    """Compare with TF-IDF on validation, which says so before any test text is looked at."""
    known = [
        baseline.metrics[metric]
        for baseline in baselines
        if isinstance(baseline.name, Remark) and baseline.name.key in TF_IDF
        if metric in baseline.metrics
    ]
    if not known or metric not in row.metrics or row.metrics[metric].mean > max(known):
        return None
    values = {"strategy": row.label, "score": row.metrics[metric].mean, "baseline": max(known)}
    return Remark("signal.below_baseline", values)


def _more_steps(row: Row) -> Remark | None:
    """Compare the last training loss with the validation loss: it has not begun to fit its texts.

    Only where both are the same kind of loss, and where steps are what makes it small.
    """
    losses = [
        (run.metrics["train_loss"], run.metrics["eval_loss"])
        for run in caveats.finished([row])
        if {"train_loss", "eval_loss"} <= run.metrics.keys() and _has_plain_loss(run)
    ]
    if not losses:
        return None
    training, validation = (statistics.fmean(values) for values in zip(*losses, strict=True))
    if not training >= validation:
        return None
    values = {"strategy": row.label, "training": training, "validation": validation}
    return Remark("signal.more_steps", values)


def _has_plain_loss(run: Record) -> bool:
    settings = read_outputs.settings(run)
    if run.params.get("probe") == "lbfgs":
        return False
    return settings is None or (
        settings.trainer.class_weight is None and not settings.trainer.label_smoothing_factor
    )


def _edge(row: Row, rows: Sequence[Row]) -> Remark | None:
    """Return the remark that the chosen rate is the lowest or highest of those tried."""
    rates = {rate for other in rows if other.label == row.label and (rate := _rate(other))}
    chosen = _rate(row)
    if chosen is None or len(rates) < 2 or min(rates) < chosen < max(rates):
        return None
    key = "signal.low_edge" if chosen == min(rates) else "signal.high_edge"
    return Remark(key, {"strategy": row.label, "rate": chosen, "count": len(rates)})


def _rate(row: Row) -> float | None:
    """Return the learning rate of a configuration's runs; None where they do not say it."""
    for run in caveats.finished([row]):
        try:
            return float(run.params["learning_rate"])
        except (KeyError, TypeError, ValueError):
            continue
    return None
