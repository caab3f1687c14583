"""Break things around a sweep, one after another, and check that it ends as it should.

    python scripts/verify/outages.py [NAME ...]

Each fault meets a sweep of tiny runs in a new folder. Afterwards the same command, without the
fault, has to end with every run FINISHED. Prints a line per fault; exit status 1 if any of them
lost something. `full` and `readonly` need root on Linux, for mounts.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos import history, make_command

SERVER = "http://127.0.0.1:5177"
Trial = Callable[[list[str], Path], str]
"""Takes the command of a sweep and an empty folder; returns what happened, as a text to read."""


def locked(command: list[str], folder: Path) -> str:
    """Lock the database from another process for ten seconds."""
    process = begin(command, folder)
    store = sqlite3.connect(folder / "mlruns" / "mlflow.db", isolation_level=None, timeout=60)
    with contextlib.closing(store):
        store.execute("BEGIN EXCLUSIVE")
        time.sleep(10)
        store.execute("ROLLBACK")
    return end(process)


def deleted(command: list[str], folder: Path) -> str:
    """Remove mlruns while a run trains."""
    process = begin(command, folder)
    shutil.rmtree(folder / "mlruns", ignore_errors=True)
    return end(process)


def full(command: list[str], folder: Path) -> str:
    """Fill the disk while a run trains, then free it."""
    with mounted(folder / "mlruns", "size=400m"):
        process = begin(command, folder)
        ballast = folder / "mlruns" / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        said = end(process)
        ballast.unlink()
        return said + f"; again: {finished(command, folder)}"


def readonly(command: list[str], folder: Path) -> str:
    """Make mlruns read-only from the middle of a run on."""
    process, mlruns = begin(command, folder), folder / "mlruns"
    subprocess.run(["mount", "--bind", mlruns, mlruns], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", mlruns], check=True)
        return end(process)
    finally:
        subprocess.run(["umount", "--lazy", mlruns], check=True)


def checkpointing(command: list[str], folder: Path) -> str:
    """Send SIGTERM while a checkpoint is being written, five times."""
    said = []
    for _ in range(5):
        process = begin(command, folder)
        before = set(folder.glob("mlruns/sweeps/*/*/checkpoints/*"))
        while process.poll() is None:
            if set(folder.glob("mlruns/sweeps/*/*/checkpoints/*")) - before:
                process.send_signal(signal.SIGTERM)
                break
            time.sleep(0.001)
        said.append(end(process).partition(":")[0])
    return ", ".join(said)


def unreachable(command: list[str], folder: Path) -> str:
    """Kill the tracking server for good, and start another one at the same address later."""
    with server(folder):
        process = begin([*command, "tracking=server", f"tracking.uri={SERVER}"], folder)
    said = end(process)
    with server(folder):
        subprocess.run([sys.executable, "-m", "sweep.report"], cwd=folder, check=True)
    with contextlib.closing(sqlite3.connect(folder / "server.db")) as store:
        statuses = store.execute("select status, count(*) from runs group by status").fetchall()
    if statuses != [("FINISHED", 5)]:  # with the summary run
        raise Lost(f"{said}; on the server: {statuses}")
    return f"{said}; delivered later: all of it"


def fresh_stores(command: list[str], folder: Path) -> str:
    """Open each of fifty stores from four processes at the moment when it is made."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow"])
    failures = 0
    for number in range(50):
        root = folder / str(number)
        root.mkdir()
        writers = [context.Process(target=write_run, args=(root,)) for _ in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        failures += sum(writer.exitcode != 0 for writer in writers)
        with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as store:
            (runs,) = store.execute(
                "select count(*) from runs where status = 'FINISHED'"
            ).fetchone()
            (points,) = store.execute("select count(*) from metrics").fetchone()
        failures += (runs, points) != (4, 400)
    if failures:
        raise Lost(f"{failures} writers or stores failed")
    return "50 stores, 200 writers, 20,000 points"


def write_run(root: Path) -> None:
    """Open the store and write one run with a hundred points."""
    from sweep.config.schema import TrackingConfig
    from sweep.tracking import connect

    store = connect.open_store(TrackingConfig(uri=None), root)
    run_id = store.create_run("run", {})
    for step in range(100):
        store.log_metrics(run_id, [("loss", 1.0, step, 0)])
    store.set_status(run_id, "FINISHED")


TRIALS: dict[str, Trial] = {
    trial.__name__: trial
    for trial in (*(locked, deleted, full, readonly, checkpointing, unreachable, fresh_stores),)
}
OVER = ("full", "fresh_stores", "unreachable")
"""Trials that check the end themselves, before their folder or server is gone."""


class Lost(RuntimeError):
    """A fault has lost something that has to be there."""


def begin(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a sweep and wait until a run of it trains."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    next((line for line in process.stdout if ": step" in line), None)
    return process


def end(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a sweep; return its exit status and its last line.

    Raises:
        Lost: It ended with a traceback.
    """
    assert process.stdout is not None
    said = process.stdout.read()
    if "Traceback" in said:
        raise Lost(said)
    return f"status {process.wait()}: {last_line(said)}"


def last_line(said: str) -> str:
    """Return the line of an output that says why it ended, or else its last line."""
    lines = [line for line in said.splitlines() if line.strip()]
    endings = [
        line for line in lines if line.startswith(("error", "stopped")) or " of 4 runs" in line
    ]
    return (endings or lines or [""])[-1]


def finished(command: list[str], folder: Path) -> str:
    """Run the command without a fault, and check that every run finishes.

    Raises:
        Lost: Not every key is FINISHED once, or something is RUNNING.
    """
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if process.returncode:
        raise Lost(f"status {process.returncode}: {process.stdout[-2000:]}{process.stderr[-2000:]}")
    keys = history(folder)
    statuses = [[status for status, _, _ in runs] for runs in keys.values()]
    if len(keys) != 4 or any(s.count("FINISHED") != 1 or "RUNNING" in s for s in statuses):
        raise Lost(f"statuses {statuses}")
    return "all 4 keys FINISHED once"


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a file system in memory while the block lasts."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def server(folder: Path) -> Iterator[None]:
    """Run an MLflow server while the block lasts; it is killed at the end."""
    port = SERVER.rpartition(":")[2]
    store = f"sqlite:///{folder}/server.db"
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--port", port, "--backend-store-uri", store],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{SERVER}/health")
            break
        time.sleep(0.1)
    else:
        raise RuntimeError(f"{SERVER} does not answer")
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> int:
    """Try the faults that are named, or all; return the exit status."""
    names = sys.argv[1:] or list(TRIALS)
    if unknown := set(names) - set(TRIALS):
        print(f"{', '.join(sorted(unknown))}: the faults are {', '.join(TRIALS)}", file=sys.stderr)
        return 2
    lost = 0
    for name in names:
        root = Path(tempfile.mkdtemp(prefix=f"fault-{name}-"))
        command = make_command(root / "inputs", jobs=1, seeds=2)
        folder = root / "work"
        folder.mkdir()
        try:
            said = TRIALS[name](command, folder)
            if name not in OVER:
                said += f"; again: {finished(command, folder)}"
        except Lost as error:
            lost += 1
            said = f"LOST: {error}"
        print(f"{name}: {said}", flush=True)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
