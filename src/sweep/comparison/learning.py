"""Find runs that learnt nothing, and runs that are too short to judge a strategy by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sweep.base.words import Remark
from sweep.comparison import caveats, per_text_scores
from sweep.comparison.per_text_scores import PredictionsError
from sweep.comparison.results import Row
from sweep.runs import read_outputs
from sweep.runs.record import Record
from sweep.training import loss_curve

MIN_STEPS = 10
"""Runs with fewer optimizer steps only try whether everything works, such as trainer=debug."""


def flags_of_runs(rows: Iterable[Row], metric: str) -> dict[str, Remark]:
    """Return, by name of each run that learnt nothing, what shows it.

    Args:
        rows: Configurations; the predictions and curves of their finished runs are read from disk.
        metric: The metric that strategies are compared in, such as `test_accuracy`.
    """
    flags = {record.name: _flag(record, metric) for record in caveats.finished(rows)}
    return {name: flag for name, flag in flags.items() if flag is not None}


def flags_of_strategies(rows: Iterable[Row], of_runs: Mapping[str, Remark]) -> dict[str, Remark]:
    """Return, by label, the strategies at least half of whose runs learnt nothing."""
    flags = {}
    for row in rows:
        runs = caveats.finished([row])
        flagged = [of_runs[run.name] for run in runs if run.name in of_runs]
        if runs and 2 * len(flagged) >= len(runs):
            values = {"count": len(flagged), "runs": len(runs), "how": flagged[0]}
            flags[row.label] = Remark("learnt.nothing", values)
    return flags


def too_short(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the labels of strategies with a run that hardly began to train.

    A run is too short with fewer than `MIN_STEPS` optimizer steps, or when it ended before its
    warm-up did. A run whose number of steps is unknown is not too short, nor is one whose head was
    solved, which takes no steps.
    """
    return tuple(row.label for row in rows if any(map(_is_short, caveats.finished([row]))))


def _flag(record: Record, metric: str) -> Remark | None:
    """Return what shows that a run learnt nothing; None when nothing does."""
    try:
        predictions = per_text_scores.read(Path(record.folder))
    except PredictionsError:
        return None
    classes, counts = np.unique(predictions.labels, return_counts=True)
    if len(classes) > 1 and len(set(predictions.predictions)) == 1:
        return Remark("learnt.one_class", {"name": predictions.predictions[0]})
    majority = _scores_of_majority(classes, counts, len(predictions.labels))
    name = metric.partition("_")[2]
    score = record.metrics.get(metric)
    if len(classes) > 1 and score is not None and name in majority and score <= majority[name]:
        return Remark("learnt.majority", {"score": score, "majority": majority[name]})
    if _is_solved(record):
        return None  # its losses are those of several penalties, and not of steps
    losses = [value for _, value in read_outputs.curves(record).get("train_loss", [])]
    return None if loss_curve.may_have_fallen(losses) else Remark("learnt.no_fall")


def _scores_of_majority(classes: np.ndarray, counts: np.ndarray, texts: int) -> dict[str, float]:
    """Return accuracy and macro-F1 of always predicting the most frequent label."""
    share = float(counts.max()) / texts
    return {"accuracy": share, "f1": 2 * share / (1 + share) / len(classes)}


def _is_solved(record: Record) -> bool:
    return record.params.get("probe") == "lbfgs"


def _is_short(record: Record) -> bool:
    if _is_solved(record):
        return False
    steps = _last_step(read_outputs.curves(record).values())
    if steps is None:
        return False
    settings = read_outputs.settings(record)
    warmup = settings.optimizer.warmup_steps if settings is not None else 0
    # As in TrainingArguments, a value below one is a share of all steps.
    return steps < MIN_STEPS or (warmup >= 1 and steps <= math.ceil(warmup))


def _last_step(curves: Iterable[Sequence[tuple[int, float]]]) -> int | None:
    return max((step for points in curves for step, _ in points), default=None)
