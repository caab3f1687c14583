"""Cells of CSV files that no spreadsheet takes for a formula, and back.

A cell that begins with = + - @, a tab or a line break gets an apostrophe in front, unless it is a
plain number (https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")
# Apostrophes that were there before count too, so that every cell can be read back.
_FORMULA = re.compile("'*[=+@\t\r\n\uff1d\uff0b\uff20\uff0d-]")


def harmless(cell: str) -> str:
    """Return the cell as it is written."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def original(written: str) -> str:
    """Return the cell that `harmless` was given."""
    return written[1:] if written.startswith("'") and _FORMULA.match(written) else written
