"""Cells that no spreadsheet takes for a formula, and back."""

from __future__ import annotations

import pytest

from sweep.base.csv_cells import harmless, original

CELLS = {
    "=1+1": "'=1+1",
    "+cmd|' /C calc'!A0": "'+cmd|' /C calc'!A0",
    "-2+3": "'-2+3",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "'\t=1",
    "\r=1": "'\r=1",
    "＝1+1": "'＝1+1",
    "'=1": "''=1",
    "''@x": "'''@x",
    "-1": "-1",
    "+1.5": "+1.5",
    "-1e3": "-1e3",
    "plain": "plain",
    "'quoted'": "'quoted'",
    "a=b": "a=b",
    "": "",
}


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_a_formula_gets_an_apostrophe_and_is_read_back(cell: str) -> None:
    assert harmless(cell) == CELLS[cell]
    assert original(harmless(cell)) == cell


def test_a_file_of_an_earlier_version_reads_as_before() -> None:
    for cell in ("=1+1", "-2+3", "@x", "'quoted'"):
        assert original(cell) == cell
