"""The runs of a sweep, handed to the launcher that the configuration names.

A launcher says where and when a run begins. There, every run is done in the same way, by
`execute`: in a process of its own, with its retries, stops and takeovers.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig
from rich.console import Console

from sweep.config import launchers
from sweep.config.compose import GROUPS, Job, initialized
from sweep.execution import forkserver, processes
from sweep.execution.progress import LineView, Pace
from sweep.execution.scheduler import Execution
from sweep.execution.worker import close_left
from sweep.runs import liveness
from sweep.runs.ledger import Ledger
from sweep.runs.read_records import best_try
from sweep.runs.record import Record, RunSpec

FOLDER = "launcher"
"""Folder of a sweep for what launchers other than ours write."""


@dataclass
class Task:
    """What a launcher calls, perhaps in another process or on another host: `task(cfg)` does a run.

    Which one, Hydra's `job.num` says: its place in `specs`.
    """

    specs: list[tuple[int, RunSpec]]
    """With their index in the sweep."""
    execution: Execution | None
    """How runs are done in the sweep's own process; stays there."""
    folder: str = field(default_factory=os.getcwd)
    """What relative paths start from."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "execution": None}

    def __call__(self, _: DictConfig) -> Record | None:
        """Do one run alone; none, once something has ended the sweep."""
        here = self.execution
        if here is not None and here.why_ended:
            return None
        index, spec = self.specs[HydraConfig.get().job.num]
        with contextlib.chdir(self.folder):
            if here is None:
                execution, index = _elsewhere(spec), 0
            else:
                execution = Execution(here.context, here.view, spec.cfg, here.gpus)
            execution.run({index: spec})
        if here is not None:
            if execution.interrupted:
                raise KeyboardInterrupt  # so that the launcher begins no other run
            here.why_ended = execution.why_ended  # say, a full disk
        return execution.records.get(index)

    def together(self, numbers: Sequence[int]) -> list[Record | None]:
        """Do several runs, `jobs` at a time; None for one that was not begun."""
        assert self.execution is not None
        wanted = dict(self.specs[number] for number in numbers)
        self.execution.run(wanted)
        return [self.execution.records.get(index) for index in wanted]


def _elsewhere(spec: RunSpec) -> Execution:
    """What does a single run on the machine where this is called."""
    context = forkserver.start()
    gpus = 0
    if spec.cfg.trainer.device != "cpu":
        gpus = processes.preflight_all(context, []).gpus
    # A single GPU was given to this job by whoever started it; several are shared out.
    return Execution(context, LineView(Console(), Pace(1)), spec.cfg, gpus if gpus > 1 else 0)


@dataclass
class Launched:
    """What came of a launch."""

    records: dict[int, Record] = field(default_factory=dict)
    """By the index of the run; those that never began are missing."""
    interrupted: bool = False
    """Whether Ctrl-C or SIGTERM stopped the sweep."""
    why_ended: str = ""
    """Why runs were left out, if they were."""


def launch(
    execution: Execution, specs: dict[int, RunSpec], jobs: Sequence[Job], folder: Path
) -> Launched:
    """Do runs through the launcher of their sweep.

    Args:
        execution: Does them when the launcher is ours.
        specs: By the index of the run in its sweep.
        jobs: Of all runs of the sweep.
        folder: The sweep's.
    """
    if not specs:
        return Launched()
    chosen = jobs[0].launch
    task, found = Task(list(specs.items()), execution), Launched()
    before = {index: best_try(spec.folder) for index, spec in specs.items()}
    returns: Sequence[JobReturn] = []
    try:
        returns = _launch(task, [jobs[index] for index in specs], folder / FOLDER)
    except KeyboardInterrupt:
        found.interrupted, found.why_ended = True, "stopped by Ctrl-C or SIGTERM"
    except Exception as error:
        if chosen.is_local:
            raise
        found.why_ended = f"hydra/launcher={chosen.name} ended with {_in_words(error)}"
    if len(returns) == len(specs):
        found.records = _from_returns(task, returns)
    else:
        found.records = _from_folders(specs, before, found)
    if execution.interrupted or execution.why_ended:
        found.interrupted, found.why_ended = execution.interrupted, execution.why_ended
    return found


def _launch(task: Task, jobs: Sequence[Job], folder: Path) -> Sequence[JobReturn]:
    choices, chosen = [_groups_of(job) for job in jobs], jobs[0].launch
    path = str(folder).replace("'", r"\'")
    overrides = [*choices[0], *chosen.overrides, f"hydra.sweep.dir='{path}'"]
    with initialized(chosen.config_dir):
        cfg = compose("config", overrides, return_hydra_config=True)
        returns: Sequence[JobReturn] = launchers.instantiate(cfg, task).launch(
            choices, initial_job_idx=0
        )
        return returns


def _groups_of(job: Job) -> list[str]:
    """The choices of groups of a job, which Hydra can compose by itself."""
    chosen = [text for text in job.overrides if text.partition("=")[0] in GROUPS]
    return [text for text in chosen if text != "experiment=null"]


def _from_returns(task: Task, returns: Sequence[JobReturn]) -> dict[int, Record]:
    records = {}
    for (index, spec), found in zip(task.specs, returns, strict=True):
        if found.status == JobStatus.UNKNOWN:
            continue
        try:
            record = found.return_value
        except Exception as error:
            record = _left(spec, _in_words(error))
        if record is not None:
            records[index] = record
    return records


def _left(spec: RunSpec, reason: str) -> Record | None:
    """The record of a run whose launcher has lost it; None while it is at work all the same."""
    found = best_try(spec.folder)
    if found is not None and found.status == "FINISHED":
        return found
    return None if liveness.is_alive(spec.folder) else close_left(spec, "FAILED", reason)


def _from_folders(
    specs: dict[int, RunSpec], before: dict[int, Record | None], launched: Launched
) -> dict[int, Record]:
    """What runs have written down whose launcher did not come back.

    Args:
        specs: By the index of the run in its sweep.
        before: What was written there before the launch, by runs that were stopped.
        launched: Is told of those that are still at work.
    """
    for root in {spec.root for spec in specs.values()}:
        Ledger(root).close_dead()
    tries = {index: best_try(spec.folder) for index, spec in specs.items()}
    found = {
        index: record
        for index, record in tries.items()
        if record is not None and record != before[index]
    }
    ended = {index: record for index, record in found.items() if record.status != "RUNNING"}
    if len(ended) < len(found):
        launched.why_ended += f"; {len(found) - len(ended)} of them still at work elsewhere"
    return ended


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
