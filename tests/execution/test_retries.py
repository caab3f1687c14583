"""Which failed runs are tried again, how, and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support.config import compose

from sweep.execution import faults
from sweep.execution.faults import MEMORY, OTHER, PASSING
from sweep.execution.retries import as_stopped, next_try
from sweep.execution.worker import Outcome
from sweep.runs.record import Record, RunSpec, read_record, write_record
from sweep.tracking.store import Store


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    folder = tmp_path / "000_none"
    folder.mkdir()
    cfg = compose("freeze=none", "trainer.per_device_train_batch_size=8")
    return RunSpec("none", cfg, {}, "key", "sweep", folder, Store(None), device=1)


def failed(cause: str, reason: str = "RuntimeError: it went wrong") -> Outcome:
    return Outcome(Record("id", "none", "none", "FAILED", reason), cause)


def test_a_run_out_of_memory_goes_on_in_smaller_pieces_at_once(spec: RunSpec) -> None:
    again = next_try(spec, failed(MEMORY), 0)
    assert again is not None
    trainer = again.spec.cfg.trainer
    assert (trainer.per_device_train_batch_size, trainer.gradient_accumulation_steps) == (4, 2)
    assert again.delay_s == 0
    assert again.spec.notes == (
        "out of memory with batches of 8; trained with batches of 4, 2 to an optimizer step",
    )


def test_what_identifies_the_run_stays(spec: RunSpec) -> None:
    again = next_try(spec, failed(MEMORY), 0)
    assert again is not None
    assert (again.spec.key, again.spec.name) == (spec.key, spec.name)
    assert again.spec.folder == spec.folder.with_name("000_none_2")
    assert again.spec.device is None  # perhaps another one is free by then
    assert spec.cfg.trainer.per_device_train_batch_size == 8


def test_memory_is_answered_until_single_texts_do_not_fit(spec: RunSpec) -> None:
    sizes, current = [], spec
    while (again := next_try(current, failed(MEMORY), 0)) is not None:
        current = again.spec
        current.folder.mkdir()
        sizes.append(current.cfg.trainer.per_device_train_batch_size)
    assert sizes == [4, 2, 1]
    assert len(current.notes) == 3


def test_a_run_that_does_not_fit_says_so_in_its_record(spec: RunSpec) -> None:
    spec.cfg.trainer.per_device_train_batch_size = 1
    outcome = failed(MEMORY, "OutOfMemoryError: tried to allocate 2 GiB")
    assert outcome.record is not None
    write_record(outcome.record, spec.folder)
    assert next_try(spec, outcome, 0) is None
    reason = "does not fit: out of memory with single texts"
    assert outcome.record.reason == f"{reason} (OutOfMemoryError: tried to allocate 2 GiB)"
    kept = read_record(spec.folder)
    assert kept is not None
    assert kept.reason == outcome.record.reason


def test_a_passing_fault_is_waited_for_longer_each_time_and_then_believed(spec: RunSpec) -> None:
    delays = []
    for tries in range(len(faults.PAUSES_S)):
        again = next_try(spec, failed(PASSING, "ConnectionError: away"), tries)
        assert again is not None
        assert again.spec.cfg == spec.cfg
        assert again.spec.notes == ("tried again after a passing fault: ConnectionError: away",)
        delays.append(again.delay_s)
    assert delays == sorted(delays)
    assert delays[0] > 0
    assert next_try(spec, failed(PASSING), len(faults.PAUSES_S)) is None


def test_a_bug_is_not_tried_again(spec: RunSpec) -> None:
    assert next_try(spec, failed(OTHER), 0) is None


@pytest.mark.parametrize("status", ["FINISHED", "KILLED"])
def test_only_failures_are_tried_again(status: str, spec: RunSpec) -> None:
    outcome = Outcome(Record("id", "none", "none", status), MEMORY)
    assert next_try(spec, outcome, 0) is None


def test_a_run_that_another_process_has_is_not_tried_again(spec: RunSpec) -> None:
    assert next_try(spec, Outcome(None), 0) is None


def test_a_run_that_goes_on_keeps_the_smaller_pieces_it_had_come_to(spec: RunSpec) -> None:
    first = next_try(spec, failed(MEMORY), 0)
    assert first is not None
    first.spec.folder.mkdir()
    second = next_try(first.spec, failed(MEMORY), 0)
    assert second is not None
    second.spec.folder.mkdir()
    OmegaConf.save(OmegaConf.structured(second.spec.cfg), second.spec.folder / "config.yaml")
    spec_again = as_stopped(replace(spec, folder=second.spec.folder))
    assert spec_again.cfg == second.spec.cfg
    assert spec_again.notes == second.spec.notes
    assert spec_again.key == spec.key


@pytest.mark.parametrize("damage", ["", "trainer: [", "trainer: {per_device: 1}"])
def test_a_run_whose_configuration_is_damaged_goes_on_as_asked(damage: str, spec: RunSpec) -> None:
    (spec.folder / "config.yaml").write_text(damage, "utf-8")
    assert as_stopped(spec) == spec
