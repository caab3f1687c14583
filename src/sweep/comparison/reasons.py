"""Why a strategy is fast or not, and when to take it: the table that closes the notebook."""

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
"""Cost -> the situation in which the strategy that makes it smallest is the one to take."""
CLOSE = 1.05
"""A cost up to this times the smallest counts as the smallest: less of a saving decides nothing."""


def why(rows: Sequence[Row]) -> dict[str, Remark]:
    """Per strategy, what its backward pass still has to do, and what that came to.

    Args:
        rows: One per strategy, of one group.
    """
    full = _reference(rows)
    return {row.label: _compared(_depth(row), row, full, rows) for row in rows}


def when(rows: Sequence[Row], differences: Sequence[Difference], metric: str) -> dict[str, Remark]:
    """Per strategy, the situations in which this sweep speaks for it.

    Args:
        rows: One per strategy, of one group, without those that learnt nothing: a cheap run that
            predicts one class is no use for anything.
        differences: Of their pairs.
        metric: What counts as good.
    """
    found = {row.label: _quality(row, rows, differences, metric) for row in rows}
    costs = {k: v for k, v in USES.items() if k != "train_runtime_s" or _timed(rows)}
    for cost, situation in costs.items():
        own = {row.label: row.metrics[cost].mean for row in rows if cost in row.metrics}
        limit = min(own.values(), default=0.0) * CLOSE
        close = [label for label, value in own.items() if value <= limit]
        if 0 < len(close) < len(rows):
            for label in close:
                found[label].append(Remark(situation))
    return {
        label: Remark("when.take", {"situations": tuple(situations)})
        if situations
        else Remark("when.nothing")
        for label, situations in found.items()
    }


def _quality(
    row: Row, rows: Sequence[Row], differences: Sequence[Difference], metric: str
) -> list[Remark]:
    """What speaks for a strategy in quality: that it is best, as good, or not told apart.

    One that is equivalent, but shown to lie below the best, has its costs to speak for it.
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
    """What the others are measured against: the strategy with the most arithmetic."""
    known = [row for row in rows if "train_flops" in row.metrics]
    return max(known, key=lambda row: row.metrics["train_flops"].mean, default=None)


def _depth(row: Row) -> Remark:
    """Through how much of the model the gradient goes."""
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


def _compared(depth: Remark, row: Row, full: Row | None, rows: Sequence[Row]) -> Remark:
    """The depth, with arithmetic and time against the costliest strategy."""
    if full is None or row is full or "train_flops" not in row.metrics:
        return depth
    parts = [Remark("why.arithmetic", {"share": _ratio(row, full, "train_flops")})]
    times = "train_runtime_s"
    if times in row.metrics and times in full.metrics and _timed(rows):
        parts.append(Remark("why.time", {"share": _ratio(row, full, times)}))
    return Remark("why.compared", {"depth": depth, "parts": tuple(parts), "other": full.label})


def _ratio(row: Row, full: Row, metric: str) -> float:
    return row.metrics[metric].mean / max(full.metrics[metric].mean, 1e-9)
