"""Define the tables and figures of a report page, and the material that they are made from."""

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
"""Rows that a table on the page shows; summary.csv has all of them."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table; a column is sorted by `sort`, or by `text` where that is None."""

    text: str
    sort: float | str | None = None
    index: int | None = None
    """Index of the strategy whose mark precedes the text."""
    tone: str = ""
    """CSS class of the cell."""
    extra: str = ""
    """Fainter text that follows, such as an interval."""


@dataclass(frozen=True)
class Table:
    """A table; a title that starts with # heads a column of numbers."""

    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    feet: Sequence[Sequence[Cell]] = ()
    """Rows that stay at the bottom when the others are sorted."""
    sortable: bool = True
    more: int = 0
    """Number of rows that were left out."""


@dataclass(frozen=True)
class Figure:
    """A drawing with its name, an equivalent text, and its numbers as a table."""

    name: str
    """Stem of its file name, and its id on the page."""
    title: str
    about: str
    drawing: str
    table: Table | None = None


@dataclass(frozen=True)
class Material:
    """Everything that a report is made from."""

    comparison: Comparison
    records: Sequence[Record]
    plan: Plan
    say: Words
    texts: Mapping[str, str] = field(default_factory=dict)
    """Text per id of the reported split; empty if texts may not or cannot be shown."""
    examples: int = 8
    """Number of texts that are shown of each kind."""

    @cached_property
    def order(self) -> dict[str, int]:
        """Return the index of each strategy, which determines its colour and mark."""
        labels = dict.fromkeys(row.label for row in self.comparison.rows)
        return {label: index for index, label in enumerate(labels)}

    @cached_property
    def metric(self) -> str:
        """Return the words for the compared metric, such as `test accuracy`."""
        return self.say.tell(recommend.metric_name(self.comparison.metric))

    @cached_property
    def trains(self) -> dict[str, str]:
        """Return per strategy what trains; in English where no run left its configuration."""
        rows = {row.label: row for row in (*self.comparison.rows, *self.comparison.chosen)}
        return {label: self._trains(row) for label, row in rows.items()}

    def _trains(self, row: Row) -> str:
        configs = (saved for record in row.records if (saved := read_outputs.settings(record)))
        cfg = next(configs, None)
        return self.say.tell(describe(cfg.freeze)) if cfg else row.trains or "–"

    @cached_property
    def maps(self) -> dict[str, layer_map.LayerMap]:
        """Return the layer map of each strategy whose tensors are recorded."""
        rows = self.comparison.chosen or self.comparison.rows
        by_strategy = {row.label: read_outputs.tensors(row.records) for row in rows}
        return {
            name: layer_map.layer_map(tensors) for name, tensors in by_strategy.items() if tensors
        }

    @cached_property
    def predictions(self) -> dict[str, list[Predictions]]:
        """Return per chosen strategy the predictions of its finished runs."""
        ids: dict[str, list[str]] = {}
        by_strategy = {
            row.label: [self._predictions(r, ids) for r in row.records if r.status == "FINISHED"]
            for row in self.comparison.chosen
        }
        usable = {name: [p for p in runs if p.ids] for name, runs in by_strategy.items()}
        return {name: runs for name, runs in usable.items() if runs}

    def _predictions(self, record: Record, ids: dict[str, list[str]]) -> Predictions:
        """Return a run's predictions with the ids of the file now, or of the first run on its data.

        Args:
            record: The run.
            ids: Ids per fingerprint of the data; those of a new fingerprint are added.
        """
        run, data = read_outputs.predictions(record), record.tags.get(Tag.DATA_FINGERPRINT)
        if data is None:
            return run
        known = ids.setdefault(data, [*self.texts] or run.ids)
        return replace(run, ids=known) if len(known) == len(run.ids) else run

    @property
    def ranked_rows(self) -> list[Row]:
        """Return the chosen rows that have a score, the best first."""
        return sentences.ranked_rows(self.comparison)

    def best(self, row: Row) -> Row | None:
        """Return the best row of the row's group; None if no row has a score."""
        return next((other for other in self.ranked_rows if other.group == row.group), None)

    def name(self, row: Row) -> Cell:
        """Return a cell with the strategy's name and mark."""
        return Cell(row.label, index=self.order[row.label])


def number(interval: Interval | None, form: str, scale: float = 1.0, brackets: bool = True) -> Cell:
    """Return a cell with a mean and its interval; a dash for None."""
    if interval is None:
        return Cell("–", sort=float("-inf"))
    value = format(interval.mean * scale, form)
    ends = sentences.range_text(interval, scale, form.removeprefix("+")) if brackets else ""
    return Cell(value, sort=interval.mean, extra=ends)


def majority(runs: Sequence[Predictions]) -> dict[str, tuple[str, str]]:
    """Return per text id its label and the prediction of most runs."""
    votes: dict[str, Counter[str]] = {}
    labels: dict[str, str] = {}
    for run in runs:
        for text, label, prediction in zip(run.ids, run.labels, run.predictions, strict=True):
            votes.setdefault(text, Counter())[prediction] += 1
            labels[text] = label
    return {text: (labels[text], counts.most_common(1)[0][0]) for text, counts in votes.items()}
