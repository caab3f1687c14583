"""Finished runs -> what can be said of the strategies; no mlflow and no plotting.

Seeds are replicates and never a choice. Where something else was swept, each strategy enters with
the value that validation prefers; the test split chooses nothing.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from sweep import fairness, inference, predictions, reasons, recommend
from sweep.config import CompareConfig
from sweep.predictions import Predictions, PredictionsError
from sweep.results import (
    Baseline,
    Comparison,
    Difference,
    Interval,
    Recommendation,
    Row,
)
from sweep.run import Record

__all__ = [
    "HIGHER_IS_BETTER",
    "Baseline",
    "Comparison",
    "Difference",
    "Interval",
    "Recommendation",
    "Row",
    "best",
    "compare",
    "interval",
    "rollup",
    "table",
]

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
METRICS = ("accuracy", "f1")
"""What strategies are tested on."""
CHOICE = (
    "Per strategy, the configuration with the lowest mean validation loss over its seeds; test"
    " scores choose nothing."
)


def compare(
    records: Sequence[Record],
    options: CompareConfig | None = None,
    baselines: Sequence[Baseline] = (),
) -> Comparison:
    """Everything that is said of a sweep.

    Args:
        records: Of one sweep, or of several that are to be read as one.
        options: Margin, confidence, and what the recommendation is about.
        baselines: Of the same split, to be shown beside.
    """
    options = options or CompareConfig()
    rows = table(records)
    chosen = choose(rows)
    split = _split(chosen)
    warnings = fairness.warnings(rows, chosen, split)
    found = Comparison(
        rows=rows,
        chosen=chosen,
        split=split,
        differences=[],
        baselines=list(baselines),
        warnings=warnings,
        recommendation=None,
        metric=f"{split}_{options.metric}",
        margin=options.margin,
        confidence=options.confidence,
        budgets=fairness.tuning_budgets(rows),
        choice=CHOICE if len(chosen) < len([row for row in rows if row.finished]) else "",
    )
    for group in dict.fromkeys(row.group for row in chosen):
        _judge(found, group, options)
    if len(found.recommendations) == 1:
        (only,) = found.recommendations.values()
        return replace(found, recommendation=only)
    return found


def _judge(found: Comparison, group: str, options: CompareConfig) -> None:
    """Add what is said of the strategies of one group."""
    rows = [row for row in found.chosen if row.group == group]
    differences = _differences(rows, found.split, options, found.warnings)
    found.differences.extend(differences)
    found.reasons.update(reasons.why(rows))
    found.uses.update(reasons.when(rows, differences, found.metric))
    choice = recommend.recommend(rows, differences, found.metric, options, found.warnings)
    if choice is not None:
        found.recommendations[group] = choice


def table(records: Sequence[Record]) -> list[Row]:
    """Group replicates and average them, in the order in which configurations were run."""
    grouped = _grouping_keys(records)
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(configuration(record), []).append(record)
    return [_row(name, group, grouped) for name, group in groups.items()]


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


def _preference(row: Row) -> tuple[float, float, float]:
    """Smaller is better; among equals, the one that was run first.

    Configurations that lost runs come last: the mean of the seeds that survived flatters them.
    Loss comes before accuracy, as the Trainer chooses checkpoints by it too, and because it sees
    differences that leave a few hundred validation texts on the same side.
    """
    loss, accuracy = (row.metrics.get(name) for name in ("eval_loss", "eval_accuracy"))
    return (
        len(row.failures) / (len(row.failures) + row.finished),
        loss.mean if loss else math.inf,
        -accuracy.mean if accuracy else math.inf,
    )


def best(rows: Sequence[Row], metric: str) -> set[str]:
    """Names of the rows with the best mean; none where fewer than two can be compared."""
    found = {row.name: row.metrics[metric].mean for row in rows if metric in row.metrics}
    if len(found) < 2:
        return set()
    target = max(found.values()) if HIGHER_IS_BETTER[metric] else min(found.values())
    return {name for name, value in found.items() if value == target}


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and Student's t interval."""
    from scipy.special import stdtrit

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Interval(mean, n)
    sd = statistics.stdev(values)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * sd / math.sqrt(n)
    return Interval(mean, n, mean - half, mean + half, sd)


@dataclass(frozen=True)
class _Scored:
    """A chosen configuration with its stored predictions scored."""

    label: str
    seeds: tuple[int, ...]
    scores: dict[str, np.ndarray]
    """Per metric, (seeds, texts)."""

    def pick(self, metric: str, seeds: Iterable[int]) -> np.ndarray:
        """Rows of these seeds, in this order."""
        return self.scores[metric][[self.seeds.index(seed) for seed in seeds]]


def _differences(
    rows: Sequence[Row], split: str, options: CompareConfig, warnings: list[str]
) -> list[Difference]:
    """Every pair of one group, for every metric."""
    scored = _score(rows, warnings)
    pairs = list(combinations(scored, 2))
    found: list[Difference] = []
    for metric in METRICS:
        tested = [_test(a, b, metric) for a, b in pairs]
        adjusted = inference.holm([test.p_value for test in tested])
        level = 1 - options.confidence
        undecided = max(sum(p > level for p in adjusted), 1)
        for (a, b), test, p in zip(pairs, tested, adjusted, strict=True):
            half = test.estimate.half_width(options.confidence)
            mean = test.estimate.mean
            verdict = _verdict(test, half, p, options)
            more = None
            if verdict == "undecided":
                more = inference.more_seeds(
                    test.estimate, test.seeds, options.margin, level / undecided
                )
            found.append(
                Difference(
                    f"{split}_{metric}", a.label, b.label, mean, mean - half, mean + half,
                    test.p_value, p, verdict, test.method, more, test.seeds, test.texts,
                )
            )  # fmt: skip
    return found


@dataclass(frozen=True)
class _Test:
    estimate: inference.Estimate
    p_value: float
    method: str
    seeds: int
    texts: int


def _test(a: _Scored, b: _Scored, metric: str) -> _Test:
    common = [seed for seed in a.seeds if seed in b.seeds]
    smaller = min(len(a.seeds), len(b.seeds))
    if len(common) >= 2 or (common and smaller == 1):
        left, right = a.pick(metric, common), b.pick(metric, common)
        estimate, seeds = inference.paired(left, right), len(common)
    else:
        left, right = a.scores[metric], b.scores[metric]
        estimate, seeds = inference.unpaired(left, right), smaller
    texts = left.shape[1]
    if seeds > 1:
        return _Test(estimate, estimate.p_value(), "t over seeds and texts", seeds, texts)
    if metric == "accuracy":
        return _Test(estimate, inference.mcnemar(left[0], right[0]), "exact McNemar", seeds, texts)
    return _Test(estimate, estimate.p_value(), "z over texts", seeds, texts)


def _verdict(test: _Test, half: float, p: float, options: CompareConfig) -> str:
    """What can be claimed; one seed says nothing about the next one, so then nothing can."""
    mean = test.estimate.mean
    if test.seeds < 2:
        return "undecided"
    if p <= 1 - options.confidence:
        return "better" if mean > 0 else "worse"
    # Two one-sided tests (Schuirmann 1987) would take the 90 % interval; this is the stricter one
    # that is shown, so that a reader can check the word against the numbers.
    if -options.margin < mean - half and mean + half < options.margin:
        return "equivalent"
    return "undecided"


def _score(rows: Sequence[Row], warnings: list[str]) -> list[_Scored]:
    """Predictions of every row that has any on the group's test set."""
    first: Predictions | None = None
    scored = []
    for row in rows:
        found: dict[int, Predictions] = {}
        for record in _finished(row.records):
            try:
                run = predictions.read(Path(record.folder))
            except PredictionsError as error:
                warnings.append(f"{record.name} is left out of the tests: its predictions {error}")
                continue
            first = first or run
            if not run.same_test(first):
                warnings.append(
                    f"{record.name} is left out of the tests: its test texts are not those of the"
                    " other runs, so a difference could be theirs"
                )
                continue
            found[_seed(record, len(found))] = run
        if found:
            matrices = predictions.scores(list(found.values()))
            scored.append(_Scored(row.label, tuple(found), matrices))
    return scored


def _seed(record: Record, default: int) -> int:
    return int(record.params.get("seed", record.swept.get("seed", default)))


def _finished(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.status == "FINISHED"]


def _split(rows: Sequence[Row]) -> str:
    return "test" if not rows or any("test_accuracy" in row.metrics for row in rows) else "eval"


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


def _row(name: str, group: Sequence[Record], grouped: Sequence[str]) -> Row:
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
        trains=next((r.tags["sweep.trains"] for r in finished if "sweep.trains" in r.tags), ""),
        finished=len(finished),
        failures=tuple(
            f"{record.name}: {record.status}: {record.reason}"
            for record in group
            if record.status != "FINISHED"
        ),
        metrics={metric: interval(found) for metric, found in values.items() if found},
        records=tuple(group),
        group=" ".join(f"{key}={swept[key]}" for key in grouped if key in swept),
    )
