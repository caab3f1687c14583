"""Compare the strategies of a sweep from the records of its runs; no mlflow and no plotting.

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
    signals,
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
    """Return everything that can be said of a sweep.

    Args:
        records: Of one sweep, or of several that are compared as one.
        options: How strategies are judged; the defaults where it is None.
        baselines: Scores without fine-tuning, on the same split.
    """
    options = options or CompareConfig()
    rows = table(records, options.confidence)
    chosen = choose(rows, options.metric)
    split = _split(chosen)
    warnings = caveats.warnings(rows, chosen, split)
    if repeated := len(records) - sum(len(row.records) for row in rows):
        warnings.append(Remark("warning.repeated", {"runs": repeated}))
    comparison = Comparison(
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
        _judge(comparison, group, options)
    if len(comparison.recommendations) == 1:
        (only,) = comparison.recommendations.values()
        return replace(comparison, recommendation=only)
    return comparison


def _judge(comparison: Comparison, group: str, options: CompareConfig) -> None:
    """Compare the strategies of one group, and add the outcome to the comparison in place."""
    rows = [row for row in comparison.chosen if row.group == group]
    tested = {row.label: runs_to_test(row, comparison.rows, options.metric) for row in rows}
    comparison.warnings.extend(
        Remark("warning.unstable_choice", {"strategy": row.label})
        for row in rows
        if any(record not in row.records for record in tested[row.label])
    )
    scored = pairwise.score(tested, comparison.warnings)
    differences = pairwise.differences(scored, comparison.split, options)
    comparison.differences.extend(differences)
    nothing = _flag_no_learning(comparison, rows)
    _add_signals(comparison, [row for row in rows if row.label not in nothing], scored)
    comparison.reasons.update(reasons.explain_speed(rows))
    learnt = [row for row in rows if row.label not in nothing]
    comparison.uses.update(reasons.list_uses(learnt, differences, comparison.metric))
    comparison.uses.update(
        {label: Remark("when.learn", {"how": how}) for label, how in nothing.items()}
    )
    if short := learning.too_short(rows):
        comparison.warnings.append(Remark("no_choice.short", {"strategies": short}))
        return
    unbeaten = _test_baselines(comparison, group, scored, options)
    choice = recommend.recommend(
        rows, differences, comparison.metric, options, comparison.warnings, nothing
    )
    if choice is not None:
        comparison.recommendations[group] = replace(choice, unbeaten=unbeaten)


def _flag_no_learning(comparison: Comparison, rows: Sequence[Row]) -> dict[str, Remark]:
    """Flag runs and strategies that learnt nothing, in place; return these strategies by label."""
    of_runs = learning.flags_of_runs(rows, comparison.metric)
    nothing = learning.flags_of_strategies(rows, of_runs)
    comparison.failed_to_learn.update(of_runs)
    comparison.learnt_nothing.update(nothing)
    values = ({"strategy": label, "how": how} for label, how in nothing.items())
    comparison.warnings.extend(Remark("warning.learnt_nothing", value) for value in values)
    for row in rows:
        some = tuple(run.name for run in caveats.finished([row]) if run.name in of_runs)
        if some and row.label not in nothing:
            values_ = {"strategy": row.label, "runs": some, "how": of_runs[some[0]]}
            comparison.warnings.append(Remark("warning.some_learnt_nothing", values_))
    return nothing


def _add_signals(
    comparison: Comparison, rows: Sequence[Row], scored: Sequence[pairwise.Scored]
) -> None:
    """Add the signs that strategies of one group could do better, in place."""
    texts = len(scored[0].labels) if scored else 0
    for row in rows:
        signs = signals.of_strategy(
            row, comparison.rows, comparison.baselines, comparison.metric, texts
        )
        if signs:
            comparison.signals[row.label] = signs


def _test_baselines(
    comparison: Comparison, group: str, scored: Sequence[pairwise.Scored], options: CompareConfig
) -> Remark | str:
    """Add the comparison with the baselines; return the remark on one that is not beaten, or ""."""
    test = against_baselines.compare_best(scored, comparison.baselines, comparison.metric, options)
    if test is None:
        return ""
    comparison.against_baselines[group] = test
    if test.is_beaten:
        return ""
    values = {
        "baseline": test.baseline.name,
        "score": test.score,
        "metric": recommend.metric_name(comparison.metric),
        "seconds": test.baseline.metrics.get("runtime_s", 0.0),
        "strategy": test.strategy,
        "difference": test.estimate * 100,
        "low": test.low * 100,
        "high": test.high * 100,
    }
    comparison.unbeaten[group] = Remark("verdict.unbeaten", values)
    return comparison.unbeaten[group]


def untested(records: Sequence[Record], confidence: float) -> Comparison:
    """Return means without tests, to be shown where the comparison itself failed."""
    rows = table(records, confidence)
    chosen = choose(rows)
    return Comparison(rows, chosen, _split(chosen), [], [], [], None, confidence=confidence)


def _split(rows: Sequence[Row]) -> str:
    return "test" if not rows or any("test_accuracy" in row.metrics for row in rows) else "eval"
