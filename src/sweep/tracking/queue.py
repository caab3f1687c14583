"""Entries of a run or sweep for its store: on disk in order, with the state of delivery."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from sweep.base.disk import cut_to_whole_lines, whole_lines, write_atomically
from sweep.base.layout import ENTRIES, STATE
from sweep.config import address
from sweep.tracking.store import Store

MAX_BATCH = 1000
"""Metrics in one request; MLflow's limit."""
Entry = dict[str, Any]


@dataclass
class State:
    """The progress of the delivery."""

    store: dict[str, Any]
    run_id: str = ""
    delivered: int = 0
    """Entries that the store has."""
    status: str = ""
    """The last status that was put in, delivered or not."""
    refused: list[str] = field(default_factory=list)
    """What the store will never take, with its reason."""


class Queue:
    """The entries of one run, in its folder; one process at a time may put in."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder, self._file = folder, folder / ENTRIES
        self.state = _state_for(folder, store)
        entries = [_entry(line) for line in cut_to_whole_lines(self._file)]
        self.waiting = entries[self.state.delivered :] if store.uri else []
        self.points = {
            (key, step) for entry in entries for key, _, _, step in entry.get("metrics", ())
        }
        """Metric and step of all that was put in, delivered or not."""
        self._lock, self._saving = Lock(), Lock()

    def put(self, entry: Entry) -> None:
        """Take an entry; one that changes the status is on disk when this returns."""
        with self._lock, self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            if "status" in entry or "create" in entry:
                file.flush()
                os.fsync(file.fileno())
                self._save(durably=True)
            self.waiting.append(entry)

    def next_batch(self) -> list[Entry]:
        """Return the first entry, with as many metrics right behind it as one request takes."""
        with self._lock:
            batch, size = self.waiting[:1], len(self.waiting[0].get("metrics", ()))
            for entry in self.waiting[1:] if size else ():
                size += len(entry.get("metrics", ()))
                if "metrics" not in entry or size > MAX_BATCH:
                    break
                batch.append(entry)
            return batch

    def delivered(self, batch: list[Entry]) -> None:
        """Forget the first entries, which the store has or will never take."""
        with self._lock:
            del self.waiting[: len(batch)]
            self.state.delivered += len(batch)
        self._save(durably=False)  # what is sent again is known by the store

    def _save(self, durably: bool) -> None:
        with self._saving:  # not the other lock: who puts in must not wait for a disk
            text = json.dumps(asdict(self.state))
            write_atomically(self._folder / STATE, text, durably)


def status_in(folder: Path) -> str:
    """Return the last status put into a folder's outbox; empty if there is none."""
    state = read_state(folder)
    return state.status if state else ""


def has_waiting(folder: Path) -> bool:
    """Whether something in a folder's outbox has not been delivered."""
    state = read_state(folder)
    return state is not None and len(whole_lines(folder / ENTRIES)) > state.delivered


def _entry(line: bytes) -> Entry:
    """Parse a line; an entry without content if a power cut left zeros in its place."""
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return {}


def _state_for(folder: Path, store: Store) -> State:
    """Return the progress of the delivery to a store.

    Another one than before gets all from the start: it may be the same database at another path,
    where the run is found by its tags, or one that has nothing of it.
    """
    state, address = read_state(folder), asdict(store)
    if state is None:
        return State(address)
    before = [state.store.get(key) for key in ("uri", "experiment_id")]
    if store.uri is not None and before != [store.uri, store.experiment_id]:
        return replace(state, store=address, run_id="", delivered=0)
    return state


def start_over(folder: Path, store: Store) -> None:
    """Let all of a folder be delivered once more, to a store that has nothing of it."""
    state = read_state(folder)
    assert state is not None
    state = replace(state, store=asdict(store), run_id="", delivered=0, refused=[])
    write_atomically(folder / STATE, json.dumps(asdict(state)))


def read_state(folder: Path) -> State | None:
    """Read the progress of a folder's delivery; None where no outbox, or a damaged one, is."""
    try:
        state = State(**json.loads((folder / STATE).read_text("utf-8")))
        state.store["uri"] = address.masked(state.store["uri"] or "") or None  # of older versions
        return state
    except (OSError, ValueError, TypeError, KeyError):
        return None
