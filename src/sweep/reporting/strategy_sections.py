"""Build the sections of the report that compare strategies with one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sweep.comparison.results import Baseline, Difference, Row
from sweep.reporting import sentences
from sweep.reporting.figures import across_strategies, per_strategy, svg
from sweep.reporting.figures.across_strategies import Line, Point
from sweep.reporting.figures.per_strategy import Bar
from sweep.reporting.material import MOST_ROWS, Cell, Figure, Material, Table, number
from sweep.runs import read_outputs

MOST_POINTS = 150
"""Number of points of a curve that are drawn."""
PHASES = ("data", "forward", "backward", "optimizer")
"""Parts of the training time, which some runs measured as `train_<phase>_s`."""
CURVES = ("train_loss", "eval_loss", "eval_accuracy")


def strategy_table(material: Material) -> Table:
    """List everything compared, one row per strategy, with the baselines below."""
    say = material.say
    titles = ["strategy", "trains", "#share", "#accuracy", "#f1", "verdict"]
    titles += ["#time", "#memory", "#val", "#n"]
    rows = [_strategy(material, row) for row in _scored_first(material)]
    return Table(
        say("table.title"),
        ["#" * t.startswith("#") + say(f"table.{t.lstrip('#')}") for t in titles],
        rows,
        feet=[_baseline(material, b, len(titles)) for b in material.comparison.baselines],
    )


def configuration_table(material: Material) -> Table | None:
    """List every configuration; None if there are no more than the chosen ones."""
    rows = material.comparison.rows
    if len(rows) <= len(material.comparison.chosen):
        return None
    say, split = material.say, material.comparison.split
    titles = ["configuration", "#accuracy", "#f1", "#val", "#time", "#n"]
    return Table(
        say("table.all", count=len(rows)),
        ["#" * t.startswith("#") + say(f"table.{t.lstrip('#')}") for t in titles],
        [
            [
                Cell(row.name, index=material.order[row.label]),
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


def cost_figures(material: Material) -> list[Figure]:
    """Draw the compared metric against time, memory and parameters."""
    figures = []
    for cost in ("time", "memory", "parameters"):
        points = _points(material, sentences.COSTS[cost])
        if points:
            figures.append(_cost_figure(material, cost, points))
    return figures


def difference_figures(material: Material) -> list[Figure]:
    """Draw the differences from the best strategy, one figure per group."""
    return [
        figure
        for index, group in enumerate(sentences.groups(material.comparison))
        if (figure := _forest(material, sentences.ranked_rows(material.comparison, group), index))
    ]


def pair_table(material: Material) -> Table:
    """List the differences of all pairs of strategies in both metrics."""
    say, differences = material.say, material.comparison.differences
    titles = [say(f"differences.{k}") for k in ("pair", "metric")]
    titles += [f"#{say('differences.estimate')}", f"#{say('differences.p')}"]
    titles += [say(f"differences.{k}") for k in ("verdict", "more_seeds", "method")]
    rows = [_pair(material, difference) for difference in differences[:MOST_ROWS]]
    more = max(len(differences) - MOST_ROWS, 0)
    return Table(say("differences.caption"), titles, rows, more=more)


def learning_figures(material: Material) -> list[Figure]:
    """Draw losses and accuracy over steps, where runs left their curves."""
    curves = {
        row.label: [read_outputs.curves(r) for r in row.records]
        for row in material.comparison.chosen
    }
    figures = []
    for metric in CURVES:
        lines = [
            Line(name, material.order[name], points)
            for name, runs in curves.items()
            if (points := _band([run[metric] for run in runs if metric in run]))
        ]
        if lines:
            figures.append(_learning_figure(material, metric, lines))
    return figures


def spent_figures(material: Material) -> list[Figure]:
    """Draw time with its parts, and memory, as bars."""
    figures = []
    for cost in ("time", "memory"):
        metric = sentences.COSTS[cost]
        bars = [
            _bar(material, row, metric)
            for row in material.comparison.chosen
            if metric in row.metrics
        ]
        if bars:
            listed = "; ".join(f"{b.name}: {b.amount}" for b in bars)
            about = material.say("spent.figure_desc", list=listed)
            drawing = per_strategy.bars(bars, material.say(f"spent.axis_{cost}"))
            figures.append(Figure(f"spent_{cost}", material.say(f"spent.{cost}"), about, drawing))
    return figures


def spent_table(material: Material) -> Table:
    """List the costs and their parts in numbers."""
    say = material.say
    metrics = {
        "#time": ("train_runtime_s", ",.1f"), "#speed": ("train_samples_per_second", ",.0f"),
        "#memory": ("peak_memory_mib", ",.0f"), "#checkpoint": ("checkpoint_mib", ",.1f"),
    }  # fmt: skip
    if any("train_steps" in row.metrics for row in material.comparison.chosen):
        metrics = {"#steps": ("train_steps", ",.0f")} | metrics
    phases = [
        p
        for p in PHASES
        if any(f"train_{p}_s" in row.metrics for row in material.comparison.chosen)
    ]
    titles = [say("table.strategy"), *(f"#{say('table.' + t[1:])}" for t in metrics)]
    titles += [f"#{say('spent.phase', name=say(f'spent.{p}'))}" for p in phases]
    titles.append(f"#{say('table.flops')}")
    rows = []
    for row in material.comparison.chosen:
        cells = [number(row.metrics.get(k), form) for k, form in metrics.values()]
        cells += [number(row.metrics.get(f"train_{p}_s"), ",.1f") for p in phases]
        flops = row.metrics.get("train_flops")
        cells.append(Cell(svg.compact(flops.mean), flops.mean) if flops else Cell("–", -1.0))
        rows.append([material.name(row), *cells])
    return Table(say("spent.table"), titles, rows)


def when_table(material: Material) -> Table:
    """List when to use each strategy, and why, with measured numbers."""
    say, comparison = material.say, material.comparison
    titles = [say("table.strategy"), say("when.use"), say("when.why")]
    titles += [f"#{say('table.accuracy')}", f"#{say('table.time')}", f"#{say('table.memory')}"]
    rows = [
        [
            material.name(row),
            Cell(say.tell(comparison.uses.get(row.label, "–"))),
            Cell(say.tell(comparison.reasons.get(row.label, "–"))),
            number(row.metrics.get(comparison.metric), ".1f", 100),
            number(row.metrics.get("train_runtime_s"), ",.1f", brackets=False),
            number(row.metrics.get("peak_memory_mib"), ",.0f", brackets=False),
        ]
        for row in material.ranked_rows
    ]
    return Table(say("when.title"), titles, rows, sortable=False)


def _scored_first(material: Material) -> list[Row]:
    """Return the chosen rows by score, then one row of each other strategy."""
    ranked = material.ranked_rows
    names = {row.label for row in ranked}
    rest = {r.label: r for r in material.comparison.rows if r.label not in names}
    return [*ranked, *rest.values()]


def _strategy(material: Material, row: Row) -> list[Cell]:
    split, metrics = material.comparison.split, row.metrics
    chosen = sentences.recommended_row(material.comparison, row.group) is row
    return [
        replace(material.name(row), tone="chosen" if chosen else ""),
        Cell(material.trains[row.label]),
        number(metrics.get("trainable_fraction"), ".2f", 100, brackets=False),
        number(metrics.get(f"{split}_accuracy"), ".1f", 100),
        number(metrics.get(f"{split}_f1"), ".1f", 100),
        _verdict(material, row),
        number(metrics.get("train_runtime_s"), ",.1f", brackets=False),
        number(metrics.get("peak_memory_mib"), ",.0f", brackets=False),
        number(metrics.get("eval_accuracy"), ".1f", 100, brackets=False),
        Cell(str(row.finished), row.finished),
    ]


def _verdict(material: Material, row: Row) -> Cell:
    best = material.best(row)
    if best is None or row.finished == 0:
        status = f"{material.say('failed.status')}: {_status(material, row) or '–'}"
        return Cell(status, "9", tone="worse")
    if row is best:
        return Cell(material.say("table.best"), "0")
    difference = sentences.difference_between(material.comparison, row, best)
    if difference is None:
        return Cell(material.say("verdict.unknown"), "8")
    word = _verdict_word(material, difference)
    points = across_strategies.points_text(difference)
    return Cell(word, -difference.estimate, tone=difference.verdict, extra=points)


def _status(material: Material, row: Row) -> str:
    states = {material.say.known("status", r.status) for r in row.records if r.status != "FINISHED"}
    return ", ".join(sorted(states))


def _baseline(material: Material, baseline: Baseline, width: int) -> list[Cell]:
    split = material.comparison.split
    scores = [baseline.metrics.get(f"{split}_{name}") for name in ("accuracy", "f1")]
    cells = [Cell("–") if s is None else Cell(f"{s * 100:.1f}", s) for s in scores]
    runtime = baseline.metrics.get("runtime_s")
    name = sentences.baseline_name(baseline.name, material.say)
    row = [Cell(name), Cell(material.say("table.baseline")), Cell("–")]
    row += [*cells, Cell("–")]
    row.append(Cell("–") if runtime is None else Cell(f"{runtime:,.1f}", runtime))
    return row + [Cell("–")] * (width - len(row))


def _points(material: Material, metric: str) -> list[Point]:
    quality = material.comparison.metric
    return [
        Point(row.label, material.order[row.label], row.metrics[metric], row.metrics[quality])
        for row in material.ranked_rows
        if metric in row.metrics and row.metrics[metric].mean > 0
    ]


def _cost_figure(material: Material, cost: str, points: Sequence[Point]) -> Figure:
    say, metric = material.say, material.comparison.metric
    levels = {
        sentences.baseline_method(b.name, say): b.metrics[metric]
        for b in material.comparison.baselines
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
    axes = (say(f"costs.{cost}"), say("costs.y", metric=material.metric))
    return Figure(
        f"cost_{cost}", title, about, across_strategies.scatter(points, axes, levels), table
    )


def _forest(material: Material, rows: Sequence[Row], index: int) -> Figure | None:
    against = [sentences.difference_between(material.comparison, row, rows[0]) for row in rows[1:]]
    differences = [d for d in against if d is not None][:20]
    if not differences:
        return None
    say, best = material.say, rows[0].label
    words = [sentences.verdict_word(material.comparison, d, say) for d in differences]
    listed = "; ".join(
        f"{d.a}: {across_strategies.points_text(d)}, {word}"
        for d, word in zip(differences, words, strict=True)
    )
    about = say("differences.figure_desc", count=len(differences), reference=best, list=listed)
    axis = say("differences.axis", metric=material.metric)
    drawing = across_strategies.forest(differences, material.comparison.margin, words, axis)
    title = say("differences.figure", reference=best)
    return Figure(f"differences_{index}", title, about, drawing)


def _pair(material: Material, difference: Difference) -> list[Cell]:
    say = material.say
    metric = "f1" if difference.metric.endswith("f1") else "accuracy"
    return [
        Cell(f"{difference.a} − {difference.b}"),
        Cell(say(f"table.{metric}").rstrip(", %")),
        Cell(across_strategies.points_text(difference), difference.estimate),
        Cell(_p_text(difference), difference.p_adjusted),
        Cell(_verdict_text(material, difference), tone=difference.verdict),
        _missing(material, difference),
        Cell(say.known("method", difference.method)),
    ]


def _missing(material: Material, difference: Difference) -> Cell:
    """Return what would probably decide a pair: seeds, test texts where seeds would not, or "–"."""
    say, seeds, texts = material.say, difference.more_seeds, difference.more_texts
    if seeds is not None:
        return Cell(say("differences.more", n=seeds), seeds)
    if texts is not None:
        return Cell(say("differences.more_texts", n=f"{texts:,}"), 1e6 + texts)
    return Cell("–", float("inf"))


def _p_text(difference: Difference) -> str:
    """Format the corrected p-value; a dash where the seeds are too few for evidence."""
    if not difference.is_evidence:
        return "–"
    return "< 0.001" if difference.p_adjusted < 0.001 else f"{difference.p_adjusted:.3f}"


def _verdict_text(material: Material, difference: Difference) -> str:
    """Format the verdict, with the reason if it is undecided though the interval excludes 0."""
    word = _verdict_word(material, difference)
    return f"{word} ({material.say.tell(difference.note)})" if difference.note else word


def _verdict_word(material: Material, difference: Difference) -> str:
    sign = across_strategies.SIGNS.get(difference.verdict, "")
    return f"{sign} {sentences.verdict_word(material.comparison, difference, material.say)}"


def _band(runs: Sequence[list[tuple[int, float]]]) -> list[tuple[int, float, float, float]]:
    """Return step, mean, lowest and highest over runs, thinned out evenly."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for step, value in dict(run).items():
            values.setdefault(step, []).append(value)
    steps = sorted(values)
    every = max(1, -(-len(steps) // MOST_POINTS))
    shown = sorted({*steps[::every], *steps[-1:]})
    return [(s, sum(v) / len(v), min(v), max(v)) for s in shown for v in [values[s]]]


def _learning_figure(material: Material, metric: str, lines: Sequence[Line]) -> Figure:
    say, percent = material.say, metric.endswith("accuracy")
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


def _bar(material: Material, row: Row, metric: str) -> Bar:
    total, parts = row.metrics[metric].mean, {}
    if metric == "train_runtime_s":
        known = {
            p: row.metrics[f"train_{p}_s"].mean for p in PHASES if f"train_{p}_s" in row.metrics
        }
        rest = total - sum(known.values())
        parts = {material.say(f"spent.{p}"): value for p, value in known.items()}
        if parts and rest > 0:
            parts[material.say("spent.other")] = rest
    amount = sentences.amount(metric, total, material.say)
    return Bar(row.label, material.order[row.label], total, amount, parts)
