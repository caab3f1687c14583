"""Write recommendation.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sweep.comparison.results import BaselineTest, Comparison, Difference, Row


def to_json(found: Comparison) -> str:
    """Content of recommendation.json; remarks are in English."""
    groups = {group: vars(choice) for group, choice in found.recommendations.items()}
    content: dict[str, Any] = {
        "verdict": [*map(str, found.unbeaten.values())],
        "recommended": found.recommendation.strategy if found.recommendation else None,
        "recommendations": groups,
        "metric": found.metric,
        "margin": found.margin,
        "confidence": found.confidence,
        "choice": found.choice,
        "strategies": [_strategy(row, found) for row in found.chosen],
        "differences": [_difference(d) for d in found.differences],
        "baselines": [{"name": b.name, "metrics": b.metrics} for b in found.baselines],
        "against_baselines": {g: _test(test) for g, test in found.against_baselines.items()},
        "learnt_nothing": found.learnt_nothing,
        "runs_that_learnt_nothing": found.failed_to_learn,
        "warnings": found.warnings,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, default=str)


def _difference(difference: Difference) -> dict[str, Any]:
    content = asdict(difference)
    if not difference.is_evidence:
        content |= {"p_value": None, "p_adjusted": None}
    return content


def _test(test: BaselineTest) -> dict[str, Any]:
    return {**asdict(test), "baseline": test.baseline.name}


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
