"""Build the sections of the report on classes, texts, layers, failures and the environment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sweep.base.words import Text
from sweep.comparison.results import Baseline, Row
from sweep.reporting import sentences
from sweep.reporting.figures import per_strategy
from sweep.reporting.figures.per_strategy import Pair, Pairs
from sweep.reporting.material import MOST_ROWS, Cell, Figure, Material, Table, majority
from sweep.runs import read_outputs
from sweep.runs.read_outputs import Predictions
from sweep.runs.record import Record
from sweep.tracking.tags import Tag

MOST_TEXT = 400
"""Characters of a text that are shown."""
MOST_LOGS = 20
"""Number of failed runs whose log is shown."""


@dataclass(frozen=True)
class Disagreement:
    """Two strategies compared text by text."""

    a: str
    b: str
    counts: dict[str, int]
    """Number of texts that both, only `a`, only `b` or neither predicted correctly."""
    tables: list[Table]
    figure: Figure


@dataclass(frozen=True)
class Failure:
    """A run without a result, and the end of its log."""

    name: str
    log: str


def class_figures(material: Material) -> list[Figure]:
    """Draw the confusions and the F1 per class of the shown strategy and the baseline."""
    best, baseline = _shown(material)
    if best is None:
        return []
    runs = material.predictions[best]
    classes = _classes(runs)
    figures = [_confusion_figure(material, best, _count(runs), classes)]
    if baseline is not None:
        pairs = Counter(zip(runs[0].labels, baseline.predictions, strict=True))
        name = sentences.baseline_name(baseline.name, material.say)
        figures.append(_confusion_figure(material, name, pairs, classes, "baseline"))
        figures.append(_f1_figure(material, (best, name), (_count(runs), pairs), classes))
    return figures


def class_names(material: Material) -> dict[str, str]:
    """Return the names of the strategy and the baseline in the class figures."""
    best, baseline = _shown(material)
    name = sentences.baseline_name(baseline.name, material.say) if baseline else "–"
    return {"best": best or "–", "baseline": name}


def disagreement(material: Material) -> Disagreement | None:
    """Compare the recommended, or else the best, strategy with its closest rival text by text."""
    names = [row.label for row in material.ranked_rows if row.label in material.predictions]
    chosen = _chosen(material)
    if chosen is not None and chosen.label in names:
        names.sort(key=lambda name: name != chosen.label)
    for b in names[1:]:
        one, other = (majority(material.predictions[name]) for name in (names[0], b))
        if set(one) == set(other):
            return _disagreement(material, (names[0], b), (one, other))
    return None


def map_figures(material: Material) -> list[Figure]:
    """Draw one map of trained tensors per strategy."""
    say = material.say
    words = {
        name: say.known("maps", name)
        for name in ("head", "embeddings", "attention", "feed-forward", "norm", "pooler")
    }
    figures = []
    for name, layers in material.maps.items():
        about = say(
            "maps.figure_desc",
            name=name,
            trains=material.trains[name],
            passed=layers.passed,
            layers=layers.layers,
        )
        drawing = per_strategy.map_figure(layers, words)
        figures.append(Figure(f"map_{material.order[name]}", name, about, drawing))
    return figures


def failed_table(material: Material) -> Table | None:
    """List the runs that did not finish and those that never began; None if there are none."""
    say = material.say
    running = {"RUNNING": say("failed.running")}
    rows = [
        [
            Cell(r.name),
            Cell(say.known("status", r.status), tone="worse"),
            Cell(say.tell(r.reason) or running.get(r.status, "–")),
        ]
        for r in _failed(material)
    ]
    rows += [
        [Cell(n), Cell("–"), Cell(say("failed.missing"))]
        for n in material.plan.missing(material.records)
    ]
    if not rows:
        return None
    titles = [say(f"failed.{key}") for key in ("run", "status", "reason")]
    more = max(len(rows) - MOST_ROWS, 0)
    return Table(say("failed.table"), titles, rows[:MOST_ROWS], more=more)


def failures(material: Material) -> list[Failure]:
    return [Failure(r.name, read_outputs.log_tail(r)) for r in _failed(material)[:MOST_LOGS]]


def world_table(material: Material) -> Table:
    """List command, fingerprints, versions and hardware, with all values if runs differ."""
    say = material.say
    records = [r for r in material.records if r.tags] or list(material.records)
    rows = {
        say("world.command"): material.plan.command or say("world.unknown"),
        say("world.data"): _agreed(material, records, "data", Tag.DATA_FINGERPRINT),
        say("world.weights"): _agreed(material, records, "model", Tag.WEIGHTS_FINGERPRINT),
        say("world.hardware"): _tag(material, records, Tag.DEVICE),
        say("world.threads"): _tag(material, records, Tag.NUM_THREADS),
        say("world.git"): _tag(material, records, Tag.GIT),
        say("world.versions"): _versions(material, records),
    }
    titles = [say("world.thing"), say("world.value")]
    cells = [[Cell(key), Cell(value)] for key, value in rows.items()]
    return Table(say("world.caption"), titles, cells, sortable=False)


def notes(material: Material) -> list[str]:
    """Return each note of the runs once, preceded by run names where not all runs have it."""
    owners: dict[Text, list[str]] = {}
    for record in material.records:
        for note in record.notes:
            owners.setdefault(note, []).append(record.name)
    lines = []
    for text, names in list(owners.items())[:50]:
        note = material.say.tell(text)
        where = f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}: "
        lines.append(note if len(names) == len(material.records) else where + note)
    return lines


def missing_texts_reason(material: Material) -> str:
    """Return why texts are left out; empty where they are shown."""
    if material.texts:
        return ""
    key = "unavailable" if material.examples else "off"
    return material.say("disagreements.no_texts", reason=material.say(f"disagreements.{key}"))


def _chosen(material: Material) -> Row | None:
    """Return the recommended row of the first group."""
    groups = sentences.groups(material.comparison)
    return sentences.recommended_row(material.comparison, groups[0]) if groups else None


def _shown(material: Material) -> tuple[str | None, Baseline | None]:
    """Return the recommended, or else the best, strategy and the best baseline on its texts."""
    names = [row.label for row in material.ranked_rows if row.label in material.predictions]
    chosen = _chosen(material)
    if chosen is not None and chosen.label in names:
        names = [chosen.label]
    if not names:
        return None, None
    metric, texts = material.comparison.metric, len(material.predictions[names[0]][0].ids)
    fitting = [b for b in material.comparison.baselines if len(b.predictions) == texts]
    best = max(fitting, key=lambda b: b.metrics.get(metric, 0.0), default=None)
    return names[0], best


def _classes(runs: Sequence[Predictions]) -> list[str]:
    classes = runs[0].classes or []
    seen = {name for run in runs for name in (*run.labels, *run.predictions)}
    return [*classes, *sorted(seen - set(classes))]


def _count(runs: Sequence[Predictions]) -> Pairs:
    total: Pairs = Counter()
    for run in runs:
        total += run.pairs
    return total


def _confusion_figure(
    material: Material, name: str, pairs: Pairs, classes: Sequence[str], file: str = "best"
) -> Figure:
    say = material.say
    rest = len(classes) - per_strategy.MOST_CLASSES + 1
    matrix = per_strategy.confusion(pairs, classes, say("classes.other", count=rest))
    wrong = Counter({pair: n for pair, n in pairs.items() if pair[0] != pair[1]}).most_common(20)
    listed = [
        say("classes.pair", count=n, label=label, prediction=prediction)
        for (label, prediction), n in wrong[:3]
    ]
    about = say("classes.confusion_desc", list="; ".join(listed) or say("classes.no_pair"))
    if matrix.rest:
        shown = len(matrix.names) - 1
        about = f"{say('classes.shown', shown=shown, count=len(classes))} {about}"
    labels: Counter[str] = Counter()
    for (label, _), n in pairs.items():
        labels[label] += n
    titles = [say("classes.label"), say("classes.prediction")]
    titles += [f"#{say('classes.count')}", f"#{say('classes.share')}"]
    rows = [
        [Cell(a), Cell(b), Cell(str(n), n), Cell(f"{n / labels[a] * 100:.1f}", n / labels[a])]
        for (a, b), n in wrong
    ]
    drawing = per_strategy.confusion_figure(
        matrix, (say("classes.label"), say("classes.prediction"))
    )
    title = say("classes.confusion", name=name)
    table = Table(f"{say('classes.confusions')}: {name}", titles, rows)
    return Figure(f"confusion_{file}", title, about, drawing, table)


def _f1_figure(
    material: Material, names: tuple[str, str], counted: tuple[Pairs, Pairs], classes: Sequence[str]
) -> Figure:
    say = material.say
    one, other = (per_strategy.f1_scores(pairs, classes) for pairs in counted)
    both = [Pair(c, one[c] or 0.0, other[c] or 0.0) for c in classes if one[c] is not None]
    shown = both
    if len(both) > per_strategy.MOST_CLASSES:
        most = sorted(both, key=lambda p: -abs(p.one - p.other))[: per_strategy.MOST_CLASSES]
        shown = [p for p in both if p in most]
    listed = " ".join(
        say("classes.f1_pair", name=p.name, one=f"{p.one * 100:.1f}", other=f"{p.other * 100:.1f}")
        for p in shown
    )
    title = say("classes.f1_figure", best=names[0], baseline=names[1])
    about = say("classes.f1_desc", best=names[0], baseline=names[1], list=listed)
    titles = [say("classes.class"), f"#{names[0]}", f"#{names[1]}"]
    rows = [
        [Cell(p.name), Cell(f"{p.one * 100:.1f}", p.one), Cell(f"{p.other * 100:.1f}", p.other)]
        for p in both[:1000]
    ]
    drawing = per_strategy.f1_figure(shown, (material.order[names[0]], None), say("classes.f1"))
    return Figure("f1", title, about, drawing, Table(title, titles, rows))


Votes = dict[str, tuple[str, str]]


def _disagreement(
    material: Material, names: tuple[str, str], votes: tuple[Votes, Votes]
) -> Disagreement:
    a, b = (
        {text: label == prediction for text, (label, prediction) in each.items()} for each in votes
    )
    kinds = {
        "both": [t for t in a if a[t] and b[t]],
        "a": [t for t in a if a[t] and not b[t]],
        "b": [t for t in a if b[t] and not a[t]],
        "neither": [t for t in a if not a[t] and not b[t]],
    }
    counts = {kind: len(texts) for kind, texts in kinds.items()}
    say = material.say
    words = {
        "both": say("disagreements.both"),
        "a": say("disagreements.only", name=names[0]),
        "b": say("disagreements.only", name=names[1]),
        "neither": say("disagreements.neither"),
    }
    about = "; ".join(f"{word}: {counts[kind]}" for kind, word in words.items())
    title = say("disagreements.figure", a=names[0], b=names[1])
    parts = [(words[kind], counts[kind], tone) for kind, tone in _tones(material, names).items()]
    figure = Figure("disagreements", title, about, per_strategy.stack(parts))
    tables = [
        _texts(material, names[0], names[1], kinds["a"], votes[1]),
        _texts(material, names[1], names[0], kinds["b"], votes[0]),
    ]
    return Disagreement(*names, counts, [t for t in tables if t.rows], figure)


def _tones(material: Material, names: tuple[str, str]) -> dict[str, int | None]:
    """Return the strategy whose colour each part of the bar takes; None for grey."""
    a, b = (material.order[name] for name in names)
    return {"both": None, "a": a, "b": b, "neither": None}


def _texts(material: Material, right: str, wrong: str, ids: Sequence[str], votes: Votes) -> Table:
    """List texts that only one strategy predicts correctly; without texts, their ids only."""
    say = material.say
    titles = [f"#{say('disagreements.id')}"]
    titles += [say("disagreements.text")] if material.texts else []
    titles += [say("disagreements.label"), say("disagreements.prediction", name=wrong)]
    rows = []
    for key in ids[: material.examples or 8]:
        label, prediction = votes[key]
        cells = [Cell(key, float(key) if key.isdigit() else key)]
        if material.texts:
            text = material.texts.get(key, "–")
            cells.append(Cell(text[:MOST_TEXT] + ("…" if len(text) > MOST_TEXT else "")))
        rows.append([*cells, Cell(label), Cell(prediction)])
    return Table(say("disagreements.texts", name=right), titles, rows)


def _failed(material: Material) -> list[Record]:
    return [r for r in material.records if r.status != "FINISHED"]


def _tag(material: Material, records: Sequence[Record], key: str) -> str:
    return _values(material, [r.tags[key] for r in records if key in r.tags])


def _agreed(material: Material, records: Sequence[Record], param: str, tag: str) -> str:
    names = _values(material, [str(r.params[param]) for r in records if param in r.params])
    return f"{names}; SHA-256 {_tag(material, records, tag)}"


def _values(material: Material, values: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(values))
    if not distinct:
        return material.say("world.unknown")
    listed = " | ".join(distinct[:4])
    return listed if len(distinct) == 1 else f"{material.say('world.several')}: {listed}"


def _versions(material: Material, records: Sequence[Record]) -> str:
    prefix = Tag.VERSION
    names = dict.fromkeys(k for r in records for k in r.tags if k.startswith(prefix))
    listed = [f"{name.removeprefix(prefix)} {_tag(material, records, name)}" for name in names]
    return ", ".join(listed) or material.say("world.unknown")
