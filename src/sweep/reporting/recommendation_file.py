"""Write recommendation.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sweep.base import words
from sweep.comparison.results import BaselineTest, Comparison, Difference, Row
from sweep.reporting import sentences


def to_json(comparison: Comparison) -> str:
    """Return the content of recommendation.json; its remarks are in English."""
    groups = {group: vars(choice) for group, choice in comparison.recommendations.items()}
    content: dict[str, Any] = {
        "verdict": [*map(str, comparison.unbeaten.values())],
        "recommended": comparison.recommendation.strategy if comparison.recommendation else None,
        "recommendations": groups,
        "metric": comparison.metric,
        "margin": comparison.margin,
        "confidence": comparison.confidence,
        "choice": comparison.choice,
        "strategies": [_strategy(row, comparison) for row in comparison.chosen],
        "differences": [_difference(d) for d in comparison.differences],
        "baselines": [{"name": b.name, "metrics": b.metrics} for b in comparison.baselines],
        "against_baselines": {g: _test(test) for g, test in comparison.against_baselines.items()},
        "learnt_nothing": comparison.learnt_nothing,
        "runs_that_learnt_nothing": comparison.failed_to_learn,
        "signals": comparison.signals,
        "warnings": comparison.warnings,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, default=str)


def _difference(difference: Difference) -> dict[str, Any]:
    content = asdict(difference)
    if not difference.is_evidence:
        content |= {"p_value": None, "p_adjusted": None}
    return content


def _test(test: BaselineTest) -> dict[str, Any]:
    return {**asdict(test), "baseline": test.baseline.name}


def _strategy(row: Row, comparison: Comparison) -> dict[str, Any]:
    return {
        "strategy": row.strategy,
        "group": row.group,
        "configuration": row.name,
        "trains": row.trains,
        "seeds": row.finished,
        "flags": sentences.flags(comparison, row.label, words.load("en")),
        "metrics": {name: asdict(value) for name, value in row.metrics.items()},
        "why": comparison.reasons.get(row.label, ""),
        "when": comparison.uses.get(row.label, ""),
    }
