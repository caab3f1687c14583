"""A comparison put in sentences, for the page and for the terminal, in any language of `words`."""

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
    """0.7412 as 74.1 %."""
    return f"{share * 100:.1f}\u00a0%"


def range_text(found: Interval, scale: float = 1.0, form: str = ".1f") -> str:
    """The interval in brackets, of two seeds both values, of one nothing."""
    if found.values:
        return f"[{', '.join(format(value * scale, form) for value in found.values)}]"
    if found.low is None or found.high is None:
        return ""
    return f"[{found.low * scale:{form}}, {found.high * scale:{form}}]"


def amount(metric: str, value: float, say: Words) -> str:
    """A cost with its unit, in few characters."""
    if metric == "train_runtime_s":
        return say("amount.s", value=value) if value < 600 else say("amount.min", value=value / 60)
    if metric.endswith("_mib"):
        return f"{value:,.1f}\u00a0MiB" if value < 10 else f"{value:,.0f}\u00a0MiB"
    return svg.compact(value)


def baseline(name: Text, say: Words) -> str:
    """What a baseline is called within a sentence."""
    if isinstance(name, Remark) and name.key == "baseline.majority":
        return say("baselines.majority")
    return say.tell(name)


def method(name: Text, say: Words) -> str:
    """What a baseline is called where there is no room for its details."""
    inner = name.values.get("name", name) if isinstance(name, Remark) else name
    if isinstance(inner, Remark) and inner.key in ("baseline.words", "baseline.characters"):
        return "TF-IDF"
    return baseline(name, say)


def percent_word(comparison: Comparison) -> str:
    """The level of confidence, such as 95 %."""
    return f"{comparison.confidence * 100:g}\u00a0%"


def groups(comparison: Comparison) -> list[str]:
    """Models and data; strategies are compared within one only."""
    return list(dict.fromkeys(row.group for row in comparison.chosen))


def ranked(comparison: Comparison, group: str | None = None) -> list[Row]:
    """Chosen configurations that have a score, the best mean first; group after group."""
    rows = [
        row
        for row in comparison.chosen
        if comparison.metric in row.metrics and group in (None, row.group)
    ]
    order = groups(comparison)
    return sorted(
        rows, key=lambda row: (order.index(row.group), -row.metrics[comparison.metric].mean)
    )


def recommendation(comparison: Comparison, group: str = "") -> Recommendation | None:
    """What is recommended within a group."""
    return comparison.recommendations.get(group) or comparison.recommendation


def recommended(comparison: Comparison, group: str = "") -> Row | None:
    """The row that is recommended within a group."""
    found = recommendation(comparison, group)
    rows = ranked(comparison, group)
    return next((r for r in rows if found and r.strategy == found.strategy), None)


def between(comparison: Comparison, a: Row, b: Row) -> Difference | None:
    """What is known of `a` minus `b`, whichever way round it was computed."""
    for d in comparison.differences:
        if d.metric == comparison.metric and (d.a, d.b) == (a.label, b.label):
            return d
        if d.metric == comparison.metric and (d.b, d.a) == (a.label, b.label):
            return flipped(d)
    return None


def flipped(d: Difference) -> Difference:
    """The same difference the other way round."""
    word = FLIPPED.get(d.verdict, d.verdict)
    turned = replace(d, a=d.b, b=d.a, estimate=-d.estimate, verdict=word)
    return replace(turned, low=-d.high, high=-d.low)


def verdict(comparison: Comparison, say: Words, missing: int = 0) -> list[str]:
    """The verdict in up to four sentences; of several groups, one sentence for each.

    A baseline that no strategy is shown to beat comes first.
    """
    found = groups(comparison)
    if not ranked(comparison):
        failed = sum(len(row.failures) for row in comparison.rows)
        ends = say("verdict.failures", failed=failed, missing=missing)
        return [say("verdict.nothing"), ends, say("verdict.reasons")]
    if len(found) > 1:
        known = [group for group in found if ranked(comparison, group)]
        return [
            say("verdict.group", group=group, sentence=sentence)
            for group in known
            for sentence in (*_unbeaten(comparison, group, say), _first(comparison, group, say))
        ]
    (group,) = found
    first = [*_unbeaten(comparison, group, say), _first(comparison, group, say)]
    row = recommended(comparison, group) or ranked(comparison, group)[0]
    return [*first, *[*_second(comparison, row, say), *_last(comparison, row, say)][:2]]


def _unbeaten(comparison: Comparison, group: str, say: Words) -> list[str]:
    """The baseline that no strategy is shown to beat, if there is one."""
    remark = comparison.unbeaten.get(group)
    if not isinstance(remark, Remark):
        return []
    name = baseline(comparison.against_baselines[group].baseline.name, say)
    return [say.tell(Remark(remark.key, dict(remark.values, baseline=name)))]


def _first(comparison: Comparison, group: str, say: Words) -> str:
    """What to take, with its score and cost."""
    found, row = recommendation(comparison, group), recommended(comparison, group)
    if found is None or row is None:
        rows = ranked(comparison, group)
        key = "verdict.only" if len(rows) == 1 else "verdict.no_choice"
        words = recommend.metric_name(comparison.metric)
        score = _score(comparison, rows[0])
        return say(key, strategy=rows[0].strategy, score=score, metric=words)
    key = "verdict.take" if len(found.candidates) > 1 else "verdict.take_best"
    return say(
        "verdict.open" if found.rival else key,
        start=say("verdict.start_for_now" if found.provisional else "verdict.start"),
        other=found.rival,
        strategy=row.strategy,
        metric=recommend.metric_name(comparison.metric),
        score=_score(comparison, row),
        cost=say.known("cost", found.cost),
        amount=_spent(row, found.cost, say),
        margin=recommend.points(found.margin),
    )


def _spent(row: Row, cost: str, say: Words) -> str:
    """What a strategy took; of arithmetic, the seconds that it came to here."""
    metric = "train_runtime_s" if cost == "flops" else COSTS.get(cost, cost)
    spent = row.metrics.get(metric)
    return amount(metric, spent.mean, say) if spent else "–"


def _score(comparison: Comparison, row: Row) -> str:
    found = row.metrics[comparison.metric]
    return f"{percent(found.mean)} {range_text(found, 100)}".strip()


def _second(comparison: Comparison, row: Row, say: Words) -> list[str]:
    """The row against the best, or where it is the best, against the next."""
    best, *others = ranked(comparison, row.group)
    if best.label == row.label:
        return _runner_up(comparison, row, others, say)
    found = recommendation(comparison, row.group)
    assert found is not None, "without a recommendation the row is the best"
    metric = COSTS.get(found.cost, found.cost)
    mine, its = (r.metrics.get(metric) for r in (row, best))
    share = mine.mean / its.mean if mine and its and its.mean else None
    return [
        say(
            "verdict.against_best",
            strategy=row.strategy,
            best=best.strategy,
            score=_score(comparison, best),
            difference=_difference(between(comparison, row, best), say),
            share=f"{share * 100:.0f}\u00a0%" if share is not None else "–",
            cost=say.known("cost", found.cost),
        )
    ]


def _runner_up(comparison: Comparison, row: Row, others: Sequence[Row], say: Words) -> list[str]:
    if not others:
        return []
    d = between(comparison, row, others[0])
    names = {"strategy": row.strategy, "other": others[0].strategy}
    return [say("verdict.runner_up", **names, difference=_difference(d, say))]


def _difference(d: Difference | None, say: Words) -> str:
    if d is None:
        return say("verdict.unknown")
    return say("verdict.difference", word=say.known("verdicts", d.verdict), points=points_text(d))


def _last(comparison: Comparison, row: Row, say: Words) -> list[str]:
    """What fine-tuning gains at all, and how many seeds say so."""
    metric, seeds = comparison.metric, row.metrics[comparison.metric].n
    if seeds < MIN_SEEDS:
        return [say("verdict.one_seed" if seeds == 1 else "verdict.two_seeds")]
    found = []
    known = [b for b in comparison.baselines if metric in b.metrics]
    if known and row.group not in comparison.unbeaten:
        best = max(known, key=lambda b: b.metrics[metric])
        gain = row.metrics[metric].mean - best.metrics[metric]
        found.append(
            say(
                "verdict.pays" if gain > 0 else "verdict.does_not_pay",
                baseline=baseline(best.name, say),
                score=percent(best.metrics[metric]),
                points=f"{abs(gain) * 100:.1f}",
            )
        )
    return [*found, say("verdict.seeds", n=seeds, confidence=percent_word(comparison))]
