"""The inputs of scripts/verify/bad_inputs.py that need no model are told in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.config import script

KINDS = ("typed", "file", "table", "report", "plan")


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_told_in_one_sentence(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts" / "verify")
    bad_inputs = script("verify/bad_inputs")
    cases = [case for case in bad_inputs.all_cases(lambda folder: folder) if case.kind == kind]
    assert cases
    problems = {
        " ".join(case.typed): bad_inputs.attempt(case, tmp_path / str(number))
        for number, case in enumerate(cases)
    }
    assert {typed: problem for typed, problem in problems.items() if problem[0]} == {}


def test_what_is_no_mistake_falls_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts" / "verify")
    bad_inputs = script("verify/bad_inputs")
    case = sys.modules["bad_input_cases"].Case("typed", "freeze", ("--help",))
    assert bad_inputs.attempt(case, tmp_path / "help")[0] == "ended with 0"
