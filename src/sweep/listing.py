"""A comparison as people read it: the table of the terminal, CSV and Markdown."""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sweep.comparison import HIGHER_IS_BETTER, Row, best
from sweep.run import Record
from sweep.track import Store


@dataclass(frozen=True)
class Column:
    """A metric and how to write it."""

    metric: str
    title: str
    form: str


QUALITY = (
    Column("eval_loss", "val loss", ".3f"),
    Column("eval_accuracy", "val acc", ".3f"),
    Column("eval_f1", "val F1", ".3f"),
    Column("test_loss", "test loss", ".3f"),
    Column("test_accuracy", "test acc", ".3f"),
    Column("test_f1", "test F1", ".3f"),
)
COST = (
    Column("train_runtime_s", "train s", ",.1f"),
    Column("train_samples_per_second", "texts /s", ",.0f"),
    Column("peak_memory_mib", "peak MiB", ",.0f"),
)
SIZE = (
    Column("trainable_params", "trainable", ",.0f"),
    Column("trainable_fraction", "share", ".2%"),
)


def print_table(console: Console, rows: Sequence[Row]) -> None:
    """Print one row per configuration; `*` marks the best mean of a column.

    Where one table would cut a cell, quality and cost come as two.
    """
    table = _table(rows, SIZE + QUALITY + COST)
    if console.measure(table, options=console.options.update(width=1000)).minimum <= console.width:
        console.print(table)
    else:
        console.print(_table(rows, QUALITY))
        console.print(_table(rows, SIZE + COST))
    for row in rows:
        if row.trains:
            share = row.metrics["trainable_fraction"].mean
            console.print(
                f"{escape(row.name)}: trains {escape(row.trains)}, {share:.2%}", highlight=False
            )
    if any(row.finished for row in rows):
        console.print("* best of its column, means over seeds; test scores choose nothing.")
    for failure in (text for row in rows for text in row.failures):
        console.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)


def print_notes(console: Console, records: Sequence[Record]) -> None:
    """Say once what was dropped, cut, drawn anew or not used, and in which runs."""
    owners: dict[str, list[str]] = {}
    for record in records:
        for note in record.notes:
            owners.setdefault(note, []).append(record.name)
    for note, names in owners.items():
        where = "" if len(names) == len(records) else f"{', '.join(names)}: "
        console.print(f"{where}{note}", markup=False, highlight=False, soft_wrap=True)


def print_links(console: Console, folder: Path, store: Store, run_ids: Sequence[str]) -> None:
    """Say where the results are and what opens them."""
    lines = {
        "results": str(folder),
        "open": store.ui_command(),
        "compare": store.compare_url(run_ids),
    }
    for title, line in lines.items():
        if line:
            console.print(f"{title}: {line}", markup=False, highlight=False, soft_wrap=True)


def write(rows: Sequence[Row], folder: Path) -> None:
    """Write summary.csv with every metric, and summary.md with the table."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = sorted({metric for row in rows for metric in row.metrics})
    with (folder / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        parts = [f"{metric}{suffix}" for metric in metrics for suffix in ("", "_low", "_high")]
        writer.writerow(["configuration", "strategy", "trains", "runs", "failed", *parts])
        for row in rows:
            found = [row.metrics.get(metric) for metric in metrics]
            cells = [x for i in found for x in ((i.mean, i.low, i.high) if i else ("", "", ""))]
            writer.writerow(
                [row.name, row.strategy, row.trains, row.finished, len(row.failures), *cells]
            )
    (folder / "summary.md").write_text(_markdown(rows), "utf-8")


def _markdown(rows: Sequence[Row]) -> str:
    columns = SIZE + QUALITY + COST
    lines = [
        " | ".join(["| strategy", *(c.title for c in columns)]) + " |",
        "|---" + "|---:" * len(columns) + "|",
    ]
    marks = {c.metric: _marked(rows, c.metric) for c in columns}
    for row in rows:
        cells = [_cell(row, c, marks[c.metric]) for c in columns]
        lines.append(" | ".join([f"| {_inline(row.name)}", *cells]) + " |")
    lines += ["", *(f"- {_inline(text)}" for row in rows for text in row.failures)]
    return "\n".join(lines) + "\n"


def _inline(text: str) -> str:
    """Text in one cell or line of Markdown, with nothing in it taken for markup."""
    escaped = re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(text, quote=False))
    return " ".join(escaped.split())


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("strategy", overflow="fold", min_width=10)
    cells = [[_cell(row, c, _marked(rows, c.metric)) for row in rows] for c in columns]
    for column, texts in zip(columns, cells, strict=True):
        # Else rich takes a title's longest word for all the room that the column needs.
        width = max(len(text) for text in [column.title, *texts])
        table.add_column(column.title, justify="right", no_wrap=True, min_width=width)
    for row, *texts in zip(rows, *cells, strict=True):
        if row.finished:
            table.add_row(escape(row.name), *texts)
        else:
            table.add_row(escape(row.name), "failed", style="red")
    return table


def _marked(rows: Sequence[Row], metric: str) -> set[str]:
    return best(rows, metric) if metric in HIGHER_IS_BETTER else set()


def _cell(row: Row, column: Column, marked: set[str]) -> str:
    found = row.metrics.get(column.metric)
    if found is None:
        return "-"
    return format(found.mean, column.form) + ("*" if row.name in marked else "")
