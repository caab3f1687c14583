"""The process that all runs are forked from; it loads the libraries while files are checked here.

Imports nothing heavy, so that it can be started before anything else is loaded.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import multiprocessing.forkserver
import signal

import psutil

from sweep.base import process_groups

Context = multiprocessing.context.ForkServerContext


def start() -> Context:
    """Start loading torch, transformers and MLflow in a process of its own.

    Returns at once; the first process that is started waits until the libraries are there.

    Raises:
        ConfigError: This process is one of several, as torchrun starts them.
    """
    process_groups.refuse()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sweep.execution.preload"])
    # A server that is still importing would answer Ctrl-C with a traceback of its own.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    multiprocessing.forkserver.ensure_running()
    signal.signal(signal.SIGINT, handler)
    atexit.unregister(_stop)
    atexit.register(_stop)
    return context


def _stop() -> None:
    """End a server that is still importing, which would go on for seconds after a mistake."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children():
            if any("multiprocessing.forkserver" in word for word in child.cmdline()):
                child.kill()
