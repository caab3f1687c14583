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
    """A metric and its format."""

    metric: str
    title: str
    form: str
    spread: bool = False
    """Write half the width of the interval after the mean."""


VALIDATION, TEST = (
    tuple(
        Column(f"{split}_{metric}", f"{title} {short}", ".3f")
        for metric, short in (("loss", "loss"), ("accuracy", "acc"), ("f1", "F1"))
    )
    for split, title in (("eval", "val"), ("test", "test"))
)
VERDICT, SEEDS = "verdict", "n"
"""Columns that show no metric: the verdict against the best, and the number of seeds."""
COST = (
    Column("train_runtime_s", "train s", ",.1f"),
    Column("train_samples_per_second", "texts /s", ",.0f"),
    Column("peak_memory_mib", "peak MiB", ",.0f"),
)
STEPS = Column("train_steps", "steps", ",.0f")
SIZE = (
    Column("trainable_params", "trainable", ",.0f"),
    Column("trainable_fraction", "share", ".2%"),
)
Columns = Sequence[Column | str]
MOST_COMPARED = 50
"""Number of runs that the address of MLflow's comparison names."""


def one_per_strategy(comparison: Comparison) -> list[Row]:
    """Return per strategy the chosen, or else the first, configuration, in order of the runs."""
    first = {row.label: row for row in reversed(comparison.rows)}
    shown = first | {row.label: row for row in comparison.chosen}
    return [row for row in comparison.rows if row is shown[row.label]]


def write(comparison: Comparison, folder: Path) -> None:
    """Write summary.csv with every metric, and summary.md with the table."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = sorted({metric for row in comparison.rows for metric in row.metrics})
    verdicts = _verdicts(comparison)
    with ReportPaths(folder).table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        ends = ("", "_low", "_high", "_sd", "_n")
        parts = [f"{metric}{end}" for metric in metrics for end in ends]
        writer.writerow(
            ["configuration", "strategy", "trains", "runs", "failed", "chosen", "verdict", *parts]
        )
        for row in comparison.rows:
            values = [_numbers(row.metrics.get(metric)) for metric in metrics]
            texts = [row.name, row.strategy, row.trains]
            known = [row.finished, len(row.failures), int(_is_chosen(comparison, row))]
            cells = [*map(csv_cells.harmless, texts), *known, verdicts.get(row.name, "")]
            writer.writerow([*cells, *(value for part in values for value in part)])
    ReportPaths(folder).markdown.write_text(markdown(comparison), "utf-8")


def markdown(comparison: Comparison) -> str:
    """Return the verdict, the table, the warnings and the failures in Markdown."""
    columns = all_columns(comparison)
    verdict = [_inline(text) for text in sentences.verdict(comparison, words.load("en"))]
    lines = [
        *(line for text in verdict for line in (text, "")),
        " | ".join(["| strategy", *map(_title, columns)]) + " |",
        "|---" + "|---:" * len(columns) + "|",
    ]
    texts = _texts(comparison, columns)
    for row, cells in zip(comparison.rows, texts, strict=True):
        lines.append(" | ".join([f"| {_inline(row.name)}", *cells]) + " |")
    for baseline in comparison.baselines:
        cells = [_baseline_cell(c, baseline.metrics) for c in columns]
        lines.append(" | ".join([f"| {_inline(baseline.name)}", *cells]) + " |")
    failures = [text for row in comparison.rows for text in row.failures]
    lines += ["", *(f"- {_inline(text)}" for text in (*comparison.warnings, *failures))]
    return "\n".join(lines) + "\n"


def test_columns(comparison: Comparison) -> tuple[Column, ...]:
    return TEST if comparison.split == "test" else ()


def compared_columns(comparison: Comparison) -> tuple[Column, ...]:
    """Return the columns of accuracy and F1 on the split that strategies are compared on."""
    return (test_columns(comparison) or VALIDATION)[1:]


def with_spread(column: Column) -> Column:
    return replace(column, spread=True)


def all_columns(comparison: Comparison) -> Columns:
    compared = compared_columns(comparison)
    scores = [
        with_spread(c) if c in compared else c for c in (*VALIDATION, *test_columns(comparison))
    ]
    return (*SIZE, *scores, VERDICT, SEEDS, *cost_columns(comparison))


def cost_columns(comparison: Comparison) -> tuple[Column, ...]:
    """Return the columns of cost; steps where runs say how many they made."""
    is_known = any(STEPS.metric in row.metrics for row in comparison.rows)
    return (STEPS, *COST) if is_known else COST


def _is_chosen(comparison: Comparison, row: Row) -> bool:
    return any(row.name == other.name and row.group == other.group for other in comparison.chosen)


def baseline_lines(comparison: Comparison) -> list[str]:
    """Return one line per baseline, without seconds, which are not a model's training time."""
    lines = []
    for baseline in comparison.baselines:
        scores = [
            f"{column.title} {baseline.metrics[column.metric]:{column.form}}"
            for column in compared_columns(comparison)
            if column.metric in baseline.metrics
        ]
        lines.append(f"without fine-tuning, {baseline.name}: {', '.join(scores)}")
    return lines


def legend(comparison: Comparison) -> str:
    level = f"{comparison.confidence * 100:g}%"
    spread = any(i.low is not None for row in comparison.rows for i in row.metrics.values())
    ends = f" ± is the {level} interval." if spread else ""
    return f"* best of its column, means over n seeds.{ends} Test scores choose nothing."


def rich_table(comparison: Comparison, columns: Columns) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("strategy", overflow="fold", min_width=9)
    by_row = _texts(comparison, columns)
    for index, column in enumerate(columns):
        # Without a minimum, rich makes a column only as wide as the longest word of its title.
        width = max(len(text) for text in [_title(column), *(cells[index] for cells in by_row)])
        table.add_column(_title(column), justify="right", no_wrap=True, min_width=width)
    for row, cells in zip(comparison.rows, by_row, strict=True):
        if row.finished:
            table.add_row(escape(row.name), *cells)
        else:
            table.add_row(escape(row.name), "failed", style="red")
    return table


def _texts(comparison: Comparison, columns: Columns) -> list[list[str]]:
    """Return one list of cells per row."""
    verdicts = _verdicts(comparison)
    by_column = []
    for column in columns:
        if isinstance(column, Column):
            known = column.metric in HIGHER_IS_BETTER
            marked = best(comparison.rows, column.metric) if known else set()
            by_column.append([_cell(row, column, marked) for row in comparison.rows])
        elif column == VERDICT:
            by_column.append([verdicts.get(row.name, "-") for row in comparison.rows])
        else:
            by_column.append([str(row.finished) for row in comparison.rows])
    return [list(cells) for cells in zip(*by_column, strict=True)]


def _verdicts(comparison: Comparison) -> dict[str, str]:
    """Return per chosen configuration its verdict against the best of its group."""
    texts = {}
    for group in sentences.groups(comparison):
        rows = sentences.ranked_rows(comparison, group)
        for row in rows:
            difference = sentences.difference_between(comparison, row, rows[0])
            is_best = row is rows[0] and len(rows) > 1
            texts[row.name] = "best" if is_best else "-"
            if difference:
                texts[row.name] = sentences.verdict_word(comparison, difference, words.load("en"))
    return texts


def _title(column: Column | str) -> str:
    return column.title if isinstance(column, Column) else column


def _cell(row: Row, column: Column, marked: set[str]) -> str:
    interval = row.metrics.get(column.metric)
    if interval is None:
        return "-"
    text = format(interval.mean, column.form) + ("*" if row.name in marked else "")
    if column.spread and interval.values:
        return f"{text} ({', '.join(format(v, column.form) for v in interval.values)})"
    if not column.spread or interval.low is None or interval.high is None:
        return text
    return f"{text} ±{(interval.high - interval.low) / 2:{column.form}}"


def _baseline_cell(column: Column | str, metrics: dict[str, float]) -> str:
    if isinstance(column, str) or column.metric not in metrics:
        return "-"
    return format(metrics[column.metric], column.form)


def _numbers(interval: Interval | None) -> list[float | int | str]:
    if interval is None:
        return [""] * 5
    values = (interval.mean, interval.low, interval.high, interval.sd, interval.n)
    return ["" if value is None else value for value in values]


def _inline(text: Text) -> str:
    """Escape a text for one cell or line of Markdown."""
    escaped = re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(str(text), quote=False))
    return " ".join(escaped.split())
