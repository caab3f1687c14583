"""Run the command `python -m sweep.report`: rebuild the report of stored sweeps.

The report is of the newest sweep, of one given by name or folder, also of one that was stopped, or
of several as one. What the store lacks is delivered first. Exit status: 0, or 2 for a mistake in
the arguments.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.base.layout import ROOT, SweepPaths
from sweep.commands.arguments import OptionParser
from sweep.config.checks import value_at
from sweep.config.compose import compose_sweep
from sweep.config.schema import ConfigError, SweepSettings
from sweep.tracking.tags import Tag

if TYPE_CHECKING:
    from sweep.comparison.results import Comparison
    from sweep.reporting.collect import Gathered
    from sweep.tracking.store import Store

HELP = """usage: python -m sweep.report [SWEEP ...] [KEY=VALUE ...]

Rebuilds a sweep's report from what is stored and prints the comparison. Trains nothing.

  SWEEP    a name under mlruns/sweeps, the name of a summary run in MLflow, or a folder; the newest
           sweep by default, several are compared as one
  KEY      compare.* or report.*, by default what the sweep was run with, of several the newest;
           tracking.* says which store to ask

options:
  --config-dir DIR   as for python -m sweep
  --help             this text

examples:
  python -m sweep.report
  python -m sweep.report 2026-11-23_10-39-12_88c460 compare.cost=memory
  python -m sweep.report report.language=ko
"""
REFILL_S = 30.0
"""How long to wait for a store that does not answer while it gets what it has lost."""
ALLOWED = ("compare.", "report.", "tracking.", "tracking=")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = OptionParser("sweep.report")
    try:
        arguments, rest = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
        if arguments.help:
            print(HELP, end="")
            return 0
        overrides = [word for word in rest if "=" in word or word.startswith("-")]
        rebuild([word for word in rest if word not in overrides], overrides, arguments.config_dir)
    except ConfigError as error:
        for message in error.messages:
            print(f"error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def rebuild(names: Sequence[str], overrides: Sequence[str], config_dir: str | None) -> None:
    """Read the sweeps, compare their runs, write the report and print the comparison.

    Args:
        names: Names or folders of sweeps; empty takes the newest.
        overrides: Keys to judge and show with instead of the stored ones.
        config_dir: Folder with options of the user's own.

    Raises:
        ConfigError: A sweep does not exist, or an override is not allowed.
    """
    _check(overrides)
    typed = compose_sweep([*overrides, "freeze=none"], config_dir).settings

    from rich.console import Console

    from sweep.commands import conclude
    from sweep.comparison import verdict
    from sweep.reporting import collect, report_files, terminal
    from sweep.runs.ledger import Ledger
    from sweep.runs.refill import refill
    from sweep.tracking import connect

    store = connect.existing_store(typed.tracking, ROOT)
    console = Console()
    ledger = Ledger(ROOT.absolute())
    ledger.close_dead()
    if ledger.deliver(store=store):
        console.print("a store cannot be reached; what it lacks is on disk, to be delivered later")
    gathered = collect.gather(names, ROOT, store)
    if store is not None and refill([Path(r.folder) for r in gathered.records], store, REFILL_S):
        console.print("what the store lacked of these runs was delivered to it")
        gathered = collect.gather(names, ROOT, store)
    gathered.folder.mkdir(parents=True, exist_ok=True)
    settings = _typed_over(gathered.settings, typed, overrides)
    comparison = verdict.judge(gathered.records, settings.compare, gathered.folder)
    comparison.warnings.extend(gathered.notes)
    page = report_files.write(
        comparison, gathered.records, gathered.plan, gathered.folder, settings.report
    )
    terminal.print_comparison(console, comparison)
    conclude.print_verdict(console, comparison)
    # A running sweep marks its recommended runs itself at its end, so it is left alone.
    if store is not None and len(gathered.sweep_ids) == 1 and not gathered.is_running:
        _store(store, gathered, comparison)
        is_finished = not gathered.plan.missing(gathered.records) and all(
            record.status == "FINISHED" for record in gathered.records
        )
        (sweep_id,) = gathered.sweep_ids
        conclude.mark_recommended(console, store, sweep_id, comparison, is_finished)
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)


def _store(store: Store, gathered: Gathered, comparison: Comparison) -> None:
    """Bring the summary run in the store up to date."""
    from sweep.comparison import verdict
    from sweep.reporting import report_files

    (sweep_id,) = gathered.sweep_ids
    now = int(time.time() * 1000)
    metrics = report_files.summary_metrics(comparison)
    store.log_metrics(sweep_id, [(name, value, now, 0) for name, value in metrics.items()])
    note = report_files.description(comparison, gathered.plan)
    tags = {Tag.NOTE: note, Tag.RECOMMENDATION: verdict.text(comparison)[:5000]}
    store.describe(sweep_id, {}, tags)
    store.upload(sweep_id, [SweepPaths(gathered.folder).report])


def _check(overrides: Sequence[str]) -> None:
    """Reject overrides of run settings: a report is of runs that are over."""
    wrong = [word for word in overrides if not word.startswith(ALLOWED)]
    if wrong:
        raise ConfigError(
            *(
                f"{word!r} has no effect on runs that are over. A report takes compare.*, report.*"
                " and tracking.*; names of sweeps have no `=`."
                for word in wrong
            )
        )


def _typed_over(
    saved: SweepSettings, typed: SweepSettings, overrides: Sequence[str]
) -> SweepSettings:
    """Return the saved settings with the keys in overrides replaced by what is typed now."""
    settings = copy.deepcopy(saved)
    for key in (word.partition("=")[0] for word in overrides):
        group, _, name = key.partition(".")
        if name:
            setattr(getattr(settings, group), name, value_at(typed, key))
    return settings
