"""What a page is made of: tables, figures, and the material they are drawn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sweep.base.words import Words
from sweep.comparison import recommend
from sweep.comparison.results import Comparison, Interval, Row
from sweep.reporting import sentences
from sweep.reporting.figures import layer_map
from sweep.runs import read_outputs
from sweep.runs.read_outputs import Plan, Predictions
from sweep.runs.record import Record
from sweep.strategies.description import describe
from sweep.tracking.tags import Tag

MOST_ROWS = 200
"""More rows than this help nobody on a page; summary.csv has them all."""


@dataclass(frozen=True)
class Cell:
    """One cell; `sort` is its place when a column is sorted, by default its text."""

    text: str
    sort: float | str | None = None
    index: int | None = None
    """Strategy whose mark stands before the text."""
    tone: str = ""
    """Class for its looks."""
    extra: str = ""
    """Said more quietly behind the text: an interval."""


@dataclass(frozen=True)
class Table:
    """A table; `titles` that start with # head columns of numbers."""

    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    feet: Sequence[Sequence[Cell]] = ()
    """Rows that stay below when the others are sorted."""
    sortable: bool = True
    more: int = 0
    """Rows that were left out."""


@dataclass(frozen=True)
class Figure:
    """A drawing with its name, a text that says the same, and its numbers."""

    name: str
    """Of its file, and its id on the page."""
    title: str
    about: str
    drawing: str
    table: Table | None = None


@dataclass(frozen=True)
class Material:
    """All that a report is made of."""

    comparison: Comparison
    records: Sequence[Record]
    plan: Plan
    say: Words
    texts: Mapping[str, str] = field(default_factory=dict)
    """Text per id of the reported split, as far as they may and can be shown."""
    examples: int = 8
    """How many texts are shown of each kind."""

    @cached_property
    def order(self) -> dict[str, int]:
        """Number of each strategy, which gives it its colour and mark."""
        labels = dict.fromkeys(row.label for row in self.comparison.rows)
        return {label: index for index, label in enumerate(labels)}

    @cached_property
    def metric(self) -> str:
        """The words for what is compared, such as `test accuracy`."""
        return self.say.tell(recommend.metric_name(self.comparison.metric))

    @cached_property
    def trains(self) -> dict[str, str]:
        """Per strategy, what trains; in English where no run has kept its configuration."""
        rows = {row.label: row for row in (*self.comparison.rows, *self.comparison.chosen)}
        return {label: self._trains(row) for label, row in rows.items()}

    def _trains(self, row: Row) -> str:
        known = (found for record in row.records if (found := read_outputs.settings(record)))
        cfg = next(known, None)
        return self.say.tell(describe(cfg.freeze)) if cfg else row.trains or "–"

    @cached_property
    def maps(self) -> dict[str, layer_map.LayerMap]:
        """Per strategy, what trains."""
        rows = self.comparison.chosen or self.comparison.rows
        found = {row.label: read_outputs.tensors(row.records) for row in rows}
        return {name: layer_map.layer_map(tensors) for name, tensors in found.items() if tensors}

    @cached_property
    def predictions(self) -> dict[str, list[Predictions]]:
        """Per chosen strategy, the predictions of its finished runs."""
        ids: dict[str, list[str]] = {}
        found = {
            row.label: [self._predictions(r, ids) for r in row.records if r.status == "FINISHED"]
            for row in self.comparison.chosen
        }
        kept = {name: [p for p in runs if p.ids] for name, runs in found.items()}
        return {name: runs for name, runs in kept.items() if runs}

    def _predictions(self, record: Record, ids: dict[str, list[str]]) -> Predictions:
        """Of one run, with the ids of the file as it is now, else of the first run on its data."""
        run, data = read_outputs.predictions(record), record.tags.get(Tag.DATA_FINGERPRINT)
        if data is None:
            return run
        known = ids.setdefault(data, [*self.texts] or run.ids)
        return replace(run, ids=known) if len(known) == len(run.ids) else run

    @property
    def ranked(self) -> list[Row]:
        """Chosen rows that have a score, the best first."""
        return sentences.ranked(self.comparison)

    def best(self, row: Row) -> Row | None:
        """The best of the row's group."""
        return next((other for other in self.ranked if other.group == row.group), None)

    def name(self, row: Row) -> Cell:
        """The strategy's name with its mark."""
        return Cell(row.label, index=self.order[row.label])


def number(found: Interval | None, form: str, scale: float = 1.0, brackets: bool = True) -> Cell:
    """A mean with its interval; a dash where there is none."""
    if found is None:
        return Cell("–", sort=float("-inf"))
    value = format(found.mean * scale, form)
    ends = sentences.range_text(found, scale, form.removeprefix("+")) if brackets else ""
    return Cell(value, sort=found.mean, extra=ends)


def majority(runs: Sequence[Predictions]) -> dict[str, tuple[str, str]]:
    """Per text, its label and what most runs predict."""
    votes: dict[str, Counter[str]] = {}
    labels: dict[str, str] = {}
    for run in runs:
        for text, label, prediction in zip(run.ids, run.labels, run.predictions, strict=True):
            votes.setdefault(text, Counter())[prediction] += 1
            labels[text] = label
    return {text: (labels[text], found.most_common(1)[0][0]) for text, found in votes.items()}
