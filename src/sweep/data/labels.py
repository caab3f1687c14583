"""Labels as they are written -> classes: which spellings are one, and in which order they come.

Spellings that look the same are the same class. Those that differ in case or width may not be
("US" and "us"), so somebody has to say.
"""

from __future__ import annotations

import re
from collections import Counter

import pandas as pd

from sweep.base.characters import cleaned, folded, spelling
from sweep.config.schema import ConfigError, DataConfig
from sweep.data.table_files import shorten

MAX_LABELS = 1000
"""More distinct labels than this are taken for an id or a number, not for classes."""


def unify(labels: pd.Series) -> pd.Series:
    """Return each label in the commonest of the spellings that look like it."""
    counts = Counter(labels)
    names = {label: cleaned(label) for label in counts}
    spellings: dict[str, Counter[str]] = {}
    for label, count in counts.items():
        spellings.setdefault(spelling(label), Counter())[names[label]] += count
    commonest = {key: names.most_common(1)[0][0] for key, names in spellings.items()}
    return labels.map({label: commonest[spelling(label)] for label in counts})


def extract(raw: pd.Series, cfg: DataConfig) -> pd.Series:
    """Return what `data.label_pattern` finds in each label."""
    labels = raw.str.extract(f"^(?:{cfg.label_pattern})$", expand=True)[0]
    bad = sorted(raw[labels.isna()].unique())
    if bad:
        raise ConfigError(
            f"data.label_pattern={cfg.label_pattern!r} does not match the labels"
            f" {shorten(bad)} of data.label_column={cfg.label_column!r}."
            " Correct the pattern, or choose another column."
        )
    return labels


def classes(
    labels: pd.Series, cfg: DataConfig, declared: list[str] | None
) -> tuple[list[str], dict[str, str]]:
    """Find the classes: ordered by `data.label_names`, else as the data set declares, else sorted.

    Returns:
        Their names, and which of them each label is.
    """
    present = sorted(labels.unique(), key=_natural)
    source = f"data.label_column={cfg.label_column!r}"
    if len(present) < 2:
        raise ConfigError(
            f"{source} holds one class only, {shorten(present)}. At least two are needed;"
            " choose another column."
        )
    if cfg.label_names is not None:
        return list(cfg.label_names), _as_listed(cfg.label_names, present, source)
    _check_numbers(present, source)
    if len(present) > MAX_LABELS or (len(labels) >= 20 and len(present) > len(labels) / 2):
        raise ConfigError(
            f"{source} has {len(present):,} distinct values in {len(labels):,} rows"
            f" ({shorten(present)}). That is no class label; choose another column."
        )
    _check_alike(labels, source)
    names = [cleaned(name) for name in declared or []]
    if not set(present) <= set(names):
        names = present
    return [name for name in names if name in present], {name: name for name in present}


def _as_listed(names: list[str], present: list[str], source: str) -> dict[str, str]:
    """Map labels to listed names: the same, or the one that differs in case or width alone."""
    exact = {spelling(name): name for name in names}
    alike = {_folded(name): name for name in names}
    listed = {
        label: exact.get(spelling(label)) or alike.get(_folded(label)) or "" for label in present
    }
    unknown = [label for label, name in listed.items() if not name]
    unused = [name for name in names if name not in listed.values()]
    if unknown or unused:
        raise ConfigError(
            f"data.label_names={names} does not fit {source}:"
            f" in the data only: {shorten(unknown)}; in label_names only: {shorten(unused)}."
            " List exactly the classes of the data, or set data.label_names=null."
        )
    return listed


def _check_numbers(present: list[str], source: str) -> None:
    if any(re.fullmatch(r"[-+]?\d*\.\d*[1-9]\d*(e[-+]?\d+)?", name) for name in present):
        raise ConfigError(
            f"{source} holds decimal numbers ({shorten(present)}), not classes. Choose another"
            " column; regression is not supported. If they are classes, list them in"
            " data.label_names."
        )


def _check_alike(labels: pd.Series, source: str) -> None:
    """Refuse classes that may be one."""
    counts: dict[str, list[str]] = {}
    for name, count in labels.value_counts(sort=False).items():
        counts.setdefault(_folded(str(name)), []).append(f"{name!r} ({count:,} rows)")
    alike = sorted(" and ".join(sorted(names)) for names in counts.values() if len(names) > 1)
    if alike:
        raise ConfigError(
            f"{source} has classes that differ in case, width or .0 only: {', '.join(alike[:5])}."
            " List the classes in data.label_names: with one spelling of each they are merged,"
            " with all spellings they stay apart."
        )


def _folded(name: str) -> str:
    return re.sub(r"^([-+]?\d+)\.0+$", r"\1", folded(name))


def _natural(name: str) -> tuple[int, float, str]:
    """Sort key that puts -1 before 0, and 2.0 before 10.0."""
    is_number = re.fullmatch(r"[-+]?\d{1,18}(\.\d{1,18})?", name)
    return (0, float(name), name) if is_number else (1, 0, name)
