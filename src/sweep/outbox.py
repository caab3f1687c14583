"""What a run or sweep wants stored: written to disk at once, delivered to MLflow in order, once.

Training never waits for the store. While a tracking server is away, entries pile up in the
folder; whoever opens the outbox later (the run itself, its parent, the next start) delivers them.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from filelock import FileLock

from sweep.track import RefusedError, Store

ENTRIES = "store.jsonl"
STATE = "store.json"
LOCK = "alive.lock"
HOST = "alive.host"
PROBE_S = 2.0
"""Others hold a lock for a moment when they look whether somebody has it."""
MAX_BATCH = 1000
"""Metrics in one request; MLflow's limit."""
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Waits between deliveries that fail; the last one repeats."""
BEAT_S = 30.0
"""How often a run or sweep shows other machines that it is alive."""
Point = tuple[Mapping[str, float], int, float]
"""Metrics, the optimizer step they belong to, and seconds since the epoch."""


@dataclass
class _State:
    """How far the delivery is."""

    store: dict[str, Any]
    run_id: str = ""
    delivered: int = 0
    """Entries that the store has."""
    status: str = ""
    """The last status that was put in, delivered or not."""
    refused: list[str] = field(default_factory=list)
    """What the store will never take, with its reason."""


class Outbox:
    """The entries of one run, in its folder; one process at a time may write to it."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store, self._entries = folder, store, folder / ENTRIES
        self._state = _state_for(folder, store)
        entries = [_entry(line) for line in _cut_to_whole_lines(self._entries)]
        self._waiting = entries[self._state.delivered :] if store.uri else []
        self._points = {
            (key, step) for entry in entries for key, _, _, step in entry.get("metrics", ())
        }
        self._lock, self._saving = Lock(), Lock()
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

    @property
    def _place(self) -> str:
        """The folder below mlruns/, which may be moved; names of sweeps are drawn at random."""
        return "/".join(self.folder.parts[-2:])

    def start(self, say: Callable[[str], None] = print) -> None:
        """Deliver in a thread from now on; `say` is told when the store cannot be reached."""
        self._say = say
        self._thread = Thread(target=self._deliver_always, daemon=True)
        self._thread.start()

    def create(self, name: str, tags: Mapping[str, str]) -> None:
        """Create the run, or set one that was stopped back to RUNNING."""
        begun, self._state.status = bool(self._state.status), "RUNNING"
        if begun:
            self._put({"status": "RUNNING", "tags": {"sweep.status_reason": ""}})
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
            if (key, step) not in self._points
        ]
        self._points |= {(key, step) for key, _, _, step in new}
        if new:
            self._put({"metrics": new})

    def inputs(self, datasets: Sequence[Mapping[str, str]]) -> None:
        """Store which data went in; see `Store.log_inputs`."""
        self._put({"inputs": [dict(entry) for entry in datasets]})

    def upload(self, paths: Sequence[Path], subfolder: str = "") -> None:
        """Copy files, or what is in folders, to the artifacts, as they are when delivered."""
        self._put({"upload": [[str(path) for path in paths], subfolder]})

    def finish(self, status: str, reason: str = "") -> None:
        """Set the status, and why it is not FINISHED."""
        self._state.status = status
        self._put(
            {"status": status, "tags": {"sweep.status_reason": reason[:5000]} if reason else {}}
        )

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left, for at most that long; says whether the store has everything."""
        self._closing.set()
        if self._thread is not None:
            self._wake.set()
            self._thread.join(timeout_s)
        elif self._waiting:
            with_patience(self.deliver, timeout_s)
        return not self._waiting

    def deliver(self) -> None:
        """Send what waits, in order. Raises what the store raises when it cannot be reached."""
        while self._waiting:
            batch = self._next_batch()
            try:
                self._send(batch)
            except RefusedError as error:
                self._state.refused.append(str(error)[:500])
            with self._lock:
                del self._waiting[: len(batch)]
                self._state.delivered += len(batch)
            self._save(durably=False)  # what is sent again is known by the store

    def _put(self, entry: dict[str, Any]) -> None:
        if self.store.uri is None:
            return
        with self._lock, self._entries.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            if "status" in entry or "create" in entry:
                file.flush()
                os.fsync(file.fileno())
                self._save(durably=True)
            self._waiting.append(entry)
        self._wake.set()

    def _save(self, durably: bool) -> None:
        with self._saving:  # not the other lock: who puts in must not wait for a disk
            text = json.dumps(asdict(self._state))
            write_atomically(self.folder / STATE, text, durably)

    def _next_batch(self) -> list[dict[str, Any]]:
        """The first entry, with the metrics right behind it as far as one request takes them."""
        with self._lock:
            found, size = self._waiting[:1], len(self._waiting[0].get("metrics", ()))
            for entry in self._waiting[1:] if size else ():
                size += len(entry.get("metrics", ()))
                if "metrics" not in entry or size > MAX_BATCH:
                    break
                found.append(entry)
            return found

    def _send(self, batch: list[dict[str, Any]]) -> None:
        first, run_id = batch[0], self._state.run_id
        if "create" in first:
            name, tags = first["create"]
            # A create whose answer was lost must not make a second run.
            own = {**tags, "sweep.folder": str(self.folder), "sweep.place": self._place}
            self._state.run_id = self.store.find_run(own) or self.store.create_run(name, own)
        elif "metrics" in first:
            self.store.log_metrics(run_id, [tuple(m) for entry in batch for m in entry["metrics"]])
        elif "upload" in first:
            paths, subfolder = first["upload"]
            self.store.upload(run_id, [Path(path) for path in paths], subfolder)
        elif "inputs" in first:
            self.store.log_inputs(run_id, first["inputs"])
        elif first.get("params") or first.get("tags"):
            self.store.describe(run_id, first.get("params", {}), first.get("tags", {}))
        if "status" in first:
            self.store.set_status(run_id, first["status"])

    def _deliver_always(self) -> None:
        pauses = _pauses()
        while True:
            self._wake.wait(1.0)
            self._wake.clear()
            try:
                self.deliver()
                pauses = _pauses()
            except Exception as error:  # whatever a store raises that is away
                self._say(f"the store cannot be reached, and is tried again: {error}")
                pause = next(pauses)
                if self._closing.is_set():
                    time.sleep(min(pause, 0.5))
                else:
                    self._closing.wait(pause)
            if self._closing.is_set() and not self._waiting:
                return


@contextmanager
def heartbeat(folder: Path, box: Outbox) -> Iterator[None]:
    """Touch the lock, and tell the store, for those who cannot see this process."""
    over = Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            os.utime(folder / LOCK)
            box.describe(tags={"sweep.heartbeat": f"{time.time():.0f}"})

    box.describe(tags={"sweep.heartbeat": f"{time.time():.0f}"})
    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def with_patience(deliver: Any, timeout_s: float) -> None:
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
    """The outbox that a folder holds, with its store; None if either is gone."""
    state = _read_state(folder)
    if state is None or not (folder / ENTRIES).exists():
        return None
    store = _where_it_is(Store(**state.store), folder)
    return None if store is None else Outbox(folder, store)


def _where_it_is(store: Store, folder: Path) -> Store | None:
    """The same store, found again when mlruns/ was moved. MLflow would make a new, empty one."""
    name = (store.uri or "").removeprefix("sqlite:///")
    if name == store.uri or Path(name).exists():
        return store
    moved = (parent / Path(name).name for parent in folder.absolute().parents)
    found = next((path for path in moved if path.exists()), None)
    return replace(store, uri=f"sqlite:///{found}") if found else None


def status_in(folder: Path) -> str:
    """The last status put into a folder's outbox; empty if there is none."""
    state = _read_state(folder)
    return state.status if state else ""


def has_waiting(folder: Path) -> bool:
    """Whether something in a folder's outbox has not been delivered."""
    state = _read_state(folder)
    return state is not None and len(_whole_lines(folder / ENTRIES)) > state.delivered


def _pauses() -> Iterator[float]:
    yield from PAUSES_S
    while True:
        yield PAUSES_S[-1]


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a file without a last one that is not finished."""
    text = path.read_bytes() if path.exists() else b""
    return text.split(b"\n")[:-1]


def _cut_to_whole_lines(path: Path) -> list[bytes]:
    """The same; a last line that a dying process left unfinished is cut off."""
    lines = _whole_lines(path)
    size = sum(len(line) + 1 for line in lines)
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)
    return lines


def _entry(line: bytes) -> dict[str, Any]:
    """What a line says; nothing if a power cut left zeros in its place."""
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return {}


def _state_for(folder: Path, store: Store) -> _State:
    """How far the delivery to a store is.

    Another one than before gets all from the start: it may be the same database at another path,
    where the run is found by its tags, or one that has nothing of it.
    """
    state, address = _read_state(folder), asdict(store)
    if state is None:
        return _State(address)
    before = [state.store.get(key) for key in ("uri", "experiment_id")]
    if store.uri is not None and before != [store.uri, store.experiment_id]:
        return replace(state, store=address, run_id="", delivered=0)
    return state


def _read_state(folder: Path) -> _State | None:
    try:
        return _State(**json.loads((folder / STATE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_atomically(path: Path, text: str, durably: bool = True) -> None:
    """Replace a file as a whole: whoever reads it has all or nothing.

    Durably, so has whoever survives a power cut; the disk takes its time for that.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        if durably:
            os.fsync(file.fileno())
    draft.replace(path)


def lock_of(folder: Path) -> FileLock:
    """Held by whoever writes to the folder, so freed by the system when that process dies."""
    return FileLock(folder / LOCK)


def claim(folder: Path) -> FileLock:
    """Take the lock of a folder for this process, and say which machine it runs on.

    Raises:
        filelock.Timeout: Another process has it.
    """
    lock = lock_of(folder)
    lock.acquire(timeout=PROBE_S)
    (folder / HOST).write_text(platform.node(), "utf-8")
    return lock
