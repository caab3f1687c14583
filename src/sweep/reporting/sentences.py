"""Write a comparison in sentences, for the page and the terminal, in any language of `words`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sweep.base.words import Remark, Text, Words
from sweep.comparison import recommend
from sweep.comparison.results import (
    MIN_SEEDS,
    Comparison,
    Difference,
    Interval,
    Recommendation,
    Row,
)
from sweep.reporting.figures import svg
from sweep.reporting.figures.across_strategies import points_text

COSTS = {name: cost.metric for name, cost in recommend.COSTS.items()}
"""Metric behind each word of `compare.cost`."""
FLIPPED = {"better": "worse", "worse": "better"}


def percent(share: float) -> str:
    """Format a share in percent: 0.7412 as 74.1 %."""
    return f"{share * 100:.1f}\u00a0%"


def range_text(interval: Interval, scale: float = 1.0, form: str = ".1f") -> str:
    """Format an interval in brackets; of two seeds both values, of one seed nothing."""
    if interval.values:
        return f"[{', '.join(format(value * scale, form) for value in interval.values)}]"
    if interval.low is None or interval.high is None:
        return ""
    return f"[{interval.low * scale:{form}}, {interval.high * scale:{form}}]"


def amount(metric: str, value: float, say: Words) -> str:
    """Format a cost with its unit in few characters."""
    if metric == "train_runtime_s":
        return say("amount.s", value=value) if value < 600 else say("amount.min", value=value / 60)
    if metric.endswith("_mib"):
        return f"{value:,.1f}\u00a0MiB" if value < 10 else f"{value:,.0f}\u00a0MiB"
    return svg.compact(value)


def baseline_name(name: Text, say: Words) -> str:
    """Return the name of a baseline for use in a sentence."""
    if isinstance(name, Remark) and name.key == "baseline.majority":
        return say("baselines.majority")
    return say.tell(name)


def baseline_method(name: Text, say: Words) -> str:
    """Return the short name of a baseline, without its details."""
    inner = name.values.get("name", name) if isinstance(name, Remark) else name
    if isinstance(inner, Remark) and inner.key in ("baseline.words", "baseline.characters"):
        return "TF-IDF"
    return baseline_name(name, say)


def percent_word(comparison: Comparison) -> str:
    """Format the level of confidence, such as 95 %."""
    return f"{comparison.confidence * 100:g}\u00a0%"


def groups(comparison: Comparison) -> list[str]:
    """Return the groups (model and data) within which strategies are compared."""
    return list(dict.fromkeys(row.group for row in comparison.chosen))


def ranked_rows(comparison: Comparison, group: str | None = None) -> list[Row]:
    """Return the chosen rows that have a score, group by group, the best mean first."""
    rows = [
        row
        for row in comparison.chosen
        if comparison.metric in row.metrics and group in (None, row.group)
    ]
    order = groups(comparison)
    return sorted(
        rows, key=lambda row: (order.index(row.group), -row.metrics[comparison.metric].mean)
    )


def recommendation_for(comparison: Comparison, group: str = "") -> Recommendation | None:
    """Return the recommendation of a group; None if there is none."""
    return comparison.recommendations.get(group) or comparison.recommendation


def recommended_row(comparison: Comparison, group: str = "") -> Row | None:
    """Return the recommended row of a group; None if there is none."""
    recommendation = recommendation_for(comparison, group)
    rows = ranked_rows(comparison, group)
    strategy = recommendation.strategy if recommendation else None
    return next((row for row in rows if row.strategy == strategy), None)


def difference_between(comparison: Comparison, a: Row, b: Row) -> Difference | None:
    """Return the difference `a` minus `b`, whichever way round it was computed."""
    for difference in comparison.differences:
        names = (difference.a, difference.b)
        if difference.metric == comparison.metric and names == (a.label, b.label):
            return difference
        if difference.metric == comparison.metric and names == (b.label, a.label):
            return flipped(difference)
    return None


def flipped(difference: Difference) -> Difference:
    """Return the difference `b` minus `a`."""
    return replace(
        difference,
        a=difference.b,
        b=difference.a,
        estimate=-difference.estimate,
        low=-difference.high,
        high=-difference.low,
        verdict=FLIPPED.get(difference.verdict, difference.verdict),
    )


def flags(comparison: Comparison, label: str, say: Words) -> list[str]:
    """Return a few words for each sign that a strategy could do better than it was seen to."""
    if label in comparison.learnt_nothing:
        return [say("flag.learnt_nothing")]
    signs = comparison.signals.get(label, ())
    return [say(f"flag.{sign.key.removeprefix('signal.')}") for sign in signs]


def cautions(comparison: Comparison) -> list[Remark]:
    """Return the signs of all strategies: first one of each, the strongest, then the others."""
    signs = list(comparison.signals.values())
    return [*(first for first, *_ in signs), *(sign for _, *rest in signs for sign in rest)]


def verdict_word(comparison: Comparison, difference: Difference, say: Words) -> str:
    """Return the word for a difference, with the flags of the strategy that comes off worse."""
    word = say.known("verdicts", difference.verdict)
    worse = {"worse": difference.a, "better": difference.b}.get(difference.verdict, "")
    if not (flagged := flags(comparison, worse, say)):
        return word
    whose = f"{worse}: " if worse == difference.b else ""
    return f"{word} ({whose}{', '.join(flagged)})"


def verdict(comparison: Comparison, say: Words, missing: int = 0) -> list[str]:
    """Return the verdict in up to four sentences; of several groups, one sentence for each.

    A baseline that no strategy is shown to beat comes first.
    """
    names = groups(comparison)
    if not ranked_rows(comparison):
        failed = sum(len(row.failures) for row in comparison.rows)
        ends = say("verdict.failures", failed=failed, missing=missing)
        return [say("verdict.nothing"), ends, say("verdict.reasons")]
    if len(names) > 1:
        known = [group for group in names if ranked_rows(comparison, group)]
        return [
            say("verdict.group", group=group, sentence=sentence)
            for group in known
            for sentence in _first_sentences(comparison, group, say)
        ]
    (group,) = names
    row = recommended_row(comparison, group) or ranked_rows(comparison, group)[0]
    rest = [*_rival_sentences(comparison, row, say), *_evidence_sentences(comparison, row, say)]
    return [*_first_sentences(comparison, group, say), *rest[:2]]


def _first_sentences(comparison: Comparison, group: str, say: Words) -> list[str]:
    return [
        *_unbeaten_baseline(comparison, group, say),
        _recommendation_sentence(comparison, group, say),
    ]


def _unbeaten_baseline(comparison: Comparison, group: str, say: Words) -> list[str]:
    """Name the baseline that no strategy is shown to beat; empty if there is none."""
    remark = comparison.unbeaten.get(group)
    if not isinstance(remark, Remark):
        return []
    name = baseline_name(comparison.against_baselines[group].baseline.name, say)
    return [say.tell(Remark(remark.key, dict(remark.values, baseline=name)))]


def _recommendation_sentence(comparison: Comparison, group: str, say: Words) -> str:
    """Say which strategy to take, with its score and cost."""
    recommendation, row = recommendation_for(comparison, group), recommended_row(comparison, group)
    if recommendation is None or row is None:
        rows = ranked_rows(comparison, group)
        key = "verdict.only" if len(rows) == 1 else "verdict.no_choice"
        words = recommend.metric_name(comparison.metric)
        score = _score_text(comparison, rows[0])
        return say(key, strategy=rows[0].strategy, score=score, metric=words)
    key = "verdict.take" if len(recommendation.candidates) > 1 else "verdict.take_best"
    return say(
        "verdict.open" if recommendation.rival else key,
        start=say("verdict.start_for_now" if recommendation.provisional else "verdict.start"),
        other=recommendation.rival,
        strategy=row.strategy,
        metric=recommend.metric_name(comparison.metric),
        score=_score_text(comparison, row),
        cost=say.known("cost", recommendation.cost),
        amount=_cost_text(row, recommendation.cost, say),
        margin=recommend.points(recommendation.margin),
    )


def _cost_text(row: Row, cost: str, say: Words) -> str:
    """Format the cost of a strategy; for `flops`, the seconds that it took."""
    metric = "train_runtime_s" if cost == "flops" else COSTS.get(cost, cost)
    spent = row.metrics.get(metric)
    return amount(metric, spent.mean, say) if spent else "–"


def _score_text(comparison: Comparison, row: Row) -> str:
    interval = row.metrics[comparison.metric]
    return f"{percent(interval.mean)} {range_text(interval, 100)}".strip()


def _rival_sentences(comparison: Comparison, row: Row, say: Words) -> list[str]:
    """Compare the row with the best, or, if it is the best itself, with the next."""
    best, *others = ranked_rows(comparison, row.group)
    if best.label == row.label:
        return _runner_up(comparison, row, others, say)
    recommendation = recommendation_for(comparison, row.group)
    assert recommendation is not None, "without a recommendation the row is the best"
    metric = COSTS.get(recommendation.cost, recommendation.cost)
    cost, best_cost = (each.metrics.get(metric) for each in (row, best))
    share = cost.mean / best_cost.mean if cost and best_cost and best_cost.mean else None
    return [
        say(
            "verdict.against_best",
            strategy=row.strategy,
            best=best.strategy,
            score=_score_text(comparison, best),
            difference=_difference_text(comparison, row, best, say),
            share=f"{share * 100:.0f}\u00a0%" if share is not None else "–",
            cost=say.known("cost", recommendation.cost),
        )
    ]


def _runner_up(comparison: Comparison, row: Row, others: Sequence[Row], say: Words) -> list[str]:
    if not others:
        return []
    names = {"strategy": row.strategy, "other": others[0].strategy}
    difference = _difference_text(comparison, row, others[0], say)
    return [say("verdict.runner_up", **names, difference=difference)]


def _difference_text(comparison: Comparison, a: Row, b: Row, say: Words) -> str:
    difference = difference_between(comparison, a, b)
    if difference is None:
        return say("verdict.unknown")
    return say(
        "verdict.difference",
        word=verdict_word(comparison, difference, say),
        points=points_text(difference),
    )


def _evidence_sentences(comparison: Comparison, row: Row, say: Words) -> list[str]:
    """Say what fine-tuning gains over the best baseline, and how many seeds show it."""
    metric, seeds = comparison.metric, row.metrics[comparison.metric].n
    if seeds < MIN_SEEDS:
        return [say("verdict.one_seed" if seeds == 1 else "verdict.two_seeds")]
    lines = []
    known = [b for b in comparison.baselines if metric in b.metrics]
    if known and row.group not in comparison.unbeaten:
        best = max(known, key=lambda b: b.metrics[metric])
        gain = row.metrics[metric].mean - best.metrics[metric]
        lines.append(
            say(
                "verdict.pays" if gain > 0 else "verdict.does_not_pay",
                baseline=baseline_name(best.name, say),
                score=percent(best.metrics[metric]),
                points=f"{abs(gain) * 100:.1f}",
            )
        )
    return [*lines, say("verdict.seeds", n=seeds, confidence=percent_word(comparison))]
