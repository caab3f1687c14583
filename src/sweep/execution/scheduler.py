"""The runs of a sweep, some at a time: launched, heard, tried again, stopped, taken over.

A run that crashes takes down its own process and not the sweep. A process that ends without a
word is recorded here.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from filelock import FileLock, Timeout

from sweep.base.environment import cores
from sweep.base.words import Remark
from sweep.config.schema import Config
from sweep.execution import contention, faults, processes
from sweep.execution.forkserver import Context
from sweep.execution.progress import View
from sweep.execution.retries import next_try
from sweep.execution.worker import Outcome, close_left, run_worker
from sweep.runs.ledger import Ledger
from sweep.runs.record import Record, RunSpec

POLL_S = 0.5
"""How long the loop sleeps at most: it then sees stops, timeouts and runs whose wait is over."""
BUSY_S = 2.0
"""Wait before a key that another sweep trains is looked at again."""


@dataclass
class _Task:
    """A run that has not ended."""

    index: int
    spec: RunSpec
    tries: int = 0
    not_before: float = 0.0
    process: Any = None
    connection: Connection | None = None
    started: float = 0.0
    kills: int = 0
    """The kernel's count of kills for memory when it was started."""
    device: FileLock | None = None


@dataclass
class Execution:
    """Runs the runs of one sweep, `cfg.jobs` at a time."""

    context: Context
    view: View
    cfg: Config
    """Any run's, for what holds for the whole sweep."""
    gpus: int = 0
    records: dict[int, Record] = field(default_factory=dict)
    """By the index of the run; those that never began are missing."""
    why_ended: str = ""
    """Why runs were left out, if they were."""
    _waiting: list[_Task] = field(default_factory=list)
    _active: list[_Task] = field(default_factory=list)
    _said: set[str] = field(default_factory=set)
    _stops: int = 0
    _failures: int = 0

    def run(self, specs: dict[int, RunSpec]) -> None:
        """Run all; failures are recorded and the others go on, as `on_failure` says.

        Args:
            specs: By the index of the run in its sweep.
        """
        self._waiting = [_Task(index, spec) for index, spec in specs.items()]
        with self._listening(), self.view:
            try:
                while self._active or (self._waiting and not self.why_ended):
                    self._launch()
                    self._hear()
                    self._look_at_clocks()
            finally:
                for task in list(self._active):
                    self._kill(task, "FAILED", str(Remark("end.error")))

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C or SIGTERM stopped the sweep."""
        return self._stops > 0

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM for a request, which is looked at between two messages."""
        known = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in known.items():
                signal.signal(number, handler)

    def _ask(self, *_: Any) -> None:
        self._stops += 1

    def _launch(self) -> None:
        """Start what may start, as long as there is room."""
        if self._stops or self.why_ended:
            return
        now = time.monotonic()
        for task in [t for t in self._waiting if t.not_before <= now]:
            if len(self._active) >= self.cfg.jobs:
                return
            if self._adopt(task):
                continue
            if self.gpus and not self._take_device(task):
                self._say_once("other sweeps use every GPU; waiting for one")
                return
            self._start(task)

    def _adopt(self, task: _Task) -> bool:
        """Take over a run that another sweep has finished meanwhile, or wait for one at work."""
        spec, ledger = task.spec, Ledger(task.spec.root)
        if not spec.cfg.resume:
            return False
        record = ledger.finished(spec.key, spec.cfg.trainer.save_model)
        if record is not None:
            self._waiting.remove(task)
            self.records[task.index] = adopted(record, spec)
            self.view.end(task.index, spec.name, "finished by another sweep")
            return True
        lock = ledger.lock(spec.key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            task.not_before = time.monotonic() + BUSY_S
            self.view.wait(task.index, spec.name)
            return True
        lock.release()
        return False

    def _take_device(self, task: _Task) -> bool:
        """Find a GPU that no other sweep uses; those of this sweep are shared when it has to be."""
        mine = [t for t in self._active if t.spec.device is not None]
        load = {n: sum(t.spec.device == n for t in mine) for n in range(self.gpus)}
        for number in sorted(load, key=lambda n: load[n]):
            lock = contention.device_lock(number)
            try:
                if not load[number]:
                    lock.acquire(timeout=0)
            except Timeout:
                continue
            held = next((t.device for t in mine if t.spec.device == number), lock)
            task.device, task.spec = held, replace(task.spec, device=number)
            return True
        return False

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self.view.say(message)

    def _start(self, task: _Task) -> None:
        self._waiting.remove(task)
        share = max(1, cores() // self.cfg.jobs)
        spec = replace(task.spec, num_threads=task.spec.cfg.trainer.num_threads or share)
        task.started, task.kills = time.monotonic(), faults.kills_for_memory()
        task.spec = spec
        task.process, task.connection = processes.start(self.context, run_worker, spec)
        self._active.append(task)
        self.view.start(task.index, spec.name)

    def _hear(self) -> None:
        """Take in what the runs say, for a moment."""
        if not self._active:
            time.sleep(min(POLL_S, 0.1))
        connections = {task.connection: task for task in self._active if task.connection}
        for connection in wait(list(connections), POLL_S) if connections else []:
            task = connections[connection]  # type: ignore[index]
            try:
                message = task.connection.recv()  # type: ignore[union-attr]
            except (EOFError, OSError):
                self._died(task)
                continue
            if isinstance(message, Outcome):
                self._ended(task, message)
            else:
                self.view.step(task.index, *message)

    def _look_at_clocks(self) -> None:
        """End what takes too long, and pass on a request to stop: politely once, then for good."""
        for task in list(self._active):
            minutes = task.spec.cfg.trainer.timeout_min
            if self._stops > 1:
                self._kill(task, "KILLED", str(Remark("end.at_once")))
            elif minutes and time.monotonic() - task.started > minutes * 60:
                late = Remark("end.late", {"minutes": f"{minutes:g}"})
                self._kill(task, "FAILED", str(late))
        if self._stops and not self.why_ended:
            self.why_ended = "stopped by Ctrl-C or SIGTERM"
            self.view.say("stopping after a checkpoint; Ctrl-C again stops at once")
            for task in self._active:
                processes.ask_to_stop(task.process)

    def _died(self, task: _Task) -> None:
        """Record for a process that has ended without a word."""
        task.process.join()
        starved = (
            faults.kills_for_memory() > task.kills and task.process.exitcode == -signal.SIGKILL
        )
        record = self._close(task, "FAILED", faults.death(task.process.exitcode, starved))
        self._ended(task, Outcome(record, faults.MEMORY if starved else faults.OTHER))

    def _kill(self, task: _Task, status: str, reason: str) -> None:
        processes.kill(task.process)
        self._ended(task, Outcome(self._close(task, status, reason)))

    def _close(self, task: _Task, status: str, reason: str) -> Record:
        task.process.join()
        return close_left(task.spec, status, reason)

    def _ended(self, task: _Task, outcome: Outcome) -> None:
        """Take a run off the list, for good or until its next try."""
        self._active.remove(task)
        processes.end(task.process, task.connection)
        if task.device is not None and all(t.device is not task.device for t in self._active):
            task.device.release()
        task.device = None
        if outcome.record is None:
            task.not_before = time.monotonic() + BUSY_S
            self._waiting.append(task)  # finished by another sweep, or being trained there
            return
        again = None if self._stops else next_try(task.spec, outcome, task.tries)
        if again is not None:
            tries = task.tries + (outcome.cause == faults.PASSING)
            begin = time.monotonic() + again.delay_s
            self._waiting.insert(0, _Task(task.index, again.spec, tries, begin))
            self.view.retry(task.index, task.spec.name, again.spec.notes[-1])
            return
        self.records[task.index] = outcome.record
        self._count(outcome)
        failed = outcome.record.status == "FAILED"
        self.view.end(task.index, task.spec.name, outcome_line(outcome.record), failed)

    def _count(self, outcome: Outcome) -> None:
        assert outcome.record is not None
        self._failures += outcome.record.status == "FAILED"
        limit = 1 if self.cfg.on_failure == "stop" else self.cfg.max_failures
        if outcome.disk_full:
            self.why_ended = "the disk is full"
        elif limit and self._failures >= limit and not self.why_ended:
            stop = self.cfg.on_failure == "stop"
            key = "on_failure=stop" if stop else f"max_failures={limit}"
            self.why_ended = f"{self._failures} failed, and {key}"


def adopted(record: Record, spec: RunSpec) -> Record:
    """A run of an earlier sweep, under the name that it has in this one."""
    return replace(record, name=spec.name, swept=spec.swept, strategy=spec.cfg.freeze.name)


def outcome_line(record: Record) -> str:
    """One line on how a run ended."""
    if record.status != "FINISHED":
        return f"{record.status}: {record.reason}"
    split = "test" if "test_accuracy" in record.metrics else "eval"
    accuracy = record.metrics[f"{split}_accuracy"]
    seconds = record.metrics["train_runtime_s"]
    return f"finished, {split} accuracy {accuracy:.3f}, trained in {seconds:.1f} s"
