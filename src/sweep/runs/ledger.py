"""The runs under mlruns/: those that are alive, and those that have finished with a key.

The files of the runs are the truth; the store is told what they say. A run holds a lock on its
folder and one on its key for as long as it lives, so the system frees both however it dies.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from sweep.base.disk import write_atomically
from sweep.base.layout import RootPaths, RunPaths
from sweep.base.words import Remark
from sweep.runs.integrity import damaged_file, has_model
from sweep.runs.liveness import SILENT_S, is_alive, left_behind
from sweep.runs.record import Record, read_record, write_record
from sweep.runs.refill import restart_lost
from sweep.tracking.outbox import open_in
from sweep.tracking.queue import has_waiting, status_in
from sweep.tracking.store import Store
from sweep.tracking.tags import Tag, number

DIED = Remark("end.found_dead")


@dataclass(frozen=True)
class Ledger:
    """The runs under one root folder."""

    root: Path

    def lock(self, key: str) -> FileLock:
        """Return the lock that the one process that trains a key holds."""
        self._keys.mkdir(parents=True, exist_ok=True)
        return FileLock(self._keys / f"{key}.lock")

    def add(self, key: str, folder: Path) -> None:
        """Note that a folder holds a run of a key; the caller holds the key's lock."""
        known = self._folders(key)
        if folder not in known:
            texts = [os.path.relpath(path, self.root) for path in [*known, folder]]
            write_atomically(self._keys / f"{key}.json", json.dumps(texts))

    def runs(self, key: str) -> list[Record]:
        """Return all runs of a key, the oldest first."""
        records = [read_record(folder) for folder in self._folders(key)]
        return [record for record in records if record is not None]

    def finished(self, key: str, with_model: bool = False) -> Record | None:
        """Return the newest finished run of a key whose files are whole, or None.

        Args:
            key: Of the run.
            with_model: Whether its trained weights are asked, too.
        """
        for record in reversed(self.runs(key)):
            if record.status == "FINISHED" and not damaged_file(Path(record.folder), with_model):
                return record
        return None

    def damaged(self, key: str, with_model: bool = False) -> list[Path]:
        """Return files, gone or changed, for which finished runs of a key count as not done."""
        folders = [folder for folder in self._folders(key) if RunPaths(folder).record.exists()]
        records = {folder: read_record(folder) for folder in folders}
        return [
            folder / file
            for folder, record in records.items()
            if record is None or record.status == "FINISHED"
            # A run that was never asked for its weights is no damaged one.
            if (file := damaged_file(folder, with_model and has_model(folder)))
        ]

    def all_finished(self) -> list[Record]:
        """Return every finished run there is."""
        records = [read_record(folder) for folder in self._all_folders()]
        return [record for record in records if record is not None and record.status == "FINISHED"]

    def stopped(self, key: str) -> Path | None:
        """Return the folder of a key's newest run if it ended early and left checkpoints."""
        runs = self.runs(key)
        if not runs or runs[-1].status in ("FINISHED", "FAILED"):
            return None
        folder = Path(runs[-1].folder)
        return folder if RunPaths(folder).checkpoints.is_dir() and not is_alive(folder) else None

    def close_dead(self) -> int:
        """Mark runs and sweeps as KILLED whose process is gone; returns how many there were."""
        count = 0
        for folder in self._open_folders():
            with left_behind(folder) as ours:
                if ours:
                    _close(folder)
                    count += 1
        return count

    def close_silent(self, store: Store) -> int:
        """Mark what the store takes for RUNNING, and nobody has heard of for long, as KILLED.

        These are runs of other machines, or of folders that were deleted.
        """
        if store.uri is None:
            return 0
        silent = [
            run_id
            for run_id, tags in store.running()
            if time.time() - (number(tags, Tag.HEARTBEAT) or 0) > SILENT_S
            and not is_alive(Path(tags.get(Tag.FOLDER, "-")))
        ]
        for run_id in silent:
            store.describe(run_id, {}, {Tag.STATUS_REASON: DIED})
            store.set_status(run_id, "KILLED")
        return len(silent)

    def deliver(self, timeout_s: float = 10.0, store: Store | None = None) -> int:
        """Send what dead processes could not; returns how many folders still have something.

        Args:
            timeout_s: How long a store that does not answer is waited for.
            store: The one that is open; what it has lost is sent to it from the start.
        """
        left, away = 0, set()
        waiting = [f for f in self._all_folders() if has_waiting(f)]
        if store is not None:
            restart_lost(waiting, store)
        for folder in waiting:
            with left_behind(folder) as ours:
                box = open_in(folder) if ours else None
                # A store that did not answer once is not asked again: each try takes its time.
                if box is not None and box.store.uri not in away and not box.close(timeout_s):
                    away.add(box.store.uri)
                left += ours and has_waiting(folder)
        return left

    @property
    def _keys(self) -> Path:
        return RootPaths(self.root).keys

    def _folders(self, key: str) -> list[Path]:
        path = self._keys / f"{key}.json"
        try:
            return [(self.root / text).resolve() for text in json.loads(path.read_text("utf-8"))]
        except (OSError, ValueError, TypeError):
            return []

    def _all_folders(self) -> Iterator[Path]:
        yield from sorted(p for p in RootPaths(self.root).sweeps.glob("*") if p.is_dir())
        yield from sorted(p for p in RootPaths(self.root).sweeps.glob("*/*") if p.is_dir())

    def _open_folders(self) -> Iterator[Path]:
        """Yield the folders of runs and sweeps that have not been closed."""
        for folder in self._all_folders():
            record = read_record(folder)
            if "RUNNING" in (record.status if record else "", status_in(folder)):
                yield folder


def _close(folder: Path) -> None:
    """Write down the end; a run may have died between its record and telling the store of it."""
    record = read_record(folder)
    if record is not None and record.status == "RUNNING":
        record = replace(record, status="KILLED", reason=DIED)
        write_record(record, folder)
    box = open_in(folder)
    if box is None or box.status not in ("", "RUNNING"):
        return
    if record is None:
        box.finish("KILLED", DIED)
    else:
        box.upload(RunPaths(folder).artifacts())
        box.finish(record.status, record.reason)
