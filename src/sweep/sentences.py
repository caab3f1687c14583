"""A comparison put in sentences, for the page and for the terminal, in any language of `words`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sweep import fairness, recommend, svg
from sweep.figures import points_text
from sweep.layermap import LayerMap
from sweep.results import Comparison, Difference, Interval, Recommendation, Row
from sweep.words import Words

COSTS = {name: cost.metric for name, cost in recommend.COSTS.items()}
"""Metric behind each word of `compare.cost`."""
CLOSE = 1.05
"""A cost up to this times the smallest counts as the smallest."""
FLIPPED = {"better": "worse", "worse": "better"}


@dataclass(frozen=True)
class Use:
    """A row of the closing table: when to take a strategy, and why it is as fast as it is."""

    row: Row
    when: str
    why: str


def percent(share: float) -> str:
    """0.7412 as 74.1 %."""
    return f"{share * 100:.1f}\u00a0%"


def range_text(found: Interval, scale: float = 1.0, form: str = ".1f") -> str:
    """The interval in brackets, or nothing where one seed has none."""
    if found.low is None or found.high is None:
        return ""
    return f"[{found.low * scale:{form}}, {found.high * scale:{form}}]"


def amount(metric: str, value: float) -> str:
    """A cost with its unit, in few characters."""
    if metric == "train_runtime_s":
        return f"{value:.1f}\u00a0s" if value < 600 else f"{value / 60:,.0f}\u00a0min"
    if metric.endswith("_mib"):
        return f"{value:,.1f}\u00a0MiB" if value < 10 else f"{value:,.0f}\u00a0MiB"
    return svg.compact(value)


def percent_word(comparison: Comparison) -> str:
    """The level of confidence, such as 95 %."""
    return f"{comparison.confidence * 100:g}\u00a0%"


def points_word(share: float, say: Words) -> str:
    """0.01 as 1 point, 0.005 as 0.5 points."""
    count = f"{share * 100:g}"
    return say("page.point" if count == "1" else "page.points", n=count)


def metric_words(comparison: Comparison, say: Words) -> str:
    """What is compared, such as `test accuracy`."""
    name = comparison.metric.rpartition("_")[2]
    split = say.known("split", comparison.split)
    return say("page.metric", split=split, metric=say.known("metric", name))


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
    """The verdict in three sentences; of several groups, one sentence for each."""
    found = groups(comparison)
    if not ranked(comparison):
        failed = sum(len(row.failures) for row in comparison.rows)
        ends = say("verdict.failures", failed=failed, missing=missing)
        return [say("verdict.nothing"), ends, say("verdict.reasons")]
    if len(found) > 1:
        known = [group for group in found if ranked(comparison, group)]
        return [
            say("verdict.group", group=group, sentence=_first(comparison, group, say))
            for group in known
        ]
    (group,) = found
    first = _first(comparison, group, say)
    row = recommended(comparison, group) or ranked(comparison, group)[0]
    return [first, *_second(comparison, row, say), *_last(comparison, row, say)][:3]


def uses(comparison: Comparison, maps: Mapping[str, LayerMap], say: Words) -> list[Use]:
    """When to use which, filled with what was measured."""
    if say.language == "en" and comparison.uses:
        return [
            Use(row, comparison.uses.get(row.label, ""), comparison.reasons.get(row.label, ""))
            for row in ranked(comparison)
        ]
    return [
        Use(row, "; ".join(_when(comparison, row, rows, say)), _why(row, rows, maps, say))
        for group in groups(comparison)
        for rows in [ranked(comparison, group)]
        for row in rows
    ]


def _first(comparison: Comparison, group: str, say: Words) -> str:
    """What to take, with its score and cost."""
    found, row = recommendation(comparison, group), recommended(comparison, group)
    if found is None or row is None:
        rows = ranked(comparison, group)
        key = "verdict.only" if len(rows) == 1 else "verdict.no_choice"
        words = metric_words(comparison, say)
        score = _score(comparison, rows[0])
        return say(key, strategy=rows[0].strategy, score=score, metric=words)
    metric = COSTS.get(found.cost, found.cost)
    spent = row.metrics.get(metric)
    return say(
        "verdict.take" if len(found.candidates) > 1 else "verdict.take_best",
        start=say("verdict.start_for_now" if found.provisional else "verdict.start"),
        strategy=row.strategy,
        metric=metric_words(comparison, say),
        score=_score(comparison, row),
        cost=say.known("cost", found.cost),
        amount=amount(metric, spent.mean) if spent else "–",
        margin=points_word(found.margin, say),
    )


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
    if seeds == 1:
        return [say("verdict.one_seed")]
    found = []
    known = [b for b in comparison.baselines if metric in b.metrics]
    if known:
        best = max(known, key=lambda b: b.metrics[metric])
        gain = row.metrics[metric].mean - best.metrics[metric]
        found.append(
            say(
                "verdict.pays" if gain > 0 else "verdict.does_not_pay",
                baseline=say.known("baselines", best.name),
                score=percent(best.metrics[metric]),
                points=f"{abs(gain) * 100:.1f}",
            )
        )
    return [*found, say("verdict.seeds", n=seeds, confidence=percent_word(comparison))]


def _when(comparison: Comparison, row: Row, rows: Sequence[Row], say: Words) -> list[str]:
    """The situations that `reasons.when` finds, in the words of any language."""
    d = None if row is rows[0] else between(comparison, row, rows[0])
    reasons = []
    if row is rows[0] or (d and d.verdict == "equivalent"):
        reasons.append(say("when.quality"))
    elif d and d.verdict == "undecided":
        reasons.append(say("when.quality_perhaps"))
    for cost in ("time", "memory", "checkpoint"):
        timed = cost != "time" or not fairness.timing_problems(rows)
        if timed and row in _cheapest(rows, COSTS[cost]):
            reasons.append(say(f"when.{cost}"))
    return reasons or [say("when.nothing")]


def _cheapest(rows: Sequence[Row], metric: str) -> list[Row]:
    """Rows with the smallest cost or close to it, unless that is all of them."""
    known = [row for row in rows if metric in row.metrics]
    limit = min((row.metrics[metric].mean for row in known), default=0.0) * CLOSE
    found = [row for row in known if row.metrics[metric].mean <= limit]
    return found if len(found) < len(rows) else []


def _why(row: Row, rows: Sequence[Row], maps: Mapping[str, LayerMap], say: Words) -> str:
    """What gradients have to pass through, and how the time compares with the slowest."""
    reasons, found = [], maps.get(row.label)
    if found is not None and found.layers:
        key = "all" if found.passed == found.layers else "some" if found.passed else "none"
        reasons.append(say(f"why.{key}", passed=found.passed, layers=found.layers))
    metric = COSTS["time"]
    timed = [r for r in rows if metric in r.metrics]
    if metric in row.metrics and len(timed) > 1:
        slowest = max(timed, key=lambda r: r.metrics[metric].mean)
        if slowest is not row and row.metrics[metric].mean > 0:
            factor = slowest.metrics[metric].mean / row.metrics[metric].mean
            reasons.append(say("why.faster", factor=f"{factor:.1f}", other=slowest.label))
    return "; ".join(reasons)
