"""Sections of the report that compare strategies with one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sweep.base.words import Words
from sweep.comparison.results import Baseline, Difference, Row
from sweep.reporting import sentences
from sweep.reporting.figures import across_strategies, per_strategy, svg
from sweep.reporting.figures.across_strategies import Line, Point
from sweep.reporting.figures.per_strategy import Bar
from sweep.reporting.material import MOST_ROWS, Cell, Figure, Material, Table, number
from sweep.runs import read_outputs

MOST_POINTS = 150
"""Points of a curve that are drawn."""
PHASES = ("data", "forward", "backward", "optimizer")
"""Parts of the training time, where runs measured them as `train_<phase>_s`."""
CURVES = ("train_loss", "eval_loss", "eval_accuracy")


def strategy_table(m: Material) -> Table:
    """One row per strategy with all that is compared, and the baselines below."""
    say = m.say
    titles = ["strategy", "trains", "#share", "#accuracy", "#f1", "verdict"]
    titles += ["#time", "#memory", "#val", "#n"]
    rows = [_strategy(m, row) for row in _scored_first(m)]
    return Table(
        say("table.title"),
        ["#" * t.startswith("#") + say(f"table.{t.lstrip('#')}") for t in titles],
        rows,
        feet=[_baseline(m, b, len(titles)) for b in m.comparison.baselines],
    )


def configuration_table(m: Material) -> Table | None:
    """Every configuration, where there are more than strategies."""
    rows = m.comparison.rows
    if len(rows) <= len(m.comparison.chosen):
        return None
    say, split = m.say, m.comparison.split
    titles = ["configuration", "#accuracy", "#f1", "#val", "#time", "#n"]
    return Table(
        say("table.all", count=len(rows)),
        ["#" * t.startswith("#") + say(f"table.{t.lstrip('#')}") for t in titles],
        [
            [
                Cell(row.name, index=m.order[row.label]),
                number(row.metrics.get(f"{split}_accuracy"), ".1f", 100),
                number(row.metrics.get(f"{split}_f1"), ".1f", 100),
                number(row.metrics.get("eval_accuracy"), ".1f", 100, brackets=False),
                number(row.metrics.get("train_runtime_s"), ",.1f", brackets=False),
                Cell(str(row.finished), row.finished),
            ]
            for row in rows[:MOST_ROWS]
        ],
        more=max(len(rows) - MOST_ROWS, 0),
    )


def cost_figures(m: Material) -> list[Figure]:
    """Accuracy against time, memory and parameters."""
    found = []
    for cost in ("time", "memory", "parameters"):
        points = _points(m, sentences.COSTS[cost])
        if points:
            found.append(_cost_figure(m, cost, points))
    return found


def difference_figures(m: Material) -> list[Figure]:
    """Every strategy against the best of its group, one figure per group."""
    return [
        figure
        for place, group in enumerate(sentences.groups(m.comparison))
        if (figure := _forest(m, sentences.ranked(m.comparison, group), place))
    ]


def pair_table(m: Material) -> Table:
    """All pairs of strategies, in both metrics."""
    say, found = m.say, m.comparison.differences
    titles = [say(f"differences.{k}") for k in ("pair", "metric")]
    titles += [f"#{say('differences.estimate')}", f"#{say('differences.p')}"]
    titles += [say(f"differences.{k}") for k in ("verdict", "more_seeds", "method")]
    rows = [_pair(m, d) for d in found[:MOST_ROWS]]
    return Table(say("differences.caption"), titles, rows, more=max(len(found) - MOST_ROWS, 0))


def learning_figures(m: Material) -> list[Figure]:
    """Losses and accuracy over steps, as far as runs left their curves."""
    curves = {
        row.label: [read_outputs.curves(r) for r in row.records] for row in m.comparison.chosen
    }
    found = []
    for metric in CURVES:
        lines = [
            Line(name, m.order[name], points)
            for name, runs in curves.items()
            if (points := _band([run[metric] for run in runs if metric in run]))
        ]
        if lines:
            found.append(_learning_figure(m, metric, lines))
    return found


def spent_figures(m: Material) -> list[Figure]:
    """Time with its parts, and memory, as bars."""
    found = []
    for cost in ("time", "memory"):
        metric = sentences.COSTS[cost]
        bars = [_bar(m, row, metric) for row in m.comparison.chosen if metric in row.metrics]
        if bars:
            listed = "; ".join(f"{b.name}: {b.amount}" for b in bars)
            about = m.say("spent.figure_desc", list=listed)
            drawing = per_strategy.bars(bars, m.say(f"spent.axis_{cost}"))
            found.append(Figure(f"spent_{cost}", m.say(f"spent.{cost}"), about, drawing))
    return found


def spent_table(m: Material) -> Table:
    """Costs in numbers, and why they are what they are."""
    say = m.say
    metrics = {
        "#time": ("train_runtime_s", ",.1f"), "#speed": ("train_samples_per_second", ",.0f"),
        "#memory": ("peak_memory_mib", ",.0f"), "#checkpoint": ("checkpoint_mib", ",.1f"),
    }  # fmt: skip
    phases = [
        p for p in PHASES if any(f"train_{p}_s" in row.metrics for row in m.comparison.chosen)
    ]
    titles = [say("table.strategy"), *(f"#{say('table.' + t[1:])}" for t in metrics)]
    titles += [f"#{say('spent.phase', name=say(f'spent.{p}'))}" for p in phases]
    titles.append(f"#{say('table.flops')}")
    rows = []
    for row in m.comparison.chosen:
        cells = [number(row.metrics.get(k), form) for k, form in metrics.values()]
        cells += [number(row.metrics.get(f"train_{p}_s"), ",.1f") for p in phases]
        flops = row.metrics.get("train_flops")
        cells.append(Cell(svg.compact(flops.mean), flops.mean) if flops else Cell("–", -1.0))
        rows.append([m.name(row), *cells])
    return Table(say("spent.table"), titles, rows)


def when_table(m: Material) -> Table:
    """When to use which, with measured numbers."""
    say, found = m.say, m.comparison
    titles = [say("table.strategy"), say("when.use"), say("when.why")]
    titles += [f"#{say('table.accuracy')}", f"#{say('table.time')}", f"#{say('table.memory')}"]
    rows = [
        [
            m.name(row),
            Cell(say.tell(found.uses.get(row.label, "–"))),
            Cell(say.tell(found.reasons.get(row.label, "–"))),
            number(row.metrics.get(found.metric), ".1f", 100),
            number(row.metrics.get("train_runtime_s"), ",.1f", brackets=False),
            number(row.metrics.get("peak_memory_mib"), ",.0f", brackets=False),
        ]
        for row in m.ranked
    ]
    return Table(say("when.title"), titles, rows, sortable=False)


def _scored_first(m: Material) -> list[Row]:
    """Chosen rows by score, then those without one."""
    ranked = m.ranked
    names = {row.label for row in ranked}
    rest = {r.label: r for r in m.comparison.rows if r.label not in names}
    return [*ranked, *rest.values()]


def _strategy(m: Material, row: Row) -> list[Cell]:
    split, metrics = m.comparison.split, row.metrics
    chosen = sentences.recommended(m.comparison, row.group) is row
    return [
        replace(m.name(row), tone="chosen" if chosen else ""),
        Cell(m.trains[row.label]),
        number(metrics.get("trainable_fraction"), ".2f", 100, brackets=False),
        number(metrics.get(f"{split}_accuracy"), ".1f", 100),
        number(metrics.get(f"{split}_f1"), ".1f", 100),
        _verdict(m, row),
        number(metrics.get("train_runtime_s"), ",.1f", brackets=False),
        number(metrics.get("peak_memory_mib"), ",.0f", brackets=False),
        number(metrics.get("eval_accuracy"), ".1f", 100, brackets=False),
        Cell(str(row.finished), row.finished),
    ]


def _verdict(m: Material, row: Row) -> Cell:
    best = m.best(row)
    if best is None or row.finished == 0:
        return Cell(m.say("failed.status") + ": " + (_status(m, row) or "–"), "9", tone="worse")
    if row is best:
        return Cell(m.say("table.best"), "0")
    d = sentences.between(m.comparison, row, best)
    if d is None:
        return Cell(m.say("verdict.unknown"), "8")
    word = f"{across_strategies.SIGNS.get(d.verdict, '')} {m.say.known('verdicts', d.verdict)}"
    return Cell(word, -d.estimate, tone=d.verdict, extra=across_strategies.points_text(d))


def _status(m: Material, row: Row) -> str:
    found = {m.say.known("status", r.status) for r in row.records if r.status != "FINISHED"}
    return ", ".join(sorted(found))


def _baseline(m: Material, found: Baseline, width: int) -> list[Cell]:
    split = m.comparison.split
    scores = [found.metrics.get(f"{split}_{name}") for name in ("accuracy", "f1")]
    cells = [Cell("–") if s is None else Cell(f"{s * 100:.1f}", s) for s in scores]
    runtime = found.metrics.get("runtime_s")
    row = [Cell(sentences.baseline(found.name, m.say)), Cell(m.say("table.baseline")), Cell("–")]
    row += [*cells, Cell("–")]
    row.append(Cell("–") if runtime is None else Cell(f"{runtime:,.1f}", runtime))
    return row + [Cell("–")] * (width - len(row))


def _points(m: Material, metric: str) -> list[Point]:
    quality = m.comparison.metric
    return [
        Point(row.label, m.order[row.label], row.metrics[metric], row.metrics[quality])
        for row in m.ranked
        if metric in row.metrics and row.metrics[metric].mean > 0
    ]


def _cost_figure(m: Material, cost: str, points: Sequence[Point]) -> Figure:
    say, metric = m.say, m.comparison.metric
    levels = {
        sentences.method(b.name, say): b.metrics[metric]
        for b in m.comparison.baselines
        if metric in b.metrics
    }
    best = {p.name for p in across_strategies.front(points)}
    about = say("costs.figure_desc", count=len(points), front=", ".join(sorted(best)))
    titles = [say("table.strategy"), f"#{say(f'costs.{cost}')}", f"#{say('table.accuracy')}"]
    rows = [
        [
            Cell(p.name, index=p.index),
            Cell(svg.compact(p.x.mean), p.x.mean),
            number(p.y, ".1f", 100),
            Cell(say("costs.yes" if p.name in best else "costs.no")),
        ]
        for p in points
    ]
    title = say(f"costs.figure_{cost}")
    table = Table(title, [*titles, say("costs.front")], rows)
    axes = (say(f"costs.{cost}"), say("costs.y", metric=m.metric))
    return Figure(
        f"cost_{cost}", title, about, across_strategies.scatter(points, axes, levels), table
    )


def _forest(m: Material, rows: Sequence[Row], place: int) -> Figure | None:
    against = [sentences.between(m.comparison, row, rows[0]) for row in rows[1:]]
    found = [d for d in against if d is not None][:20]
    if not found:
        return None
    say, best = m.say, rows[0].label
    words = {name: say.known("verdicts", name) for name in across_strategies.SIGNS}
    listed = "; ".join(
        f"{d.a}: {across_strategies.points_text(d)}, {words.get(d.verdict)}" for d in found
    )
    about = say("differences.figure_desc", count=len(found), reference=best, list=listed)
    axis = say("differences.axis", metric=m.metric)
    drawing = across_strategies.forest(found, m.comparison.margin, words, axis)
    title = say("differences.figure", reference=best)
    return Figure(f"differences_{place}", title, about, drawing)


def _pair(m: Material, d: Difference) -> list[Cell]:
    say = m.say
    more = "–" if d.more_seeds is None else say("differences.more", n=d.more_seeds)
    return [
        Cell(f"{d.a} − {d.b}"),
        Cell(say(f"table.{'f1' if d.metric.endswith('f1') else 'accuracy'}").rstrip(", %")),
        Cell(across_strategies.points_text(d), d.estimate),
        Cell(_p_text(d), d.p_adjusted),
        Cell(_verdict_text(d, say), tone=d.verdict),
        Cell(more, d.more_seeds if d.more_seeds is not None else float("inf")),
        Cell(say.known("method", d.method)),
    ]


def _p_text(d: Difference) -> str:
    """The corrected p-value; a dash where too few seeds make it no evidence."""
    if not d.is_evidence:
        return "–"
    return "< 0.001" if d.p_adjusted < 0.001 else f"{d.p_adjusted:.3f}"


def _verdict_text(d: Difference, say: Words) -> str:
    """The verdict with its sign, and why it is undecided where the interval leaves out 0."""
    word = f"{across_strategies.SIGNS.get(d.verdict, '')} {say.known('verdicts', d.verdict)}"
    return f"{word} ({say.tell(d.note)})" if d.note else word


def _band(runs: Sequence[list[tuple[int, float]]]) -> list[tuple[int, float, float, float]]:
    """Mean, lowest and highest over runs at each step, thinned out evenly."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for step, value in dict(run).items():
            values.setdefault(step, []).append(value)
    steps = sorted(values)
    every = max(1, -(-len(steps) // MOST_POINTS))
    kept = sorted({*steps[::every], *steps[-1:]})
    return [(s, sum(v) / len(v), min(v), max(v)) for s in kept for v in [values[s]]]


def _learning_figure(m: Material, metric: str, lines: Sequence[Line]) -> Figure:
    say, percent = m.say, metric.endswith("accuracy")
    factor, title = 100 if percent else 1, say(f"learning.{metric}")
    ends = [
        say("learning.ends", name=line.name, value=f"{line.points[-1][1] * factor:.3g}")
        for line in lines
    ]
    about = say("learning.figure_desc", count=len(lines), list=" ".join(ends))
    titles = [say("table.strategy"), *(f"#{say(f'learning.{k}')}" for k in ("first", "last"))]
    titles += [f"#{say(f'learning.{k}')}" for k in ("lowest", "highest")]
    rows = []
    for line in lines:
        means = [p[1] * factor for p in line.points]
        values = (means[0], means[-1], min(means), max(means))
        cells = [Cell(f"{value:.3g}", value) for value in values]
        rows.append([Cell(line.name, index=line.index), *cells])
    drawing = across_strategies.learning(lines, (say("learning.steps"), title), percent)
    return Figure(f"curve_{metric}", title, about, drawing, Table(title, titles, rows))


def _bar(m: Material, row: Row, metric: str) -> Bar:
    total, parts = row.metrics[metric].mean, {}
    if metric == "train_runtime_s":
        known = {
            p: row.metrics[f"train_{p}_s"].mean for p in PHASES if f"train_{p}_s" in row.metrics
        }
        rest = total - sum(known.values())
        parts = {m.say(f"spent.{p}"): value for p, value in known.items()}
        if parts and rest > 0:
            parts[m.say("spent.other")] = rest
    return Bar(row.label, m.order[row.label], total, sentences.amount(metric, total, m.say), parts)
