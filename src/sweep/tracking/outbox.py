"""Entries of a run or sweep for its store: on disk at once, delivered in order, once.

Training never waits for the store. While a tracking server is away, entries pile up in the
folder; whoever opens the outbox later (the run itself, its parent, the next start) delivers them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

from sweep.base.layout import ENTRIES
from sweep.config import address
from sweep.tracking.queue import Entry, Queue, read_state
from sweep.tracking.store import RefusedError, Store
from sweep.tracking.tags import Tag

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Waits between deliveries that fail; the last one repeats."""
Point = tuple[Mapping[str, float], int, float]
"""Metrics, the optimizer step they belong to, and seconds since the epoch."""


class Outbox:
    """The one way of a run or sweep to its store; one process at a time may have it."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self._queue = Queue(folder, store)
        self._state = self._queue.state
        self._wake, self._closing = Event(), Event()
        self._thread: Thread | None = None

    @property
    def run_id(self) -> str:
        """Id of the run in the store; empty until it could be created."""
        return self._state.run_id

    @property
    def status(self) -> str:
        """The last status that was put in, delivered or not."""
        return self._state.status

    @property
    def refused(self) -> list[str]:
        """Entries that the store will never take, with its reasons."""
        return self._state.refused

    def start(self, say: Callable[[str], None] = print) -> None:
        """Deliver in a thread from now on; `say` is told when the store cannot be reached."""
        self._say = say
        self._thread = Thread(target=self._deliver_always, daemon=True)
        self._thread.start()

    def create(self, name: str, tags: Mapping[str, str]) -> None:
        """Create the run, or set one that was stopped back to RUNNING."""
        begun, self._state.status = bool(self._state.status), "RUNNING"
        if begun:
            self._put({"status": "RUNNING", "tags": {Tag.STATUS_REASON: ""}})
        else:
            self._put({"create": [name, dict(tags)]})

    def describe(self, params: Mapping[str, Any] = {}, tags: Mapping[str, str] = {}) -> None:
        """Store parameters and tags."""
        self._put({"params": {k: str(v) for k, v in params.items()}, "tags": dict(tags)})

    def log(self, points: Sequence[Point]) -> None:
        """Store metrics; a point that a stopped run has stored before is not stored again."""
        new = [
            [key, float(value), int(at * 1000), step]
            for metrics, step, at in points
            for key, value in metrics.items()
            if (key, step) not in self._queue.points
        ]
        self._queue.points |= {(key, step) for key, _, _, step in new}
        if new:
            self._put({"metrics": new})

    def inputs(self, datasets: Sequence[Mapping[str, str]]) -> None:
        """Store which data went in; see `Store.log_inputs`."""
        self._put({"inputs": [dict(entry) for entry in datasets]})

    def upload(self, paths: Sequence[Path]) -> None:
        """Copy files and folders to the artifacts, as they are when delivered."""
        self._put({"upload": [str(path) for path in paths]})

    def finish(self, status: str, reason: str = "") -> None:
        """Set the status, and why it is not FINISHED."""
        self._state.status = status
        self._put({"status": status, "tags": {Tag.STATUS_REASON: reason[:5000]} if reason else {}})

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left, for at most that long; says whether the store has everything."""
        self._closing.set()
        if self._thread is not None:
            self._wake.set()
            self._thread.join(timeout_s)
        elif self._queue.waiting:
            with_patience(self.deliver, timeout_s)
        return not self._queue.waiting

    def deliver(self) -> None:
        """Send what waits, in order. Raises what the store raises when it cannot be reached."""
        while self._queue.waiting:
            batch = self._queue.next_batch()
            try:
                self._send(batch)
            except RefusedError as error:
                self.refused.append(str(error)[:500])
            self._queue.delivered(batch)

    def _put(self, entry: Entry) -> None:
        if self.store.uri is not None:
            self._queue.put(entry)
            self._wake.set()

    def _send(self, batch: list[Entry]) -> None:
        first, run_id = batch[0], self._state.run_id
        if "create" in first:
            name, tags = first["create"]
            # mlruns/ may be moved, and names of sweeps are drawn at random.
            relative_folder = "/".join(self.folder.parts[-2:])
            run_tags = {**tags, Tag.FOLDER: str(self.folder), Tag.PLACE: relative_folder}
            # A create whose answer was lost must not make a second run.
            self._state.run_id = self.store.find_run(run_tags) or self.store.create_run(
                name, run_tags
            )
        elif "metrics" in first:
            self.store.log_metrics(run_id, [tuple(m) for entry in batch for m in entry["metrics"]])
        elif "upload" in first:
            self.store.upload(run_id, [self._where_it_is(path) for path in first["upload"]])
        elif "inputs" in first:
            self.store.log_inputs(run_id, first["inputs"])
        elif first.get("params") or first.get("tags"):
            self.store.describe(run_id, first.get("params", {}), first.get("tags", {}))
        if "status" in first:
            self.store.set_status(run_id, first["status"])

    def _where_it_is(self, path: str) -> Path:
        """Find a file to upload in this folder, which may have been moved or copied."""
        path_in_folder = self.folder / Path(path).name
        return path_in_folder if path_in_folder.exists() else Path(path)

    def _deliver_always(self) -> None:
        pauses = _pauses()
        while True:
            self._wake.wait(1.0)
            self._wake.clear()
            try:
                self.deliver()
                pauses = _pauses()
            except Exception as error:  # whatever a store raises that is away
                reason = address.masked(str(error))
                self._say(f"the store cannot be reached, and is tried again: {reason}")
                pause = next(pauses)
                if self._closing.is_set():
                    time.sleep(min(pause, 0.5))
                else:
                    self._closing.wait(pause)
            if self._closing.is_set() and not self._queue.waiting:
                return


def with_patience(deliver: Callable[[], None], timeout_s: float) -> None:
    """Try again for a while; what the last try raised is swallowed, for all is on disk."""
    end = time.monotonic() + timeout_s
    for pause in _pauses():
        try:
            deliver()
            return
        except Exception:
            if time.monotonic() + pause > end:
                return
            time.sleep(pause)


def open_in(folder: Path) -> Outbox | None:
    """Open the outbox of a folder, with its store; None if either is gone."""
    state = read_state(folder)
    if state is None or not (folder / ENTRIES).exists():
        return None
    store = _where_it_is(Store(**state.store), folder)
    return None if store is None else Outbox(folder, store)


def _where_it_is(store: Store, folder: Path) -> Store | None:
    """Return the same store where mlruns/ was moved to. MLflow would make a new, empty one."""
    file = address.file_of(store.uri or "")
    if file is None:
        return store
    # A copy of mlruns/ has its own, though the one that it was copied from is there as well.
    copies = (parent / file.name for parent in folder.absolute().parents)
    database_file = next((path for path in copies if path.exists()), file)
    if file.exists() and database_file.parts[-2:] != file.absolute().parts[-2:]:
        return store
    return replace(store, uri=address.of_file(database_file)) if database_file.exists() else None


def _pauses() -> Iterator[float]:
    yield from PAUSES_S
    while True:
        yield PAUSES_S[-1]
