"""Processes of their own for checks and runs, forked from the server with the libraries loaded.

That takes a tenth of a second; loading torch, transformers and MLflow anew would take many.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import psutil

from sweep.config import address, decides
from sweep.config.decides import Decides
from sweep.config.schema import Config, ConfigError
from sweep.execution import faults
from sweep.execution.forkserver import Context
from sweep.execution.worker import Preflight, preflight_worker


def preflight_all(context: Context, configs: Sequence[tuple[Config, int]]) -> Preflight:
    """Check every configuration against its real model, without weights.

    Args:
        context: From `start_server`.
        configs: Each with its number of labels.

    Returns:
        How many GPUs there are, and the size of every configuration.

    Raises:
        ConfigError: With the mistakes of all configurations, or what ended the check.
    """
    # Seeds and rates do not matter here, and a wide sweep has many of them.
    kinds = [repr((decides.values(cfg, Decides.FIT), labels)) for cfg, labels in configs]
    unique = dict(zip(kinds, configs, strict=True))
    process, connection = start(context, preflight_worker, list(unique.values()))
    try:
        preflight: Preflight = connection.recv()
    except EOFError:
        process.join()
        raise ConfigError(
            f"The models could not be checked: {faults.death(process.exitcode)}. Start it again,"
            " or choose a smaller model if this machine has too little memory."
        ) from None
    finally:
        end(process, connection)
    if preflight.errors:
        raise ConfigError(*preflight.errors)
    sizes = dict(zip(unique, preflight.sizes, strict=True))
    return replace(preflight, sizes=[sizes[kind] for kind in kinds])


def start(context: Context, worker: Callable[..., None], argument: Any) -> tuple[Any, Connection]:
    """Start `worker(connection, argument)`; returns the process and what it sends through."""
    try:
        return _start(context, worker, argument)
    except (EOFError, OSError):  # the server was killed; the next start makes a new one
        with contextlib.suppress(EOFError, OSError):
            return _start(context, worker, argument)
    raise ConfigError(
        "No process for runs can be started: the one that loads the libraries ends at once. What"
        " it says stands above; start it again, or install sweep anew."
    )


def _start(context: Context, worker: Callable[..., None], argument: Any) -> tuple[Any, Connection]:
    ours, theirs = context.Pipe(duplex=False)
    # The server was started before the address of the store was known.
    world = os.getcwd(), os.environ.get(address.VARIABLE)
    process = context.Process(
        target=_in_world, args=(*world, worker, theirs, argument), daemon=True
    )
    try:
        process.start()
    finally:
        theirs.close()
    process.born = _born(process.pid)  # type: ignore[attr-defined]
    return process, ours


def _born(pid: int | None) -> float:
    """Return the time a process was made, by its machine's count; 0 when it is over already."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def end(process: Any, connection: Connection | None) -> None:
    """Wait for a process that is over; one that is not within seconds is killed."""
    process.join(timeout=5)
    kill(process)
    if connection is not None:
        connection.close()


def kill(process: Any) -> None:
    """Kill a process, also one that multiprocessing takes for dead because its server is."""
    _signal(process, signal.SIGKILL)
    process.join()


def ask_to_stop(process: Any) -> None:
    """Send SIGTERM to a process that may just have ended."""
    _signal(process, signal.SIGTERM)


def _signal(process: Any, number: signal.Signals) -> None:
    """Signal a process, but not another one that has got its number since."""
    with contextlib.suppress(psutil.NoSuchProcess):
        candidate = psutil.Process(process.pid)
        if candidate.create_time() == process.born:
            candidate.send_signal(number)


def _in_world(folder: str, store: str | None, worker: Callable[..., None], *arguments: Any) -> None:
    """Keep relative paths and addresses as in the parent, which may have moved since."""
    os.chdir(folder)
    if store is not None:
        os.environ[address.VARIABLE] = store
    worker(*arguments)
