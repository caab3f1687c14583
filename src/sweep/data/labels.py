"""Labels as they are written -> classes: which spellings are one, and in which order they come.

Spellings that differ in what cannot be seen are the same class. Those that differ in case, width or
alphabet may not be ("US" and "us"), so somebody has to say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import pandas as pd

from sweep.base.characters import cleaned, folded, look, spelling
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
    if cfg.label_pattern is None:
        _check_joined(present, source)
    names = [cleaned(name) for name in declared or []]
    if not set(present) <= set(names):
        names = present
    return [name for name in names if name in present], {name: name for name in present}


def _as_listed(names: list[str], present: list[str], source: str) -> dict[str, str]:
    """Map labels to listed names: the same, or the first that may be the same class."""
    listed = dict.fromkeys(present, "")
    for alike in (spelling, *ALIKE):
        by_key = {alike(name): name for name in reversed(names)}
        listed = {label: name or by_key.get(alike(label), "") for label, name in listed.items()}
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
    rows = {str(name): f"{name!r} ({n:,} rows)" for name, n in labels.value_counts().items()}
    alike: dict[frozenset[str], None] = {}
    for key in ALIKE:
        groups: dict[str, set[str]] = {}
        for name in rows:
            groups.setdefault(key(name), set()).add(name)
        alike |= {frozenset(names): None for names in groups.values() if len(names) > 1}
    shown = sorted(" and ".join(sorted(map(rows.__getitem__, names))) for names in alike)
    if shown:
        raise ConfigError(
            f"{source} has classes that differ only in case, width, letters of another alphabet or"
            f" the way a number is written: {', '.join(shown[:5])}. List the classes in"
            " data.label_names: with one spelling of each they are merged, with all spellings they"
            " stay apart."
        )


def _check_joined(present: list[str], source: str) -> None:
    """Refuse cells that hold several of the labels, which would become classes of their own."""
    parts = {name: _parts(name) for name in present}
    known = Counter(part for each in parts.values() for part in each)
    joined = [
        name
        for name, each in parts.items()
        if len(each) > 1
        if not each.isdisjoint(present) or all(known[part] > 1 for part in each)
    ]
    if joined:
        raise ConfigError(
            f"{source} holds several labels in one cell, such as {shorten(joined)}. Several labels"
            " per text are not supported yet: write one label per row, or take one out with"
            " data.label_pattern; (.*) takes such cells for classes of their own."
        )


def _parts(name: str) -> frozenset[str]:
    return frozenset(part.strip() for part in re.split("[,;|]", name) if part.strip())


def _folded(name: str) -> str:
    return folded(_number(name))


def _look(name: str) -> str:
    return folded(look(_number(name)))


def _number(name: str) -> str:
    """Return an integer as it is written in one way only; anything else, codes as 01, as it is."""
    if not re.fullmatch(r"[-+]?(\d|[^\D0]\d{1,17})(\.0*)?", name):
        return name
    return str(int(Decimal(name)))


ALIKE: tuple[Callable[[str], str], ...] = (_folded, _look)
"""What two labels have in common that may be one class."""


def _natural(name: str) -> tuple[int, float, str]:
    """Sort key that puts -1 before 0, and 2.0 before 10.0."""
    is_number = re.fullmatch(r"[-+]?\d{1,18}(\.\d{1,18})?", name)
    return (0, float(name), name) if is_number else (1, 0, name)
