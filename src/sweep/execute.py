"""Runs -> processes: each run has its own, started from a server that has the libraries loaded.

Memory peaks are then the run's own, nothing leaks from run to run, and a crash takes down one run
and not the sweep. A process that ends without a word is recorded by its parent.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sweep.config import Config, ConfigError
from sweep.progress import View
from sweep.run import Record, RunSpec, preflight, run, unfinished, write_record

Context = multiprocessing.context.ForkServerContext


def start_server() -> Context:
    """Start loading torch, transformers and MLflow in a process that all runs are forked from.

    Returns at once; the first process that is started waits until the libraries are there.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sweep.preload"])
    # A server that is still importing would answer Ctrl-C with a traceback of its own.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    multiprocessing.forkserver.ensure_running()
    signal.signal(signal.SIGINT, handler)
    return context


def preflight_all(context: Context, configs: Sequence[tuple[Config, int]]) -> None:
    """Check every configuration against its real model, without weights.

    Args:
        context: From `start_server`.
        configs: Each with its number of labels.

    Raises:
        ConfigError: With the mistakes of all configurations.
    """
    # Seeds and rates do not matter here, and a wide sweep has many of them.
    unique = {
        repr((c.model, c.families, c.freeze, c.trainer, *_limits(c), n)): (c, n) for c, n in configs
    }
    outcome = _call(context, _preflight_worker, list(unique.values()))
    if isinstance(outcome, str):
        raise RuntimeError(f"models could not be checked: {outcome}")
    if outcome:
        raise ConfigError(*outcome)


def _limits(cfg: Config) -> tuple[object, ...]:
    return cfg.data.max_length, cfg.optimizer.layer_decay


def run_all(context: Context, specs: Sequence[RunSpec], view: View, records: list[Record]) -> None:
    """Run one after the other; a run that fails is recorded and the next one goes on.

    On KeyboardInterrupt the current run is recorded as KILLED, and the exception goes on upwards.

    Args:
        context: From `start_server`.
        specs: The runs.
        view: Shows them.
        records: Gets one record per run that began.
    """
    with view:
        for index, spec in enumerate(specs):
            view.start(index, spec.name)
            run_id = spec.store.start_run(spec.sweep_id, spec.name, {"sweep.key": spec.key})
            started = replace(spec, run_id=run_id)
            try:
                record = _run_one(context, started, view)
            except KeyboardInterrupt:
                stopped = unfinished(started, "KILLED", "stopped by Ctrl-C or SIGTERM")
                records.append(_close(started, stopped))
                raise
            except BaseException as error:
                _close(started, unfinished(started, "FAILED", f"{type(error).__name__}: {error}"))
                raise
            records.append(_close(started, record))
            view.end(outcome_line(record))


def outcome_line(record: Record) -> str:
    """One line on how a run ended."""
    if record.status != "FINISHED":
        return f"{record.status}: {record.reason}"
    split = "test" if "test_accuracy" in record.metrics else "eval"
    accuracy = record.metrics[f"{split}_accuracy"]
    seconds = record.metrics["train_runtime_s"]
    return f"finished, {split} accuracy {accuracy:.3f}, trained in {seconds:.1f} s"


def _run_one(context: Context, spec: RunSpec, view: View) -> Record:
    outcome = _call(context, _run_worker, spec, view.step)
    return outcome if isinstance(outcome, Record) else unfinished(spec, "FAILED", str(outcome))


def _close(spec: RunSpec, record: Record) -> Record:
    """Write down how a run ended, on disk and in the store, last of all."""
    write_record(record, spec.folder)
    spec.store.finish(spec.run_id, record.status, record.reason)
    return record


def _call(
    context: Context,
    worker: Callable[..., None],
    argument: Any,
    on_step: Callable[[dict[str, float], int, int], None] | None = None,
) -> Any:
    """Run `worker(connection, argument)` in a process of its own and return what it sends last.

    Steps, sent as tuples, go to `on_step`. A process that dies returns a sentence that says how.
    """
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_in_folder, args=(os.getcwd(), worker, theirs, argument), daemon=True
    )
    process.start()
    theirs.close()
    try:
        while True:
            message = ours.recv()
            if on_step is None or not isinstance(message, tuple):
                return message
            on_step(*message)
    except EOFError:
        process.join()
        return _death(process.exitcode)
    finally:
        process.join(timeout=5)
        process.kill()
        process.join()
        ours.close()


def _in_folder(folder: str, worker: Callable[..., None], *arguments: Any) -> None:
    """Relative paths mean the same as in the parent, which may have moved since it started."""
    os.chdir(folder)
    worker(*arguments)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = "; the system may have run out of memory" if -code == signal.SIGKILL else ""
        return f"the process was killed by {name}{hint}"
    return f"the process ended with exit status {code} before the run was done"


def _preflight_worker(connection: Connection, configs: list[tuple[Config, int]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    errors: list[str] = []
    for cfg, num_labels in configs:
        try:
            preflight(cfg, num_labels)
        except ConfigError as error:
            errors += error.messages
    connection.send(errors)


def _run_worker(connection: Connection, spec: RunSpec) -> None:
    """Child process: everything printed goes to run.log, the outcome to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    log = spec.folder / "run.log"
    _redirect_output(log)
    try:
        record: Any = run(spec, lambda *step: connection.send(step))
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        record = unfinished(spec, "FAILED", f"{type(error).__name__}: {error}")
    _store_log(spec, log)
    connection.send(record)


def _store_log(spec: RunSpec, log: Path) -> None:
    """Copy run.log to the store also when the run failed, as far as the store can be reached."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        spec.store.add_file(spec.run_id, log)
    except Exception:
        traceback.print_exc()


def _redirect_output(log: Path) -> None:
    """Send stdout and stderr of this process, native libraries included, to a file."""
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
