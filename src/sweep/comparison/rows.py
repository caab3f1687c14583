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
        records: Of a sweep; a run that comes twice counts once.
        confidence: Of the intervals of the means.
    """
    grouped = _grouping_keys(records)
    groups: dict[str, list[Record]] = {}
    for record in unique(records):
        groups.setdefault(configuration(record), []).append(record)
    return [_row(name, group, grouped, confidence) for name, group in groups.items()]


def configuration(record: Record) -> str:
    """The strategy and what else was swept, without the seed."""
    others = [f"{k}={v}" for k, v in record.swept.items() if k not in ("freeze", "seed")]
    return " ".join([record.strategy, *others])


def choose(rows: Sequence[Row]) -> list[Row]:
    """Per strategy and group, the configuration that validation prefers."""
    candidates: dict[str, list[Row]] = {}
    for row in rows:
        if row.finished:
            candidates.setdefault(row.label, []).append(row)
    return [min(found, key=_preference) for found in candidates.values()]


def runs_to_test(chosen: Row, rows: Sequence[Row]) -> list[Record]:
    """One run per seed, of the configuration that validation prefers on the other seeds.

    The runs that are chosen for their validation scores would bring the luck of their seeds to
    the test: the best of eight equal configurations looks better than it is. Where the choice is
    clear, all seeds agree on it and these are the runs of the chosen configuration.
    """
    own = caveats.finished([chosen])
    rivals = [row for row in rows if row.label == chosen.label and row.finished]
    if len(rivals) < 2 or len(own) < 2:
        return own
    found = []
    for run in own:
        seed = pairwise.seed_of(run)
        by_rival = {
            index: same
            for index, row in enumerate(rivals)
            if (same := [r for r in caveats.finished([row]) if pairwise.seed_of(r) == seed])
        }
        best = min(by_rival, key=lambda index: _preference(rivals[index], without=seed))
        found.append(by_rival[best][0])
    return found


def _preference(row: Row, without: int | None = None) -> tuple[float, float, float]:
    """Smaller is better; among equals, the one that was run first.

    Configurations that lost runs come last: the mean of the seeds that survived flatters them.
    Loss comes before accuracy, as the Trainer chooses checkpoints by it too, and because it sees
    differences that leave a few hundred validation texts on the same side.
    """
    runs = [run for run in caveats.finished([row]) if pairwise.seed_of(run, -1) != without]
    return (
        len(row.failures) / (len(row.failures) + row.finished),
        _mean(runs, "eval_loss"),
        -_mean(runs, "eval_accuracy"),
    )


def _mean(runs: Sequence[Record], metric: str) -> float:
    """Over the runs that have it; infinite if none does."""
    found = [run.metrics.get(metric, math.nan) for run in runs]
    finite = [value for value in found if math.isfinite(value)]
    return statistics.fmean(finite) if finite else math.inf


def best(rows: Sequence[Row], metric: str) -> set[str]:
    """Names of the rows with the best mean; none where fewer than two can be compared."""
    found = {row.name: row.metrics[metric].mean for row in rows if metric in row.metrics}
    if len(found) < 2:
        return set()
    target = max(found.values()) if HIGHER_IS_BETTER[metric] else min(found.values())
    return {name for name, value in found.items() if value == target}


def interval(
    values: Sequence[float],
    confidence: float = 0.95,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Return mean and Student's t interval; of two values the values, of one the value alone.

    Args:
        values: One per replicate.
        confidence: Level of the interval.
        limits: What the quantity cannot leave; the interval is cut there.
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
    """Return what values of a metric cannot leave: shares lie in 0..1, nothing else below 0."""
    is_share = metric.endswith(("_accuracy", "_f1", "_fraction"))
    return (0.0, 1.0 if is_share else math.inf)


def _finished(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.status == "FINISHED"]


def unique(records: Sequence[Record]) -> list[Record]:
    """Records without repetitions of one run, of which a finished one stands for all.

    The same choices with the same seed give the same numbers, so a repetition is no replicate.
    """
    found: dict[str, Record] = {}
    for index, record in enumerate(records):
        key = record.key or str(index)
        if key not in found or found[key].status != "FINISHED":
            found[key] = record
    return list(found.values())


def _grouping_keys(records: Sequence[Record]) -> list[str]:
    """Keys of model and data that differ between runs; a limit on length is a choice like others.

    `data.max_length` changes what a model sees of the same texts.
    """
    values: dict[str, set[str]] = {}
    for record in records:
        for key, value in record.swept.items():
            if key.partition(".")[0] in ("model", "data") and key != "data.max_length":
                values.setdefault(key, set()).add(value)
    return [key for key, found in values.items() if len(found) > 1]


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
            metric: interval(found, confidence, limits_of(metric))
            for metric, found in values.items()
            if found
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
"""Direction of every metric that is ranked; sizes are facts of a strategy and are not."""
