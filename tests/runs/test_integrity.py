"""Finished runs whose files are gone, cut or changed: told, and not done."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from support.config import compose
from support.runs import write_run

from sweep.runs import integrity
from sweep.runs.record import read_record

Change = Callable[[Path], object]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Folder of a finished run with its trained weights, as versions left it that sealed none."""
    folder = Path(write_run(tmp_path, "none").folder)
    OmegaConf.save(OmegaConf.structured(compose("freeze=none")), folder / "config.yaml")
    (folder / "freeze.json").write_text('{"tensors": [{"name": "a", "trainable": true}]}', "utf-8")
    points = [{"metrics": {"loss": 1.0}, "step": step, "time": 1.0} for step in (1, 2)]
    (folder / "curves.jsonl").write_text("".join(json.dumps(p) + "\n" for p in points), "utf-8")
    (folder / "model").mkdir()
    save_file({"a": torch.zeros(8)}, folder / "model" / "model.safetensors", {"format": "pt"})
    (folder / "model" / "config.json").write_text("{}", "utf-8")
    return folder


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def in_record(**changes: Any) -> Change:
    """Put values into record.json, whatever their types."""

    def change(folder: Path) -> None:
        path = folder / "record.json"
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")

    return change


@pytest.mark.parametrize("sealed", [False, True], ids=["old", "sealed"])
@pytest.mark.parametrize("with_model", [False, True])
def test_a_whole_run_is_whole(with_model: bool, sealed: bool, finished: Path) -> None:
    if sealed:
        integrity.seal(finished)
    assert integrity.damaged_file(finished, with_model) == ""
    record = integrity.checked_record(finished)
    assert record is not None
    assert record == read_record(finished)


@pytest.mark.parametrize("sealed", [False, True], ids=["old", "sealed"])
@pytest.mark.parametrize(
    ("change", "file"),
    [
        pytest.param(lambda f: cut(f / "record.json"), "record.json", id="record-cut"),
        pytest.param(in_record(metrics={}), "record.json", id="no-metrics"),
        pytest.param(in_record(metrics={"train_runtime_s": 1.0}), "record.json", id="no-result"),
        pytest.param(in_record(metrics={"eval_loss": "low"}), "record.json", id="text-for-number"),
        pytest.param(
            in_record(metrics={"eval_loss": None}), "record.json", id="nothing-for-number"
        ),
        pytest.param(in_record(metrics={"eval_loss": True}), "record.json", id="truth-for-number"),
        pytest.param(in_record(metrics=[1.0]), "record.json", id="metrics-list"),
        pytest.param(in_record(tags={"sweep.layers": 6}), "record.json", id="number-for-tag"),
        pytest.param(in_record(swept=[]), "record.json", id="swept-list"),
        pytest.param(
            in_record(metrics={"eval_loss": 10**400}), "record.json", id="number-too-large"
        ),
        pytest.param(in_record(params={"seed": [1]}), "record.json", id="list-for-seed"),
        pytest.param(in_record(params={"seed": "x"}), "record.json", id="text-for-seed"),
        pytest.param(
            lambda f: (f / "freeze.json").write_text('{"tensors": [{"name": 3}]}'),
            "freeze.json",
            id="tensor-without-name",
        ),
        pytest.param(in_record(params="none"), "record.json", id="params-text"),
        pytest.param(in_record(notes={"a": 1}), "record.json", id="notes-object"),
        pytest.param(in_record(name=7), "record.json", id="name-number"),
        pytest.param(
            lambda f: (f / "record.json").write_text("[" * 100_000), "record.json", id="too-deep"
        ),
        pytest.param(lambda f: cut(f / "config.yaml"), "config.yaml", id="config-cut"),
        pytest.param(
            lambda f: (f / "config.yaml").write_text("a: [1,"), "config.yaml", id="no-yaml"
        ),
        pytest.param(lambda f: (f / "config.yaml").write_text(""), "config.yaml", id="no-config"),
        pytest.param(lambda f: cut(f / "freeze.json"), "freeze.json", id="freeze-cut"),
        pytest.param(
            lambda f: (f / "freeze.json").write_text("[]"), "freeze.json", id="freeze-list"
        ),
        pytest.param(lambda f: cut(f / "curves.jsonl"), "curves.jsonl", id="curves-cut"),
        pytest.param(
            lambda f: (f / "curves.jsonl").write_bytes(b"\xff\n"), "curves.jsonl", id="curves-bytes"
        ),
        pytest.param(
            lambda f: (f / "predictions.csv").write_text("id,label,prediction\n0,a\n"),
            "predictions.csv",
            id="predictions-cut",
        ),
        pytest.param(
            lambda f: (f / "predictions.csv").write_text(""), "predictions.csv", id="no-predictions"
        ),
    ],
)
def test_a_damaged_file_makes_a_run_that_is_not_done(
    change: Change, file: str, sealed: bool, finished: Path
) -> None:
    if sealed:
        integrity.seal(finished)
    change(finished)
    assert integrity.damaged_file(finished) == file
    record = integrity.checked_record(finished)
    assert record is not None
    assert (record.status, record.folder) == ("FAILED", str(finished))
    assert record.reason == (
        f"its result cannot be used: {file} in {finished} is damaged, so the run counts as not done"
    )


@pytest.mark.parametrize("file", ["config.yaml", "freeze.json", "curves.jsonl", "predictions.csv"])
def test_what_reads_well_but_is_not_as_it_was_left_shows_by_the_seal(
    file: str, finished: Path
) -> None:
    path = finished / file
    with path.open("a", encoding="utf-8") as opened:
        opened.write("\n")
    integrity.seal(finished)
    path.write_text(path.read_text("utf-8")[:-1], "utf-8")
    assert integrity.damaged_file(finished) == file
    path.unlink()
    assert integrity.damaged_file(finished) == file


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: cut(f / "model" / "model.safetensors"), id="cut"),
        pytest.param(lambda f: (f / "model" / "model.safetensors").unlink(), id="no-weights"),
        pytest.param(lambda f: (f / "model" / "model.safetensors").write_bytes(b""), id="empty"),
        pytest.param(lambda f: (f / "model" / "config.json").unlink(), id="no-config"),
    ],
)
@pytest.mark.parametrize("sealed", [False, True], ids=["old", "sealed"])
def test_weights_that_are_not_whole_matter_when_they_are_asked(
    change: Change, sealed: bool, finished: Path
) -> None:
    if sealed:
        integrity.seal(finished)
    change(finished)
    assert integrity.damaged_file(finished) == ""
    assert re.match("model", integrity.damaged_file(finished, with_model=True))


def test_other_weights_of_the_same_size_show_by_the_seal(finished: Path) -> None:
    integrity.seal(finished)
    save_file({"a": torch.ones(8)}, finished / "model" / "model.safetensors", {"format": "pt"})
    assert integrity.damaged_file(finished, with_model=True) == "model/model.safetensors"


def test_a_run_that_was_sealed_without_weights_has_none(finished: Path) -> None:
    for path in (finished / "model").iterdir():
        path.unlink()
    integrity.seal(finished)
    assert integrity.damaged_file(finished) == ""
    assert integrity.damaged_file(finished, with_model=True) == "model"
    (finished / "model").rmdir()
    assert not integrity.has_model(finished)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 1}'])
def test_a_damaged_seal_is_none(content: str, finished: Path) -> None:
    (finished / "seal.json").write_text(content)
    assert integrity.damaged_file(finished, with_model=True) == ""


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
def test_files_of_what_did_not_finish_may_be_cut(status: str, finished: Path) -> None:
    in_record(status=status, metrics={})(finished)
    cut(finished / "curves.jsonl")
    record = integrity.checked_record(finished)
    assert record is not None
    assert (record.status, record.reason) == (status, "")
