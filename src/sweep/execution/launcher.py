"""The runs of a sweep, handed to a launcher of Hydra's: basic, or a plugin for a cluster.

A launcher says where and when a run begins. There, every run is done as on this machine, by
`Execution`: in a process of its own, with its retries, stops and takeovers.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from rich.console import Console

from sweep.base.layout import SweepPaths
from sweep.config import launchers
from sweep.config.launchers import Launch
from sweep.config.schema import SweepSettings
from sweep.execution import forkserver, processes
from sweep.execution.progress import LineView, Pace
from sweep.execution.scheduler import STOPPED, Executed, Execution
from sweep.execution.worker import close_left
from sweep.runs import liveness
from sweep.runs.ledger import Ledger
from sweep.runs.read_records import best_try
from sweep.runs.record import Record, RunSpec


@dataclass
class Task:
    """The callable for a launcher, perhaps on another host: `task(cfg)` does a run.

    Which one, Hydra's `job.num` says: its place in `specs`.
    """

    specs: list[tuple[int, RunSpec]]
    """With their index in the sweep."""
    execution: Execution | None
    """How runs are done in the sweep's own process; stays there."""
    folder: str = field(default_factory=os.getcwd)
    """What relative paths start from."""
    why_ended: str = ""
    """What ended the sweep in its own process, say, a full disk."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "execution": None}

    def __call__(self, _: object) -> Record | None:
        """Do one run alone; none, once something has ended the sweep."""
        if self.why_ended:
            return None
        index, spec = self.specs[HydraConfig.get().job.num]
        with contextlib.chdir(self.folder):
            if self.execution is None:
                return _elsewhere(spec).run({0: spec}).records.get(0)
            executed = self.execution.run({index: spec})
        if executed.interrupted:
            raise KeyboardInterrupt  # so that the launcher begins no other run
        self.why_ended = executed.why_ended
        return executed.records.get(index)


def _elsewhere(spec: RunSpec) -> Execution:
    """Return the means for a single run on the machine where this is called."""
    context = forkserver.start()
    gpus: Sequence[str] = ()
    if spec.cfg.trainer.device != "cpu":
        gpus = processes.preflight_all(context, []).gpus
    # A single GPU was given to this job by whoever started it; several are shared out.
    shared = gpus if len(gpus) > 1 else ()
    return Execution(context, LineView(Console(), Pace(1)), SweepSettings(), shared)


def launch(
    chosen: Launch, execution: Execution, specs: dict[int, RunSpec], folder: Path
) -> Executed:
    """Do runs through a launcher of Hydra's.

    Args:
        chosen: The launcher.
        execution: Does those that the launcher begins in this process.
        specs: By the index of the run in its sweep.
        folder: The sweep's.
    """
    if not specs:
        return Executed()
    task = Task(list(specs.items()), execution)
    before = {index: best_try(spec.folder) for index, spec in specs.items()}
    returns: Sequence[JobReturn] = []
    interrupted, why_ended = False, ""
    try:
        returns = _start(chosen, task, SweepPaths(folder).launcher)
    except KeyboardInterrupt:
        interrupted, why_ended = True, STOPPED
    except Exception as error:
        why_ended = f"hydra/launcher={chosen.name} ended with {_in_words(error)}"
    if len(returns) == len(specs):
        records = _from_returns(task, returns, before)
    else:
        records, at_work = _from_folders(specs, before)
        why_ended += f"; {at_work} of them still at work elsewhere" if at_work else ""
    return Executed(records, interrupted, task.why_ended or why_ended)


def _start(chosen: Launch, task: Task, folder: Path) -> Sequence[JobReturn]:
    # A launcher only logs a job's overrides: what a run does is in the task.
    lines = [[f"{key}={value}" for key, value in spec.swept.items()] for _, spec in task.specs]
    launcher = launchers.prepare(chosen, task, folder)
    returns: Sequence[JobReturn] = launcher.launch(lines, initial_job_idx=0)
    return returns


def _from_returns(
    task: Task, returns: Sequence[JobReturn], before: dict[int, Record | None]
) -> dict[int, Record]:
    records = {}
    for (index, spec), returned in zip(task.specs, returns, strict=True):
        if returned.status == JobStatus.UNKNOWN:
            continue
        try:
            record = returned.return_value
        except Exception as error:
            record = _left(spec, _in_words(error), before[index])
        if record is not None:
            records[index] = record
    return records


def _left(spec: RunSpec, reason: str, before: Record | None = None) -> Record | None:
    """Return the record of a run that its launcher has lost; None while it is still at work.

    One that was stopped is not failed by that: it would not go on from its checkpoint.
    """
    record = best_try(spec.folder)
    if record is not None and record.status == "FINISHED":
        return record
    if liveness.is_alive(spec.folder):
        return None
    if record is not None and record.status == "KILLED":
        return record if record != before else close_left(spec, "KILLED", reason)
    return close_left(spec, "FAILED", reason)


def _from_folders(
    specs: dict[int, RunSpec], before: dict[int, Record | None]
) -> tuple[dict[int, Record], int]:
    """Read what runs have written down whose launcher did not come back.

    Args:
        specs: By the index of the run in its sweep.
        before: What was written there before the launch, by runs that were stopped.

    Returns:
        The records of those that are over, and how many are still at work.
    """
    for root in {spec.root for spec in specs.values()}:
        Ledger(root).close_dead()
    tries = {index: best_try(spec.folder) for index, spec in specs.items()}
    written = {
        index: record
        for index, record in tries.items()
        if record is not None and record != before[index]
    }
    over = {index: record for index, record in written.items() if record.status != "RUNNING"}
    return over, len(written) - len(over)


def _in_words(error: BaseException) -> str:
    """Put an exception in one line; Ray's begins with where it was raised, and ends with why."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line[0].isspace()]
    told = lines[-1] if lines and lines[0].startswith("ray::") else "".join(lines[:1])
    return f"{type(error).__name__}: {told}".rstrip(": ")
