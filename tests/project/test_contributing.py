"""The table of CONTRIBUTING.md leads to places that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TABLE = (PROJECT / "CONTRIBUTING.md").read_text("utf-8").partition("## Where to add what")[2]
ROWS = [line for line in TABLE.partition("A test of the module")[0].splitlines() if "`" in line]
PATHS = re.compile(r"`((?:src|conf|tests|docs)/[\w./]*)`")
NAMES = re.compile(r"`([A-Z]{3,})` (?:of|in) `([\w./]+)`")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_place_is_there(row: str) -> None:
    paths = PATHS.findall(row)
    assert paths
    for path in paths:
        # NAME and KIND stand for what is added.
        place = PROJECT / re.sub(r"[^/]*(NAME|KIND)[^/]*$", "", path)
        assert place.exists(), path
    for name, path in NAMES.findall(row):
        assert re.search(rf"^{name}\b", (PROJECT / path).read_text("utf-8"), re.MULTILINE), name


def test_all_that_a_first_reader_asks_for_has_a_row() -> None:
    added = {row.split("|")[1].strip() for row in ROWS}
    assert added >= {
        "a strategy", "a model family", "a metric", "a launcher", "a figure", "a language",
        "a kind of data file",
    }  # fmt: skip
