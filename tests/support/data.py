"""Small tables as files, and what becomes of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from support.config import compose
from sweep.config.schema import ConfigError, DataConfig
from sweep.data.splits import NAMES, Splits, load_splits


def config(path: Path | None, **values: Any) -> DataConfig:
    """data=csv on a file."""
    return dataclasses.replace(
        compose("data=csv", "data.path=unset", "freeze=none").data,
        path=str(path) if path else None,
        **values,
    )


def table(rows: list[tuple[str, str]], **columns: list[str]) -> pd.DataFrame:
    """Rows as a table with the columns text and label."""
    return pd.DataFrame(rows, columns=["text", "label"]).assign(**columns)


def save(folder: Path, frame: pd.DataFrame, name: str = "rows.csv") -> Path:
    """Write a table as CSV."""
    frame.to_csv(folder / name, index=False)
    return folder / name


def pairs(splits: Splits) -> list[tuple[str, str]]:
    """All (text, label) of all splits, sorted."""
    parts = [getattr(splits, name) for name in NAMES]
    return sorted(
        (text, splits.label_names[label])
        for part in parts
        for text, label in zip(part.texts, part.labels, strict=True)
    )


def refusal(path: Path, **values: Any) -> str:
    """What is said of a file that cannot be used, without its folder."""
    with pytest.raises(ConfigError) as caught:
        load_splits(config(path, **values))
    return str(caught.value).replace(f"{path.parent}/", "")
