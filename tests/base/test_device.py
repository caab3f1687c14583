"""A GPU is called the same by processes that see it under other numbers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sweep.base import device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine that this process sees two GPUs of, in an order that may be changed."""
    uuids = ["11aa", "22bb"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=uuids[number])
    )
    return uuids


def test_a_gpu_keeps_its_name_under_another_number(two_gpus: list[str]) -> None:
    assert device.gpus() == ("cuda-11aa", "cuda-22bb")
    two_gpus.pop(0)
    assert device.gpus() == ("cuda-22bb",)
    assert device.shared_name("cuda") == "cuda-22bb"


def test_other_devices_are_called_what_they_are(two_gpus: list[str]) -> None:
    assert (device.shared_name("cpu"), device.shared_name("mps")) == ("cpu", "mps")
