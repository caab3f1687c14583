"""Tries begin in the order of the sweep, but for those that have to wait."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sweep.config.schema import Config
from sweep.execution.tries import Queue, Try
from sweep.runs.record import RunSpec
from sweep.tracking.store import Store


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock shows; change it to let time pass."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


def queue_of(*indices: int) -> tuple[Queue, list[Try]]:
    spec = RunSpec("none", Config(), {}, "key", "sweep", Path(), Store(None))
    tries = [Try(index, spec) for index in indices]
    return Queue(tries), tries


def due(queue: Queue) -> list[int]:
    return [each.index for each in queue.due()]


def test_a_try_that_is_postponed_keeps_its_turn(now: list[float]) -> None:
    queue, (first, _) = queue_of(0, 1)
    queue.postpone(first, 2.0)
    assert due(queue) == [1]
    now[0] += 2.0
    assert due(queue) == [0, 1]


def test_a_try_again_comes_before_all_others_and_after_its_wait(now: list[float]) -> None:
    queue, (first, _) = queue_of(0, 1)
    queue.remove(first)
    queue.add_first(first.later(10.0))
    assert due(queue) == [1]
    now[0] += 10.0
    assert due(queue) == [0, 1]


def test_a_try_that_another_sweep_took_comes_after_the_others(now: list[float]) -> None:
    queue, (first, _) = queue_of(0, 1)
    queue.remove(first)
    queue.add_last(first)
    assert due(queue) == [1, 0]


def test_a_queue_is_empty_once_all_have_begun() -> None:
    queue, (only,) = queue_of(0)
    assert queue
    queue.remove(only)
    assert not queue
