"""Run the command `python -m sweep.plan freeze=attention,full,none`.

Shows which runs the same arguments would make, their size and time, and which are finished already.
Trains nothing, unless `--measure` asks for a few steps of strategies that have no finished run like
them. Exit status: 0, or 2 for a mistake in the arguments.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.base.layout import ROOT, RootPaths, RunPaths
from sweep.commands.arguments import OptionParser
from sweep.config import budget, decides
from sweep.config.compose import compose_sweep
from sweep.config.decides import Decides
from sweep.config.schema import Config, ConfigError, SweepSettings
from sweep.execution import forkserver

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sweep.commands.inputs import Checked
    from sweep.execution.forkserver import Context
    from sweep.runs.estimate import Guess, Size
    from sweep.runs.ledger import Ledger
    from sweep.runs.record import Record

MEASURED_STEPS = 6
"""Optimizer steps of --measure; the first two do not count for the throughput."""
TO_DO = "to do"
HELP = """\
usage: python -m sweep.plan [--measure] [GROUP=OPTION[,OPTION...]] [KEY=VALUE[,VALUE...]] ...

Shows what `python -m sweep` with the same arguments would run: trainable parameters, what is
finished already or would go on, and an estimate of time and peak memory from runs that have
finished in mlruns/. Trains nothing.

options:
  --measure          train 6 steps of every strategy of which nothing is known; keeps nothing
  --config-dir DIR   a folder laid out like conf/ with options of your own
  --help             this text

`python -m sweep --help` lists groups and options."""


@dataclass(frozen=True)
class Entry:
    """A run of the plan, with its size and estimate."""

    checked: Checked
    size: Size
    status: str
    left: float
    """Share of its steps that is still to be done, 0 to 1."""
    guess: Guess

    @property
    def seconds(self) -> float | None:
        """The seconds that the rest takes; None if there is no estimate."""
        return None if self.guess.seconds is None else self.guess.seconds * self.left


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = OptionParser("sweep.plan")
    parser.add_argument("--measure", action="store_true")
    try:
        arguments, overrides = parser.parse_known_args(argv)
        if arguments.help:
            print(HELP)
            return 0
        show(overrides, arguments.config_dir, arguments.measure)
        return 0
    except ConfigError as error:
        for message in error.messages:
            print(f"error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def show(overrides: Sequence[str], config_dir: str | None, measured: bool) -> None:
    """Print the plan of the runs that the overrides ask for."""
    context = forkserver.start()  # loads the libraries while this process checks the rest
    composed = compose_sweep(overrides, config_dir)

    from rich.console import Console

    from sweep.commands import inputs
    from sweep.execution import processes
    from sweep.runs.ledger import Ledger

    settings, console = composed.settings, Console()
    checked = inputs.check_inputs(composed.jobs, settings.tracking)
    preflight = processes.preflight_all(context, [(c.job.cfg, c.num_labels) for c in checked])
    ledger = Ledger(ROOT.absolute())
    entries = plan(ledger, checked, preflight.sizes, ledger.all_finished(), settings.resume)
    if measured:
        unknown = _one_of_each([e for e in entries if e.left and e.guess.seconds is None])
        new = measure(context, console, unknown, preflight.gpus)
        known = [*ledger.all_finished(), *new]
        entries = plan(ledger, checked, preflight.sizes, known, settings.resume)
    print_plan(console, entries)


def plan(
    ledger: Ledger,
    checked: Sequence[Checked],
    sizes: Sequence[Size],
    records: Sequence[Record],
    resume: bool,
) -> list[Entry]:
    """Return one entry per run, in the order of the sweep.

    Args:
        ledger: The ledger that knows finished and stopped runs.
        checked: The jobs of the sweep.
        sizes: Sizes of their models, in the same order.
        records: Finished runs to estimate from.
        resume: True if finished runs are taken over and stopped ones go on.
    """
    from sweep.runs.estimate import guess_each

    entries = []
    jobs = [(each.job.cfg, each.train_examples) for each in checked]
    sized = [(*job, size) for job, size in zip(jobs, sizes, strict=True)]
    for job, size, estimate in zip(checked, sizes, guess_each(sized, records), strict=True):
        status, left = _status(ledger, job) if resume else (TO_DO, 1.0)
        entries.append(Entry(job, size, status, left, estimate))
    return entries


def _status(ledger: Ledger, checked: Checked) -> tuple[str, float]:
    """Return the status in words, and the share of the steps that is left."""
    from sweep.training import checkpoint

    cfg = checked.job.cfg
    if ledger.finished(checked.key, cfg.trainer.save_model):
        return "finished", 0.0
    stopped = ledger.stopped(checked.key)
    newest = checkpoint.newest_whole(RunPaths(stopped).checkpoints) if stopped else None
    if newest is None:
        return TO_DO, 1.0
    step = checkpoint.step_of(newest)
    left = 1 - step / budget.steps(cfg.trainer, checked.train_examples)
    return f"goes on from step {step}", left


def _one_of_each(entries: Sequence[Entry]) -> list[Entry]:
    """Return one entry per set of settings that decide the cost; seeds and rates do not."""
    by_cost: dict[str, Entry] = {}
    for entry in entries:
        by_cost.setdefault(repr(decides.values(entry.checked.job.cfg, Decides.COST)), entry)
    return list(by_cost.values())


def measure(
    context: Context, console: Console, entries: Sequence[Entry], gpus: Sequence[str]
) -> list[Record]:
    """Train a few steps of each entry, one at a time in its own process; return the records."""
    from sweep.execution.progress import Pace, view
    from sweep.execution.scheduler import Execution
    from sweep.runs.record import RunSpec
    from sweep.tracking.store import Store

    if not entries:
        return []
    with tempfile.TemporaryDirectory(prefix="sweep-plan-") as text:
        root = Path(text)
        specs = {
            index: RunSpec(
                name=entry.checked.job.name,
                cfg=_a_few_steps(entry.checked.job.cfg),
                swept={},
                key=f"{index}",
                sweep_id="",
                folder=RootPaths(root).sweeps / "measured" / f"{index:03d}",
                store=Store(None),
                root=root,
                resume=False,
            )
            for index, entry in enumerate(entries)
        }
        execution = Execution(context, view(console, Pace(len(specs))), SweepSettings(), gpus)
        executed = execution.run(specs)
    if executed.interrupted:
        raise KeyboardInterrupt
    return list(executed.records.values())


def _a_few_steps(cfg: Config) -> Config:
    trainer = replace(
        cfg.trainer,
        max_steps=MEASURED_STEPS,
        eval_steps=None,
        save_steps=None,
        save_model=False,
        load_best_model_at_end=False,
        metric_for_best_model=None,
        early_stopping_patience=None,
    )
    return replace(cfg, trainer=trainer)


def print_plan(console: Console, entries: Sequence[Entry]) -> None:
    """Print the table of the runs, what each strategy trains, and the totals."""
    from rich.markup import escape

    from sweep.strategies.description import describe

    console.print(_table(entries))
    strategies = [entry.checked.job.cfg.freeze for entry in entries]
    for name, trains in {each.name: str(describe(each)) for each in strategies}.items():
        console.print(f"{escape(name)}: trains {escape(trains)}", highlight=False)
    for line in _totals(entries):
        console.print(line, highlight=False)


def _table(entries: Sequence[Entry]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from sweep.execution.progress import duration

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("run", overflow="fold", min_width=10)
    for title in ("trainable", "share"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("status", overflow="fold", min_width=8)
    for title in ("time", "peak MiB"):
        table.add_column(title, justify="right", no_wrap=True)
    for entry in entries:
        seconds, memory = entry.seconds, entry.guess.memory_mib
        table.add_row(
            escape(entry.checked.job.name),
            f"{entry.size.trainable_params:,}",
            f"{entry.size.trainable_params / entry.size.total_params:.2%}",
            entry.status,
            *(("", "") if not entry.left else (_cell(seconds, duration), _cell(memory, _mib))),
        )
    return table


def _cell(value: float | None, form: Callable[[float], str]) -> str:
    return "-" if value is None else form(value)


def _mib(value: float) -> str:
    return f"{value:,.0f}"


def _steps(entries: Sequence[Entry]) -> str:
    """Return the line with the optimizer steps of a run, the smallest and the largest number."""
    jobs = [entry.checked for entry in entries]
    counts = {budget.steps(job.job.cfg.trainer, job.train_examples) for job in jobs}
    ends = dict.fromkeys((min(counts), max(counts)))
    return f"optimizer steps per run: {' to '.join(f'{count:,}' for count in ends)}"


def _totals(entries: Sequence[Entry]) -> list[str]:
    """Return lines with counts, the sum of all times, and the largest peak, as far as known."""
    from sweep.execution.progress import duration

    left = [e for e in entries if e.left]
    going_on = sum(e.status != TO_DO for e in left)
    runs = "1 run" if len(entries) == 1 else f"{len(entries)} runs"
    counts = f"{runs}: {len(entries) - len(left)} finished"
    counts += f", {going_on} to go on" if going_on else ""
    counts += f", {len(left) - going_on} to do"
    known = [e.seconds for e in left if e.seconds is not None]
    peaks = [e.guess.memory_mib for e in left if e.guess.memory_mib is not None]
    lines = [counts, _steps(entries)]
    if known:
        least = "at least " if len(known) < len(left) else "about "
        lines.append(f"{least}{duration(sum(known))}, one after the other")
    if peaks:
        lines.append(f"peak memory about {max(peaks):,.0f} MiB, per run at a time")
    if len(known) < len(left):
        lines.append("-: nothing like it has finished in mlruns/; --measure times a few steps")
    return lines
