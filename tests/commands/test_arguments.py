"""Options that lack something are told as other mistakes are, without a page of usage."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from sweep.commands import plan, report, sweep


@pytest.mark.parametrize(
    ("main", "name"),
    [(sweep.main, "sweep"), (plan.main, "sweep.plan"), (report.main, "sweep.report")],
)
def test_an_option_without_its_value_is_one_sentence(
    main: Callable[[Sequence[str]], int], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config-dir"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "error: --config-dir/-cd: expected one argument. Write python -m"
        f" {name} --help for what there is.\n"
    )
