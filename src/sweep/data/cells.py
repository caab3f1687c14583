"""Cells of a table -> texts; what is neither text nor number is refused."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from sweep.config.schema import ConfigError

_NUMBERS = (bool, int, float, Decimal, np.number, np.bool_)
_SHOWN = reprlib.Repr()  # cuts what is long, and escapes what cannot be seen


_WRITTEN = {
    "bytes": re.compile(r"b'.*'|b\".*\"", re.DOTALL),
    "objects": re.compile(r"\{'.*\}", re.DOTALL),
    "lists": re.compile(r"\[\s*(['\"].*['\"]|\d+(,? *\d+)*)?\s*\]", re.DOTALL),
}
"""What Python makes of values that are no text, when they are saved as text all the same."""


class _NoTextError(Exception):
    """A cell holds something that is not text; the message says what."""


def as_texts(column: pd.Series, where: str, several: bool = False) -> pd.Series:
    """Return every cell as str, empty where there is nothing; lone surrogates become `?`.

    Args:
        column: Of any type.
        where: The column, as error messages say it.
        several: Whether lists are told as several labels, and lists of one label are taken.

    Raises:
        ConfigError: A cell holds a list, an object, or bytes that are not UTF-8.
    """
    values: Any = column.array if column.dtype != "str" else column.array.to_numpy(object)
    if several:
        values = _unwrap(values)
    texts: list[str] = []
    try:
        # Nearly all are str, and asking pandas of each costs seconds.
        for value in values:
            text = value if isinstance(value, str) else _as_text(value)
            texts.append(text.encode("utf-8", "replace").decode())
    except _NoTextError as error:
        raise ConfigError(
            f"{where} holds {error} in row {len(texts)}, counted from 0:"
            f" {_SHOWN.repr(_plain(values[len(texts)]))}. It has to hold text or numbers."
            f" {_advice(values[len(texts)], several)}"
        ) from None
    return pd.Series(texts, column.index, dtype=object)


def check_written(texts: pd.Series, where: str, names: Sequence[str]) -> None:
    """Refuse a column whose every cell is a value of these names as Python prints it.

    Raises:
        ConfigError: With the first one.
    """
    filled = texts[texts != ""]
    for name in names if len(filled) else ():
        if all(_WRITTEN[name].fullmatch(text) for text in filled):
            several = " Several labels per text are not supported yet." * (name == "lists")
            raise ConfigError(
                f"{where} holds {name} as Python prints them, the first one is"
                f" {_SHOWN.repr(filled.iloc[0])}.{several} Save what is meant as text; a single"
                " label is taken out by data.label_pattern too."
            )


def _as_text(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise _NoTextError("bytes that are not UTF-8") from None
    if isinstance(value, (list, dict)):
        raise _NoTextError("a list" if isinstance(value, list) else "an object")
    if value is None or pd.isna(value):
        return ""
    if not isinstance(value, _NUMBERS):
        raise _NoTextError(f"a value of type {type(value).__name__}")
    return str(value)


def _plain(value: Any) -> Any:
    """Return containers and bytes of any library as Python's own."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return list(value) if isinstance(value, (tuple, set)) else value


def _unwrap(values: Sequence[Any]) -> Sequence[Any]:
    """Take single labels out of their lists, if no list holds more than one."""
    if not any(isinstance(value, (list, tuple, np.ndarray)) for value in values):
        return values
    cells = [_plain(value) for value in values]
    if any(isinstance(cell, list) and len(cell) > 1 for cell in cells):
        return cells
    return [(cell[0] if cell else None) if isinstance(cell, list) else cell for cell in cells]


def _advice(value: Any, several: bool) -> str:
    value = _plain(value)
    if isinstance(value, list) and several:
        return "Several labels per text are not supported yet: write one label per row."
    if isinstance(value, (list, dict)):
        return "Write the part that is meant to a column of its own."
    return "Write it as text, or choose another column."
