"""Which strategy to take: the cheapest that is not worse than the best by more than the margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweep import fairness
from sweep.config import CompareConfig
from sweep.results import Difference, Recommendation, Row


@dataclass(frozen=True)
class Cost:
    """What can be made small."""

    name: str
    metric: str
    words: str
    """Completes "the cheapest by ..."."""
    form: str


COSTS = {
    "time": Cost("time", "train_runtime_s", "training time", "{:,.1f} s"),
    "memory": Cost("memory", "peak_memory_mib", "peak memory", "{:,.0f} MiB"),
    "parameters": Cost("parameters", "trainable_params", "trained parameters", "{:,.0f}"),
    "checkpoint": Cost("checkpoint", "checkpoint_mib", "size of the checkpoint", "{:,.1f} MiB"),
    "flops": Cost("flops", "train_flops", "arithmetic of training", "{:.2e} FLOPs"),
}


CAVEAT = (
    " Provisional: with one seed this is about these trained models, for one seed says nothing"
    " about training noise; run seed=0,1,2."
)


def recommend(
    chosen: Sequence[Row],
    differences: Sequence[Difference],
    metric: str,
    options: CompareConfig,
    warnings: list[str],
) -> Recommendation | None:
    """Apply the rule to the strategies of one group.

    Args:
        chosen: One row per strategy.
        differences: Of their pairs.
        metric: What counts as good.
        options: Margin, cost and limits.
        warnings: Gets a sentence on why there is no recommendation, or on what was used in place
            of a cost that cannot be ranked.
    """
    rows = [row for row in chosen if metric in row.metrics]
    excluded = {row.label: text for row in rows if (text := _over_limit(row, options))}
    allowed = [row for row in rows if row.label not in excluded]
    if not allowed or len(rows) < 2:
        warnings.append(_no_recommendation(rows, excluded))
        return None
    cost = _rankable_cost(allowed, options.cost, warnings)
    best = max(allowed, key=lambda row: row.metrics[metric].mean)
    lows = {row.label: _low(row.label, best.label, metric, differences) for row in allowed}
    good = [row for row in allowed if lows[row.label] > -options.margin]
    if any(cost.metric not in row.metrics for row in good):
        warnings.append(f"no recommendation: {cost.metric} is missing in some runs")
        return None
    ranked = sorted(good, key=lambda row: row.metrics[cost.metric].mean)
    winner = ranked[0]
    if winner is best:
        others = [r.metrics[cost.metric].mean for r in allowed if cost.metric in r.metrics]
        reason = _is_best(best, metric, cost, min(others))
    else:
        reason = _is_cheaper(winner, best, lows[winner.label], metric, cost)
    single = any(row.finished < 2 for row in allowed)
    return Recommendation(
        strategy=winner.strategy,
        configuration=winner.name,
        cost=cost.name,
        margin=options.margin,
        reason=reason + (CAVEAT if single else ""),
        rule=rule(metric, cost, options),
        candidates=tuple(row.label for row in ranked),
        provisional=single,
        excluded=tuple(f"{label}: {text}" for label, text in excluded.items()),
    )


def rule(metric: str, cost: Cost, options: CompareConfig) -> str:
    """The rule in one sentence."""
    limits = [
        f"at most {limit:g} {unit}"
        for limit, unit in (
            (options.max_memory_mib, "MiB of memory"),
            (options.max_time_s, "s of training"),
        )
        if limit is not None
    ]
    under = f", among those that take {' and '.join(limits)}" if limits else ""
    return (
        f"The cheapest strategy by {cost.words} that is not worse than the best in {_plain(metric)}"
        f" by more than {points(options.margin)} at {options.confidence:.0%} confidence{under}."
    )


def points(difference: float) -> str:
    """A difference of shares in points."""
    value = f"{difference * 100:.2f}".rstrip("0").rstrip(".")
    return f"{value} {'point' if value == '1' else 'points'}"


def _plain(metric: str) -> str:
    split, _, name = metric.partition("_")
    return f"{'validation' if split == 'eval' else split} {'macro-F1' if name == 'f1' else name}"


def _over_limit(row: Row, options: CompareConfig) -> str:
    """What a strategy exceeds in any of its runs; empty when it keeps the limits."""
    limits = {
        "peak_memory_mib": ("compare.max_memory_mib", options.max_memory_mib, "memory"),
        "train_runtime_s": ("compare.max_time_s", options.max_time_s, "time"),
    }
    for metric, (key, limit, cost) in limits.items():
        if limit is None:
            continue
        took = [r.metrics[metric] for r in fairness.finished([row]) if metric in r.metrics]
        if not took:
            return f"{metric} is not known, so {key}={limit:g} cannot be checked"
        if not max(took) <= limit:
            return f"{COSTS[cost].form.format(max(took))}, above {key}={limit:g}"
    return ""


def _no_recommendation(rows: Sequence[Row], excluded: dict[str, str]) -> str:
    if len(rows) > 1:
        reasons = "; ".join(f"{label} {text}" for label, text in excluded.items())
        return f"no recommendation: nothing keeps the limits ({reasons})"
    count = "only one strategy has" if rows else "no strategy has"
    return f"no recommendation: {count} results to compare"


def _rankable_cost(rows: Sequence[Row], name: str, warnings: list[str]) -> Cost:
    """The cost that was asked for, or what stands in for it where it cannot be ranked."""
    if name == "time" and (problems := fairness.timing_problems(rows)):
        warnings.append(
            "the recommendation ranks by the arithmetic of training (train_flops) and not by time:"
            f" {'; '.join(problems)}"
        )
        return COSTS["flops"]
    if name == "memory" and len(found := fairness.devices(rows)) > 1:
        warnings.append(
            "the recommendation ranks by trained parameters and not by memory: runs had different"
            f" devices ({', '.join(found)})"
        )
        return COSTS["parameters"]
    return COSTS[name]


def _low(label: str, best: str, metric: str, differences: Sequence[Difference]) -> float:
    """Lower end of the interval of a strategy minus the best; -inf where the two have no test."""
    if label == best:
        return 0.0
    for found in differences:
        if found.metric == metric and {found.a, found.b} == {label, best}:
            return found.low if found.a == label else -found.high
    return float("-inf")


def _is_best(best: Row, metric: str, cost: Cost, least: float) -> str:
    took = best.metrics[cost.metric].mean
    others = "no cheaper one was shown to be as good" if took > least else "is the cheapest too"
    return (
        f"{best.label} has the best mean {_plain(metric)}, {best.metrics[metric].mean:.3f}, for"
        f" {cost.form.format(took)} ({cost.words}), and {others}."
    )


def _is_cheaper(winner: Row, best: Row, low: float, metric: str, cost: Cost) -> str:
    own, top = (row.metrics[metric].mean for row in (winner, best))
    took, takes = (cost.form.format(row.metrics[cost.metric].mean) for row in (winner, best))
    return (
        f"{winner.label} reached {_plain(metric)} {own:.3f} for {took} ({cost.words});"
        f" {best.label}, the best, reached {top:.3f} for {takes}, and {winner.label} is at most"
        f" {points(max(-low, 0))} behind."
    )
