"""Quotes, separators and the line that Excel puts on top."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from support.config import compose
from support.data import config, pairs, refusal, save, table
from support.models import make_rows

from sweep.data.splits import load_splits

ROWS = make_rows(60)
WAYS_OUT = (
    " Set data.quoting=none where quotes are part of the text, data.quoting=backslash where"
    ' \\" stands for one, or data.quoting=minimal to go by the rules all the same.'
)


def write(folder: Path, name: str, lines: list[str], encoding: str = "utf-8") -> Path:
    """A file of these lines."""
    (folder / name).write_text("\n".join(lines) + "\n", encoding)
    return folder / name


def lines(separator: str, rows: list[tuple[str, str]] = ROWS) -> list[str]:
    """Rows as they are written without quoting, under their header."""
    return [separator.join(row) for row in [("text", "label"), *rows]]


def broken(line: int, by_rules: int, by_lines: int, name: str = "rows.tsv") -> str:
    """What is said of a quote that does not end."""
    return (
        f"data.path='{name}' has a quote in line {line} that does not end where its cell ends. Rows"
        f" counted by CSV's rules: {by_rules}; line by line: {by_lines}.{WAYS_OUT}"
    )


# Quotes.

OPENED = [('"' + text if i in (3, 20) else text, label) for i, (text, label) in enumerate(ROWS)]
"""Two texts begin with a quote that nothing closes: by the rules the first ends in the second."""
BALANCED = [
    ('"' + text if i == 3 else text + '"' if i == 20 else text, label)
    for i, (text, label) in enumerate(ROWS)
]
"""By the rules of CSV this is right: one cell from the quote of row 3 to that of row 20."""


def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.tsv", lines("\t", OPENED))
    assert refusal(path) == broken(5, 43, 60)
    assert pairs(load_splits(config(path, quoting="none"))) == sorted(OPENED)


def test_a_cell_that_is_whole_rows_is_seen_though_its_quotes_are_right(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.tsv", lines("\t", BALANCED))
    assert refusal(path) == broken(5, 43, 60)
    assert pairs(load_splits(config(path, quoting="none"))) == sorted(BALANCED)


def test_a_label_before_the_text_hides_no_swallowed_rows(tmp_path: Path) -> None:
    swapped = [f"{label}\t{text}" for text, label in BALANCED]
    path = write(tmp_path, "rows.tsv", ["label\ttext", *swapped])
    assert refusal(path) == broken(5, 43, 60)


def test_a_quoted_word_at_the_start_keeps_its_quotes_or_is_told(tmp_path: Path) -> None:
    rows = [(f'"Great" {text}', label) for text, label in ROWS]
    path = write(tmp_path, "rows.csv", lines(",", rows))
    assert refusal(path) == broken(2, 60, 60, "rows.csv")
    assert pairs(load_splits(config(path, quoting="none"))) == sorted(rows)
    without = [(text.replace('"', ""), label) for text, label in rows]
    assert pairs(load_splits(config(path, quoting="minimal"))) == sorted(without)


def test_quotes_behind_a_backslash_are_told_and_read(tmp_path: Path) -> None:
    rows = [(f'he said "{text}", twice', label) for text, label in ROWS]
    escaped = [f'"{text}",{label}' for text, label in ((t.replace('"', r"\""), c) for t, c in rows)]
    path = write(tmp_path, "rows.csv", ["text,label", *escaped])
    assert refusal(path) == broken(2, 60, 60, "rows.csv")
    assert pairs(load_splits(config(path, quoting="backslash"))) == sorted(rows)


@pytest.mark.parametrize(
    "text",
    [
        'commas, "quotes"\nand a line break',
        "three\nlines\nof text",
        "good, bad\nplain, good",
        "neither good, bad\nnor plain",
        '"all of it is quoted"',
        'ends with a "quote"\n',
        "a line\r\nof Windows",
        '\n"\n',
    ],
    ids=repr,
)
@pytest.mark.parametrize("columns", [["text", "label"], ["label", "text"]], ids=",".join)
def test_line_breaks_and_quotes_that_go_by_the_rules_are_read(
    columns: list[str], text: str, tmp_path: Path
) -> None:
    rows = [*ROWS, (text, "good"), (f"{text} again", "bad")]
    path = save(tmp_path, table(rows)[columns])
    assert pairs(load_splits(config(path))) == sorted(rows)


def test_a_quote_inside_of_a_cell_is_a_letter(tmp_path: Path) -> None:
    rows = [(f'a 5" screen {text}', label) for text, label in ROWS]
    path = write(tmp_path, "rows.csv", lines(",", rows))
    assert pairs(load_splits(config(path))) == sorted(rows)


def test_a_blank_before_a_quote_is_no_part_of_the_cell(tmp_path: Path) -> None:
    rows = [(f"well, {text}", label) for text, label in ROWS]
    path = write(tmp_path, "rows.csv", ["text, label", *(f'"{t}", "{x}"' for t, x in rows)])
    assert pairs(load_splits(config(path))) == sorted(rows)


def test_a_very_long_cell_is_no_mistake(tmp_path: Path) -> None:
    rows = [("long " * 50_000, "good"), *ROWS]
    splits = load_splits(config(save(tmp_path, table(rows))))
    assert max(len(text) for text, _ in pairs(splits)) == 250_000


def test_quoting_is_no_part_of_a_run(tmp_path: Path) -> None:
    from sweep.runs.record import run_key

    keys = {
        run_key(compose("data=tweets", "freeze=none", *typed), "data", "weights")
        for typed in ([], ["data.quoting=minimal"], ["data.quoting=none"])
    }
    assert len(keys) == 1


# Separators.


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"], ids=repr)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt"])
def test_the_separator_is_the_one_that_makes_the_columns(
    suffix: str, separator: str, tmp_path: Path
) -> None:
    path = write(tmp_path, f"rows.{suffix}", lines(separator))
    assert pairs(load_splits(config(path))) == sorted(ROWS)


def test_commas_in_texts_do_not_mislead(tmp_path: Path) -> None:
    rows = [(f"well, {text}, yes", label) for text, label in ROWS]
    path = write(tmp_path, "rows.csv", lines(";", rows))
    assert pairs(load_splits(config(path))) == sorted(rows)


def test_columns_of_another_separator_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.txt", ["review;stars;part", "fine;5;x"])
    assert refusal(path) == (
        "data.path='rows.txt' lacks data.text_column='text' and data.label_column='label'. Its"
        " columns are: 'review', 'stars', 'part'. Choose from them with data.text_column=COLUMN"
        " data.label_column=COLUMN."
    )


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"], ids=repr)
def test_the_separator_that_is_advised_can_be_pasted(separator: str, tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", lines(separator))
    advised = refusal(path, separator="^").partition(" try ")[2].rstrip(".")
    (word,) = shlex.split(advised)
    cfg = compose("data=csv", f"data.path={path}", "freeze=none", word).data
    assert pairs(load_splits(cfg)) == sorted(ROWS)


@pytest.mark.parametrize(
    ("top", "separator"),
    [("sep=;", ";"), ("SEP=,", ","), ("sep=\t", "\t"), (r"sep=\t", "\t"), ('"sep=;"', ";")]
    + [("sep=|", "|"), ("sep=;;", ";"), ("sep=^", "^")],
    ids=repr,
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_line_of_excel_says_the_separator(
    encoding: str, top: str, separator: str, tmp_path: Path
) -> None:
    path = write(tmp_path, "rows.csv", [top, *lines(separator)], encoding)
    splits = load_splits(config(path, encoding=encoding))
    assert pairs(splits) == sorted(ROWS)
    assert min(min(part.ids) for part in (splits.train, splits.validation, splits.test)) == 0


def test_the_line_of_excel_may_end_as_on_an_old_mac(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes("\r".join(["sep=;", *lines(";")]).encode())
    assert pairs(load_splits(config(tmp_path / "rows.csv"))) == sorted(ROWS)


def test_lines_are_counted_with_that_of_excel(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", ["sep=;", *lines(";", OPENED)])
    assert refusal(path) == broken(6, 43, 60, "rows.csv")


@pytest.mark.parametrize("typed", [{}, {"separator": "|"}], ids=str)
def test_what_is_typed_comes_before_the_line_of_excel(
    typed: dict[str, Any], tmp_path: Path
) -> None:
    path = write(tmp_path, "rows.csv", ["sep=;" if typed else "sep=|", *lines("|")])
    assert pairs(load_splits(config(path, **typed))) == sorted(ROWS)
