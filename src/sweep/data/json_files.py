"""JSON lines, or one JSON array of objects -> a table."""

from __future__ import annotations

import json
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
        return pd.DataFrame(_parse(text), dtype=object)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def _parse(text: str) -> list[dict[str, Any]]:
    if text.lstrip().startswith("["):
        records = json.loads(text)
    else:
        records = []
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                records += [json.loads(line)] if line.strip() else []
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("every line has to hold one object, {...}")
    return list(records)
