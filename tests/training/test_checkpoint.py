"""A training that is stopped anywhere goes on bit for bit; damaged checkpoints are not believed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import Trained, Trainings
from transformers import TrainerCallback

from sweep.training import checkpoint
from sweep.training.checkpoint import MANIFEST, newest_whole, seal
from sweep.training.stopping import Stopped, StopRequest

pytestmark = pytest.mark.usefixtures("one_thread")
SavedModel = Callable[[str], Path]
STEPS_PER_EPOCH = 11
"""84 training texts in batches of 8."""


@dataclass
class Points(TrainerCallback):
    """Keeps what is logged, and asks to stop when a step is over."""

    stop: StopRequest
    at: int
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.at:
            self.stop.ask()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        names = ("loss", "grad_norm", "learning_rate", "eval_loss", "eval_accuracy")
        self.logged.append((state.global_step, {k: v for k, v in logs.items() if k in names}))


@pytest.fixture
def train(csv_file: Path, saved_model: SavedModel, tmp_path: Path) -> Callable[..., Any]:
    """Trains two epochs, asked to stop at a step (0: never); returns it with what was logged."""

    def go(folder: str, stop_at: int, *overrides: str) -> tuple[Trained | None, Points]:
        trainings = Trainings(csv_file, saved_model, tmp_path / folder)
        points = Points(trainings.stop, stop_at)
        trainings.callbacks = [points]
        settings = ("trainer.max_steps=-1", "trainer.logging_steps=4", *overrides)
        try:
            return trainings.run(trainings.configure(*settings)), points
        except Stopped:
            return None, points

    return go


SETTINGS = {
    "none": ("freeze=none",),
    "random-order": ("freeze=attention", "trainer.train_sampling_strategy=random"),
    "accumulation": ("freeze=full", "trainer.gradient_accumulation_steps=2"),
    "gradual": ("freeze=gradual", "optimizer.layer_decay=0.5"),
    "lora": ("freeze=lora", "freeze.rank=2"),
    # Ends after 21 of 22 steps, which it would not if it forgot what it had counted.
    "patience": ("freeze=none", "trainer.early_stopping_patience=6", "trainer.eval_steps=3"),
    "best-at-end": ("freeze=none", "trainer.load_best_model_at_end=true"),
    "bf16": ("freeze=none", "trainer.precision=bf16"),
    "adafactor": ("freeze=none", "optimizer=adafactor"),
}


def assert_same(whole: Trained, pieces: Trained) -> None:
    assert whole.after.keys() == pieces.after.keys()
    for name, tensor in whole.after.items():
        assert torch.equal(tensor, pieces.after[name]), name
    timed = ("_s", "per_second", "_mib")
    first, second = (
        {k: v for k, v in t.result.metrics.items() if not k.endswith(timed)}
        for t in (whole, pieces)
    )
    assert first == second
    assert whole.result.stages == pieces.result.stages
    assert [n for n in whole.result.notes] == pieces.result.notes


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_stopped_training_ends_with_the_same_bits_and_the_same_curves(
    train: Any, settings: tuple[str, ...]
) -> None:
    whole, undisturbed = train("whole", 0, *settings)
    middle_of_epoch_2 = 17 if "trainer.gradient_accumulation_steps=2" not in settings else 8
    stopped, before = train("pieces", middle_of_epoch_2, *settings)
    assert stopped is None
    pieces, after = train("pieces", 0, *settings)
    assert_same(whole, pieces)
    assert [*before.logged, *after.logged] == undisturbed.logged


@pytest.mark.parametrize("step", [1, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 1])
def test_it_can_be_stopped_at_the_edges_of_an_epoch(train: Any, step: int) -> None:
    whole, undisturbed = train("whole", 0, "freeze=none")
    _, before = train("pieces", step, "freeze=none")
    pieces, after = train("pieces", 0, "freeze=none")
    assert_same(whole, pieces)
    assert [*before.logged, *after.logged] == undisturbed.logged


def test_it_can_be_stopped_twice_at_the_same_step(train: Any, tmp_path: Path) -> None:
    whole, _ = train("whole", 0, "freeze=none")
    train("pieces", 15, "freeze=none")
    kept = (tmp_path / "pieces" / "checkpoint-15" / "rng_state.pth").read_bytes()
    train("pieces", 16, "freeze=none")
    assert (tmp_path / "pieces" / "checkpoint-15" / "rng_state.pth").read_bytes() == kept
    pieces, _ = train("pieces", 0, "freeze=none")
    assert_same(whole, pieces)


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(train: Any, tmp_path: Path) -> None:
    whole, _ = train("whole", 0, "freeze=none")
    train("pieces", 9, "freeze=none", "trainer.save_steps=4")
    folder = tmp_path / "pieces"
    assert newest_whole(folder) == folder / "checkpoint-9"
    (folder / "checkpoint-9" / "trainer_state.json").write_text("{", "utf-8")
    assert newest_whole(folder) == folder / "checkpoint-8"
    pieces, _ = train("pieces", 0, "freeze=none", "trainer.save_steps=4")
    assert_same(whole, pieces)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "file-missing": lambda folder: (folder / "weights").unlink(),
    "file-cut": lambda folder: (folder / "weights").write_bytes(b"a"),
    "bit-flipped": lambda folder: (folder / "weights").write_bytes(b"abd"),
    "no-manifest": lambda folder: (folder / MANIFEST).unlink(),
    "manifest-cut": lambda folder: (folder / MANIFEST).write_text('{"step": 4, "fi', "utf-8"),
    "manifest-of-something-else": lambda folder: (folder / MANIFEST).write_text("[]", "utf-8"),
    "gone": lambda folder: shutil.rmtree(folder),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_checkpoint_is_believed_only_when_it_is_whole(
    damage: Callable[[Path], Any], tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint-4"
    folder.mkdir()
    (folder / "weights").write_bytes(b"abc")
    seal(folder, 4, {"clock": 1})
    assert newest_whole(tmp_path) == folder
    assert checkpoint.kept_in(folder) == {"clock": 1}
    damage(folder)
    assert newest_whole(tmp_path) is None


def test_the_latest_of_several_is_taken_by_number_and_not_by_name(tmp_path: Path) -> None:
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        seal(tmp_path / f"checkpoint-{step}", step, {})
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-10"


def test_the_manifest_lists_every_file_with_size_and_checksum(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"abc")
    seal(tmp_path, 1, {})
    files = json.loads((tmp_path / MANIFEST).read_text("utf-8"))["files"]
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files == {"deep/file": [3, sha256]}
