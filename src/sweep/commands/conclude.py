"""Print, write and store what the runs of a sweep show; a failure to do so loses no results."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.base.layout import SweepPaths
from sweep.comparison import compare, verdict, winners
from sweep.comparison.results import Comparison
from sweep.config.schema import ReportConfig, SweepSettings
from sweep.reporting import report_files, sentences, terminal
from sweep.runs import read_outputs
from sweep.runs.record import Record
from sweep.tracking.outbox import Outbox
from sweep.tracking.store import Store
from sweep.tracking.tags import Tag

if TYPE_CHECKING:
    from rich.console import Console

MOST_CAUTIONS = 3
"""Number of signs that are printed; all of them are in the report."""


def conclude(
    console: Console, box: Outbox, records: Sequence[Record], settings: SweepSettings
) -> Comparison | None:
    """Print the comparison, write the report and send both to the store.

    The table is printed first, so that no later failure can hide the results.

    Args:
        console: Where the table and the verdict are printed.
        box: Outbox of the summary run; files are written into its folder.
        records: The records of all runs.
        settings: How runs are judged, and what the report looks like.

    Returns:
        The comparison; None when it or the report failed, which is printed with its reason.
    """
    try:
        comparison = verdict.judge(records, settings.compare, box.folder)
    except Exception as error:  # whatever fails, the results have to be shown
        untested = compare.untested(records, settings.compare.confidence)
        # summary.csv will not be written, so every configuration is shown here.
        terminal.print_comparison(console, untested, most=len(records))
        _print_failure(console, box.folder, error)
        return None
    terminal.print_comparison(console, comparison)
    print_verdict(console, comparison)
    try:
        _write_report(box, records, comparison, settings.report)
    except Exception as error:  # every library that reporting uses can fail in its own way
        _print_failure(console, box.folder, error)
        return None
    return comparison


def print_verdict(console: Console, comparison: Comparison) -> None:
    """Print the recommendation, its rule, and what to bear in mind."""
    cautions = sentences.cautions(comparison)
    more = len(cautions) - MOST_CAUTIONS
    for line in [
        *verdict.text(comparison).splitlines(),
        *(f"caution: {sign}" for sign in cautions[:MOST_CAUTIONS]),
        *([f"caution: {more} more in the report"] if more > 0 else []),
        *(f"note: {w}" for w in comparison.warnings),
    ]:
        _print_line(console, line)


def mark_recommended(
    console: Console, store: Store, sweep_id: str, comparison: Comparison, is_finished: bool
) -> None:
    """Tag the recommended runs in the store, and register their saved model.

    A failure is printed, and not raised.

    Args:
        console: Prints what was registered.
        store: Of the sweep.
        sweep_id: Its summary run.
        comparison: Of its runs.
        is_finished: Whether all of them have finished; else the alias stays where it is, because
            what is missing may change the recommendation.
    """
    try:
        report_files.describe_runs(store, sweep_id, comparison)
        store.recommend(sweep_id, [run.run_id for run in winners.winners(comparison)])
        for record in winners.checkpoints(comparison) if is_finished else ():
            about = f"{record.params['data']}-{record.params['model']}"
            name = store.register(record.run_id, about, verdict.text(comparison))
            if name:
                _print_line(console, f"registered as {name}@recommended")
    except Exception as error:  # as above, and the store may be away again
        reason = " ".join(str(error).split())[:300]
        _print_line(console, f"the recommended runs could not be marked in the store: {reason}")


def _write_report(
    box: Outbox, records: Sequence[Record], comparison: Comparison, options: ReportConfig
) -> None:
    plan = read_outputs.read_plan(box.folder)
    report_files.write(comparison, records, plan, box.folder, options)
    box.log([(report_files.summary_metrics(comparison), 0, time.time())])
    note = report_files.description(comparison, plan)
    tags = {Tag.RECOMMENDATION: verdict.text(comparison)[:5000], Tag.NOTE: note}
    box.describe(tags=tags)
    box.upload([SweepPaths(box.folder).report])


def _print_failure(console: Console, folder: Path, error: Exception) -> None:
    path = SweepPaths(folder).report_error
    path.write_text("".join(traceback.format_exception(error)), "utf-8")
    _print_line(
        console,
        f"error: the runs are kept, but the comparison failed ({type(error).__name__}:"
        f" {error}); details in {path}",
    )


def _print_line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
