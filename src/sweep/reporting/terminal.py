"""Print a comparison, the notes of its runs and where to open it, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from sweep.base.layout import ReportPaths, SweepPaths
from sweep.comparison.results import Comparison
from sweep.reporting.tables import (
    MOST_COMPARED,
    SEEDS,
    SIZE,
    VALIDATION,
    VERDICT,
    all_columns,
    baseline_lines,
    compared_columns,
    cost_columns,
    legend,
    one_per_strategy,
    rich_table,
    test_columns,
    with_spread,
)
from sweep.runs.record import Record
from sweep.tracking.store import Store

MOST_ROWS = 12
"""If there are more configurations than this, only one per strategy is printed."""


def print_comparison(console: Console, comparison: Comparison, most: int = MOST_ROWS) -> None:
    """Print one row per configuration, what trains, baselines and failures.

    `*` marks the best mean of a column. If one table would cut a cell, means, intervals and cost
    are printed as three tables.

    Args:
        console: Receives the lines.
        comparison: The comparison to print.
        most: Above this number of configurations, those that were not chosen are left out.
    """
    rows = comparison.rows if len(comparison.rows) <= most else one_per_strategy(comparison)
    _print_tables(console, replace(comparison, rows=rows))
    if left := len(comparison.rows) - len(rows):
        line = f"{left} more configurations, not chosen by validation, are in report/summary.csv"
        console.print(line, highlight=False)
    for row in {row.label: row for row in comparison.rows if row.trains}.values():
        share = row.metrics.get("trainable_fraction")
        shown = f", {share.mean:.2%}" if share else ""
        console.print(f"{escape(row.label)}: trains {escape(row.trains)}{shown}", highlight=False)
    for line in baseline_lines(comparison):
        console.print(line, markup=False, highlight=False)
    if any(row.finished for row in comparison.rows):
        console.print(legend(comparison), highlight=False)
    for failure in (text for row in comparison.rows for text in row.failures):
        console.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)


def _print_tables(console: Console, comparison: Comparison) -> None:
    table = rich_table(comparison, all_columns(comparison))
    if console.measure(table, options=console.options.update(width=1000)).minimum <= console.width:
        console.print(table)
    else:
        console.print(rich_table(comparison, (*VALIDATION, *test_columns(comparison))))
        console.print(
            rich_table(
                comparison, (*map(with_spread, compared_columns(comparison)), VERDICT, SEEDS)
            )
        )
        console.print(rich_table(comparison, (*SIZE, *cost_columns(comparison))))


def print_notes(console: Console, records: Sequence[Record]) -> None:
    """Print each note of the runs once, preceded by run names where not all runs have it."""
    owners: dict[str, list[str]] = {}
    for record in records:
        for note in record.notes:
            owners.setdefault(note, []).append(record.name)
    for note, names in owners.items():
        where = "" if len(names) == len(records) else f"{', '.join(names)}: "
        console.print(f"{where}{note}", markup=False, highlight=False, soft_wrap=True)


def print_links(
    console: Console, folder: Path, store: Store, sweep_id: str, run_ids: Sequence[str]
) -> None:
    """Print where the results are, and the commands and addresses that open them."""
    page = ReportPaths(SweepPaths(folder).report).page
    lines = {
        "results": str(folder),
        "report": str(page) if page.exists() else "",
        "open": store.ui_command(),
        "runs": store.runs_url(sweep_id),
        # A comparison of hundreds of runs is unreadable, and its address would fill the screen.
        "compare": store.compare_url(run_ids[:MOST_COMPARED]),
    }
    for title, line in lines.items():
        if line:
            console.print(f"{title}: {line}", markup=False, highlight=False, soft_wrap=True)
