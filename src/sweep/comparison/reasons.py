"""Explain why a strategy is fast or slow, and when to take it."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.base.words import Remark
from sweep.comparison import caveats
from sweep.comparison.results import Difference, Row
from sweep.tracking.tags import Tag, number

USES = {
    "train_runtime_s": "when.time",
    "peak_memory_mib": "when.memory",
    "checkpoint_mib": "when.checkpoint",
}
"""Per cost, the situation that calls for the strategy with the smallest one."""
CLOSE = 1.05
"""Factor up to which a cost counts as the smallest: a smaller saving decides nothing."""


def explain_speed(rows: Sequence[Row]) -> dict[str, Remark]:
    """Return, by label, how deep the backward pass of a strategy goes, and what that costs.

    Args:
        rows: One per strategy, of one group.
    """
    costliest = _reference(rows)
    return {row.label: _compared(_depth(row), row, costliest, rows) for row in rows}


def list_uses(
    rows: Sequence[Row], differences: Sequence[Difference], metric: str
) -> dict[str, Remark]:
    """Return, by label, the situations in which to take a strategy, as far as the runs show.

    Args:
        rows: One per strategy, of one group, without those that learnt nothing: a cheap run that
            predicts one class is of no use.
        differences: All pairs of these strategies.
        metric: The metric that quality is judged by.
    """
    by_strategy = {row.label: _quality(row, rows, differences, metric) for row in rows}
    costs = {k: v for k, v in USES.items() if k != "train_runtime_s" or _timed(rows)}
    for cost, situation in costs.items():
        means = {row.label: row.metrics[cost].mean for row in rows if cost in row.metrics}
        limit = min(means.values(), default=0.0) * CLOSE
        close = [label for label, value in means.items() if value <= limit]
        if 0 < len(close) < len(rows):
            for label in close:
                by_strategy[label].append(Remark(situation))
    return {
        label: Remark("when.take", {"situations": tuple(situations)})
        if situations
        else Remark("when.nothing")
        for label, situations in by_strategy.items()
    }


def _quality(
    row: Row, rows: Sequence[Row], differences: Sequence[Difference], metric: str
) -> list[Remark]:
    """Return the remark that a strategy is the best, as good, or not shown to be worse.

    A strategy that is equivalent but shown to lie below the best gets none: its costs speak for it.
    """
    known = [row for row in rows if metric in row.metrics]
    if row not in known:
        return []
    top = max(known, key=lambda row: row.metrics[metric].mean)
    pair = {row.label, top.label}
    if row is top:
        return [Remark("when.quality")]
    for d in differences:
        if d.metric == metric and {d.a, d.b} == pair and d.low <= 0 <= d.high:
            return [Remark("when.quality" if d.verdict == "equivalent" else "when.quality_perhaps")]
    return []


def _timed(rows: Sequence[Row]) -> bool:
    return not caveats.timing_problems(rows)


def _reference(rows: Sequence[Row]) -> Row | None:
    """Return the strategy with the most arithmetic, which the others are compared with."""
    known = [row for row in rows if "train_flops" in row.metrics]
    return max(known, key=lambda row: row.metrics["train_flops"].mean, default=None)


def _depth(row: Row) -> Remark:
    """Return through how much of the model the gradient of a strategy passes."""
    tags = next((record.tags for record in caveats.finished([row])), {})
    layers, depth = number(tags, Tag.LAYERS), number(tags, Tag.LOWEST_TRAINED_DEPTH)
    if layers is None or depth is None:
        return Remark("why.unknown")
    if layers < 1:
        return Remark("why.no_layers")
    if depth > layers:
        return Remark("why.none", {"layers": layers})
    if depth > 1:
        return Remark("why.top", {"passed": layers - depth + 1, "layers": layers})
    share = row.metrics.get("trainable_fraction")
    if share is None or share.mean >= 0.5:
        return Remark("why.all" if depth else "why.embeddings", {"layers": layers})
    few = {"layers": layers, "share": share.mean}
    return Remark("why.few_all" if depth else "why.few_embeddings", few)


def _compared(depth: Remark, row: Row, costliest: Row | None, rows: Sequence[Row]) -> Remark:
    """Return the depth with the shares of arithmetic and time of the costliest strategy."""
    if costliest is None or row is costliest or "train_flops" not in row.metrics:
        return depth
    parts = [Remark("why.arithmetic", {"share": _ratio(row, costliest, "train_flops")})]
    times = "train_runtime_s"
    if times in row.metrics and times in costliest.metrics and _timed(rows):
        parts.append(Remark("why.time", {"share": _ratio(row, costliest, times)}))
    return Remark("why.compared", {"depth": depth, "parts": tuple(parts), "other": costliest.label})


def _ratio(row: Row, costliest: Row, metric: str) -> float:
    return row.metrics[metric].mean / max(costliest.metrics[metric].mean, 1e-9)
