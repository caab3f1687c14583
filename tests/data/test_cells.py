"""What is neither text nor number is refused, and shown."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.data import config, pairs, refusal, save, table
from support.models import make_rows

from sweep.data import cells
from sweep.data.splits import load_splits

ROWS = make_rows(60)
NO_TEXT = "It has to hold text or numbers."
ADVICE = {
    "part": f"{NO_TEXT} Write the part that is meant to a column of its own.",
    "several": f"{NO_TEXT} Several labels per text are not supported yet: write one label per row.",
    "other": f"{NO_TEXT} Write it as text, or choose another column.",
}


def write_jsonl(folder: Path, **first: Any) -> Path:
    """The good rows behind one whose cells are given."""
    records = [{"text": text, "label": label} for text, label in ROWS]
    records[2] |= first
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), "utf-8")
    return path


@pytest.mark.parametrize(
    ("column", "cell", "what", "advice"),
    [
        ("text", {"en": "fine", "ko": "x"}, "an object", "part"),
        ("text", ["fine", "day"], "a list", "part"),
        ("text", [["nested"]], "a list", "part"),
        ("label", {"value": "good"}, "an object", "part"),
        ("label", ["good", "bad"], "a list", "several"),
    ],
    ids=str,
)
def test_a_cell_that_is_no_text_is_shown(
    column: str, cell: Any, what: str, advice: str, tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path, **{column: cell})
    assert refusal(path) == (
        f"data.{column}_column='{column}' of data.path='rows.jsonl' holds {what} in row 2, counted"
        f" from 0: {cell!r}. {ADVICE[advice]}"
    )


@pytest.mark.parametrize("label", [["good"], "good"], ids=repr)
def test_lists_of_one_label_are_that_label(label: Any, tmp_path: Path) -> None:
    records = [{"text": text, "label": [name]} for text, name in ROWS]
    records[0]["label"] = label if ROWS[0][1] == "good" else [ROWS[0][1]]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, records)), "utf-8")
    assert pairs(load_splits(config(tmp_path / "rows.jsonl"))) == sorted(ROWS)


def test_an_empty_list_of_labels_is_no_label(tmp_path: Path) -> None:
    records = [{"text": text, "label": [label]} for text, label in ROWS]
    records[0]["label"] = []
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, records)), "utf-8")
    assert load_splits(config(tmp_path / "rows.jsonl")).notes[0].endswith("1 without label")


def test_bytes_of_parquet_are_decoded(tmp_path: Path) -> None:
    rows = [(f"größer {text}", "größer" if label == "good" else label) for text, label in ROWS]
    path = tmp_path / "rows.parquet"
    table([(text.encode(), label.encode()) for text, label in rows]).to_parquet(path)
    assert pairs(load_splits(config(path))) == sorted(rows)


def test_bytes_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table([(text.encode(), b"gr\xf6\xdfer") for text, _ in ROWS]).to_parquet(path)
    assert refusal(path) == (
        "data.label_column='label' of data.path='rows.parquet' holds bytes that are not UTF-8 in"
        rf" row 0, counted from 0: b'gr\xf6\xdfer'. {ADVICE['other']}"
    )


@pytest.mark.parametrize(
    ("values", "what", "shown", "advice"),
    [
        ([["good", "bad"]] * 60, "a list", "['good', 'bad']", "several"),
        ([{"value": 1}] * 60, "an object", "{'value': 1}", "part"),
        (
            pd.date_range("2026-01-01", periods=60),
            "a value of type Timestamp",
            "Timestamp('20...-01 00:00:00')",
            "other",
        ),
    ],
    ids=["list", "struct", "date"],
)
def test_nested_columns_of_parquet_are_refused(
    values: Any, what: str, shown: str, advice: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    table(ROWS).assign(label=values).to_parquet(path)
    assert refusal(path) == (
        f"data.label_column='label' of data.path='rows.parquet' holds {what} in row 0, counted from"
        f" 0: {shown}. {ADVICE[advice]}"
    )


def test_text_and_numbers_of_every_kind_are_written_out() -> None:
    values = ["a", 1, 2.5, True, Decimal("1.50"), None, float("nan"), pd.NA]
    texts = ["a", "1", "2.5", "True", "1.50", "", "", ""]
    assert cells.as_texts(pd.Series(values, dtype=object), "it").tolist() == texts


def test_what_is_shown_of_a_cell_has_no_control_characters(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, text=["\x1b[31mred\u202e"])
    assert "\x1b" not in refusal(path)
    assert "\u202e" not in refusal(path)


@pytest.mark.parametrize(
    ("column", "form", "what"),
    [
        ("label", "['{}', 'other']", "lists"),
        ("label", "['{}']", "lists"),
        ("label", "b'{}'", "bytes"),
        ("text", "b'{}'", "bytes"),
        ("text", "{{'HS01': '{}'}}", "objects"),
    ],
)
def test_values_that_were_saved_as_python_prints_them_are_refused(
    column: str, form: str, what: str, tmp_path: Path
) -> None:
    frame = table(ROWS)
    frame[column] = frame[column].map(form.format)
    path = save(tmp_path, frame)
    several = " Several labels per text are not supported yet." * (what == "lists")
    message = refusal(path)
    assert message.startswith(
        f"data.{column}_column='{column}' of data.path='rows.csv' holds {what} as Python prints"
        " them, the first one is "
    )
    assert message.endswith(
        f".{several} Save what is meant as text; a single label is taken out by data.label_pattern"
        " too."
    )


def test_a_label_is_taken_out_of_its_brackets_when_asked(tmp_path: Path) -> None:
    frame = table(ROWS)
    frame["label"] = frame["label"].map("['{}']".format)
    splits = load_splits(config(save(tmp_path, frame), label_pattern=r"\['(.*)'\]"))
    assert pairs(splits) == sorted(ROWS)


@pytest.mark.parametrize("form", ["[{}]", '{{"a": "{}"}}', "b{}"])
def test_texts_in_brackets_are_texts(form: str, tmp_path: Path) -> None:
    rows = [(form.format(text), f"[{label}]") for text, label in ROWS]
    assert pairs(load_splits(config(save(tmp_path, table(rows))))) == sorted(rows)
