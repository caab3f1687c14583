"""Records -> the whole verdict with its baselines, and what of it goes to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweep.base.words import Remark
from sweep.comparison import baselines, compare
from sweep.comparison.results import Comparison
from sweep.config.schema import CompareConfig, Config, ConfigError
from sweep.runs import read_outputs
from sweep.runs.record import Record

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
        if (saved := read_outputs.settings(record)) is not None:
            return saved
    return Config()


def text(found: Comparison) -> str:
    """The recommendation in a few lines; says so when there is none.

    A baseline that no strategy is shown to beat comes first, whatever is recommended.
    """
    lines = [str(sentence) for sentence in found.unbeaten.values()]
    if not found.recommendations:
        lines.append("no recommendation")
    for group, recommendation in found.recommendations.items():
        where = f" for {group}" if group and len(found.recommendations) > 1 else ""
        if recommendation.rival:
            rival, best = recommendation.rival, recommendation.strategy
            lines.append(f"no clear winner: {rival} is not shown to be worse than {best}")
        lines += [
            f"recommended{where}: {recommendation.configuration}. {recommendation.reason}",
            f"rule: {recommendation.rule}",
        ]
    return "\n".join(lines)
