"""What becomes of runs whose process ends without a word, and of those that are asked to stop."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from support.config import compose

from sweep.base.words import Remark
from sweep.config.schema import SweepSettings
from sweep.execution import active, faults, processes, scheduler
from sweep.execution.progress import LineView, Pace
from sweep.execution.scheduler import Executed, Execution
from sweep.execution.tries import Try
from sweep.execution.worker import Outcome
from sweep.runs.record import Record, RunSpec, read_record, write_record
from sweep.tracking.store import Store


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process is gone with SIGKILL before it has sent anything."""

    def start(*_: Any) -> tuple[Any, Any]:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        theirs.close()
        return SimpleNamespace(exitcode=-9, join=lambda: None), ours

    monkeypatch.setattr(processes, "start", start)
    monkeypatch.setattr(processes, "end", lambda *_: None)


def run_one(folder: Path) -> Record:
    """The record of a sweep of one run in this folder."""
    cfg = compose("freeze=none")
    spec = RunSpec("none", cfg, {}, "key", "sweep", folder, Store(None), root=folder.parent)
    view = LineView(Console(file=io.StringIO()), Pace(1))
    execution = Execution(multiprocessing.get_context("forkserver"), view, SweepSettings())
    return execution.run({0: spec}).records[0]


@pytest.mark.usefixtures("killed")
def test_a_run_that_was_killed_has_failed(tmp_path: Path) -> None:
    record = run_one(tmp_path)
    assert (record.status, record.reason) == ("FAILED", "the process was killed by SIGKILL")
    assert read_record(tmp_path) == record


@pytest.mark.usefixtures("killed")
def test_a_result_stands_though_its_process_died_while_telling_the_store(tmp_path: Path) -> None:
    scores = {"test_accuracy": 0.5, "train_runtime_s": 1.0}
    write_record(Record("", "none", "none", "FINISHED", metrics=scores), tmp_path)
    assert run_one(tmp_path).status == "FINISHED"
    written = read_record(tmp_path)
    assert written is not None
    assert (written.status, written.metrics) == ("FINISHED", scores)


class Scripted:
    """A try at work that says what it is told to say, and obeys a request to stop."""

    def __init__(self, attempt: Try) -> None:
        self.attempt = attempt
        self.connection, self._theirs = multiprocessing.Pipe(duplex=False)

    def say(self, *ends: Any) -> Scripted:
        self._theirs.send(ends)
        return self

    def receive(self) -> Outcome:
        status, reason, cause = self.connection.recv()
        return self.end(status, reason, cause) if status else Outcome(None)

    def end(self, status: str, reason: str, cause: str = "") -> Outcome:
        scores = {"test_accuracy": 0.5, "train_runtime_s": 1.0}
        name = self.attempt.spec.name
        return Outcome(Record("", name, "none", status, reason, metrics=scores), cause)

    def is_late(self) -> bool:
        return False

    def ask_to_stop(self) -> None:
        self.say("KILLED", "stopped after a checkpoint", "")

    def kill(self, status: str, reason: str) -> Outcome:
        return self.end(status, reason)

    def close(self) -> None:
        self.connection.close()


def execute(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: SweepSettings,
    begin: Callable[[Scripted], object],
) -> Executed:
    """What comes of a sweep of two runs whose processes are scripted where they begin."""

    def begun(_: object, attempt: Try) -> Scripted:
        run = Scripted(attempt)
        begin(run)
        return run

    monkeypatch.setattr(active, "begin", begun)
    cfg = compose("freeze=none")
    specs = {
        index: RunSpec(
            f"run {index}", cfg, {}, f"{index}", "sweep", folder / f"{index}", Store(None), folder
        )
        for index in range(2)
    }
    view = LineView(Console(file=io.StringIO()), Pace(2))
    return Execution(multiprocessing.get_context("forkserver"), view, settings).run(specs)


def statuses(executed: Executed) -> dict[int, str]:
    return {index: record.status for index, record in executed.records.items()}


def test_nothing_comes_of_no_runs() -> None:
    view = LineView(Console(file=io.StringIO()), Pace(0))
    execution = Execution(multiprocessing.get_context("forkserver"), view, SweepSettings())
    assert execution.run({}) == Executed({}, False, "")


def test_a_request_to_stop_reaches_a_run_at_work_after_another_has_ended_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(run: Scripted) -> None:
        if run.attempt.index == 1:  # both are at work
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            run.say("FAILED", "no such file", "")

    settings = SweepSettings(jobs=2, max_failures=1)
    executed = execute(tmp_path, monkeypatch, settings, begin)
    assert statuses(executed) == {0: "FAILED", 1: "KILLED"}
    assert executed.interrupted
    assert executed.why_ended == "1 failed, and max_failures=1"


def test_a_second_request_to_stop_ends_runs_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(run: Scripted) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    executed = execute(tmp_path, monkeypatch, SweepSettings(), begin)
    assert statuses(executed) == {0: "KILLED"}
    assert executed.records[0].reason == str(Remark("end.at_once"))
    assert executed.why_ended == "stopped by Ctrl-C or SIGTERM"


def test_a_run_that_does_not_fit_is_tried_again_before_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []

    def begin(run: Scripted) -> None:
        cfg = run.attempt.spec.cfg
        begun.append((run.attempt.index, cfg.trainer.per_device_train_batch_size))
        fits = len(begun) > 1
        run.say(*(("FINISHED", "", "") if fits else ("FAILED", "out of memory", faults.MEMORY)))

    executed = execute(tmp_path, monkeypatch, SweepSettings(), begin)
    size = compose("freeze=none").trainer.per_device_train_batch_size
    assert begun == [(0, size), (0, size // 2), (1, size)]
    assert statuses(executed) == {0: "FINISHED", 1: "FINISHED"}


def test_a_run_that_another_sweep_trains_comes_after_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def begin(run: Scripted) -> None:
        begun.append(run.attempt.index)
        run.say("" if len(begun) == 1 else "FINISHED", "", "")

    monkeypatch.setattr(scheduler, "BUSY_S", 0.0)
    executed = execute(tmp_path, monkeypatch, SweepSettings(), begin)
    assert begun == [0, 1, 0]
    assert statuses(executed) == {0: "FINISHED", 1: "FINISHED"}


def test_no_run_begins_after_as_many_failures_as_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SweepSettings(on_failure="stop")
    executed = execute(
        tmp_path, monkeypatch, settings, lambda run: run.say("FAILED", "no file", "")
    )
    assert executed == Executed(executed.records, False, "1 failed, and on_failure=stop")
    assert statuses(executed) == {0: "FAILED"}


@pytest.mark.usefixtures("killed")
@pytest.mark.parametrize(("device", "given"), [("cpu", None), ("auto", 0), ("cuda", 0)])
def test_a_run_on_the_cpu_takes_no_gpu(
    device: str, given: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    begun: list[int | None] = []
    begin = active.begin

    def note(context: Any, attempt: Try) -> Any:
        begun.append(attempt.spec.device)
        return begin(context, attempt)

    monkeypatch.setattr(scheduler.active, "begin", note)
    cfg = compose("freeze=none", f"trainer.device={device}")
    spec = RunSpec("none", cfg, {}, "key", "sweep", tmp_path / "0", Store(None), root=tmp_path)
    view = LineView(Console(file=io.StringIO()), Pace(1))
    context = multiprocessing.get_context("forkserver")
    Execution(context, view, SweepSettings(), ("cuda-a",)).run({0: spec})
    assert begun == [given]
