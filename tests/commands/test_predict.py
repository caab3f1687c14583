"""Labels for new texts are those that the run itself would give."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import sweep
from sweep.__main__ import main as run_sweep
from sweep.commands.predict import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def swept(
    tmp_path_factory: pytest.TempPathFactory, csv_file: Path, saved_model: Callable[[str], Path]
) -> Path:
    """A folder with a finished sweep of three kinds of saved models."""
    folder, before = tmp_path_factory.mktemp("predict"), Path.cwd()
    os.chdir(folder)
    try:
        line = ["freeze=none,full,lora", "freeze.rank=null", "data=csv", f"data.path={csv_file}"]
        line = [word for word in line if "rank" not in word]
        line += ["model=hub", f"model.name_or_path={saved_model('bert')}", "trainer.max_steps=12"]
        line += ["trainer.device=cpu", "trainer.precision=fp32", "trainer.save_model=true"]
        line += ["data.max_length=32", "tracking=none", "trainer.num_train_epochs=2"]
        assert run_sweep([*line, "trainer.per_device_train_batch_size=8"]) == 0
    finally:
        os.chdir(before)
    return folder


def runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("mlruns/sweeps/*/*/record.json"))


@pytest.mark.parametrize("index", [0, 1, 2], ids=["none", "full", "lora"])
def test_predictions_are_the_runs_own(
    swept: Path, index: int, csv_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(swept)
    run = runs(swept)[index]
    own = pd.read_csv(run / "predictions.csv")
    texts = pd.read_csv(csv_file)["text"]
    table = sweep.predict(run, [texts[row] for row in own["id"]])
    assert table["prediction"].tolist() == own["prediction"].tolist()
    columns = [name for name in own if name.startswith("p_")]
    assert [name for name in table if name.startswith("p_")] == columns
    assert abs(table[columns].to_numpy() - own[columns].to_numpy()).max() < 1e-4


def test_a_file_needs_no_labels_and_may_call_its_texts_otherwise(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(swept)
    file, output = tmp_path / "new.csv", tmp_path / "labels.csv"
    file.write_text('body,other\n"=a lovely, warm day",1\nso sad and cold,2\n', "utf-8")
    line = [str(runs(swept)[0]), str(file), "--output", str(output)]
    assert main(line) == 2
    assert "data.text_column='text'" in capsys.readouterr().err
    assert main([*line, "--column", "body"]) == 0
    with output.open(newline="", encoding="utf-8") as stream:
        rows = [*csv.DictReader(stream)]
    assert [row["text"] for row in rows] == ["'=a lovely, warm day", "so sad and cold"]
    assert {row["prediction"] for row in rows} <= {"bad", "good", "plain"}
    shares = [sum(float(v) for k, v in row.items() if k.startswith("p_")) for row in rows]
    assert shares == pytest.approx([1, 1], abs=1e-5)


def test_words_are_texts(
    swept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(swept)
    assert main([str(runs(swept)[0]), "a lovely day", "so sad"]) == 0
    printed = capsys.readouterr().out
    assert "2 texts" in printed
    assert "\ta lovely day\n" in printed


def test_what_cannot_be_used_is_one_error(
    swept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(swept)
    for line, message in (
        (["nowhere", "a"], "There is no sweep 'nowhere'"),
        ([str(runs(swept)[0])], "takes a sweep or a run, and then a file or texts"),
        ([str(runs(swept)[0]), "nowhere.csv"], "nowhere.csv"),
        ([str(runs(swept)[0]), "texst.parquet"], "texst.parquet"),
        ([str(runs(swept)[0]), "a.csv", "b.csv"], "takes one file"),
        ([str(runs(swept)[0]), "a", "--outputs", "x"], "--outputs"),
    ):
        assert main(line) == 2, line
        (error,) = capsys.readouterr().err.splitlines()
        assert message in error


def test_a_run_without_its_model_says_how_to_get_one(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    monkeypatch.chdir(swept)
    copy = shutil.copytree(runs(swept)[0], tmp_path / "000_none")
    shutil.rmtree(copy / "model")
    assert main([str(copy), "a"]) == 2
    assert "trainer.save_model=true" in capsys.readouterr().err
