"""What runs show -> terminal, files and store; a mistake in here costs no results."""

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
from sweep.reporting import report_files, terminal
from sweep.runs import read_outputs
from sweep.runs.record import Record
from sweep.tracking.outbox import Outbox
from sweep.tracking.store import Store
from sweep.tracking.tags import Tag

if TYPE_CHECKING:
    from rich.console import Console


def conclude(
    console: Console, box: Outbox, records: Sequence[Record], settings: SweepSettings
) -> Comparison | None:
    """Print, write and send off what a sweep shows; None where that could not be done.

    The plain table comes first: nothing that fails after it may cost the results.

    Args:
        console: Gets the table and the verdict.
        box: Of the summary run; its folder gets the files.
        records: Of all runs.
        settings: Of the sweep: how runs are judged, and what the report looks like.
    """
    try:
        found = verdict.judge(records, settings.compare, box.folder)
    except Exception as error:  # nothing that fails here may cost the results
        untested = compare.untested(records, settings.compare.confidence)
        # summary.csv will not be written, so every configuration is shown here.
        terminal.print_comparison(console, untested, most=len(records))
        _failed(console, box.folder, error)
        return None
    terminal.print_comparison(console, found)
    say_verdict(console, found)
    try:
        _report(box, records, found, settings.report)
    except Exception as error:  # every library that reporting uses can fail in its own way
        _failed(console, box.folder, error)
        return None
    return found


def say_verdict(console: Console, found: Comparison) -> None:
    """Print what to take, by which rule, and what to bear in mind."""
    for line in [*verdict.text(found).splitlines(), *(f"note: {w}" for w in found.warnings)]:
        _say(console, line)


def mark(console: Console, store: Store, sweep_id: str, found: Comparison) -> None:
    """Tag the winner's runs in the store, and register its saved model."""
    try:
        report_files.describe_runs(store, sweep_id, found)
        store.recommend(sweep_id, [run.run_id for run in winners.winners(found)])
        for record in winners.checkpoints(found):
            about = f"{record.params['data']}-{record.params['model']}"
            name = store.register(record.run_id, about, verdict.text(found))
            if name:
                _say(console, f"registered as {name}@recommended")
    except Exception as error:  # as above, and the store may be gone again
        reason = " ".join(str(error).split())[:300]
        _say(console, f"the recommended runs could not be marked in the store: {reason}")


def _report(
    box: Outbox, records: Sequence[Record], found: Comparison, options: ReportConfig
) -> None:
    plan = read_outputs.read_plan(box.folder)
    report_files.write(found, records, plan, box.folder, options)
    box.log([(report_files.summary_metrics(found), 0, time.time())])
    note = report_files.description(found, plan)
    tags = {Tag.RECOMMENDATION: verdict.text(found)[:5000], Tag.NOTE: note}
    box.describe(tags=tags)
    box.upload([SweepPaths(box.folder).report])


def _failed(console: Console, folder: Path, error: Exception) -> None:
    path = SweepPaths(folder).report_error
    path.write_text("".join(traceback.format_exception(error)), "utf-8")
    _say(
        console,
        f"error: the runs are kept, but the comparison failed ({type(error).__name__}:"
        f" {error}); details in {path}",
    )


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
