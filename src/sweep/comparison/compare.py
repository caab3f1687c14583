"""Finished runs -> what can be said of the strategies; no mlflow and no plotting.

Seeds are replicates and never a choice. Where something else was swept, each strategy enters with
the value that validation prefers; the test split chooses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sweep.base.words import Remark
from sweep.comparison import (
    against_baselines,
    caveats,
    learning,
    pairwise,
    reasons,
    recommend,
)
from sweep.comparison.results import (
    Baseline,
    Comparison,
    Row,
)
from sweep.comparison.rows import (
    choose,
    runs_to_test,
    table,
)
from sweep.config.schema import CompareConfig
from sweep.runs.record import Record


def compare(
    records: Sequence[Record],
    options: CompareConfig | None = None,
    baselines: Sequence[Baseline] = (),
) -> Comparison:
    """Everything that is said of a sweep.

    Args:
        records: Of one sweep, or of several that are to be read as one.
        options: Margin, confidence, and what the recommendation is about.
        baselines: Of the same split, to be shown beside.
    """
    options = options or CompareConfig()
    rows = table(records, options.confidence)
    chosen = choose(rows)
    split = _split(chosen)
    warnings = caveats.warnings(rows, chosen, split)
    if repeated := len(records) - sum(len(row.records) for row in rows):
        warnings.append(Remark("warning.repeated", {"runs": repeated}))
    found = Comparison(
        rows=rows,
        chosen=chosen,
        split=split,
        differences=[],
        baselines=list(baselines),
        warnings=warnings,
        recommendation=None,
        metric=f"{split}_{options.metric}",
        margin=options.margin,
        confidence=options.confidence,
        budgets=caveats.tuning_budgets(rows),
        choice=Remark("rule.choice") if len(chosen) < sum(row.finished > 0 for row in rows) else "",
    )
    for group in dict.fromkeys(row.group for row in chosen) or [""]:
        _judge(found, group, options)
    if len(found.recommendations) == 1:
        (only,) = found.recommendations.values()
        return replace(found, recommendation=only)
    return found


def _judge(found: Comparison, group: str, options: CompareConfig) -> None:
    """Add what is said of the strategies of one group; changes the comparison in place."""
    rows = [row for row in found.chosen if row.group == group]
    tested = {row.label: runs_to_test(row, found.rows) for row in rows}
    found.warnings.extend(
        Remark("warning.unstable_choice", {"strategy": row.label})
        for row in rows
        if any(record not in row.records for record in tested[row.label])
    )
    scored = pairwise.score(tested, found.warnings)
    differences = pairwise.differences(scored, found.split, options)
    found.differences.extend(differences)
    nothing = _learning(found, rows)
    found.reasons.update(reasons.why(rows))
    learnt = [row for row in rows if row.label not in nothing]
    found.uses.update(reasons.when(learnt, differences, found.metric))
    found.uses.update({label: Remark("when.learn", {"how": how}) for label, how in nothing.items()})
    if short := learning.too_short(rows):
        found.warnings.append(Remark("no_choice.short", {"strategies": short}))
        return
    unbeaten = _unbeaten(found, group, scored, options)
    choice = recommend.recommend(rows, differences, found.metric, options, found.warnings, nothing)
    if choice is not None:
        found.recommendations[group] = replace(choice, unbeaten=unbeaten)


def _learning(found: Comparison, rows: Sequence[Row]) -> dict[str, Remark]:
    """Flag runs and strategies that learnt nothing; returns the strategies of these rows."""
    of_runs = learning.flags_of_runs(rows, found.metric)
    nothing = learning.flags_of_strategies(rows, of_runs)
    found.failed_to_learn.update(of_runs)
    found.learnt_nothing.update(nothing)
    values = ({"strategy": label, "how": how} for label, how in nothing.items())
    found.warnings.extend(Remark("warning.learnt_nothing", value) for value in values)
    for row in rows:
        some = tuple(run.name for run in caveats.finished([row]) if run.name in of_runs)
        if some and row.label not in nothing:
            values_ = {"strategy": row.label, "runs": some, "how": of_runs[some[0]]}
            found.warnings.append(Remark("warning.some_learnt_nothing", values_))
    return nothing


def _unbeaten(
    found: Comparison, group: str, scored: Sequence[pairwise.Scored], options: CompareConfig
) -> Remark | str:
    """Compare with the baselines; returns the sentence on one that is not beaten, if any."""
    test = against_baselines.compare_best(scored, found.baselines, found.metric, options)
    if test is None:
        return ""
    found.against_baselines[group] = test
    if test.is_beaten:
        return ""
    values = {
        "baseline": test.baseline.name,
        "score": test.score,
        "metric": recommend.metric_name(found.metric),
        "seconds": test.baseline.metrics.get("runtime_s", 0.0),
        "strategy": test.strategy,
        "difference": test.estimate * 100,
        "low": test.low * 100,
        "high": test.high * 100,
    }
    found.unbeaten[group] = Remark("verdict.unbeaten", values)
    return found.unbeaten[group]


def untested(records: Sequence[Record], confidence: float) -> Comparison:
    """Means alone: what can be shown where the comparison itself failed."""
    rows = table(records, confidence)
    chosen = choose(rows)
    return Comparison(rows, chosen, _split(chosen), [], [], [], None, confidence=confidence)


def _split(rows: Sequence[Row]) -> str:
    return "test" if not rows or any("test_accuracy" in row.metrics for row in rows) else "eval"
