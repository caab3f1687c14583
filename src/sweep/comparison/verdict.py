"""Judge a sweep from its records and baselines, and put the verdict into words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweep.comparison import baselines, compare
from sweep.comparison.results import Comparison
from sweep.config.schema import CompareConfig
from sweep.runs.record import Record


def judge(records: Sequence[Record], options: CompareConfig, folder: Path | None) -> Comparison:
    """Compare the strategies with each other and with the baselines of the same split.

    Args:
        records: The runs of one sweep, or of several.
        options: Margin, confidence, cost and limits.
        folder: Where baselines are stored; None computes none.
    """
    known, problems = baselines.of_sweep(records, folder)
    comparison = compare.compare(records, options, known)
    comparison.warnings.extend(problems)
    return comparison


def text(comparison: Comparison) -> str:
    """Return the recommendation in a few lines, or that there is none.

    A baseline that no strategy is shown to beat comes first, whatever is recommended.
    """
    lines = [str(sentence) for sentence in comparison.unbeaten.values()]
    if not comparison.recommendations:
        lines.append("no recommendation")
    for group, recommendation in comparison.recommendations.items():
        where = f" for {group}" if group and len(comparison.recommendations) > 1 else ""
        if recommendation.rival:
            rival, best = recommendation.rival, recommendation.strategy
            lines.append(f"no clear winner{where}: {rival} is not shown to be worse than {best}")
        lines += [
            f"recommended{where}: {recommendation.configuration}. {recommendation.reason}",
            f"rule: {recommendation.rule}",
        ]
    return "\n".join(lines)
