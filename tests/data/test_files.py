"""Packed files, and files that are not what they are called."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from support.data import config, pairs, refusal, table
from support.models import make_rows

from sweep.config.schema import ConfigError
from sweep.data import files, parquet_files
from sweep.data.splits import load_splits

ROWS = make_rows(60)
CSV = table(ROWS).to_csv(index=False).encode()


def zipped(**members: bytes) -> bytes:
    """An archive; `_` in a name stands for a slash, and the last one for a dot."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            folder, _, file = name.rpartition("__")
            stem, _, suffix = file.rpartition("_")
            archive.writestr(f"{folder}/{stem}.{suffix}" if folder else f"{stem}.{suffix}", data)
    return content.getvalue()


PACKED: dict[str, Callable[[], bytes]] = {
    "rows.csv.gz": lambda: gzip.compress(CSV),
    "rows.csv.bz2": lambda: bz2.compress(CSV),
    "rows.csv.xz": lambda: lzma.compress(CSV),
    "rows.csv.zip": lambda: zipped(rows_csv=CSV),
    "archive.zip": lambda: zipped(rows_csv=CSV),
    "ROWS.CSV.GZ": lambda: gzip.compress(CSV),
    "renamed.csv": lambda: gzip.compress(CSV),
    "from_a_mac.zip": lambda: zipped(rows_csv=CSV, __MACOSX__rows_csv=b"\0\5"),
    "in a folder.zip": lambda: zipped(a__rows_csv=CSV),
    "rows.tsv.gz": lambda: gzip.compress(CSV.replace(b",", b"\t")),
    "rows.jsonl.gz": lambda: gzip.compress(
        "\n".join(json.dumps({"text": t, "label": x}) for t, x in ROWS).encode()
    ),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_packed_file_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(PACKED[name]())
    assert pairs(load_splits(config(tmp_path / name))) == sorted(ROWS)


def test_a_packed_file_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(CSV.decode().encode("utf-16")))
    assert pairs(load_splits(config(path, encoding="utf-16"))) == sorted(ROWS)


def test_packed_parquet_is_read(tmp_path: Path) -> None:
    content = io.BytesIO()
    table(ROWS).to_parquet(content)
    path = tmp_path / "rows.parquet.gz"
    path.write_bytes(gzip.compress(content.getvalue()))
    assert pairs(load_splits(config(path))) == sorted(ROWS)


def test_a_table_may_begin_like_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    table(ROWS).assign(BZh=1)[["BZh", "text", "label"]].to_csv(path, index=False)
    assert pairs(load_splits(config(path))) == sorted(ROWS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "two.zip",
            zipped(train_csv=CSV, test_csv=CSV),
            "data.path='two.zip' is an archive of 2 files ('train.csv', 'test.csv'). Unpack it,"
            " and name one.",
        ),
        (
            "book.csv",
            zipped(**{"[Content_Types]_xml": b"", "xl__workbook_xml": b""}),
            "data.path='book.csv' is a workbook of Excel. Save its sheet as CSV UTF-8.",
        ),
        (
            "cut.csv.gz",
            gzip.compress(CSV)[:100],
            "data.path='cut.csv.gz' is packed as gz, and cannot be unpacked: Compressed file ended"
            " before the end-of-stream marker was reached. Unpack it, or save it anew.",
        ),
        (
            "rows.gz",
            gzip.compress(CSV),
            "data.path='rows.gz' has the suffix ''. Known are .csv, .tsv, .txt, .jsonl, .json,"
            " .parquet, also with .gz, .bz2, .xz, .zip, .zst behind them; rename the file, or"
            " convert it.",
        ),
    ],
    ids=["two files", "workbook", "cut off", "no kind"],
)
def test_an_archive_that_is_no_table_is_told(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name) == message


def test_a_packed_file_that_fills_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "memory_left", lambda: 2**20)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + b"a" * 3 * 2**20))
    assert refusal(path) == (
        "data.path='bomb.csv.gz' takes more than 0.0 GiB when it is unpacked, half of the memory"
        " that is free. Name a file with fewer rows."
    )


def test_parquet_that_fills_memory_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "memory_left", lambda: 2**30)
    rows = 10_000_000
    path = tmp_path / "bomb.parquet"
    column = pd.Categorical.from_codes([0] * rows, ["x"])
    pd.DataFrame({"text": column, "label": column}).to_parquet(path)
    assert path.stat().st_size < 2**17
    assert refusal(path) == (
        "data.path='bomb.parquet' cannot be read as parquet: its 10,000,000 rows take about 1.1"
        " GiB, and there are 1.0 GiB for them, half of the memory that is free. Save the file anew."
    )


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_brackets_nested_too_deeply_are_told(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"deep.{suffix}"
    path.write_text('{"text": ' * (suffix == "jsonl") + "[" * 100_000, "utf-8")
    assert refusal(path) == (
        f"data.path='deep.{suffix}' cannot be read as {suffix}: its brackets are nested too deeply."
        " Save the file anew."
    )


@pytest.mark.parametrize(
    ("name", "key", "value", "kinds", "remedy"),
    [
        ("rows.jsonl", "quoting", "none", ".csv, .tsv, .txt", "null"),
        ("rows.jsonl", "separator", ";", ".csv, .tsv, .txt", "null"),
        ("rows.parquet", "quoting", "minimal", ".csv, .tsv, .txt", "null"),
        ("rows.parquet", "encoding", "cp949", ".csv, .tsv, .txt, .jsonl, .json", "utf-8-sig"),
        ("rows.parquet", "encoding_errors", "ignore", ".csv, .tsv, .txt, .jsonl, .json", "strict"),
    ],
)
def test_keys_that_no_file_heeds_are_refused(
    name: str, key: str, value: str, kinds: str, remedy: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if path.suffix == ".parquet":
        table(ROWS).to_parquet(path)
    else:
        table(ROWS).to_json(path, orient="records", lines=True)
    assert refusal(path, **{key: value}) == (
        f"data.{key}={value!r} has no effect on data.path={name!r}: it is for {kinds}. Set"
        f" data.{key}={remedy}."
    )


def test_a_key_is_heeded_where_one_of_the_files_is_of_its_kind(tmp_path: Path) -> None:
    table(ROWS).to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    table(make_rows(20, seed=1)).to_csv(tmp_path / "test.csv", index=False, sep=";")
    cfg = config(
        tmp_path / "rows.jsonl", test_path=str(tmp_path / "test.csv"), separator=";", quoting="none"
    )
    assert len(load_splits(cfg).test) > 0


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    os.mkfifo(path)
    assert refusal(path) == (
        "data.path='rows.csv' is a pipe or a device, which can be read only once. Save what comes"
        " of it as a file, and name that."
    )


def test_an_address_is_no_file() -> None:
    with pytest.raises(ConfigError) as caught:
        load_splits(replace(config(None), path="https://example.com/rows.csv"))
    assert str(caught.value) == (
        "data.path='https://example.com/rows.csv' is an address, not a file. Download it, and name"
        " the file; what is on the Hugging Face hub is read by data=hub data.dataset=NAME."
    )


@pytest.mark.parametrize("column", ["text", "label"])
def test_a_column_that_is_there_twice_is_refused(column: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    table(ROWS, other=["x"] * len(ROWS)).rename(columns={"other": column}).to_csv(path, index=False)
    assert refusal(path) == (
        f"data.path='rows.csv' has several columns with the name {column!r}. Give each a name of"
        " its own."
    )


def test_other_columns_may_be_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    frame = table(ROWS, a=["x"] * len(ROWS), b=["y"] * len(ROWS))
    frame.rename(columns={"b": "a"}).to_csv(path, index=False)
    assert pairs(load_splits(config(path))) == sorted(ROWS)


def test_lines_of_json_that_are_lists_are_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS), "utf-8")
    assert refusal(path) == (
        "data.path='rows.jsonl' cannot be read as jsonl: every line has to hold one object, {...}."
        " Save the file anew."
    )


def test_a_wrong_separator_is_not_told_as_a_wrong_quote(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    table([(f"{text}, really", label) for text, label in ROWS]).to_csv(path, index=False)
    assert "The header is one single column: try 'data.separator=" in refusal(path, separator="\\t")
