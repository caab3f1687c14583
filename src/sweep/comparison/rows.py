"""Group records into rows, one per configuration, with means and intervals."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence

from sweep.comparison import caveats, pairwise
from sweep.comparison.results import MIN_SEEDS, Interval, Row
from sweep.runs.record import Record
from sweep.tracking.tags import Tag


def table(records: Sequence[Record], confidence: float = 0.95) -> list[Row]:
    """Group replicates and average them, in the order in which configurations were run.

    Args:
        records: A run that comes twice counts once.
        confidence: Level of the intervals of the means.
    """
    grouped = _grouping_keys(records)
    groups: dict[str, list[Record]] = {}
    for record in unique(records):
        groups.setdefault(configuration(record), []).append(record)
    return [_row(name, group, grouped, confidence) for name, group in groups.items()]


def configuration(record: Record) -> str:
    """Return the name of a configuration: the strategy and what else was swept but the seed."""
    others = [f"{k}={v}" for k, v in record.swept.items() if k not in ("freeze", "seed")]
    return " ".join([record.strategy, *others])


def choose(rows: Sequence[Row], metric: str = "accuracy") -> list[Row]:
    """Return, per strategy and group, the configuration that validation prefers.

    Args:
        rows: All configurations.
        metric: What strategies are compared by, and so what is chosen by; loss breaks ties.
    """
    candidates: dict[str, list[Row]] = {}
    for row in rows:
        if row.finished:
            candidates.setdefault(row.label, []).append(row)
    return [_preferred(alternatives, metric) for alternatives in candidates.values()]


def runs_to_test(chosen: Row, rows: Sequence[Row], metric: str = "accuracy") -> list[Record]:
    """Return one run per seed, of the configuration that validation prefers on the other seeds.

    Runs chosen for their own validation scores would carry the luck of their seeds into the
    test: the best of eight equal configurations looks better than it is. Where the choice is
    clear, all seeds agree on it, and these are the runs of the chosen configuration.
    """
    chosen_runs = caveats.finished([chosen])
    rivals = [row for row in rows if row.label == chosen.label and row.finished]
    if len(rivals) < 2 or len(chosen_runs) < 2:
        return chosen_runs
    selected = []
    for run in chosen_runs:
        seed = pairwise.seed_of(run)
        with_seed = [row for row in rivals if seed in _seeds(row)]
        best = _preferred(with_seed, metric, without=seed)
        selected.append(next(r for r in caveats.finished([best]) if pairwise.seed_of(r) == seed))
    return selected


def _preferred(rows: Sequence[Row], metric: str, without: int | None = None) -> Row:
    """Return the configuration that validation prefers on the seeds that all of them have.

    Means over other seeds would compare the luck of the seeds, too. Where no seed is common, each
    is judged by its own. Configurations that lost runs come last: the mean of the seeds that
    survived flatters them. Of equal ones the first run is taken.

    Args:
        rows: Configurations of one strategy.
        metric: accuracy or f1.
        without: Seed whose runs are left out.
    """
    common = set.intersection(*(_seeds(row) for row in rows)) - {without}

    def key(row: Row) -> tuple[float, float, float]:
        runs = caveats.finished([row])
        judged = [r for r in runs if pairwise.seed_of(r) in common] if common else runs
        left = [r for r in judged if pairwise.seed_of(r, -1) != without]
        return (
            len(row.failures) / (len(row.failures) + row.finished),
            -_mean(left, f"eval_{metric}", -math.inf),
            _mean(left, "eval_loss", math.inf),
        )

    return min(rows, key=key)


def _seeds(row: Row) -> set[int]:
    return {pairwise.seed_of(record) for record in caveats.finished([row])}


def _mean(runs: Sequence[Record], metric: str, otherwise: float) -> float:
    """Return the mean over the runs with a finite value; what is given when there is none."""
    values = [run.metrics.get(metric, math.nan) for run in runs]
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else otherwise


def best(rows: Sequence[Row], metric: str) -> set[str]:
    """Return the names of the rows with the best mean; none where fewer than two have one."""
    means = {row.name: row.metrics[metric].mean for row in rows if metric in row.metrics}
    if len(means) < 2:
        return set()
    target = max(means.values()) if HIGHER_IS_BETTER[metric] else min(means.values())
    return {name for name, value in means.items() if value == target}


def interval(
    values: Sequence[float],
    confidence: float = 0.95,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Return the mean with Student's t interval; with the values themselves if there are two.

    Args:
        values: One per replicate.
        confidence: Level of the interval.
        limits: Least and largest possible value; the interval is cut there.
    """
    from scipy.special import stdtrit

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Interval(mean, n)
    sd = statistics.stdev(values)
    if n < MIN_SEEDS:
        return Interval(mean, n, sd=sd, values=tuple(values))
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * sd / math.sqrt(n)
    low, high = (min(max(end, limits[0]), limits[1]) for end in (mean - half, mean + half))
    return Interval(mean, n, low, high, sd)


def limits_of(metric: str) -> tuple[float, float]:
    """Return the range of a metric: 0 to 1 for shares, 0 to infinity for all others."""
    is_share = metric.endswith(("_accuracy", "_f1", "_fraction"))
    return (0.0, 1.0 if is_share else math.inf)


def _finished(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.status == "FINISHED"]


def unique(records: Sequence[Record]) -> list[Record]:
    """Return one record per run key, a finished one where there is one.

    The same choices with the same seed give the same numbers, so a repetition is no replicate.
    """
    by_key: dict[str, Record] = {}
    for index, record in enumerate(records):
        key = record.key or str(index)
        if key not in by_key or by_key[key].status != "FINISHED":
            by_key[key] = record
    return list(by_key.values())


def _grouping_keys(records: Sequence[Record]) -> list[str]:
    """Return the keys of model and data that differ between runs.

    `data.max_length` is not one of them: it changes what a model sees of the same texts, so it is
    a choice to be made by validation.
    """
    values: dict[str, set[str]] = {}
    for record in records:
        for key, value in record.swept.items():
            if key.partition(".")[0] in ("model", "data") and key != "data.max_length":
                values.setdefault(key, set()).add(value)
    return [key for key, different in values.items() if len(different) > 1]


def rollup(rows: Sequence[Row]) -> dict[str, float]:
    """Return metrics of the summary run: `<configuration>/<metric>_mean`, `_ci_low`, `_ci_high`."""
    metrics: dict[str, float] = {}
    for name, row in _store_names(rows).items():
        for metric, value in row.metrics.items():
            key = f"{name}/{metric}"
            metrics[f"{key}_mean"] = value.mean
            if value.low is not None and value.high is not None:
                metrics |= {f"{key}_ci_low": value.low, f"{key}_ci_high": value.high}
    return metrics


def _store_names(rows: Sequence[Row]) -> dict[str, Row]:
    """Return rows by names that MLflow allows for metrics: few characters, at most 250 of them."""
    by_name: dict[str, Row] = {}
    for index, row in enumerate(rows):
        name = re.sub(r"[^\w.\- :]", "_", row.name.replace("=", " "))
        if len(name) > 180 or name in by_name:
            name = f"{name[:170]} {index}"
        by_name[name] = row
    return by_name


def _row(name: str, group: Sequence[Record], grouped: Sequence[str], confidence: float) -> Row:
    finished = _finished(group)
    metrics = sorted({metric for record in finished for metric in record.metrics})
    values = {
        metric: [
            value
            for record in finished
            if (value := record.metrics.get(metric)) is not None and math.isfinite(value)
        ]
        for metric in metrics
    }
    swept = group[0].swept
    # Seeds give a head that is solved no spread, and a spread of 0 would be no evidence.
    is_solved = all(record.params.get("probe") == "lbfgs" for record in finished)
    return Row(
        name=name,
        strategy=group[0].strategy,
        trains=next((r.tags[Tag.TRAINS] for r in finished if Tag.TRAINS in r.tags), ""),
        finished=len(finished),
        failures=tuple(
            f"{record.name}: {record.status}: {record.reason}"
            for record in group
            if record.status not in ("FINISHED", "RUNNING")
        ),
        metrics={
            metric: Interval(finite[0], len(finite))
            if is_solved and metric.startswith(("eval_", "test_"))
            else interval(finite, confidence, limits_of(metric))
            for metric, finite in values.items()
            if finite
        },
        records=tuple(group),
        group=" ".join(f"{key}={swept[key]}" for key in grouped if key in swept),
    )


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
"""Direction of every metric that is ranked; sizes of a strategy are not."""
