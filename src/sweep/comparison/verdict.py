"""Records -> the whole verdict with its baselines, and what of it goes to files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweep.base.words import Remark
from sweep.comparison import baselines, compare
from sweep.comparison.results import Comparison, Row
from sweep.config.schema import CompareConfig, Config, ConfigError
from sweep.runs.record import Record, saved_config

BASELINES = "baselines.json"


def judge(records: Sequence[Record], options: CompareConfig, folder: Path | None) -> Comparison:
    """Compare, with the baselines of the same split beside.

    Args:
        records: Of one sweep, or of several.
        options: Margin, confidence, cost and limits.
        folder: Where baselines are kept once they are computed; None computes none.
    """
    found, problem = [], None
    if folder is not None and any(record.status == "FINISHED" for record in records):
        try:
            found = baselines.of_records(records, folder / BASELINES)
        except ConfigError as error:
            problem = Remark("warning.no_data", {"error": error.messages[0]})
        except OSError as error:
            problem = Remark("warning.no_baselines", {"error": str(error)})
    result = compare.compare(records, options, found)
    if problem:
        result.warnings.append(problem)
    return result


def settings(records: Sequence[Record]) -> Config:
    """How the sweep was asked to compare and report; the defaults where that was not kept."""
    for record in records:
        if (Path(record.folder) / "config.yaml").exists():
            return saved_config(Path(record.folder))
    return Config()


def to_json(found: Comparison) -> str:
    """Content of recommendation.json; remarks are in English."""
    groups = {group: vars(choice) for group, choice in found.recommendations.items()}
    content: dict[str, Any] = {
        "recommended": found.recommendation.strategy if found.recommendation else None,
        "recommendations": groups,
        "metric": found.metric,
        "margin": found.margin,
        "confidence": found.confidence,
        "choice": found.choice,
        "strategies": [_strategy(row, found) for row in found.chosen],
        "differences": [asdict(difference) for difference in found.differences],
        "baselines": [{"name": b.name, "metrics": b.metrics} for b in found.baselines],
        "warnings": found.warnings,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, default=str)


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
        if (Path(record.folder) / "model").is_dir() and (
            label not in saved or loss < saved[label].metrics.get("eval_loss", math.inf)
        ):
            saved[label] = record
    return list(saved.values())


def text(found: Comparison) -> str:
    """The recommendation in a few lines; says so when there is none."""
    lines = []
    for group, recommendation in found.recommendations.items():
        where = f" for {group}" if group and len(found.recommendations) > 1 else ""
        lines += [
            f"recommended{where}: {recommendation.configuration}. {recommendation.reason}",
            f"rule: {recommendation.rule}",
        ]
    return "\n".join(lines) or "no recommendation"


def _strategy(row: Row, found: Comparison) -> dict[str, Any]:
    return {
        "strategy": row.strategy,
        "group": row.group,
        "configuration": row.name,
        "trains": row.trains,
        "seeds": row.finished,
        "metrics": {name: asdict(value) for name, value in row.metrics.items()},
        "why": found.reasons.get(row.label, ""),
        "when": found.uses.get(row.label, ""),
    }
