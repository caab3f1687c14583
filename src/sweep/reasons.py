"""Why a strategy is fast or not, and when to take it: the table that closes the notebook."""

from __future__ import annotations

from collections.abc import Sequence

from sweep import fairness
from sweep.results import Difference, Row

USES = {
    "train_runtime_s": "time to train is short",
    "peak_memory_mib": "memory is short",
    "checkpoint_mib": "many tasks share one backbone, or checkpoints travel",
}
"""Cost -> the situation in which the strategy that makes it smallest is the one to take."""


def why(rows: Sequence[Row]) -> dict[str, str]:
    """Per strategy, what its backward pass still has to do, and what that came to.

    Args:
        rows: One per strategy, of one group.
    """
    full = _reference(rows)
    return {row.label: f"{_depth(row)}{_compared(row, full, rows)}" for row in rows}


def when(rows: Sequence[Row], differences: Sequence[Difference], metric: str) -> dict[str, str]:
    """Per strategy, the situations in which this sweep speaks for it.

    Args:
        rows: One per strategy, of one group.
        differences: Of their pairs.
        metric: What counts as good.
    """
    found = {row.label: _quality(row, rows, differences, metric) for row in rows}
    costs = {k: v for k, v in USES.items() if k != "train_runtime_s" or _timed(rows)}
    for cost, situation in costs.items():
        own = {row.label: row.metrics[cost].mean for row in rows if cost in row.metrics}
        smallest = min(own.values(), default=0.0)
        # A saving below 5 % decides nothing.
        close = [label for label, value in own.items() if value <= smallest * 1.05]
        if 0 < len(close) < len(rows):
            for label in close:
                found[label].append(situation)
    return {
        label: f"when {'; or '.join(situations)}" if situations else "nothing here speaks for it"
        for label, situations in found.items()
    }


def _quality(
    row: Row, rows: Sequence[Row], differences: Sequence[Difference], metric: str
) -> list[str]:
    """What speaks for a strategy in quality: that it is best, equivalent, or not told apart."""
    known = [row for row in rows if metric in row.metrics]
    if row not in known:
        return []
    top = max(known, key=lambda row: row.metrics[metric].mean)
    pair = {row.label, top.label}
    verdicts = [d.verdict for d in differences if d.metric == metric and {d.a, d.b} == pair]
    if row is top or "equivalent" in verdicts:
        return ["quality counts most"]
    return ["quality counts most, if more seeds confirm it"] if "undecided" in verdicts else []


def _timed(rows: Sequence[Row]) -> bool:
    return not fairness.timing_problems(rows)


def _reference(rows: Sequence[Row]) -> Row | None:
    """What the others are measured against: the strategy with the most arithmetic."""
    known = [row for row in rows if "train_flops" in row.metrics]
    return max(known, key=lambda row: row.metrics["train_flops"].mean, default=None)


def _depth(row: Row) -> str:
    tags = next((record.tags for record in fairness.finished([row])), {})
    try:
        layers, depth = int(tags["sweep.layers"]), int(tags["sweep.lowest_trained_depth"])
    except (KeyError, ValueError):
        return "how far it back-propagates was not recorded"
    if layers < 1:
        return "the model's parts name no layers to count"
    share = row.metrics.get("trainable_fraction")
    small = f"trains only {share.mean:.1%} of the parameters but " if _few(row) and share else ""
    if depth == 0:
        return f"{small}back-propagates through all {layers} layers down to the embeddings"
    if depth == 1:
        still = "still " if small else ""
        return f"{small}{still}back-propagates through all {layers} layers"
    if depth > layers:
        return f"back-propagates through none of the {layers} layers: they only run forward"
    return f"back-propagates through the top {layers - depth + 1} of {layers} layers"


def _few(row: Row) -> bool:
    share = row.metrics.get("trainable_fraction")
    return share is not None and share.mean < 0.5


def _compared(row: Row, full: Row | None, rows: Sequence[Row]) -> str:
    """Arithmetic and time against the costliest strategy."""
    if full is None or row is full or "train_flops" not in row.metrics:
        return ""
    parts = [f"{_ratio(row, full, 'train_flops'):.0%} of the arithmetic"]
    times = "train_runtime_s"
    if times in row.metrics and times in full.metrics and _timed(rows):
        parts.append(f"{_ratio(row, full, times):.0%} of the time")
    return f"; {' and '.join(parts)} of {full.label}"


def _ratio(row: Row, full: Row, metric: str) -> float:
    return row.metrics[metric].mean / max(full.metrics[metric].mean, 1e-9)
