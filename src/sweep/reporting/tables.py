"""Lay out comparisons as tables: for a terminal, CSV and Markdown."""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from sweep.base import csv_cells, words
from sweep.base.layout import ReportPaths
from sweep.base.words import Text
from sweep.comparison.results import Comparison, Interval, Row
from sweep.comparison.rows import HIGHER_IS_BETTER, best
from sweep.reporting import sentences


@dataclass(frozen=True)
class Column:
    """A metric and how to write it."""

    metric: str
    title: str
    form: str
    spread: bool = False
    """Show half the width of the interval behind the mean."""


VALIDATION, TEST = (
    tuple(
        Column(f"{split}_{metric}", f"{title} {short}", ".3f")
        for metric, short in (("loss", "loss"), ("accuracy", "acc"), ("f1", "F1"))
    )
    for split, title in (("eval", "val"), ("test", "test"))
)
VERDICT, SEEDS = "verdict", "n"
"""Columns that show no metric: against the best, and how many seeds."""
COST = (
    Column("train_runtime_s", "train s", ",.1f"),
    Column("train_samples_per_second", "texts /s", ",.0f"),
    Column("peak_memory_mib", "peak MiB", ",.0f"),
)


SIZE = (
    Column("trainable_params", "trainable", ",.0f"),
    Column("trainable_fraction", "share", ".2%"),
)


Columns = Sequence[Column | str]


def one_per_strategy(found: Comparison) -> list[Row]:
    """Per strategy the chosen configuration, else the first, in the order they were run."""
    first = {row.label: row for row in reversed(found.rows)}
    kept = first | {row.label: row for row in found.chosen}
    return [row for row in found.rows if row is kept[row.label]]


MOST_COMPARED = 50


def write(found: Comparison, folder: Path) -> None:
    """Write summary.csv with every metric, and summary.md with the table."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = sorted({metric for row in found.rows for metric in row.metrics})
    verdicts = _verdicts(found)
    with ReportPaths(folder).table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        ends = ("", "_low", "_high", "_sd", "_n")
        parts = [f"{metric}{end}" for metric in metrics for end in ends]
        writer.writerow(
            ["configuration", "strategy", "trains", "runs", "failed", "chosen", "verdict", *parts]
        )
        for row in found.rows:
            values = [_numbers(row.metrics.get(metric)) for metric in metrics]
            texts = [row.name, row.strategy, row.trains]
            known = [row.finished, len(row.failures), int(_is_chosen(found, row))]
            cells = [*map(csv_cells.harmless, texts), *known, verdicts.get(row.name, "")]
            writer.writerow([*cells, *(value for part in values for value in part)])
    ReportPaths(folder).markdown.write_text(markdown(found), "utf-8")


def markdown(found: Comparison) -> str:
    """The verdict, the table, the warnings and the failures."""
    columns = all_columns(found)
    verdict = [_inline(text) for text in sentences.verdict(found, words.load("en"))]
    lines = [
        *(line for text in verdict for line in (text, "")),
        " | ".join(["| strategy", *map(_title, columns)]) + " |",
        "|---" + "|---:" * len(columns) + "|",
    ]
    texts = _texts(found, columns)
    for row, cells in zip(found.rows, texts, strict=True):
        lines.append(" | ".join([f"| {_inline(row.name)}", *cells]) + " |")
    for baseline in found.baselines:
        cells = [_baseline_cell(c, baseline.metrics) for c in columns]
        lines.append(" | ".join([f"| {_inline(baseline.name)}", *cells]) + " |")
    failures = [text for row in found.rows for text in row.failures]
    lines += ["", *(f"- {_inline(text)}" for text in (*found.warnings, *failures))]
    return "\n".join(lines) + "\n"


def test_columns(found: Comparison) -> tuple[Column, ...]:
    return TEST if found.split == "test" else ()


def compared_columns(found: Comparison) -> tuple[Column, ...]:
    """Accuracy and F1 of the split that strategies are compared on."""
    return (test_columns(found) or VALIDATION)[1:]


def with_spread(column: Column) -> Column:
    return replace(column, spread=True)


def all_columns(found: Comparison) -> Columns:
    compared = compared_columns(found)
    scores = [with_spread(c) if c in compared else c for c in (*VALIDATION, *test_columns(found))]
    return (*SIZE, *scores, VERDICT, SEEDS, *COST)


def _is_chosen(found: Comparison, row: Row) -> bool:
    return any(row.name == other.name and row.group == other.group for other in found.chosen)


def baseline_lines(found: Comparison) -> list[str]:
    """What is reached without fine-tuning; its seconds are not the training time of a model."""
    lines = []
    for baseline in found.baselines:
        scores = [
            f"{column.title} {baseline.metrics[column.metric]:{column.form}}"
            for column in compared_columns(found)
            if column.metric in baseline.metrics
        ]
        lines.append(f"without fine-tuning, {baseline.name}: {', '.join(scores)}")
    return lines


def legend(found: Comparison) -> str:
    level = f"{found.confidence * 100:g}%"
    spread = any(i.low is not None for row in found.rows for i in row.metrics.values())
    ends = f" ± is the {level} interval." if spread else ""
    return f"* best of its column, means over n seeds.{ends} Test scores choose nothing."


def rich_table(found: Comparison, columns: Columns) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("strategy", overflow="fold", min_width=9)
    by_row = _texts(found, columns)
    for place, column in enumerate(columns):
        # Else rich takes a title's longest word for all the room that the column needs.
        width = max(len(text) for text in [_title(column), *(cells[place] for cells in by_row)])
        table.add_column(_title(column), justify="right", no_wrap=True, min_width=width)
    for row, cells in zip(found.rows, by_row, strict=True):
        if row.finished:
            table.add_row(escape(row.name), *cells)
        else:
            table.add_row(escape(row.name), "failed", style="red")
    return table


def _texts(found: Comparison, columns: Columns) -> list[list[str]]:
    """One list of cells per row."""
    verdicts = _verdicts(found)
    by_column = []
    for column in columns:
        if isinstance(column, Column):
            known = column.metric in HIGHER_IS_BETTER
            marked = best(found.rows, column.metric) if known else set()
            by_column.append([_cell(row, column, marked) for row in found.rows])
        elif column == VERDICT:
            by_column.append([verdicts.get(row.name, "-") for row in found.rows])
        else:
            by_column.append([str(row.finished) for row in found.rows])
    return [list(cells) for cells in zip(*by_column, strict=True)]


def _verdicts(found: Comparison) -> dict[str, str]:
    """Per chosen configuration, how it stands against the best of its group."""
    texts = {}
    for group in sentences.groups(found):
        rows = sentences.ranked(found, group)
        for row in rows:
            d = sentences.between(found, row, rows[0]) if len(rows) > 1 else None
            texts[row.name] = d.verdict if d else "best" if row is rows[0] and rows[1:] else "-"
    return texts


def _title(column: Column | str) -> str:
    return column.title if isinstance(column, Column) else column


def _cell(row: Row, column: Column, marked: set[str]) -> str:
    found = row.metrics.get(column.metric)
    if found is None:
        return "-"
    text = format(found.mean, column.form) + ("*" if row.name in marked else "")
    if column.spread and found.values:
        return f"{text} ({', '.join(format(v, column.form) for v in found.values)})"
    if not column.spread or found.low is None or found.high is None:
        return text
    return f"{text} ±{(found.high - found.low) / 2:{column.form}}"


def _baseline_cell(column: Column | str, metrics: dict[str, float]) -> str:
    if isinstance(column, str) or column.metric not in metrics:
        return "-"
    return format(metrics[column.metric], column.form)


def _numbers(found: Interval | None) -> list[float | int | str]:
    values = [found.mean, found.low, found.high, found.sd, found.n] if found else [None] * 5
    return ["" if value is None else value for value in values]


def _inline(text: Text) -> str:
    """Text in one cell or line of Markdown, with nothing in it taken for markup."""
    escaped = re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(str(text), quote=False))
    return " ".join(escaped.split())
