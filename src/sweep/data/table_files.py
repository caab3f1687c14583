"""Labelled rows from a file, or from the `datasets` library, as one table of text.

Second in the flow, after `config`: every cell is kept as it is written, so that a label 01 stays
01. Nothing is dropped here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath

import pandas as pd

from sweep.base.files import check_sha256, find, reason_of
from sweep.config.schema import ConfigError, DataConfig
from sweep.data import cells, csv_files, json_files, parquet_files
from sweep.data.files import KINDS, DataFile, open_file


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
    from sweep.data import hub

    return _read_each(_wanted(cfg), cfg, hub.read)


def read_texts(path: str, cfg: DataConfig) -> list[str]:
    """Return the texts of one more file, which needs no labels, read as the others were.

    Raises:
        ConfigError: As `read`.
    """
    # Other files need other checks, and a table has to have a second column.
    alone = replace(
        cfg,
        path=path,
        sha256=None,
        dataset=None,
        label_column=cfg.text_column,
        label_pattern=None,
        split_column=None,
        validation_path=None,
        test_path=None,
    )
    frame, _, where = _read_file(path, "train", alone)
    return [str(text) for text in _pick_columns(frame, alone, where)["text"]]


def sources(cfg: DataConfig) -> dict[str, tuple[str, dict[str, str | None]]]:
    """Return type and fields of each split's source, as `mlflow.data` knows them.

    A split without a source of its own is made from that of train.
    """
    wanted = _wanted(cfg)
    split_sources = {split: source or wanted["train"] for split, source in wanted.items()}
    if cfg.dataset is None:
        return {split: ("local", {"uri": path}) for split, path in split_sources.items()}
    hub = {"path": cfg.dataset, "config_name": cfg.configuration, "revision": cfg.revision}
    return {
        split: ("hugging_face", {**hub, "split": name}) for split, name in split_sources.items()
    }


def _wanted(cfg: DataConfig) -> dict[str, str | None]:
    """Return the file or the split of a dataset that each split is to be read from."""
    if cfg.dataset is None:
        return {"train": cfg.path, "validation": cfg.validation_path, "test": cfg.test_path}
    return {
        "train": cfg.train_split,
        "validation": cfg.validation_split,
        "test": cfg.test_split,
    }


def shorten(values: Iterable[object], most: int = 5) -> str:
    """Quote the first values for an error message."""
    shown = [repr(str(value)) for value in values]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "") if shown else "none"


_NOT_WRITTEN = {
    "data.text_column": ("bytes", "objects"),
    "data.label_column": ("bytes", "objects", "lists"),
}
"""What a column may not hold as text; a text may well stand in brackets."""
_EFFECTS = {
    ("separator", "quoting"): csv_files.KINDS,
    ("encoding", "encoding_errors"): (*csv_files.KINDS, *json_files.KINDS),
}
"""Keys of `data` that have no effect on files of other kinds."""
Reader = Callable[[str, str, DataConfig], tuple[pd.DataFrame, list[str] | None, str]]
"""(source, split, cfg) -> all columns, declared classes, and the source as error messages say it"""


def _read_each(wanted: dict[str, str | None], cfg: DataConfig, reader: Reader) -> Table:
    """Read one table per split that has a source of its own, and put them under each other."""
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
    columns = _columns(cfg)
    missing = {k: v for k, v in columns.items() if v not in frame}
    if missing:
        hint = csv_files.separator_hint(str(frame.columns[0])) if len(frame.columns) == 1 else ""
        choose = f" Choose from them with {' '.join(f'{key}=COLUMN' for key in missing)}."
        raise ConfigError(
            f"{where} lacks {' and '.join(f'{k}={v!r}' for k, v in missing.items())}. Its columns"
            f" are: {shorten(frame.columns, 50)}.{hint or choose}"
        )
    twice = sorted({name for name in columns.values() if [*frame.columns].count(name) > 1})
    if twice:
        raise ConfigError(
            f"{where} has several columns with the name {shorten(twice)}. Give each a name of its"
            " own."
        )
    if frame.empty:
        raise ConfigError(f"{where} has a header but no rows.")
    texts = {
        key: cells.as_texts(
            frame[name], f"{key}={name!r} of {where}", several=key == "data.label_column"
        )
        for key, name in columns.items()
    }
    for key, names in _NOT_WRITTEN.items():
        if key == "data.text_column" or cfg.label_pattern is None:
            cells.check_written(texts[key], f"{key}={columns[key]!r} of {where}", names)
    named = {key.removeprefix("data.").removesuffix("_column"): t for key, t in texts.items()}
    return pd.DataFrame({"split": None, **named, "id": range(len(frame))})


def _columns(cfg: DataConfig) -> dict[str, str]:
    """Return the names of the columns that are needed, by the key that says them."""
    columns = {
        "data.text_column": cfg.text_column,
        "data.label_column": cfg.label_column,
        "data.split_column": cfg.split_column,
    }
    return {key: name for key, name in columns.items() if name is not None}


def _read_file(path: str, split: str, cfg: DataConfig) -> tuple[pd.DataFrame, None, str]:
    key = "data.path" if split == "train" else f"data.{split}_path"
    where = f"{key}={path!r}"
    location = find(path, key)
    file = open_file(location, where)
    _check_effect(file, cfg)
    if split == "train":
        check_sha256(location, cfg.sha256, "data.sha256")
    try:
        return _rows_of(file, cfg), None, where
    except UnicodeError as error:
        raise ConfigError(
            f"{where} is not in data.encoding={cfg.encoding!r} ({error}). Set it, for example to"
            " cp949 or euc-kr for Korean, latin-1 for Western European, or utf-16."
        ) from None
    # pandas' and pyarrow's errors are subclasses of these.
    except (ValueError, TypeError, OSError, NotImplementedError, MemoryError) as error:
        is_csv = file.kind in csv_files.KINDS
        advice = csv_files.advice(file, cfg) if is_csv else "Save the file anew."
        raise ConfigError(
            f"{where} cannot be read as {file.kind[1:]}: {reason_of(error)}. {advice}"
        ) from None


def _check_effect(file: DataFile, cfg: DataConfig) -> None:
    """Refuse keys that say how text or CSV is read, where no file is of that kind.

    Raises:
        ConfigError: A key would have no effect.
    """
    kinds = {file.kind} | {kind for path in _wanted(cfg).values() if path for kind in _kinds(path)}
    usual = DataConfig()
    errors = [
        f"data.{name}={getattr(cfg, name)!r} has no effect on {file.where}: it is for"
        f" {', '.join(of_kinds)}. Set data.{name}={getattr(usual, name) or 'null'}."
        for names, of_kinds in _EFFECTS.items()
        for name in names
        if getattr(cfg, name) != getattr(usual, name) and kinds.isdisjoint(of_kinds)
    ]
    if errors:
        raise ConfigError(*errors)


def _kinds(path: str) -> set[str]:
    """Return the kinds that a file may be, by its name."""
    suffixes = {suffix.lower() for suffix in PurePath(path).suffixes}
    return suffixes & set(KINDS)


def _rows_of(file: DataFile, cfg: DataConfig) -> pd.DataFrame:
    columns = [*_columns(cfg).values()]
    if file.kind == ".parquet":
        return parquet_files.read(file, columns)
    if file.kind in csv_files.KINDS:
        return csv_files.read(file, cfg, columns)
    return json_files.read(file, cfg)
