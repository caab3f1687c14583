"""What goes wrong before a run or a check has begun comes back as a sentence."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.config import compose

from sweep.config.schema import ConfigError
from sweep.execution import contention, processes, worker
from sweep.execution.retries import next_try
from sweep.execution.worker import Outcome, Preflight
from sweep.runs import run
from sweep.runs.record import RunSpec, read_record
from sweep.tracking.store import Store


class Sent(list[Any]):
    """A pipe that keeps what is sent."""

    send = list.append


@pytest.fixture(autouse=True)
def same_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers change handlers and output for good, as they are processes of their own."""
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker, "_redirect_output", lambda _: None)


def test_a_model_that_a_library_cannot_build_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("hidden size 8 is no multiple of 7 heads\nand more of it")

    monkeypatch.setattr(worker, "preflight", fails)
    sent, cfg = Sent(), compose("freeze=none", "model=hub", "model.name_or_path=mine")
    worker.preflight_worker(sent, [(cfg, 2)])  # type: ignore[arg-type]
    assert sent == [
        Preflight(
            [
                "model.name_or_path='mine' with freeze='none' cannot be built: ValueError: hidden"
                " size 8 is no multiple of 7 heads. Correct the model's files, or choose another."
            ],
            (),
            [],
        )
    ]


def test_a_driver_that_fails_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> int:
        raise RuntimeError("CUDA driver initialization failed.")

    monkeypatch.setattr(torch.cuda, "device_count", fails)
    sent = Sent()
    worker.preflight_worker(sent, [])  # type: ignore[arg-type]
    (found,) = sent
    assert found.errors == [
        "the devices here cannot be used: RuntimeError: CUDA driver initialization failed"
    ]


def test_a_run_that_cannot_begin_says_why_and_leaves_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses() -> Path:
        raise ConfigError("the folder is somebody else's")

    monkeypatch.setattr(contention, "shared_folder", refuses)
    cfg, sent = compose("freeze=none"), Sent()
    spec = RunSpec("none", cfg, {}, "key", "sweep", tmp_path / "0", Store(None), root=tmp_path)
    worker.run_worker(sent, spec)  # type: ignore[arg-type]
    (outcome,) = sent
    assert isinstance(outcome, Outcome)
    assert outcome.record is not None
    assert (outcome.record.status, outcome.record.reason) == (
        "FAILED",
        "ConfigError: the folder is somebody else's",
    )
    assert read_record(spec.folder) == outcome.record


def test_what_does_not_fit_while_it_is_loaded_is_not_tried_in_smaller_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> None:
        raise MemoryError("28 GiB")

    monkeypatch.setattr(run.pretrained, "load", load)
    cfg, sent = compose("freeze=none", "trainer.device=cpu"), Sent()
    spec = RunSpec("none", cfg, {}, "key", "sweep", tmp_path / "0", Store(None), root=tmp_path)
    worker.run_worker(sent, replace(spec, num_threads=1))  # type: ignore[arg-type]
    outcome = sent[-1]
    assert outcome.record.reason == (
        "does not fit into memory while it is loaded, whatever the batch (MemoryError: 28 GiB)."
        " Take a smaller model, fewer runs at once (jobs), or freeze=qlora"
    )
    assert next_try(spec, outcome, 0) is None


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends without a word."""

    def start(*_: Any) -> tuple[Any, Any]:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        theirs.close()
        return SimpleNamespace(exitcode=-9, join=lambda: None), ours

    monkeypatch.setattr(processes, "start", start)
    monkeypatch.setattr(processes, "end", lambda *_: None)


@pytest.mark.usefixtures("silent")
def test_a_check_that_is_killed_is_a_config_error() -> None:
    with pytest.raises(ConfigError) as caught:
        processes.preflight_all(multiprocessing.get_context("forkserver"), [])
    assert caught.value.messages == (
        "The models could not be checked: the process was killed by SIGKILL. Start it again, or"
        " choose a smaller model if this machine has too little memory.",
    )


def test_a_server_that_ends_at_once_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: Any) -> None:
        raise EOFError

    monkeypatch.setattr(processes, "_start", ends)
    with pytest.raises(ConfigError) as caught:
        processes.start(multiprocessing.get_context("forkserver"), print, None)
    assert caught.value.messages == (
        "No process for runs can be started: the one that loads the libraries ends at once. What"
        " it says stands above; start it again, or install sweep anew.",
    )
