"""JSON lines, or one JSON array of objects -> a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd

from sweep.config.schema import DataConfig
from sweep.data.files import DataFile

KINDS = (".jsonl", ".json")


def read(file: DataFile, cfg: DataConfig) -> pd.DataFrame:
    """Return the rows of a file with all their columns.

    Raises:
        ValueError: It is no JSON, or holds something else than objects.
    """
    with file.text(cfg) as stream:
        text = stream.read()
    try:
        return pd.DataFrame(_parse(text, is_lines=file.kind == ".jsonl"), dtype=object)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def _parse(text: str, is_lines: bool) -> list[dict[str, Any]]:
    records = None
    if text.lstrip().startswith("["):
        try:
            records = json.loads(text)
        except ValueError:
            if not is_lines:
                raise
    if records is None:
        records = list(_lines(text))
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("every line has to hold one object, {...}")
    return list(records)


def _lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if line.strip():
                yield json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
