"""Pick the runs and the checkpoint that a recommendation is about."""

from __future__ import annotations

import math

from sweep.comparison.results import Comparison
from sweep.runs.record import Record


def winners(comparison: Comparison) -> list[Record]:
    """Return the finished runs of every recommended configuration."""
    names = {
        (recommendation.configuration, group)
        for group, recommendation in comparison.recommendations.items()
    }
    return [
        record
        for row in comparison.chosen
        if (row.name, row.group) in names
        for record in row.records
        if record.status == "FINISHED"
    ]


def checkpoints(comparison: Comparison) -> list[Record]:
    """Return, per data and model, the run with a saved model and the lowest validation loss."""
    saved: dict[str, Record] = {}
    for record in winners(comparison):
        label = f"{record.params.get('data')} {record.params.get('model')}"
        loss = record.metrics.get("eval_loss", math.inf)
        if record.paths.model.is_dir() and (
            label not in saved or loss < saved[label].metrics.get("eval_loss", math.inf)
        ):
            saved[label] = record
    return list(saved.values())
