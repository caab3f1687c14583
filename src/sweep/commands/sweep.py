"""Run the command `python -m sweep freeze=attention,full,none`.

Composes and checks all runs, trains them, and prints the comparison. Exit status: 0 when all runs
finished, 1 when one did not, 2 for a mistake in the arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from sweep.base.layout import ROOT
from sweep.commands.arguments import OptionParser
from sweep.config import address, key_reference
from sweep.config.compose import as_yaml, compose_sweep, options
from sweep.config.schema import ConfigError
from sweep.execution import forkserver

DELIVERY_S = 5.0
"""How long to wait at the start for a store that earlier runs could not reach."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = OptionParser("sweep")
    parser.add_argument("--multirun", "-m", action="store_true")  # always on, so harmless
    parser.add_argument("--keys", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--cfg", choices=["job"])
    signal.signal(signal.SIGTERM, _stop)  # sent by schedulers; treated as Ctrl-C
    try:
        arguments, overrides = parser.parse_known_args(argv)
        if arguments.help:
            print(help_text(arguments.config_dir))
            return 0
        if arguments.version:
            print(f"sweep {version('sweep')}")
            return 0
        if arguments.keys:
            print(key_reference.text())
            return 0
        if arguments.cfg:
            print(configurations(overrides, arguments.config_dir), end="")
            return 0
        return sweep(overrides, arguments.config_dir, argv)
    except ConfigError as error:
        for message in error.messages:
            print(f"error: {message}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(
            f"error: {error.strerror or error}{where}; mend that, and the same command goes on",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("stopped before the first run; the same command starts again", file=sys.stderr)
        return 130


def sweep(overrides: Sequence[str], config_dir: str | None, argv: Sequence[str]) -> int:
    """Run a sweep from its checks to the printed comparison; return the exit status.

    Args:
        overrides: What is chosen, as typed.
        config_dir: Folder with options of the user's own.
        argv: The whole command line, to be recorded.

    Raises:
        ConfigError: Something cannot be run; nothing has been trained.
    """
    context = forkserver.start()  # loads the libraries while this process checks the rest
    composed = compose_sweep(overrides, config_dir)
    jobs, settings = composed.jobs, composed.settings
    for line in address.from_environment(settings.tracking.uri, settings.tracking.experiment_name):
        print(line)

    from rich.console import Console

    from sweep.commands import inputs
    from sweep.commands.session import open_session
    from sweep.comparison import baselines
    from sweep.execution import contention, processes
    from sweep.runs.ledger import Ledger
    from sweep.tracking import connect

    checked = inputs.check_inputs(jobs, settings.tracking)
    contention.shared_folder()
    store = connect.open_store(settings.tracking, ROOT)
    baselines.prepare([job.cfg.data for job in jobs])
    preflight = processes.preflight_all(context, [(c.job.cfg, c.num_labels) for c in checked])
    ledger = Ledger(ROOT.absolute())
    ledger.close_dead()
    ledger.deliver(DELIVERY_S, store)
    ledger.close_silent(store)
    command = address.masked(shlex.join(["python", "-m", "sweep", *argv]))
    with open_session(ledger, store, command, composed) as session:
        return session.run(Console(), context, checked, preflight.gpus)


def configurations(overrides: Sequence[str], config_dir: str | None) -> str:
    """Return the configuration of every run as YAML, one document each, as composed.

    Raises:
        ConfigError: Something cannot be run.
    """
    jobs = compose_sweep(overrides, config_dir).jobs
    texts = [f"# {job.name}\n{as_yaml(job.cfg)}" for job in jobs]
    return "---\n".join(texts)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def help_text(config_dir: str | None) -> str:
    """Return the text of --help: purpose, every group with its options, examples."""
    lines = [
        "usage: python -m sweep [GROUP=OPTION[,OPTION...]] [KEY=VALUE[,VALUE...]] ...",
        "",
        "Trains every combination of the choices given, and shows what each fine-tuning strategy",
        "reaches and costs. Several values make a sweep. Without arguments, the standard",
        "comparison freeze=attention,full,none runs on built-in data and model.",
    ]
    groups = options(config_dir)
    width = max(len(name) for names in groups.values() for name in names) + 2
    for group in groups:
        lines += ["", f"{group}="]
        lines += [f"  {name:<{width}}{about}" for name, about in groups[group].items()]
    lines += [
        "",
        "options:",
        "  --config-dir DIR   a folder laid out like conf/ with options of your own",
        "  --keys             every KEY with its type, default and meaning",
        "  --cfg job          the configuration of every run as YAML; trains nothing",
        "  --version          the version of sweep",
        "  --help             this text",
        "",
        "examples:",
        "  python -m sweep freeze=attention,full,none",
        "  python -m sweep freeze=none,full seed=0,1,2 optimizer.learning_rate=2e-5,1e-4",
        "  python -m sweep data=csv data.path=my.tsv data.text_column=review",
        "  python -m sweep.report report.language=ko   # the newest sweep's report, once more",
        "  python -m sweep.plan freeze=none,full   what that would run and take; trains nothing",
    ]
    return "\n".join(lines)
