"""What version 0.1.0 left, made by it: taken over by the same command, and read for reports."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from support.korean import english, texts_of

from sweep.commands import report
from sweep.commands.sweep import main

OLD = Path(__file__).parents[1] / "support" / "old_version"
SWEEP = "2026-11-27_20-20-14_da1769"


@pytest.fixture(autouse=True)
def old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old folder as the current directory; its absolute paths are those of here."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "mlruns" / "sweeps").rglob("*.json"):
        path.write_text(path.read_text("utf-8").replace("{root}", str(tmp_path)), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mlruns" / "sweeps" / SWEEP


def page(folder: Path) -> str:
    return (folder / "report" / "index.html").read_text("utf-8")


def data_of(folder: Path) -> list[str]:
    """What a page quotes in no language: names, logs, and notes that were stored as text."""
    records = [json.loads(path.read_text("utf-8")) for path in folder.glob("*/record.json")]
    texts = [SWEEP, "csv", "hub", "bad", "good", "plain"]
    texts.append(json.loads((folder / "sweep.json").read_text("utf-8"))["command"])
    texts += [path.read_text("utf-8") for path in folder.glob("*/run.log")]
    for record in records:
        texts += [record["name"], *record["notes"], *record["tags"].values()]
        texts += [key.rpartition(".")[2] for key in record["tags"]]
    return texts


def test_the_same_command_takes_the_runs_over(
    old_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = json.loads((old_folder / "sweep.json").read_text("utf-8"))["command"]
    python, m, sweep, *argv = shlex.split(command)
    assert (python, m, sweep) == ("python", "-m", "sweep")
    # What was the default then, and is not now, has to be typed.
    then = ["freeze.probe=adamw", "rates.base_rate=2e-4", "trainer.num_train_epochs=2"]
    assert main([*argv, *then]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("6 finished, 0 to do, results in ")
    assert "started" not in printed
    assert "\nlora: trains LoRA (rank 8) on attention, feed_forward; head, 45.68%\n" in printed
    (new,) = set(old_folder.parent.iterdir()) - {old_folder}
    assert not list(new.glob("*/record.json"))
    assert "6 of 6 runs finished" in page(new)
    assert "csv: 43 train, 6 validation, 12 test texts in 3 classes; dropped: " in page(new)
    assert page(new).count('id="figure-map_') == 3


def test_its_report_is_made_once_more(old_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([SWEEP]) == 0
    assert "\nwithout fine-tuning, majority class: test acc 0.333" in capsys.readouterr().out
    assert "6 of 6 runs finished" in page(old_folder)
    assert page(old_folder).count('id="figure-map_') == 3


def test_no_sentence_of_its_korean_report_is_english(old_folder: Path) -> None:
    (old_folder.parents[2] / "rows.csv").unlink()  # what the old sweep left has to be enough
    assert report.main([SWEEP, "report.language=ko"]) == 0
    assert english(texts_of(page(old_folder)), data_of(old_folder)) == []
    assert "최다 클래스" in page(old_folder)
