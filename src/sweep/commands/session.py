"""Run one sweep from its checked jobs to its report, taking over what is finished already.

The sweep locks its folder for as long as it lives. If it dies, a later start closes its summary
run in the store.
"""

from __future__ import annotations

import json
import platform
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.base.disk import write_atomically
from sweep.base.layout import RootPaths, RunPaths, SweepPaths
from sweep.base.words import Remark
from sweep.commands import conclude
from sweep.execution import launcher, other_sweeps
from sweep.execution.progress import LineView, Pace, view
from sweep.execution.retries import as_stopped
from sweep.execution.scheduler import Executed, Execution
from sweep.reporting import terminal
from sweep.runs import integrity, liveness, predictions, sweep_settings
from sweep.runs.record import Record, RunSpec
from sweep.runs.refill import refill
from sweep.tracking.outbox import Outbox, open_in, with_patience
from sweep.tracking.tags import Tag

if TYPE_CHECKING:
    from rich.console import Console

    from sweep.commands.inputs import Checked
    from sweep.config.compose import ComposedSweep
    from sweep.execution.forkserver import Context
    from sweep.runs.ledger import Ledger
    from sweep.tracking.store import Store

OPENING_S = 5.0
"""How long a sweep waits for its id in the store, which answered a moment ago."""
DELIVERY_S = 30.0
"""How long a finished sweep waits for an unreachable store before it leaves the rest on disk."""


@dataclass
class SweepSession:
    """A sweep while it is running, with its folder locked."""

    ledger: Ledger
    store: Store
    command: str
    sweep: ComposedSweep
    folder: Path
    box: Outbox
    """Outbox of the summary run."""
    started: datetime

    def run(
        self, console: Console, context: Context, checked: Sequence[Checked], gpus: Sequence[str]
    ) -> int:
        """Train the runs that are missing and report all of them; return the exit status."""
        specs = {index: self._spec(job, index) for index, job in enumerate(checked)}
        records = self._finished(specs, checked)
        self._say_damaged(console, [specs[i] for i in specs if i not in records])
        self._write_down(specs, records)
        todo = {index: spec for index, spec in specs.items() if index not in records}
        console.print(_opening(len(records), todo, self.folder), highlight=False, soft_wrap=True)
        launch, pace = self.sweep.launch, Pace(len(specs), len(records))
        # A live view has to hear of every run; those of other launchers may be on other machines.
        shown = view(console, pace) if launch.is_local else LineView(console, pace)
        execution = Execution(context, shown, self.sweep.settings, gpus)
        if launch.is_local:
            executed = execution.run(todo)
        else:
            executed = launcher.launch(launch, execution, todo, self.folder)
        records |= executed.records
        self._write_down(specs, records)  # tries that failed have moved on to other folders
        return self._finish(console, executed, [records[i] for i in sorted(records)], len(specs))

    def _spec(self, checked: Checked, index: int) -> RunSpec:
        job, resume = checked.job, self.sweep.settings.resume
        stopped = self.ledger.stopped(checked.key) if resume else None
        spec = RunSpec(
            name=job.name,
            cfg=job.cfg,
            swept=job.swept,
            key=checked.key,
            sweep_id=self.box.run_id or self.folder.name,
            folder=stopped or SweepPaths(self.folder).run(index, job.cfg.freeze.name),
            store=replace(self.store),  # without this process's connection
            root=self.ledger.root,
            data_fingerprint=checked.data_fingerprint,
            weights_fingerprint=checked.weights_fingerprint,
            weights_stamp=checked.weights_stamp,
            sharing=checked.sharing,
            resume=resume,
        )
        return spec if stopped is None else as_stopped(spec)

    def _finished(self, specs: dict[int, RunSpec], checked: Sequence[Checked]) -> dict[int, Record]:
        """Return records of runs to take over by index, and complete them in the store."""
        finished = {
            index: record
            for index, spec in specs.items()
            if (record := other_sweeps.finished(spec)) is not None
        }
        for index, record in finished.items():
            _renew_ids(record, checked[index].ids)
        ids = refill([Path(r.folder) for r in finished.values()], self.store, OPENING_S)
        return {
            i: replace(r, run_id=ids.get(Path(r.folder), r.run_id)) for i, r in finished.items()
        }

    def _say_damaged(self, console: Console, specs: Sequence[RunSpec]) -> None:
        """Print why a run that has finished before counts as not done."""
        for spec in (spec for spec in specs if spec.resume):
            for path in self.ledger.damaged(spec.key, spec.cfg.trainer.save_model):
                line = f"{spec.name}: {path} is gone or damaged, so the run counts as not done"
                console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _write_down(self, specs: dict[int, RunSpec], records: dict[int, Record]) -> None:
        """Write sweep.json, so that a sweep that was cut off can be reported too."""
        content = {
            "id": self.box.run_id,
            "name": self.folder.name,
            "command": self.command,
            "started": self.started.isoformat(timespec="milliseconds"),
            "host": platform.node(),
            "store": asdict(self.store),
            "settings": sweep_settings.to_json(self.sweep.settings, self.sweep.launch),
            "runs": [
                {
                    "name": spec.name,
                    "strategy": spec.cfg.freeze.name,
                    "swept": spec.swept,
                    "key": spec.key,
                    "folder": records[index].folder if index in records else str(spec.folder),
                }
                for index, spec in specs.items()
            ],
        }
        write_atomically(SweepPaths(self.folder).plan, json.dumps(content, indent=1))
        self.box.upload([SweepPaths(self.folder).plan])

    def _finish(
        self, console: Console, executed: Executed, records: Sequence[Record], planned: int
    ) -> int:
        """Compare, report and close the summary run; return the exit status."""
        terminal.print_notes(console, records)
        comparison = conclude.conclude(console, self.box, records, self.sweep.settings)
        ends = Counter(record.status for record in records)
        words = {"FAILED": "failed", "KILLED": "were stopped"}
        reasons = [f"{ends[key]} of {planned} runs {x}" for key, x in words.items() if ends[key]]
        if planned > len(records):
            why = f" ({executed.why_ended})" if executed.why_ended else ""
            reasons.append(f"{planned - len(records)} of {planned} runs were not begun{why}")
        elif executed.why_ended and not executed.interrupted:
            reasons.append(executed.why_ended)
        for reason in reasons:
            console.print(reason, markup=False, highlight=False, soft_wrap=True)
        if executed.interrupted:
            console.print("stopped; the same command does what is missing", highlight=False)
        status = "KILLED" if executed.interrupted else "FAILED" if reasons else "FINISHED"
        self.box.finish(status, "; ".join(reasons))
        left = self.ledger.deliver(DELIVERY_S)  # what runs could not deliver
        if not self.box.close(DELIVERY_S) or left:
            console.print(
                "the store cannot be reached; the rest is on disk, and the next start delivers it"
            )
        elif comparison is not None:
            conclude.mark_recommended(
                console, self.store, self.box.run_id, comparison, status == "FINISHED"
            )
        ids = [record.run_id for record in records]
        terminal.print_links(console, self.folder, self.store, self.box.run_id, ids)
        return 130 if executed.interrupted else 1 if reasons or comparison is None else 0


def _now() -> datetime:
    return datetime.now().astimezone()


@contextmanager
def open_session(
    ledger: Ledger, store: Store, command: str, sweep: ComposedSweep
) -> Iterator[SweepSession]:
    """Open a sweep: its folder is locked and its summary run is open while the block lasts."""
    folder, started = new_folder(RootPaths(ledger.root).sweeps), _now()
    with ExitStack() as stack:
        stack.enter_context(liveness.claim(folder))
        box = stack.enter_context(_summary_run(folder, store, command))
        stack.enter_context(liveness.heartbeat(folder, box))
        yield SweepSession(ledger, store, command, sweep, folder, box, started)


@contextmanager
def _summary_run(folder: Path, store: Store, command: str) -> Iterator[Outbox]:
    """Open the outbox of a summary run, and close the run with the status the block ends with."""
    box = Outbox(folder, store)
    tags = {Tag.KIND: "sweep", Tag.HOST: platform.node()}
    box.create(folder.name, {**tags, Tag.NOTE: f"`{command}`"})
    with_patience(box.deliver, OPENING_S)
    box.start(say=lambda _: None)  # silent: `_finish` says it once if the store is still away
    try:
        yield box
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        box.finish(status, f"{type(error).__name__}: {error}")
        raise
    finally:
        box.close(DELIVERY_S)


def new_folder(parent: Path) -> Path:
    """Make a new folder, of another name than a sweep started in the same second has."""
    folder = parent / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(3)}"
    folder.mkdir()
    return folder


def _renew_ids(record: Record, ids: Sequence[int]) -> None:
    """Write the row ids of the file as it is now into the predictions of a run taken over."""
    folder = Path(record.folder)
    paths = RunPaths(folder)
    with liveness.left_behind(folder) as is_over:
        if not is_over or not predictions.renew_ids(folder, ids):
            return
        integrity.reseal(folder, paths.predictions)
        record.notes.append(Remark("note.renewed"))
        if (box := open_in(folder)) is not None:  # delivered when the sweep ends
            box.upload([path for path in (paths.predictions, paths.seal) if path.exists()])


def _opening(finished: int, todo: dict[int, Any], folder: Path) -> str:
    if not finished:
        runs = "1 run" if len(todo) == 1 else f"{len(todo)} runs"
    else:
        runs = f"{finished} finished, {len(todo)} to do"
    return f"{runs}, results in {folder}"
