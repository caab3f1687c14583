"""Signals are requests, and a launcher's own answer to a scheduler's notice comes last."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from sweep.execution.stop_requests import StopRequests


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {n: signal.getsignal(n) for n in (signal.SIGUSR1, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_notice_is_a_request_and_its_handler_is_called_at_the_end() -> None:
    answered: list[Any] = []

    def requeue(number: int, frame: Any) -> None:
        answered.append(number)
        raise SystemExit(3)

    signal.signal(signal.SIGUSR2, requeue)
    stops = StopRequests()
    before: list[Any] = []
    with pytest.raises(SystemExit), stops:  # noqa: PT012  # the block raises where it ends
        os.kill(os.getpid(), signal.SIGUSR2)
        before = list(answered)
    assert (stops.count, before) == (1, [])
    assert answered == [signal.SIGUSR2]
    assert signal.getsignal(signal.SIGUSR2) is requeue


def test_a_notice_that_nobody_handles_is_left_alone() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with StopRequests() as stops:
        os.kill(os.getpid(), signal.SIGUSR1)
    assert stops.count == 0


def test_a_stop_is_no_notice() -> None:
    with StopRequests() as stops:
        os.kill(os.getpid(), signal.SIGTERM)
    assert stops.count == 1
