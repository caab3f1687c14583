"""Finished runs -> one row per configuration; pure functions over records."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from sweep.run import Record

HIGHER_IS_BETTER: dict[str, bool] = {
    "eval_loss": False,
    "eval_accuracy": True,
    "eval_f1": True,
    "test_loss": False,
    "test_accuracy": True,
    "test_f1": True,
    "train_runtime_s": False,
    "train_samples_per_second": True,
    "peak_memory_mib": False,
}
"""Direction of every metric that is ranked; sizes are facts of a strategy and are not."""


@dataclass(frozen=True)
class Interval:
    """A mean over replicates, with its 95 % interval if there are two or more."""

    mean: float
    n: int
    low: float | None = None
    high: float | None = None
    sd: float | None = field(default=None, compare=False)
    """Sample standard deviation over replicates."""


@dataclass(frozen=True)
class Row:
    """One configuration: its replicates differ in nothing but the seed."""

    name: str
    strategy: str
    trains: str
    finished: int
    failures: tuple[str, ...]
    metrics: dict[str, Interval]
    records: tuple[Record, ...] = field(default=(), compare=False, repr=False)
    """The replicates, finished or not."""


@dataclass(frozen=True)
class Difference:
    """What one pair of strategies shows in one metric: `a` minus `b`."""

    metric: str
    a: str
    b: str
    estimate: float
    low: float
    high: float
    """95 % interval of this pair alone."""
    p_value: float
    p_adjusted: float
    """Holm's correction over the pairs of the same metric."""
    verdict: str
    """`better`, `worse`, `equivalent` or `undecided`, said of a against b."""
    method: str
    """`hierarchical bootstrap` or, with one seed each, `exact McNemar`."""
    more_seeds: int | None = None
    """How many more seeds each would probably decide it; None when decided or beyond reach."""


@dataclass(frozen=True)
class Baseline:
    """What is reached without fine-tuning, on the same split."""

    name: str
    metrics: dict[str, float]
    """test_accuracy, test_f1, or eval_* where there is no test split; runtime_s."""
    predictions: tuple[str, ...] = ()
    """Class name per row of the reported split, in its order."""


@dataclass(frozen=True)
class Recommendation:
    """Which strategy to take, and why."""

    strategy: str
    configuration: str
    cost: str
    """What was made small: time, memory, parameters or checkpoint."""
    margin: float
    reason: str
    """One sentence with the numbers."""
    rule: str
    """One sentence with the rule."""
    candidates: tuple[str, ...] = ()
    """Strategies that are not worse than the best by more than the margin, the cheapest first."""


@dataclass(frozen=True)
class Comparison:
    """All that is said of a sweep; made by `compare`, shown by `report`."""

    rows: list[Row]
    """Every configuration, in the order they were run."""
    chosen: list[Row]
    """One per strategy: the configuration that validation prefers."""
    split: str
    """`test`, or `eval` where there is no test split: the prefix of the metrics compared."""
    differences: list[Difference]
    """Every pair of chosen strategies, for accuracy and for macro-F1."""
    baselines: list[Baseline]
    warnings: list[str]
    """What must not be compared, and why: budgets, hardware, contention, one seed."""
    recommendation: Recommendation | None


def compare(records: Sequence[Record]) -> list[Row]:
    """Group replicates and average them, in the order in which configurations were run."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(configuration(record), []).append(record)
    return [_row(name, group) for name, group in groups.items()]


def configuration(record: Record) -> str:
    """The run's name without its seed, which is a number; other keys and values may say seed."""
    return re.sub(r" seed=\d+(?= |$)", "", record.name)


def best(rows: Sequence[Row], metric: str) -> set[str]:
    """Names of the rows with the best mean; none where fewer than two can be compared."""
    found = {row.name: row.metrics[metric].mean for row in rows if metric in row.metrics}
    if len(found) < 2:
        return set()
    target = max(found.values()) if HIGHER_IS_BETTER[metric] else min(found.values())
    return {name for name, value in found.items() if value == target}


def interval(values: Sequence[float]) -> Interval:
    """Mean and Student's t interval at 95 %."""
    from scipy.stats import t

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Interval(mean, n)
    sd = statistics.stdev(values)
    half = float(t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    return Interval(mean, n, mean - half, mean + half, sd)


def rollup(rows: Sequence[Row]) -> dict[str, float]:
    """Flat metrics for the summary run: `<configuration>/<metric>_mean`, `_ci_low`, `_ci_high`."""
    found: dict[str, float] = {}
    for name, row in _store_names(rows).items():
        for metric, value in row.metrics.items():
            key = f"{name}/{metric}"
            found[f"{key}_mean"] = value.mean
            if value.low is not None and value.high is not None:
                found |= {f"{key}_ci_low": value.low, f"{key}_ci_high": value.high}
    return found


def _store_names(rows: Sequence[Row]) -> dict[str, Row]:
    """Rows by names that MLflow takes for metrics: few characters are allowed, 250 at most."""
    found: dict[str, Row] = {}
    for index, row in enumerate(rows):
        name = re.sub(r"[^\w.\- :]", "_", row.name.replace("=", " "))
        if len(name) > 180 or name in found:
            name = f"{name[:170]} {index}"
        found[name] = row
    return found


def _row(name: str, group: Sequence[Record]) -> Row:
    finished = [record for record in group if record.status == "FINISHED"]
    metrics = sorted({metric for record in finished for metric in record.metrics})
    values = {
        metric: [record.metrics[metric] for record in finished if metric in record.metrics]
        for metric in metrics
    }
    return Row(
        name=name,
        strategy=group[0].strategy,
        trains=next((r.tags["sweep.trains"] for r in finished), ""),
        finished=len(finished),
        failures=tuple(
            f"{record.name}: {record.status}: {record.reason}"
            for record in group
            if record.status != "FINISHED"
        ),
        metrics={metric: interval(found) for metric, found in values.items()},
        records=tuple(group),
    )
