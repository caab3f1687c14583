"""Overrides as they can be pasted."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from sweep.base.shell import override


@pytest.mark.parametrize("value", [",", ";", "|", r"\t", "'", "$", " ", "&", "#", "a b", "\\", "*"])
def test_the_shell_and_hydra_give_the_value_back(value: str) -> None:
    (word,) = shlex.split(override("data.separator", value))
    (parsed,) = OverridesParser.create().parse_overrides([word])
    assert (parsed.key_or_group, parsed.value()) == ("data.separator", value)
