"""Sections of the report on classes, texts, layers, failures, and where all of it was measured."""

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
"""Letters of a text that are shown."""
MOST_LOGS = 20
"""Failed runs of which the log is shown."""


@dataclass(frozen=True)
class Disagreement:
    """Two strategies, text by text."""

    a: str
    b: str
    counts: dict[str, int]
    """How many texts: both, a, b or neither right."""
    tables: list[Table]
    figure: Figure


@dataclass(frozen=True)
class Failure:
    """A run without a result and the end of its log."""

    name: str
    log: str


def class_figures(m: Material) -> list[Figure]:
    """Confusions of the best and of the baseline, and F1 per class of both."""
    best, baseline = _shown(m)
    if best is None:
        return []
    runs = m.predictions[best]
    classes = _classes(runs)
    found = [_confusion_figure(m, best, _count(runs), classes)]
    if baseline is not None:
        pairs = Counter(zip(runs[0].labels, baseline.predictions, strict=True))
        name = sentences.baseline(baseline.name, m.say)
        found.append(_confusion_figure(m, name, pairs, classes, "baseline"))
        found.append(_f1_figure(m, (best, name), (_count(runs), pairs), classes))
    return found


def class_names(m: Material) -> dict[str, str]:
    """Who is shown, for the sentence above the figures."""
    best, baseline = _shown(m)
    name = sentences.baseline(baseline.name, m.say) if baseline else "–"
    return {"best": best or "–", "baseline": name}


def disagreement(m: Material) -> Disagreement | None:
    """The recommended strategy, else the best, against its closest rival, text by text."""
    names = [row.label for row in m.ranked if row.label in m.predictions]
    chosen = _chosen(m)
    if chosen is not None and chosen.label in names:
        names.sort(key=lambda name: name != chosen.label)
    for b in names[1:]:
        one, other = (majority(m.predictions[name]) for name in (names[0], b))
        if set(one) == set(other):
            return _disagreement(m, (names[0], b), (one, other))
    return None


def map_figures(m: Material) -> list[Figure]:
    """What trains, one picture per strategy."""
    say = m.say
    words = {
        name: say.known("maps", name)
        for name in ("head", "embeddings", "attention", "feed-forward", "norm", "pooler")
    }
    found = []
    for name, layers in m.maps.items():
        about = say(
            "maps.figure_desc",
            name=name,
            trains=m.trains[name],
            passed=layers.passed,
            layers=layers.layers,
        )
        drawing = per_strategy.map_figure(layers, words)
        found.append(Figure(f"map_{m.order[name]}", name, about, drawing))
    return found


def failed_table(m: Material) -> Table | None:
    """Runs that ended badly, and those that never began."""
    say = m.say
    running = {"RUNNING": say("failed.running")}
    rows = [
        [
            Cell(r.name),
            Cell(say.known("status", r.status), tone="worse"),
            Cell(say.tell(r.reason) or running.get(r.status, "–")),
        ]
        for r in _failed(m)
    ]
    rows += [[Cell(n), Cell("–"), Cell(say("failed.missing"))] for n in m.plan.missing(m.records)]
    if not rows:
        return None
    titles = [say(f"failed.{key}") for key in ("run", "status", "reason")]
    more = max(len(rows) - MOST_ROWS, 0)
    return Table(say("failed.table"), titles, rows[:MOST_ROWS], more=more)


def failures(m: Material) -> list[Failure]:
    """Failed runs with the ends of their logs."""
    return [Failure(r.name, read_outputs.log_tail(r)) for r in _failed(m)[:MOST_LOGS]]


def world_table(m: Material) -> Table:
    """Command, fingerprints, versions and hardware; what differs between runs is said."""
    say = m.say
    records = [r for r in m.records if r.tags] or list(m.records)
    rows = {
        say("world.command"): m.plan.command or say("world.unknown"),
        say("world.data"): _agreed(m, records, "data", Tag.DATA_FINGERPRINT),
        say("world.weights"): _agreed(m, records, "model", Tag.WEIGHTS_FINGERPRINT),
        say("world.hardware"): _tag(m, records, Tag.DEVICE),
        say("world.threads"): _tag(m, records, Tag.NUM_THREADS),
        say("world.git"): _tag(m, records, Tag.GIT),
        say("world.versions"): _versions(m, records),
    }
    titles = [say("world.thing"), say("world.value")]
    cells = [[Cell(key), Cell(value)] for key, value in rows.items()]
    return Table(say("world.caption"), titles, cells, sortable=False)


def notes(m: Material) -> list[str]:
    """What was dropped, cut or not used, each once, with the runs it is true of."""
    owners: dict[Text, list[str]] = {}
    for record in m.records:
        for note in record.notes:
            owners.setdefault(note, []).append(record.name)
    found = []
    for text, names in list(owners.items())[:50]:
        note = m.say.tell(text)
        where = f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}: "
        found.append(note if len(names) == len(m.records) else where + note)
    return found


def why_no_texts(m: Material) -> str:
    """Why texts are left out, or nothing where they are shown."""
    if m.texts:
        return ""
    key = "unavailable" if m.examples else "off"
    return m.say("disagreements.no_texts", reason=m.say(f"disagreements.{key}"))


def _chosen(m: Material) -> Row | None:
    """What is recommended; of several groups, in the first."""
    found = sentences.groups(m.comparison)
    return sentences.recommended(m.comparison, found[0]) if found else None


def _shown(m: Material) -> tuple[str | None, Baseline | None]:
    """The recommended strategy, else the best, and the baseline that predicted the same texts."""
    names = [row.label for row in m.ranked if row.label in m.predictions]
    chosen = _chosen(m)
    if chosen is not None and chosen.label in names:
        names = [chosen.label]
    if not names:
        return None, None
    metric, texts = m.comparison.metric, len(m.predictions[names[0]][0].ids)
    fitting = [b for b in m.comparison.baselines if len(b.predictions) == texts]
    best = max(fitting, key=lambda b: b.metrics.get(metric, 0.0), default=None)
    return names[0], best


def _classes(runs: Sequence[Predictions]) -> list[str]:
    found = runs[0].classes or []
    seen = {name for run in runs for name in (*run.labels, *run.predictions)}
    return [*found, *sorted(seen - set(found))]


def _count(runs: Sequence[Predictions]) -> Pairs:
    total: Pairs = Counter()
    for run in runs:
        total += run.pairs
    return total


def _confusion_figure(
    m: Material, name: str, pairs: Pairs, classes: Sequence[str], file: str = "best"
) -> Figure:
    say = m.say
    rest = len(classes) - per_strategy.MOST_CLASSES + 1
    found = per_strategy.confusion(pairs, classes, say("classes.other", count=rest))
    wrong = Counter({pair: n for pair, n in pairs.items() if pair[0] != pair[1]}).most_common(20)
    listed = [
        say("classes.pair", count=n, label=label, prediction=prediction)
        for (label, prediction), n in wrong[:3]
    ]
    about = say("classes.confusion_desc", list="; ".join(listed) or say("classes.no_pair"))
    if found.rest:
        shown = len(found.names) - 1
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
        found, (say("classes.label"), say("classes.prediction"))
    )
    title = say("classes.confusion", name=name)
    table = Table(f"{say('classes.confusions')}: {name}", titles, rows)
    return Figure(f"confusion_{file}", title, about, drawing, table)


def _f1_figure(
    m: Material, names: tuple[str, str], counted: tuple[Pairs, Pairs], classes: Sequence[str]
) -> Figure:
    say = m.say
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
    drawing = per_strategy.f1_figure(shown, (m.order[names[0]], None), say("classes.f1"))
    return Figure("f1", title, about, drawing, Table(title, titles, rows))


Votes = dict[str, tuple[str, str]]


def _disagreement(m: Material, names: tuple[str, str], votes: tuple[Votes, Votes]) -> Disagreement:
    a, b = ({text: label == got for text, (label, got) in found.items()} for found in votes)
    kinds = {
        "both": [t for t in a if a[t] and b[t]],
        "a": [t for t in a if a[t] and not b[t]],
        "b": [t for t in a if b[t] and not a[t]],
        "neither": [t for t in a if not a[t] and not b[t]],
    }
    counts = {kind: len(texts) for kind, texts in kinds.items()}
    say = m.say
    words = {
        "both": say("disagreements.both"),
        "a": say("disagreements.only", name=names[0]),
        "b": say("disagreements.only", name=names[1]),
        "neither": say("disagreements.neither"),
    }
    about = "; ".join(f"{word}: {counts[kind]}" for kind, word in words.items())
    title = say("disagreements.figure", a=names[0], b=names[1])
    parts = [(words[kind], counts[kind], tone) for kind, tone in _tones(m, names).items()]
    figure = Figure("disagreements", title, about, per_strategy.stack(parts))
    tables = [
        _texts(m, names[0], names[1], kinds["a"], votes[1]),
        _texts(m, names[1], names[0], kinds["b"], votes[0]),
    ]
    return Disagreement(*names, counts, [t for t in tables if t.rows], figure)


def _tones(m: Material, names: tuple[str, str]) -> dict[str, int | None]:
    """Which strategy's colour a part of the bar has."""
    return {"both": None, "a": m.order[names[0]], "b": m.order[names[1]], "neither": None}


def _texts(m: Material, right: str, wrong: str, ids: Sequence[str], votes: Votes) -> Table:
    """Texts that one gets right, with what the other says; ids alone where texts are not shown."""
    say = m.say
    titles = [f"#{say('disagreements.id')}"]
    titles += [say("disagreements.text")] if m.texts else []
    titles += [say("disagreements.label"), say("disagreements.prediction", name=wrong)]
    rows = []
    for key in ids[: m.examples or 8]:
        label, got = votes[key]
        cells = [Cell(key, float(key) if key.isdigit() else key)]
        if m.texts:
            text = m.texts.get(key, "–")
            cells.append(Cell(text[:MOST_TEXT] + ("…" if len(text) > MOST_TEXT else "")))
        rows.append([*cells, Cell(label), Cell(got)])
    return Table(say("disagreements.texts", name=right), titles, rows)


def _failed(m: Material) -> list[Record]:
    return [r for r in m.records if r.status != "FINISHED"]


def _tag(m: Material, records: Sequence[Record], key: str) -> str:
    return _values(m, [r.tags[key] for r in records if key in r.tags])


def _agreed(m: Material, records: Sequence[Record], param: str, tag: str) -> str:
    names = _values(m, [str(r.params[param]) for r in records if param in r.params])
    return f"{names}; SHA-256 {_tag(m, records, tag)}"


def _values(m: Material, found: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(found))
    if not distinct:
        return m.say("world.unknown")
    listed = " | ".join(distinct[:4])
    return listed if len(distinct) == 1 else f"{m.say('world.several')}: {listed}"


def _versions(m: Material, records: Sequence[Record]) -> str:
    prefix = Tag.VERSION
    names = dict.fromkeys(k for r in records for k in r.tags if k.startswith(prefix))
    listed = [f"{name.removeprefix(prefix)} {_tag(m, records, name)}" for name in names]
    return ", ".join(listed) or m.say("world.unknown")
