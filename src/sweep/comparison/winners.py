"""Pick the runs that a recommendation names."""

from __future__ import annotations

import math

from sweep.comparison.results import Comparison
from sweep.runs.record import Record


def winners(found: Comparison) -> list[Record]:
    """Finished runs of every recommended configuration."""
    names = {
        (recommendation.configuration, group)
        for group, recommendation in found.recommendations.items()
    }
    return [
        record
        for row in found.chosen
        if (row.name, row.group) in names
        for record in row.records
        if record.status == "FINISHED"
    ]


def checkpoints(found: Comparison) -> list[Record]:
    """Per recommendation, the run with a saved model that validation prefers."""
    saved: dict[str, Record] = {}
    for record in winners(found):
        label = f"{record.params.get('data')} {record.params.get('model')}"
        loss = record.metrics.get("eval_loss", math.inf)
        if record.paths.model.is_dir() and (
            label not in saved or loss < saved[label].metrics.get("eval_loss", math.inf)
        ):
            saved[label] = record
    return list(saved.values())
