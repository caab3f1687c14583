"""Recommend the cheapest strategy that is not worse than the best by more than the margin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sweep.base.words import Remark, Text, named
from sweep.comparison import caveats
from sweep.comparison.results import MIN_SEEDS, Difference, Recommendation, Row
from sweep.config.schema import CompareConfig


@dataclass(frozen=True)
class Cost:
    """A cost that a recommendation can make small."""

    name: str
    metric: str

    @property
    def words(self) -> Remark:
        """The end of "the cheapest by ..."."""
        return Remark(f"cheapest.{self.name}")

    def amount(self, value: float) -> Remark:
        """Return a value with its unit."""
        return Remark(f"amount.{self.name}", {"value": value})

    def of(self, row: Row) -> Remark:
        """Return what a strategy takes on average; for arithmetic, the time that it took here."""
        shown = "train_runtime_s" if self.name == "flops" else self.metric
        return self.amount(row.metrics[shown if shown in row.metrics else self.metric].mean)


COSTS = {
    "time": Cost("time", "train_runtime_s"),
    "memory": Cost("memory", "peak_memory_mib"),
    "parameters": Cost("parameters", "trainable_params"),
    "checkpoint": Cost("checkpoint", "checkpoint_mib"),
    "flops": Cost("flops", "train_flops"),
}


def recommend(
    chosen: Sequence[Row],
    differences: Sequence[Difference],
    metric: str,
    options: CompareConfig,
    warnings: list[Text],
    unfit: Mapping[str, Remark] = MappingProxyType({}),
) -> Recommendation | None:
    """Apply the rule to the strategies of one group.

    Args:
        chosen: One row per strategy.
        differences: All pairs of these strategies.
        metric: The metric that quality is judged by.
        options: Margin, cost and limits.
        warnings: Extended in place by a remark on why there is no recommendation, or on the cost
            used in place of one that cannot be ranked.
        unfit: By label, why a strategy cannot be recommended whatever it costs.
    """
    rows = [row for row in chosen if metric in row.metrics]
    excluded = {
        row.label: over
        for row in rows
        if (over := unfit.get(row.label) or _over_limit(row, options))
    }
    allowed = [row for row in rows if row.label not in excluded]
    if not allowed or len(rows) < 2:
        warnings.append(_no_recommendation(rows, excluded))
        return None
    cost = _rankable_cost(allowed, options.cost, warnings)
    best = max(allowed, key=lambda row: row.metrics[metric].mean)
    lows = {row.label: _low(row.label, best.label, metric, differences) for row in allowed}
    good = [row for row in allowed if lows[row.label] > -options.margin]
    if any(cost.metric not in row.metrics for row in good):
        warnings.append(Remark("no_choice.missing", {"metric": cost.metric}))
        return None
    ranked = sorted(good, key=lambda row: row.metrics[cost.metric].mean)
    winner = ranked[0]
    if winner is best:
        others = [r.metrics[cost.metric].mean for r in allowed if cost.metric in r.metrics]
        reason = _is_best(best, metric, cost, min(others))
    else:
        reason = _is_cheaper(winner, best, lows[winner.label], metric, cost)
    few = any(row.finished < MIN_SEEDS for row in allowed)
    return Recommendation(
        strategy=winner.strategy,
        configuration=winner.name,
        cost=cost.name,
        margin=options.margin,
        reason=Remark("reason.provisional", {"reason": reason}) if few else reason,
        rule=rule(metric, cost, options),
        candidates=tuple(row.label for row in ranked),
        provisional=few,
        rival=_open_rival(best, allowed, metric, differences) if winner is best else "",
        excluded=tuple(
            Remark("limit.of", {"strategy": label, "over": over})
            for label, over in excluded.items()
        ),
    )


def _open_rival(
    best: Row, rows: Sequence[Row], metric: str, differences: Sequence[Difference]
) -> str:
    """Return the runner-up, within its group, where it is undecided against the best, else ""."""
    others = sorted((r for r in rows if r is not best), key=lambda r: -r.metrics[metric].mean)
    pair = {best.label, others[0].label} if others else set()
    tests = [d for d in differences if d.metric == metric and {d.a, d.b} == pair]
    is_open = bool(others) and all(d.verdict == "undecided" for d in tests)
    return others[0].strategy if is_open else ""


def rule(metric: str, cost: Cost, options: CompareConfig) -> Remark:
    """Return the rule of the recommendation in one sentence."""
    limits = tuple(
        Remark(f"limit.{name}", {"limit": limit})
        for name, limit in (("memory", options.max_memory_mib), ("time", options.max_time_s))
        if limit is not None
    )
    values = {
        "cost": cost.words,
        "metric": metric_name(metric),
        "margin": points(options.margin),
        "confidence": f"{options.confidence * 100:g}%",
        "limits": limits,
    }
    return Remark("rule.limited" if limits else "rule.plain", values)


def points(difference: float) -> Remark:
    """Return a difference of shares in percentage points."""
    value = f"{difference * 100:.2f}".rstrip("0").rstrip(".")
    return Remark("page.point" if value == "1" else "page.points", {"n": value})


def metric_name(metric: str) -> Remark:
    """Return the name of a metric in words, such as `test accuracy`."""
    split, _, name = metric.partition("_")
    return Remark("page.metric", {"split": named("split", split), "metric": named("metric", name)})


def _over_limit(row: Row, options: CompareConfig) -> Remark | None:
    """Return the limit that any run of a strategy exceeds, or that cannot be checked; else None."""
    limits = {
        "memory": ("compare.max_memory_mib", options.max_memory_mib),
        "time": ("compare.max_time_s", options.max_time_s),
    }
    for name, (key, limit) in limits.items():
        if limit is None:
            continue
        cost = COSTS[name]
        values = {"metric": cost.metric, "key": key, "limit": limit}
        runs = [run.metrics for run in caveats.finished([row])]
        took = [metrics[cost.metric] for metrics in runs if cost.metric in metrics]
        if not took:
            return Remark("limit.unknown", values)
        if not max(took) <= limit:
            return Remark("limit.above", values | {"amount": cost.amount(max(took))})
    return None


def _no_recommendation(rows: Sequence[Row], excluded: dict[str, Remark]) -> Remark:
    if len(rows) > 1:
        reasons = tuple(
            Remark("limit.of_all", {"strategy": label, "over": over})
            for label, over in excluded.items()
        )
        return Remark("no_choice.limits", {"reasons": reasons})
    return Remark("no_choice.one" if rows else "no_choice.none")


def _rankable_cost(rows: Sequence[Row], name: str, warnings: list[Text]) -> Cost:
    """Return the cost asked for, or a substitute, with a warning, when it cannot be ranked."""
    if name == "time" and (problems := caveats.timing_problems(rows)):
        warnings.append(Remark("warning.not_by_time", {"problems": problems}))
        return COSTS["flops"]
    if name == "memory" and len(devices := caveats.devices(rows)) > 1:
        warnings.append(Remark("warning.not_by_memory", {"devices": devices}))
        return COSTS["parameters"]
    return COSTS[name]


def _low(label: str, best: str, metric: str, differences: Sequence[Difference]) -> float:
    """Return the lower end of the interval of a strategy minus the best; -inf without a test."""
    if label == best:
        return 0.0
    for difference in differences:
        if difference.metric == metric and {difference.a, difference.b} == {label, best}:
            return difference.low if difference.a == label else -difference.high
    return float("-inf")


def _is_best(best: Row, metric: str, cost: Cost, least: float) -> Remark:
    values = {
        "best": best.label,
        "metric": metric_name(metric),
        "score": best.metrics[metric].mean,
        "amount": cost.of(best),
        "cost": cost.words,
    }
    cheapest = best.metrics[cost.metric].mean <= least
    return Remark("reason.cheapest_too" if cheapest else "reason.best", values)


def _is_cheaper(winner: Row, best: Row, low: float, metric: str, cost: Cost) -> Remark:
    values = {
        "winner": winner.label,
        "best": best.label,
        "metric": metric_name(metric),
        "own": winner.metrics[metric].mean,
        "top": best.metrics[metric].mean,
        "took": cost.of(winner),
        "takes": cost.of(best),
        "cost": cost.words,
        "behind": points(max(-low, 0)),
    }
    return Remark("reason.cheaper", values)
