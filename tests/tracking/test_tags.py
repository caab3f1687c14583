"""Tags: spelt in one module, with their numbers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import sweep
from sweep.tracking import tags
from sweep.tracking.tags import Tag, number

SOURCE = Path(sweep.__file__).parent
NAMES = {value for name, value in vars(Tag).items() if name.isupper()}


def test_no_other_module_spells_a_tag() -> None:
    assert {"sweep.kind", "timing_contended", "mlflow.note.content"} <= NAMES
    spelt = [
        (path.name, node.value)
        for path in SOURCE.rglob("*.py")
        if path != Path(tags.__file__)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if any(re.search(rf"{re.escape(name)}(?![\w.])", node.value) for name in NAMES)
    ]
    assert spelt == []


@pytest.mark.parametrize(
    ("text", "value"),
    [("6", 6), ("1764274800", 1764274800), ("", None), ("inf", None), ("x", None)],
)
def test_a_number_is_read_from_its_text(text: str, value: int | None) -> None:
    assert number({Tag.LAYERS: text}, Tag.LAYERS) == value


def test_a_tag_that_is_missing_holds_no_number() -> None:
    assert number({}, Tag.LAYERS) is None
