"""CSV and its kin -> a table, read as its writer meant it or not at all.

A quote that opens a cell and is never closed swallows the rows up to the next one, and no parser
minds. So the rows are looked at line by line too, and what the two ways disagree on is an error.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import pandas as pd

from sweep.base import shell
from sweep.config.schema import ConfigError, DataConfig
from sweep.data.files import DataFile

KINDS = (".csv", ".tsv", ".txt")
SEPARATORS = (",", ";", "\t", "|")
QUOTING: dict[str | None, dict[str, Any]] = {
    None: {},
    "minimal": {},
    "none": {"quoting": csv.QUOTE_NONE},
    "backslash": {"escapechar": "\\", "doublequote": False},
}
"""Per `data.quoting`, arguments that the csv module and pandas have in common."""
HEAD = 2**16
"""Characters in which the header is looked for."""
# Excel's own line above the header; a later save may have filled up its row.
_SEP_LINE = re.compile(r'"?sep=(\\t|.)"?[,;\t|]*[\r\n]*', re.IGNORECASE)


@dataclass(frozen=True)
class _Layout:
    """The format of a file."""

    separator: str
    header: list[str]
    skipped: int
    """Lines above the header."""
    dialect: dict[str, Any]


def read(file: DataFile, cfg: DataConfig, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a file with all their columns, every cell as it is written.

    Args:
        file: Of one of `KINDS`.
        cfg: What is said of separator, quotes and encoding.
        columns: Those that will be needed; they tell which separator is meant.

    Raises:
        ConfigError: Its quotes do not go by the rules, and nothing is said of them.
        ValueError: It is no table.
    """
    layout = _layout(file, cfg, columns)
    if cfg.quoting is None and set(columns) <= set(layout.header) and _has_quotes(file):
        _check_quotes(file, cfg, layout)
    with warnings.catch_warnings(), _body(file, cfg, layout) as stream:
        # Rows longer than the header: pandas would cut them and only warn.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            rows: pd.DataFrame = pd.read_csv(
                stream,
                sep=layout.separator,
                dtype=str,
                keep_default_na=False,
                index_col=False,  # or the first column becomes an index when rows are longer
                **layout.dialect,
            )
        except pd.errors.ParserWarning:
            raise ValueError("its rows have more cells than its header") from None
    if len(rows.columns) == len(layout.header):
        rows.columns = pd.Index(layout.header)  # pandas numbers those that come twice
    return rows


def separator_hint(header: str, used: str = "") -> str:
    """Name another separator when the header does not have the one that was used."""
    others = [s for s in SEPARATORS if s in header and (not used or used not in header)]
    if not others:
        return ""
    typed = shell.override("data.separator", others[0].replace("\t", r"\t"))
    return f" The header is one single column: try {typed}."


def advice(file: DataFile, cfg: DataConfig) -> str:
    """Say how to correct a file that cannot be read."""
    layout = _layout(file, cfg, ())
    with _body(file, cfg, layout) as stream:
        hint = separator_hint(next(stream, ""), layout.separator)
    return f"Check data.separator and the quotes, or save the file anew.{hint}"


def _layout(file: DataFile, cfg: DataConfig, columns: Sequence[str]) -> _Layout:
    with file.text(cfg) as stream:
        head = stream.read(HEAD)
    first, *rest = re.split("(?<=\n)|(?<=\r)(?!\n)", head, maxsplit=1)
    sep_line = _SEP_LINE.fullmatch(first)
    if sep_line:
        head = "".join(rest)
    dialect = QUOTING[cfg.quoting]
    typed = cfg.separator or (sep_line and sep_line[1])
    if typed:
        separator = {r"\t": "\t"}.get(typed, typed)
    else:
        separator = _sniff(head, "," if file.kind == ".csv" else "\t", columns, dialect)
    if cfg.quoting != "none" and _has_blanks_before_quotes(head, separator):
        dialect = dialect | {"skipinitialspace": True}
    return _Layout(separator, _header(head, separator, dialect), int(bool(sep_line)), dialect)


def _has_blanks_before_quotes(head: str, separator: str) -> bool:
    """Whether cells are written as `a, "b"`, where the blank is no part of the cell."""
    end = re.escape(separator)
    return bool(re.search(rf'{end} +"[^"\n]*" *(?:{end}|\r?$)', head, re.MULTILINE))


def _sniff(head: str, usual: str, columns: Sequence[str], dialect: dict[str, Any]) -> str:
    """Return the separator that makes the columns of the header, else the usual one."""
    headers = {s: _header(head, s, dialect) for s in dict.fromkeys((usual, *SEPARATORS))}
    fitting = [s for s, header in headers.items() if set(columns) <= set(header)]
    if columns and fitting:
        return fitting[0]
    if len(headers[usual]) > 1:
        return usual
    return max(headers, key=lambda s: len(headers[s]))


def _header(head: str, separator: str, dialect: dict[str, Any]) -> list[str]:
    rows = csv.reader(io.StringIO(head, newline=""), delimiter=separator, **dialect)
    try:
        return next((row for row in rows if row), [])
    except csv.Error:
        return []


def _body(file: DataFile, cfg: DataConfig, layout: _Layout) -> TextIO:
    """Open the file from its header on."""
    stream = file.text(cfg)
    for _ in range(layout.skipped):
        stream.readline()
    return stream


@dataclass
class _Look:
    """The findings of a pass over the records by CSV's rules."""

    broken: int | None = None
    """Line in which a record breaks the rules."""
    suspects: list[tuple[int, list[str]]] = field(default_factory=list)
    """First line of each record of several lines that look like rows, with their labels."""
    labels: set[str] = field(default_factory=set)
    """Of records of one line."""

    @property
    def line(self) -> int | None:
        """The line at which reading goes wrong."""
        swallowed = (
            line for line, labels in self.suspects if sum(x in self.labels for x in labels) > 1
        )
        return next(swallowed, None) if self.broken is None else self.broken


def _has_quotes(file: DataFile) -> bool:
    """Whether there is anything to check; the byte is that of a quote in every usual encoding."""
    with file.binary() as stream:
        return any(b'"' in block for block in iter(lambda: stream.read(2**20), b""))


def _check_quotes(file: DataFile, cfg: DataConfig, layout: _Layout) -> None:
    limit = csv.field_size_limit(2**31 - 1)  # of the whole process
    try:
        with _body(file, cfg, layout) as stream:
            look = _look(stream, cfg, layout)
        if look.line is None:
            return
        with _body(file, cfg, layout) as stream:
            by_rules = sum(bool(row) for row in csv.reader(stream, delimiter=layout.separator)) - 1
        with _body(file, cfg, layout) as stream:
            by_lines = sum(bool(line.strip()) for line in stream) - 1
    finally:
        csv.field_size_limit(limit)
    raise ConfigError(
        f"{file.where} has a quote in line {look.line + layout.skipped} that does not end where its"
        f" cell ends. Rows counted by CSV's rules: {by_rules:,}; line by line: {by_lines:,}."
        " Set data.quoting=none where quotes are part of the text, data.quoting=backslash where"
        ' \\" stands for one, or data.quoting=minimal to go by the rules all the same.'
    )


def _look(stream: TextIO, cfg: DataConfig, layout: _Layout) -> _Look:
    look, lines = _Look(), list[str]()

    def remember() -> Iterator[str]:
        for line in stream:
            lines.append(line)
            yield line

    label = layout.header.index(cfg.label_column) if cfg.label_column in layout.header else None
    reader = csv.reader(remember(), delimiter=layout.separator, strict=True, **layout.dialect)
    try:
        for row in reader:
            if label is not None and label < len(row):
                if len(lines) == 1:
                    look.labels.add(row[label])
                else:
                    look.suspects += _suspect(reader.line_num, lines, label, layout)
            lines.clear()
    except csv.Error:
        look.broken = reader.line_num - len(lines) + 1
    return look


def _suspect(
    end: int, lines: Sequence[str], label: int, layout: _Layout
) -> Iterator[tuple[int, list[str]]]:
    """Yield the labels of two or more lines of a record that would be rows by themselves."""
    cells = (line.rstrip("\r\n").split(layout.separator) for line in lines)
    labels = [row[label].strip('"') for row in cells if len(row) == len(layout.header)]
    if len(labels) > 1:
        yield end - len(lines) + 1, labels
