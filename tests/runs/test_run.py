"""One run: what it was told at the start of a sweep still holds when it begins."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.base import device
from sweep.base.device import Hardware
from sweep.base.words import Remark
from sweep.commands.inputs import check_inputs
from sweep.config.compose import compose_jobs
from sweep.models import model_files
from sweep.runs import read_outputs
from sweep.runs import run as runs
from sweep.runs.record import Record, RunSpec
from sweep.tracking.outbox import Outbox
from sweep.tracking.store import Store
from sweep.training import safety_net
from sweep.training.stopping import StopRequest

pytestmark = pytest.mark.usefixtures("one_thread")
Copy = Callable[..., Path]


def spec_of(
    overrides: list[str], folder: Path, tmp_path: Path, strategy: str = "freeze=full"
) -> RunSpec:
    """A run with the model of a folder, checked as a sweep checks it."""
    command = [strategy, *overrides, "trainer.precision=fp32"]
    (checked,) = check_inputs(compose_jobs([*command, f"model.name_or_path={folder}"]))
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    return RunSpec(
        name="full",
        cfg=checked.job.cfg,
        swept={},
        key=checked.key,
        sweep_id="one",
        folder=run_folder,
        store=Store(None),
        root=tmp_path,
        data_fingerprint=checked.data_fingerprint,
        weights_fingerprint=checked.weights_fingerprint,
        weights_stamp=checked.weights_stamp,
    )


def run(spec: RunSpec) -> Record:
    return runs.run(spec, Outbox(spec.folder, Store(None)), lambda *_: None, StopRequest())


def write_again(file: Path, change: bytes = b"") -> None:
    """Write a file anew, so that its time and perhaps its last byte is another."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) - len(change)] + change)


def test_weights_that_change_after_the_check_fail_the_run(
    overrides: list[str], copy_of: Copy, tmp_path: Path
) -> None:
    folder = copy_of("bert")
    spec = spec_of(overrides, folder, tmp_path)
    write_again(folder / "model.safetensors", b"\1")
    with pytest.raises(RuntimeError) as caught:
        run(spec)
    assert str(caught.value) == (
        f"the files of model.name_or_path={str(folder)!r} changed while the sweep ran, so its runs"
        " could not be compared; start it anew"
    )


def test_weights_that_are_written_again_as_they_were_are_the_same(
    copy_of: Copy, overrides: list[str], tmp_path: Path
) -> None:
    folder = copy_of("bert")
    spec = spec_of(overrides, folder, tmp_path)
    write_again(folder / "model.safetensors")
    assert model_files.fetch_same(spec.cfg.model, spec.weights_fingerprint, spec.weights_stamp)


def test_what_the_sweep_has_found_out_is_not_found_out_again(
    overrides: list[str], copy_of: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(overrides, shutil.copytree(copy_of("bert"), tmp_path / "model"), tmp_path)
    calls: list[str] = []

    def counted(module: Any, name: str) -> None:
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: (calls.append(name), original(*given))[1])

    for name in ("content_fingerprint", "fingerprint", "fetch", "_check_folder"):
        counted(model_files, name)
    for name in ("resolve_device", "resolve_precision"):
        counted(device, name)
    record = run(spec)
    assert calls == ["resolve_device", "resolve_precision"]
    assert record.status == "FINISHED"
    assert record.tags["sweep.weights_fingerprint"] == spec.weights_fingerprint
    assert record.params["precision"] == "fp32"


def test_a_hub_model_is_pinned_to_the_commit_of_the_check(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(model_files, "fetch", lambda cfg: seen.append(cfg.revision) or tmp_path)
    (job,) = compose_jobs(["freeze=full", *overrides, "model.name_or_path=org/name"])
    commit = "a" * 40
    model_files.fetch_same(job.cfg.model, f"org/name@{commit}", "")
    model_files.fetch_same(job.cfg.model, "org/name@None", "")
    assert seen == [commit, None]


def test_hardware_computes_in_its_precision() -> None:
    import torch

    with Hardware("cpu", "bf16").autocast():
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    with Hardware("cpu", "fp32").autocast():
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("typed", "restarts"),
    [([], 2.0), (["optimizer.learning_rate=1e-2"], None), (["model.base_rate=1e-2"], None)],
    ids=["guessed", "typed", "measured"],
)
def test_no_rate_is_halved_that_was_typed_or_measured(
    typed: list[str],
    restarts: float | None,
    overrides: list[str],
    saved_model: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(safety_net, "_problem", lambda *_: Remark("restart.one_class"))
    spec = spec_of([*overrides, *typed], saved_model("bert"), tmp_path, "freeze=attention")
    record = run(spec)
    assert record.metrics.get("restarts") == restarts
    steps = [step for step, _ in read_outputs.curves(record)["train_loss"]]
    assert steps == sorted(set(steps))
