"""Fills a store again from what is on disk, where it was moved away and made anew."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sweep.base.disk import write_atomically
from sweep.base.layout import ENTRIES, SweepPaths
from sweep.runs.liveness import left_behind
from sweep.runs.record import read_record, write_record
from sweep.tracking import queue
from sweep.tracking.outbox import Outbox
from sweep.tracking.store import Store
from sweep.tracking.tags import Tag


def refill(folders: Iterable[Path], store: Store, timeout_s: float) -> dict[Path, str]:
    """Deliver runs, and the sweeps that they belong to, which a store has nothing of.

    Args:
        folders: Of runs that are over, or of sweeps. Their files come to name the new ids.
        store: The one of today; what was delivered to another one stays there.
        timeout_s: How long a store that does not answer is waited for.

    Returns:
        The new ids by the folders that were delivered.
    """
    ids: dict[Path, str] = {}
    if store.uri is None:
        return ids
    wanted = list(dict.fromkeys(folders))
    known = _known(wanted, store)
    if known is None:
        return ids
    for folder in dict.fromkeys(f for path in wanted for f in (path.parent, path)):
        if _is_lost(folder, known):
            if not _deliver(folder, store, timeout_s, ids):
                break  # each try takes its time
        elif run_id := _unnamed(folder):
            ids[folder] = run_id
            _name(folder, run_id)
    return ids


def restart_lost(folders: Iterable[Path], store: Store) -> None:
    """Let what waits in folders, and was begun in a store that is no more, begin anew."""
    if store.uri is None:
        return
    wanted = list(folders)
    known = _known(wanted, store)
    for folder in wanted if known is not None else ():
        state = queue.read_state(folder)
        ours = state is not None and state.store.get("uri") == store.uri
        if ours and _is_lost(folder, known or set()):
            with left_behind(folder) as is_over:
                if is_over:
                    queue.start_over(folder, store)


def _known(folders: Iterable[Path], store: Store) -> set[str] | None:
    """Return those runs of these folders that the store has; None while it is away."""
    paths = [f for path in folders for f in (path, path.parent)]
    states = [queue.read_state(path) for path in dict.fromkeys(paths)]
    with contextlib.suppress(Exception):  # whatever a store raises that is away
        return store.known([state.run_id for state in states if state is not None and state.run_id])
    return None


def _is_lost(folder: Path, known: set[str]) -> bool:
    state = queue.read_state(folder)
    if state is None or not (folder / ENTRIES).exists():
        return False
    return state.run_id not in known


def _unnamed(folder: Path) -> str:
    """Return the id of a run that was delivered by a process which did not write it down."""
    state, record = queue.read_state(folder), read_record(folder)
    if state is None or record is None or record.run_id == state.run_id:
        return ""
    return state.run_id


def _deliver(folder: Path, store: Store, timeout_s: float, ids: dict[Path, str]) -> bool:
    """Say whether the store has all of a folder now; one that is in use is left to its process."""
    with left_behind(folder) as is_over:
        if not is_over:
            return True
        queue.start_over(folder, store)
        box = Outbox(folder, store)
        is_delivered = box.close(timeout_s)
        if box.run_id:
            ids[folder] = box.run_id
            _name(folder, box.run_id)
            if is_delivered and folder.parent in ids:
                store.describe(box.run_id, {}, {Tag.ID: ids[folder.parent]})
        return is_delivered


def _name(folder: Path, run_id: str) -> None:
    """Write down the new id of a run or a sweep."""
    record = read_record(folder)
    if record is not None:
        write_record(replace(record, run_id=run_id), folder)
    try:
        about = json.loads(SweepPaths(folder).plan.read_text("utf-8"))
        write_atomically(SweepPaths(folder).plan, json.dumps({**about, "id": run_id}, indent=1))
    except (OSError, ValueError, TypeError):
        return
