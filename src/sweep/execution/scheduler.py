"""The runs of a sweep, some at a time: begun, heard, tried again, stopped, taken over.

A run that crashes takes down its own process and not the sweep.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait

from sweep.base.environment import cores
from sweep.base.words import Remark
from sweep.config.schema import SweepSettings
from sweep.execution import active, faults, other_sweeps
from sweep.execution.active import Active
from sweep.execution.forkserver import Context
from sweep.execution.gpu_allotment import GpuAllotment
from sweep.execution.progress import View
from sweep.execution.retries import next_try
from sweep.execution.stop_requests import StopRequests
from sweep.execution.tries import Queue, Try
from sweep.execution.worker import Outcome
from sweep.runs.record import Record, RunSpec

POLL_S = 0.5
"""How long the loop sleeps at most: it then sees stops, timeouts and runs whose wait is over."""
BUSY_S = 2.0
"""Wait before a key that another sweep trains is looked at again."""
STOPPED = "stopped by Ctrl-C or SIGTERM"


@dataclass(frozen=True)
class Executed:
    """The results of the runs of a sweep."""

    records: dict[int, Record] = field(default_factory=dict)
    """By the index of the run; those that never began are missing."""
    interrupted: bool = False
    """Whether Ctrl-C or SIGTERM stopped the sweep."""
    why_ended: str = ""
    """Why runs were left out, if they were."""


@dataclass(frozen=True)
class Execution:
    """The means by which the runs of a sweep are done on this machine."""

    context: Context
    view: View
    settings: SweepSettings
    gpus: Sequence[str] = ()
    """Those to share out; without any, runs take the device that they find."""

    def run(self, specs: dict[int, RunSpec]) -> Executed:
        """Do runs, `settings.jobs` at a time; failures are recorded and the others go on.

        Args:
            specs: By the index of the run in its sweep.
        """
        return _Loop(self, specs).run() if specs else Executed()


class _Loop:
    """One call of `Execution.run`."""

    def __init__(self, execution: Execution, specs: dict[int, RunSpec]) -> None:
        self._context, self._view, self._settings = (
            execution.context,
            execution.view,
            execution.settings,
        )
        self._gpus = GpuAllotment(execution.gpus)
        self._queue = Queue(Try(index, spec) for index, spec in specs.items())
        self._active: list[Active] = []
        self._stops = StopRequests()
        self._asked = False
        """Whether the runs at work know of the request to stop."""
        self._records: dict[int, Record] = {}
        self._failures = 0
        self._why_ended = ""
        self._said: set[str] = set()

    def run(self) -> Executed:
        with self._stops, self._view:
            try:
                while self._active or (self._queue and not self._why_ended):
                    self._begin_due()
                    self._hear()
                    self._pass_on_stops()
                    self._end_late()
            finally:
                for run in list(self._active):
                    self._ended(run, run.kill("FAILED", Remark("end.error")))
        return Executed(self._records, self._stops.count > 0, self._why_ended)

    def _begin_due(self) -> None:
        """Begin what may begin, as long as there is room."""
        if self._stops.count or self._why_ended:
            return
        for attempt in self._queue.due():
            if len(self._active) >= self._settings.jobs:
                return
            if self._is_others(attempt):
                continue
            wants_gpu = bool(self._gpus.names) and attempt.spec.cfg.trainer.device != "cpu"
            device = self._gpus.take() if wants_gpu else None
            if wants_gpu and device is None:
                self._say_once("other sweeps use every GPU; waiting for one")
                return
            self._begin(attempt, device)

    def _is_others(self, attempt: Try) -> bool:
        """Take over a run that another sweep has finished meanwhile, or wait for one at work."""
        index, spec = attempt.index, attempt.spec
        record = other_sweeps.finished(spec)
        if record is not None:
            self._queue.remove(attempt)
            self._records[index] = record
            self._view.end(index, spec.name, "finished by another sweep")
        elif other_sweeps.is_at_work(spec):
            self._queue.postpone(attempt, BUSY_S)
            self._view.wait(index, spec.name)
        else:
            return False
        return True

    def _begin(self, attempt: Try, device: int | None) -> None:
        self._queue.remove(attempt)
        share = max(1, cores() // self._settings.jobs)
        threads = attempt.spec.cfg.trainer.num_threads or share
        spec = replace(attempt.spec, num_threads=threads, device=device)
        self._active.append(active.begin(self._context, replace(attempt, spec=spec)))
        self._view.start(attempt.index, spec.name)

    def _hear(self) -> None:
        """Take in what the runs say, for a moment."""
        if not self._active:
            time.sleep(min(POLL_S, 0.1))
            return
        runs = {run.connection: run for run in self._active}
        for connection in wait(list(runs), POLL_S):
            run = runs[connection]  # type: ignore[index]
            message = run.receive()
            if isinstance(message, Outcome):
                self._ended(run, message)
            else:
                self._view.step(run.attempt.index, *message)

    def _pass_on_stops(self) -> None:
        """Tell the runs at work about a request to stop: politely once, then for good."""
        if self._stops.count > 1:
            for run in list(self._active):
                self._ended(run, run.kill("KILLED", Remark("end.at_once")))
        if self._stops.count and not self._asked:
            self._asked = True
            self._why_ended = self._why_ended or STOPPED
            self._view.say("stopping after a checkpoint; Ctrl-C again stops at once")
            for run in self._active:
                run.ask_to_stop()

    def _end_late(self) -> None:
        for run in [run for run in self._active if run.is_late()]:
            minutes = f"{run.attempt.spec.cfg.trainer.timeout_min:g}"
            self._ended(run, run.kill("FAILED", Remark("end.late", {"minutes": minutes})))

    def _ended(self, run: Active, outcome: Outcome) -> None:
        """Take a run off the list, for good or until its next try."""
        self._active.remove(run)
        run.close()
        attempt = run.attempt
        if attempt.spec.device is not None:
            self._gpus.give_back(attempt.spec.device)
        if outcome.record is None:  # finished by another sweep, or being trained there
            self._queue.add_last(attempt.later(BUSY_S))
        elif not self._is_tried_again(attempt, outcome):
            self._keep(attempt, outcome.record)
            if outcome.disk_full:
                self._why_ended = "the disk is full"
            self._why_ended = self._why_ended or self._too_many_failures()

    def _is_tried_again(self, attempt: Try, outcome: Outcome) -> bool:
        again = None if self._stops.count else next_try(attempt.spec, outcome, attempt.passed)
        if again is None:
            return False
        passed = attempt.passed + (outcome.cause == faults.PASSING)
        self._queue.add_first(Try(attempt.index, again.spec, passed).later(again.delay_s))
        self._view.retry(attempt.index, attempt.spec.name, again.spec.notes[-1])
        return True

    def _keep(self, attempt: Try, record: Record) -> None:
        self._records[attempt.index] = record
        failed = record.status == "FAILED"
        self._failures += failed
        self._view.end(attempt.index, attempt.spec.name, outcome_line(record), failed)

    def _too_many_failures(self) -> str:
        """Return why no other run begins, or an empty string while it may."""
        stop = self._settings.on_failure == "stop"
        limit = 1 if stop else self._settings.max_failures
        if not limit or self._failures < limit:
            return ""
        key = "on_failure=stop" if stop else f"max_failures={limit}"
        return f"{self._failures} failed, and {key}"

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self._view.say(message)


def outcome_line(record: Record) -> str:
    """Return one line on how a run ended."""
    if record.status != "FINISHED":
        return f"{record.status}: {record.reason}"
    split = "test" if "test_accuracy" in record.metrics else "eval"
    accuracy = record.metrics[f"{split}_accuracy"]
    seconds = record.metrics["train_runtime_s"]
    return f"finished, {split} accuracy {accuracy:.3f}, trained in {seconds:.1f} s"
