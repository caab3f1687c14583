"""Labelled rows from a file, or from the `datasets` library, as one table of text.

Second in the flow, after `config`: every cell is kept as it is written, so that a label 01 stays
01. Nothing is dropped here.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd

from sweep.base.files import check_sha256, find, reason_of
from sweep.config.schema import ConfigError, DataConfig

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class Table:
    """All rows of all files of a data set."""

    rows: pd.DataFrame
    """Columns text, label, split (None where it is still open) and id (row of its file)."""
    label_names: list[str] | None = None
    """Classes in the order that the data set itself declares."""


def read(cfg: DataConfig) -> Table:
    """Read what `cfg` names.

    Raises:
        ConfigError: With the mistakes of all files.
    """
    if cfg.dataset is None:
        return _read_each(_wanted(cfg), cfg, _read_file)
    import datasets

    datasets.disable_progress_bars()
    return _read_each(_wanted(cfg), cfg, _read_hub)


def sources(cfg: DataConfig) -> dict[str, tuple[str, dict[str, str | None]]]:
    """Per split, the type and the fields of its source as `mlflow.data` knows them.

    A split without a source of its own is made from that of train.
    """
    wanted = _wanted(cfg)
    own = {split: source or wanted["train"] for split, source in wanted.items()}
    if cfg.dataset is None:
        return {split: ("local", {"uri": path}) for split, path in own.items()}
    hub = {"path": cfg.dataset, "config_name": cfg.configuration, "revision": cfg.revision}
    return {split: ("hugging_face", {**hub, "split": name}) for split, name in own.items()}


def _wanted(cfg: DataConfig) -> dict[str, str | None]:
    """Per split, the file or the split of a dataset that it is to be read from."""
    if cfg.dataset is None:
        return {"train": cfg.path, "validation": cfg.validation_path, "test": cfg.test_path}
    return {
        "train": cfg.train_split,
        "validation": cfg.validation_split,
        "test": cfg.test_split,
    }


def shorten(values: Iterable[object], most: int = 5) -> str:
    """The first values, quoted, for an error message."""
    shown = [repr(str(value)) for value in values]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "") if shown else "none"


Reader = Callable[[str, str, DataConfig], tuple[pd.DataFrame, list[str] | None, str]]
"""(source, split, cfg) -> all columns, declared classes, and the source as error messages say it"""


def _read_each(wanted: dict[str, str | None], cfg: DataConfig, reader: Reader) -> Table:
    """One table per split that has a source of its own, under each other."""
    sources = {split: source for split, source in wanted.items() if source is not None}
    tables: list[pd.DataFrame] = []
    errors: list[str] = []
    label_names = None
    for split, source in sources.items():
        try:
            frame, names, where = reader(source, split, cfg)
            rows = _pick_columns(frame, cfg, where)
        except ConfigError as error:
            errors += error.messages
            continue
        label_names = label_names or names
        tables.append(rows.assign(split=split) if len(sources) > 1 else rows)
    if errors:
        raise ConfigError(*errors)
    return Table(pd.concat(tables, ignore_index=True), label_names)


def _pick_columns(frame: pd.DataFrame, cfg: DataConfig, where: str) -> pd.DataFrame:
    columns = {
        "data.text_column": cfg.text_column,
        "data.label_column": cfg.label_column,
        "data.split_column": cfg.split_column,
    }
    missing = {k: v for k, v in columns.items() if v is not None and v not in frame}
    if missing:
        hint = _separator_hint(str(frame.columns[0])) if len(frame.columns) == 1 else ""
        choose = f" Choose from them with {' '.join(f'{key}=COLUMN' for key in missing)}."
        raise ConfigError(
            f"{where} lacks {' and '.join(f'{k}={v!r}' for k, v in missing.items())}. Its columns"
            f" are: {shorten(frame.columns, 50)}.{hint or choose}"
        )
    if frame.empty:
        raise ConfigError(f"{where} has a header but no rows.")
    rows = {
        "text": _as_text(frame[cfg.text_column]),
        "label": _as_text(frame[cfg.label_column]),
        "split": _as_text(frame[cfg.split_column]) if cfg.split_column else None,
        "id": range(len(frame)),
    }
    return pd.DataFrame(rows)


def _separator_hint(header: str, used: str = "") -> str:
    """Name another separator when the header does not have the one that was used."""
    found = [s for s in (";", "\t", ",", "|") if s in header and (not used or used not in header)]
    return f" The header is one single column: try data.separator={found[0]!r}." if found else ""


def _as_text(column: pd.Series) -> pd.Series:
    """Every cell as str, empty where there is nothing; lone surrogates become `?`."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):  # nearly all are, and asking pandas costs seconds
            nothing = value is None or (pd.api.types.is_scalar(value) and pd.isna(value))
            value = "" if nothing else str(value)
        return cast(str, value).encode("utf-8", "replace").decode()

    values = column.array if column.dtype != "str" else column.array.to_numpy(object)
    return pd.Series([convert(value) for value in values], column.index, dtype=object)


def _read_file(path: str, split: str, cfg: DataConfig) -> tuple[pd.DataFrame, None, str]:
    key = "data.path" if split == "train" else f"data.{split}_path"
    where = f"{key}={path!r}"
    file = _existing_file(path, key)
    if split == "train":
        check_sha256(file, cfg.sha256, "data.sha256")
    suffix = file.suffix.lower()
    try:
        if suffix == ".parquet":
            # The nullable types keep integers beside an empty cell integers.
            return pd.read_parquet(file, dtype_backend="numpy_nullable"), None, where
        if suffix in (".jsonl", ".json"):
            text = file.read_text(cfg.encoding, cfg.encoding_errors)
            return pd.DataFrame(_parse_json(text), dtype=object), None, where
        return _read_csv(file, cfg), None, where
    except UnicodeError as error:
        raise ConfigError(
            f"{where} is not in data.encoding={cfg.encoding!r} ({error}). Set it, for example to"
            " cp949 or euc-kr for Korean, latin-1 for Western European, or utf-16."
        ) from None
    # pandas' and pyarrow's errors are subclasses of these.
    except (ValueError, TypeError, OSError, NotImplementedError) as error:
        raise ConfigError(
            f"{where} cannot be read as {suffix[1:]}: {reason_of(error)}. {_advice(file, cfg)}"
        ) from None


def _advice(file: Path, cfg: DataConfig) -> str:
    """What to do about a file that cannot be read."""
    if file.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return "Save the file anew."
    with file.open(encoding=cfg.encoding, errors="replace") as stream:
        hint = _separator_hint(next(stream, ""), _separator(file, cfg))
    return f"Check data.separator and the quotes, or save the file anew.{hint}"


def _existing_file(path: str, key: str) -> Path:
    file, where = find(path, key), f"{key}={path!r}"
    if os.path.isdir(file):
        raise ConfigError(f"{where} is a folder. Name one file.")
    if file.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"{where} has the suffix {file.suffix!r}. Known are {', '.join(SUFFIXES)};"
            " rename the file, or convert it."
        )
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        raise ConfigError(
            f"{where} does not exist (looked for {file.absolute()}). Correct the path."
        ) from None
    except OSError as error:
        raise ConfigError(f"{where} cannot be opened: {error.strerror}.") from None
    if size == 0:
        raise ConfigError(f"{where} is empty. Name a file with a header and rows.")
    return file


def _read_csv(file: Path, cfg: DataConfig) -> pd.DataFrame:
    with warnings.catch_warnings():
        # Rows longer than the header: pandas would cut them and only warn.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(
                file,
                sep=_separator(file, cfg),
                encoding=cfg.encoding,
                encoding_errors=cfg.encoding_errors,
                dtype=str,
                keep_default_na=False,
                index_col=False,  # or the first column becomes an index when rows are longer
            )
        except pd.errors.ParserWarning:
            raise ValueError("its rows have more cells than its header") from None


def _separator(file: Path, cfg: DataConfig) -> str:
    default = "," if file.suffix.lower() == ".csv" else "\t"
    return {None: default, r"\t": "\t"}.get(cfg.separator, cfg.separator or default)


def _parse_json(text: str) -> list[dict[str, Any]]:
    """Objects of JSON lines, or of one JSON array."""
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


def _read_hub(split: str, name: str, cfg: DataConfig) -> tuple[pd.DataFrame, list[str] | None, str]:
    """One split of a data set of the hub or of a local folder."""
    import datasets

    where = f"data.dataset={cfg.dataset!r} (split {split!r})"
    try:
        loaded = datasets.load_dataset(
            cfg.dataset, cfg.configuration, revision=cfg.revision, split=split
        )
    except Exception as error:  # the library raises a dozen unrelated types here
        raise ConfigError(
            f"{where} cannot be loaded: {reason_of(error)}."
            " Check the name, data.configuration and data.revision. Without a network, use"
            " data=csv, or load the dataset once while online and set HF_HUB_OFFLINE=1."
        ) from None
    frame = loaded.to_pandas()
    names = getattr(loaded.features.get(cfg.label_column), "names", None)
    if names:  # class indices become the names that the data set declares; -1 is no label
        frame[cfg.label_column] = frame[cfg.label_column].map(
            lambda i: names[int(i)] if pd.notna(i) and int(i) >= 0 else ""
        )
    return frame, names, where
