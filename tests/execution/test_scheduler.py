"""What becomes of a run whose process ends without a word."""

from __future__ import annotations

import io
import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from support.config import compose

from sweep.execution import processes
from sweep.execution.progress import LineView, Pace
from sweep.execution.scheduler import Execution
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
    execution = Execution(multiprocessing.get_context("forkserver"), view, cfg)
    return execution.run({0: spec}).records[0]


@pytest.mark.usefixtures("killed")
def test_a_run_that_was_killed_has_failed(tmp_path: Path) -> None:
    found = run_one(tmp_path)
    assert (found.status, found.reason) == ("FAILED", "the process was killed by SIGKILL")
    assert read_record(tmp_path) == found


@pytest.mark.usefixtures("killed")
def test_a_result_stands_though_its_process_died_while_telling_the_store(tmp_path: Path) -> None:
    scores = {"test_accuracy": 0.5, "train_runtime_s": 1.0}
    write_record(Record("", "none", "none", "FINISHED", metrics=scores), tmp_path)
    assert run_one(tmp_path).status == "FINISHED"
    written = read_record(tmp_path)
    assert written is not None
    assert (written.status, written.metrics) == ("FINISHED", scores)
