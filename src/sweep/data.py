"""Labelled texts: configuration -> cleaned table -> three splits -> token ids.

The only importer of pandas' readers and of `datasets`. What was dropped or cut is counted and
told in `Splits.notes`, never silently.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sweep.config import ConfigError, DataConfig, Size

NAMES = ("train", "validation", "test")
MAX_LABELS = 1000
"""More distinct labels than this are taken for an id or a number, not for classes."""


@dataclass(frozen=True)
class Split:
    """Texts with their class index and the row they came from."""

    texts: list[str]
    labels: np.ndarray  # (rows,), int64 index into Splits.label_names
    ids: np.ndarray  # (rows,), zero-based row of the file

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Splits:
    """The data of a run, before tokenisation."""

    train: Split
    validation: Split
    test: Split
    label_names: list[str]
    notes: list[str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of every text and label in order: what the result depends on, not the path."""
        digest = hashlib.sha256("\x1f".join(self.label_names).encode())
        for name in NAMES:
            split = getattr(self, name)
            digest.update(f"\x1e{name}\x1e".encode())
            digest.update("\x1f".join(split.texts).encode("utf-8", "surrogatepass"))
            digest.update(split.labels.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Encoded:
    """Token ids of a split, one dict per text as the Trainer takes them."""

    examples: list[dict[str, Any]]
    order: np.ndarray  # (rows,), row of the split that each example is
    truncated: int
    """How many texts were longer than `max_length`."""

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.examples[index]


def load_splits(cfg: DataConfig) -> Splits:
    """Read, clean and split.

    Raises:
        ConfigError: Anything the user has to mend in the file or in `data.*`.
    """
    frame = _read_hub(cfg) if cfg.dataset else _read_files(cfg)
    frame, cleaning = _clean(frame, cfg)
    label_names = _label_names(frame["label"], cfg)
    frame["label"] = frame["label"].map({name: i for i, name in enumerate(label_names)})
    parts = _given_splits(frame, cfg) if frame["split"].notna().any() else _split(frame, cfg)
    _check_classes(parts, label_names)
    if cfg.deduplicate:
        parts, leaked = _drop_leaks(parts)
        cleaning["text also in a held-out split"] = leaked
    parts["train"] = _subset(parts["train"], cfg.train_size, len(frame), cfg, "data.train_size")
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts.items())
    dropped = ", ".join(f"{n:,} {why}" for why, n in cleaning.items() if n) or "none"
    notes = [f"{cfg.name}: {sizes} texts in {len(label_names)} classes; dropped: {dropped}"]
    return Splits(
        **{name: _to_split(part) for name, part in parts.items()},
        label_names=label_names,
        notes=notes,
    )


def encode(split: Split, tokenizer: Any, cfg: DataConfig, by_length: bool) -> Encoded:
    """Tokenise a split once; padding is left to the batches.

    Args:
        split: The texts.
        tokenizer: Of the model.
        cfg: Its `max_length`.
        by_length: Put long texts first, so that batches read in order hold texts of one length
            and one that does not fit into memory shows at once.
    """
    if not len(split):
        return Encoded([], np.zeros(0, np.int64), 0)
    encoded = tokenizer(split.texts)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    long = [i for i, length in enumerate(lengths) if length > cfg.max_length]
    if long:
        cut = tokenizer([split.texts[i] for i in long], truncation=True, max_length=cfg.max_length)
        for key, values in cut.items():
            for i, value in zip(long, values, strict=True):
                encoded[key][i] = value
    columns = {**encoded, "labels": split.labels.tolist()}
    rows = list(zip(*columns.values(), strict=True))
    order = np.argsort(lengths, kind="stable")[::-1] if by_length else np.arange(len(rows))
    examples = [dict(zip(columns, rows[i], strict=True)) for i in order]
    return Encoded(examples, order, len(long))


def find(path: str, extra: str = "demo") -> Path:
    """Resolve a path; `pkg://package/file` is looked up without importing the package."""
    if not path.startswith("pkg://"):
        return Path(path).expanduser()
    package, _, rest = path.removeprefix("pkg://").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"{path!r} needs the Python package {package!r}, which is not installed."
            f" Run: pip install 'sweep[{extra}]'."
        )
    return Path(spec.submodule_search_locations[0]) / rest


def check_sha256(path: Path, expected: str | None, key: str) -> None:
    """Raise when a file is not the one that was promised."""
    if expected is None:
        return
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise ConfigError(
            f"{path} has the SHA-256 {actual}, but {key}={expected}. Restore the file, or set"
            f" {key}=null to use it as it is."
        )


def _read_files(cfg: DataConfig) -> pd.DataFrame:
    """All rows of all files with columns text, label, split, id; `split` is missing if open."""
    paths = {"train": cfg.path, "validation": cfg.validation_path, "test": cfg.test_path}
    frames = []
    for name, path in paths.items():
        if path is None:
            continue
        key = "data.path" if name == "train" else f"data.{name}_path"
        file = _existing_file(path, key)
        if name == "train":
            check_sha256(file, cfg.sha256, "data.sha256")
        frame = _pick_columns(_read_table(file, key, cfg), cfg, f"{key}={path!r}")
        if cfg.validation_path or cfg.test_path:
            frame["split"] = name
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _existing_file(path: str, key: str) -> Path:
    file = find(path)
    if file.is_dir():
        raise ConfigError(f"{key}={path!r} is a folder. Name one file.")
    if not file.exists():
        raise ConfigError(f"{key}={path!r} does not exist (looked in {file.absolute().parent}).")
    if file.stat().st_size == 0:
        raise ConfigError(f"{key}={path!r} is empty.")
    return file


def _read_table(file: Path, key: str, cfg: DataConfig) -> pd.DataFrame:
    """Read by suffix, every cell as text so that labels stay as they are written."""
    suffix = file.suffix.lower()
    if suffix not in (".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet"):
        raise ConfigError(
            f"{key}={str(file)!r} has the suffix {suffix!r}."
            " Known are .csv, .tsv, .txt, .jsonl, .json (one object a line) and .parquet."
        )
    try:
        if suffix == ".parquet":
            return _as_text(pd.read_parquet(file))
        if suffix in (".jsonl", ".json"):
            with file.open(encoding=cfg.encoding, errors=cfg.encoding_errors) as stream:
                return _as_text(pd.read_json(stream, lines=True, dtype=False, convert_dates=False))
        return pd.read_csv(
            file,
            sep=cfg.separator or ("," if suffix == ".csv" else "\t"),
            encoding=cfg.encoding,
            encoding_errors=cfg.encoding_errors,
            dtype=str,
            keep_default_na=False,
        )
    except LookupError:
        raise ConfigError(
            f"data.encoding={cfg.encoding!r} is no encoding Python knows."
            " Common ones: utf-8, cp949, euc-kr, latin-1, utf-16."
        ) from None
    except UnicodeError as error:
        raise ConfigError(
            f"{key}={str(file)!r} is not {cfg.encoding} ({error}). Set data.encoding, for example"
            " cp949 or euc-kr for Korean, latin-1 for Western European, or utf-16."
        ) from None
    except (ValueError, OSError) as error:  # pandas' ParserError and pyarrow's errors are these
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"{key}={str(file)!r} cannot be read as {suffix[1:]}: {reason}."
            " Check data.separator, or save the file anew."
        ) from None


def _as_text(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.map(lambda value: "" if pd.isna(value) else str(value))


def _pick_columns(frame: pd.DataFrame, cfg: DataConfig, source: str) -> pd.DataFrame:
    wanted = {
        "data.text_column": cfg.text_column,
        "data.label_column": cfg.label_column,
        "data.split_column": cfg.split_column,
    }
    missing = [f"{k}={v!r}" for k, v in wanted.items() if v is not None and v not in frame]
    if missing:
        columns = ", ".join(repr(str(column)) for column in frame.columns)
        raise ConfigError(
            f"{source} lacks {' and '.join(missing)}. Its columns are: {columns}."
            + _separator_hint(frame)
        )
    if frame.empty:
        raise ConfigError(f"{source} has a header but no rows.")
    return pd.DataFrame(
        {
            "text": frame[cfg.text_column],
            "label": frame[cfg.label_column],
            "split": frame[cfg.split_column] if cfg.split_column else None,
            "id": np.arange(len(frame)),
        }
    )


def _separator_hint(frame: pd.DataFrame) -> str:
    if len(frame.columns) > 1:
        return ""
    found = [s for s in (";", "\t", ",", "|") if s in str(frame.columns[0])]
    return f" It is one single column: is data.separator={found[0]!r} right?" if found else ""


def _read_hub(cfg: DataConfig) -> pd.DataFrame:
    """Rows of a dataset of the hub or of a local folder, read with the `datasets` library."""
    import datasets

    splits = {
        "train": cfg.train_split,
        "validation": cfg.validation_split,
        "test": cfg.test_split,
    }
    own = cfg.validation_split or cfg.test_split
    frames = []
    for name, split in splits.items():
        if split is None:
            continue
        try:
            loaded = datasets.load_dataset(
                cfg.dataset, cfg.configuration, revision=cfg.revision, split=split
            )
        except Exception as error:  # the library raises a dozen unrelated types here
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error)
            raise ConfigError(
                f"data.dataset={cfg.dataset!r} (split {split!r}) cannot be loaded: {reason}."
                " Check the name, data.configuration and data.revision. Without a network, use"
                " data=csv, or load the dataset once while online and set HF_HUB_OFFLINE=1."
            ) from None
        frame = _pick_columns(_named_labels(loaded, cfg), cfg, f"data.dataset={cfg.dataset!r}")
        if own:
            frame["split"] = name
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _named_labels(loaded: Any, cfg: DataConfig) -> pd.DataFrame:
    """Class indices become the names that the dataset declares."""
    frame = loaded.to_pandas()
    names = getattr(loaded.features.get(cfg.label_column), "names", None)
    if names:
        frame[cfg.label_column] = frame[cfg.label_column].map(
            lambda i: names[int(i)] if pd.notna(i) and int(i) >= 0 else ""
        )
    return _as_text(frame)


def _clean(frame: pd.DataFrame, cfg: DataConfig) -> tuple[pd.DataFrame, Counter[str]]:
    """Drop rows that cannot be learnt from, counted by reason."""
    dropped: Counter[str] = Counter()

    def keep(mask: pd.Series, reason: str) -> None:
        nonlocal frame
        dropped[reason] = int((~mask).sum())
        frame = frame[mask].copy()

    frame["label"] = frame["label"].str.strip()
    keep(frame["text"].str.strip() != "", "with empty text")
    if frame.empty:
        raise ConfigError(f"data.text_column={cfg.text_column!r} is empty in every row.")
    keep(frame["label"] != "", "without label")
    if frame.empty:
        raise ConfigError(f"data.label_column={cfg.label_column!r} is empty in every row.")
    if cfg.label_pattern:
        frame["label"] = _extract_labels(frame["label"], cfg)
    if cfg.deduplicate:
        labels = frame.groupby("text")["label"].transform("nunique")
        keep(labels == 1, "with a text that carries two labels")
        # Within one split only: the same text in two splits is settled by _drop_leaks.
        keep(~frame.duplicated(["text", "split"]), "repeated")
    return frame, dropped


def _extract_labels(raw: pd.Series, cfg: DataConfig) -> pd.Series:
    labels = raw.str.extract(f"^(?:{cfg.label_pattern})$", expand=True)[0]
    bad = sorted(raw[labels.isna()].unique())
    if bad:
        raise ConfigError(
            f"data.label_pattern={cfg.label_pattern!r} does not match the labels"
            f" {_shorten(bad)} of column {cfg.label_column!r}."
        )
    return labels


def _label_names(labels: pd.Series, cfg: DataConfig) -> list[str]:
    found = sorted(labels.unique(), key=_natural)
    source = f"data.label_column={cfg.label_column!r}"
    if any(re.fullmatch(r"[-+]?\d*\.\d*[1-9]\d*", name) for name in found):
        raise ConfigError(
            f"{source} holds decimal numbers ({_shorten(found)}), not classes."
            " Choose another column; regression is not supported."
        )
    if len(found) > MAX_LABELS or (len(labels) >= 20 and len(found) > len(labels) / 2):
        raise ConfigError(
            f"{source} has {len(found):,} distinct values in {len(labels):,} rows"
            f" ({_shorten(found)}). That is no class label; choose another column."
        )
    if len(found) == 1:
        raise ConfigError(f"{source} holds one class only, {found[0]!r}. At least two are needed.")
    if cfg.label_names is None:
        return found
    unknown = sorted(set(found) - set(cfg.label_names))
    unused = [name for name in cfg.label_names if name not in found]
    if unknown or unused:
        raise ConfigError(
            f"data.label_names={cfg.label_names} does not fit {source}:"
            f" in the data only: {_shorten(unknown)}; in label_names only: {_shorten(unused)}."
        )
    return list(cfg.label_names)


def _natural(name: str) -> tuple[Any, ...]:
    """Sort key that puts 2 before 10."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _shorten(values: Iterable[Any], most: int = 5) -> str:
    shown = [repr(str(value)) for value in values]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "") if shown else "none"


def _given_splits(frame: pd.DataFrame, cfg: DataConfig) -> dict[str, pd.DataFrame]:
    """Splits that the data itself declares; validation is cut from train when there is none."""
    aliases = {"dev": "validation", "valid": "validation", "val": "validation"}
    names = frame["split"].str.strip().str.lower().replace(aliases)
    unknown = sorted(set(names.unique()) - set(NAMES))
    if unknown:
        raise ConfigError(
            f"data.split_column={cfg.split_column!r} holds {_shorten(unknown)}."
            " Known are train, validation (dev, valid, val) and test."
        )
    parts = {name: frame[names == name] for name in NAMES}
    if parts["train"].empty:
        raise ConfigError("No row belongs to the train split. Check data.split_column.")
    rest, key = parts["train"], "data.validation_size"
    if parts["validation"].empty:
        parts["validation"], rest = _take(rest, cfg.validation_size, len(rest), cfg, key)
    if parts["test"].empty and cfg.test_size:
        parts["test"], rest = _take(rest, cfg.test_size, len(rest), cfg, "data.test_size")
    return {**parts, "train": rest}


def _split(frame: pd.DataFrame, cfg: DataConfig) -> dict[str, pd.DataFrame]:
    """Test first, then validation, so that another train_size leaves both as they are."""
    if cfg.split_method == "random_split":
        return _random_split(frame, cfg)
    total = len(frame)
    test, rest = _take(frame, cfg.test_size, total, cfg, "data.test_size")
    validation, rest = _take(rest, cfg.validation_size, total, cfg, "data.validation_size")
    return {"train": rest, "validation": validation, "test": test}


def _random_split(frame: pd.DataFrame, cfg: DataConfig) -> dict[str, pd.DataFrame]:
    """`torch.utils.data.random_split(rows, [v, 1 - v])` with its own generator, as notebooks do."""
    import torch

    share = float(cfg.validation_size or 0)
    share = share if share < 1 else share / len(frame)
    generator = torch.Generator().manual_seed(cfg.split_seed)
    rows: Any = range(len(frame))
    parts = torch.utils.data.random_split(rows, [share, 1 - share], generator)
    validation, train = (frame.iloc[list(part.indices)] for part in parts)
    return {"train": train, "validation": validation, "test": frame.iloc[:0]}


def _take(
    frame: pd.DataFrame, size: Size, total: int, cfg: DataConfig, key: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut a stratified sample off; returns (sample, rest) in row order."""
    from sklearn.model_selection import train_test_split

    rows = _rows(size, total)
    if rows == 0:
        return frame.iloc[:0], frame
    classes = frame["label"].nunique()
    if rows >= len(frame) or rows < classes or len(frame) - rows < classes:
        raise ConfigError(
            f"{key}={size} takes {rows:,} of {len(frame):,} rows. It has to leave at least one row"
            f" for each of the {classes} classes on both sides."
        )
    rare = frame["label"].value_counts()
    if rare.min() < 2:
        # _check_classes names the class; here the split only has to survive.
        return frame.iloc[:rows], frame.iloc[rows:]
    picked, rest = train_test_split(
        np.arange(len(frame)), train_size=rows, random_state=cfg.split_seed, stratify=frame["label"]
    )
    return frame.iloc[np.sort(picked)], frame.iloc[np.sort(rest)]


def _subset(train: pd.DataFrame, size: Size, total: int, cfg: DataConfig, key: str) -> pd.DataFrame:
    rows = len(train) if size is None else _rows(size, total)
    if rows > len(train):
        raise ConfigError(
            f"{key}={size} asks for {rows:,} rows, but {len(train):,} are left for training."
            f" Lower it, or set {key}=null for all of them."
        )
    return train if rows == len(train) else _take(train, rows, total, cfg, key)[0]


def _rows(size: Size, total: int) -> int:
    if size is None:
        return 0
    return round(size * total) if size < 1 else int(size)


def _check_classes(parts: dict[str, pd.DataFrame], label_names: Sequence[str]) -> None:
    """Every class has to occur in train, or nothing can learn it."""
    counts = {
        name: np.bincount(p["label"], minlength=len(label_names)) for name, p in parts.items()
    }
    total = sum(counts.values(), np.zeros(len(label_names), np.int64))
    splits = sum(1 for part in parts.values() if len(part))
    rare = [f"{label_names[i]!r} ({n})" for i, n in enumerate(total) if n < splits]
    if rare:
        raise ConfigError(
            f"These classes have fewer rows than there are splits ({splits}):"
            f" {', '.join(rare)}. Remove those rows, or merge the class into another."
        )
    absent = [name for i, name in enumerate(label_names) if not counts["train"][i]]
    if absent:
        raise ConfigError(f"The train split has no row of: {_shorten(absent)}.")


def _drop_leaks(parts: dict[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], int]:
    """Take texts of a held-out split out of the splits before it; test stays whole."""
    seen: set[str] = set()
    kept, leaked = {}, 0
    for name in reversed(NAMES):
        mask = ~parts[name]["text"].isin(seen)
        leaked += int((~mask).sum())
        kept[name] = parts[name][mask]
        seen |= set(parts[name]["text"])
    return {name: kept[name] for name in NAMES}, leaked


def _to_split(frame: pd.DataFrame) -> Split:
    return Split(
        frame["text"].tolist(), frame["label"].to_numpy(np.int64), frame["id"].to_numpy(np.int64)
    )
