"""predictions.csv: harmless for spreadsheets, read back as it was, its ids renewed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from sweep.comparison import per_text_scores
from sweep.runs import predictions, read_outputs
from sweep.runs.record import Record

LABELS = ["=cmd|' /C calc'!A0", "'=x", "-1", 'a "quoted", label', "NA"]


def write(folder: Path, ids: list[int]) -> None:
    """A file with odd labels."""
    table = pd.DataFrame({"id": ids, "label": LABELS, "prediction": LABELS[::-1], "p_NA": 0.125})
    predictions.write(table, folder)


def read(folder: Path) -> read_outputs.Predictions:
    """As the report reads it."""
    return read_outputs.predictions(Record("", "", "", "FINISHED", folder=str(folder)))


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 3, 4])
    raw = pd.read_csv(tmp_path / "predictions.csv", dtype=str, keep_default_na=False)
    assert raw["label"].tolist() == ["'=cmd|' /C calc'!A0", "''=x", *LABELS[2:]]
    assert raw["prediction"].tolist()[::-1] == raw["label"].tolist()


def test_labels_are_read_back_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 3, 4])
    assert per_text_scores.read(tmp_path).labels.tolist() == LABELS
    assert read(tmp_path).labels == LABELS
    assert read(tmp_path).predictions == LABELS[::-1]


def test_ids_are_renewed_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 3, 4])
    after = tmp_path / "after"
    after.mkdir()
    write(after, [3, 4, 5, 6, 7])
    assert predictions.renew_ids(tmp_path, [3, 4, 5, 6, 7])
    texts = [(folder / "predictions.csv").read_bytes() for folder in (tmp_path, after)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4], [0, 1]], ids=["the same", "too few"])
def test_ids_that_are_right_or_do_not_fit_change_nothing(ids: list[int], tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 3, 4])
    before = (tmp_path / "predictions.csv").read_bytes()
    assert not predictions.renew_ids(tmp_path, ids)
    assert (tmp_path / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b"no,columns\n1,2\n", b"label,id\nx\n", b"\xff"])
def test_a_damaged_file_is_left_alone(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "predictions.csv").write_bytes(content)
    assert not predictions.renew_ids(tmp_path, [0])


@pytest.mark.parametrize("end", ["5,a", "5", "5,a,b"])
def test_a_row_that_is_cut_short_makes_the_file_damaged(end: str, tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 3, 4])
    with (tmp_path / "predictions.csv").open("a", encoding="utf-8") as file:
        file.write(end)
    assert read(tmp_path) == read_outputs.Predictions()
    with pytest.raises(per_text_scores.PredictionsError) as caught:
        per_text_scores.read(tmp_path)
    assert str(caught.value) == "cannot be read (a row is cut short)"
