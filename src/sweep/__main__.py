"""Entry point: `python -m sweep freeze=attention,full,none`.

Composes and checks all runs, runs them, and prints the comparison. Exit status: 0 when all runs
finished, 1 when one did not, 2 for a mistake in what was asked for, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import secrets
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sweep import reference
from sweep.compose import GROUPS, compose_jobs, options
from sweep.config import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from sweep.execute import Context
    from sweep.prepare import Checked
    from sweep.run import Record, RunSpec
    from sweep.track import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="sweep", add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--multirun", "-m", action="store_true")  # always on, so harmless
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--keys", action="store_true")
    arguments, overrides = parser.parse_known_args(argv)
    signal.signal(signal.SIGTERM, _stop)  # as schedulers send it: the same as Ctrl-C
    try:
        if arguments.help:
            print(help_text(arguments.config_dir))
            return 0
        if arguments.keys:
            print(reference.text())
            return 0
        return sweep(overrides, arguments.config_dir, argv)
    except ConfigError as error:
        for message in error.messages:
            print(f"error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command starts again", file=sys.stderr)
        return 130


def sweep(overrides: Sequence[str], config_dir: str | None, argv: Sequence[str]) -> int:
    """Do what the overrides ask for, from checks to the printed comparison."""
    jobs = compose_jobs(overrides, config_dir)

    from rich.console import Console

    from sweep import execute, prepare, track

    context = execute.start_server()  # loads the libraries while files are checked here
    checked = prepare.check_inputs(jobs)
    execute.preflight_all(context, [(c.job.cfg, c.num_labels) for c in checked])
    console = Console()
    store = track.open_store(jobs[0].cfg.tracking, prepare.ROOT)
    folder = new_sweep_folder(prepare.ROOT / "sweeps")
    sweep_id = store.start_sweep(folder.name, f"`{shlex.join(['python -m sweep', *argv])}`")
    specs = [make_spec(c, i, sweep_id, folder, store) for i, c in enumerate(checked)]
    runs = "1 run" if len(specs) == 1 else f"{len(specs)} runs"
    console.print(f"{runs}, results in {folder}", highlight=False)
    try:
        return run_and_report(console, context, store, sweep_id, specs)
    except BaseException as error:
        store.finish(sweep_id, "FAILED", f"{type(error).__name__}: {error}")
        raise


def run_and_report(
    console: Console, context: Context, store: Store, sweep_id: str, specs: Sequence[RunSpec]
) -> int:
    """Run all, and report also when that was stopped; returns the exit status."""
    from sweep import execute, progress

    records: list[Record] = []
    interrupted = False
    try:
        execute.run_all(context, specs, progress.view(console, len(specs)), records)
    except KeyboardInterrupt:
        interrupted = True
        console.print("stopped with Ctrl-C; what was finished is reported")
    return finish(console, store, sweep_id, specs[0].folder.parent, records, interrupted)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def new_sweep_folder(parent: Path) -> Path:
    """Make a folder that no other sweep has, not even one started in the same second."""
    folder = parent / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(3)}"
    folder.mkdir()
    return folder


def make_spec(checked: Checked, index: int, sweep_id: str, folder: Path, store: Store) -> RunSpec:
    """Give a job its folder."""
    from sweep.run import RunSpec

    job = checked.job
    run_folder = folder.absolute() / f"{index:03d}_{job.cfg.freeze.name}"
    run_folder.mkdir()
    return RunSpec(
        name=job.name,
        cfg=job.cfg,
        swept=job.swept,
        key=checked.key,
        sweep_id=sweep_id,
        folder=run_folder,
        store=replace(store),  # without this process's connection
    )


def finish(
    console: Console,
    store: Store,
    sweep_id: str,
    folder: Path,
    records: Sequence[Record],
    interrupted: bool,
) -> int:
    """Compare, report and close the summary run; returns the exit status."""
    from sweep import compare, report

    rows = compare.compare(records)
    report.print_notes(console, records)
    report.print_table(console, rows)
    report.write(rows, folder / "report")
    store.log(sweep_id, compare.rollup(rows))
    store.add_artifacts(sweep_id, folder / "report", "report")
    failed = sum(record.status != "FINISHED" for record in records)
    status = "KILLED" if interrupted else "FAILED" if failed else "FINISHED"
    store.finish(sweep_id, status, f"{failed} of {len(records)} runs failed" if failed else "")
    report.print_links(console, folder, store, [record.run_id for record in records])
    return 130 if interrupted else 1 if failed else 0


def help_text(config_dir: str | None) -> str:
    """What --help prints: purpose, every group with its options, examples."""
    lines = [
        "usage: python -m sweep [GROUP=OPTION[,OPTION...]] [KEY=VALUE[,VALUE...]] ...",
        "",
        "Trains every combination of the choices given, and shows what each fine-tuning strategy",
        "reaches and costs. Several values make a sweep. Without arguments, the standard",
        "comparison freeze=attention,full,none runs on built-in data and model.",
    ]
    found = options(config_dir)
    width = max(len(name) for group in GROUPS for name in found[group]) + 2
    for group in GROUPS:
        lines += ["", f"{group}="]
        lines += [f"  {name:<{width}}{about}" for name, about in found[group].items()]
    lines += [
        "",
        "options:",
        "  --config-dir DIR   a folder laid out like conf/ with options of your own",
        "  --keys             every KEY with its type, default and meaning",
        "  --help             this text",
        "",
        "examples:",
        "  python -m sweep freeze=attention,full,none",
        "  python -m sweep freeze=none,full seed=0,1,2 optimizer.learning_rate=2e-5,1e-4",
        "  python -m sweep data=csv data.path=my.tsv data.text_column=review",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
