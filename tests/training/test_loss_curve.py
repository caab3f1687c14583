"""Whether a training loss fell; noisy curves are in comparison/test_learning."""

from __future__ import annotations

import pytest

from sweep.training.loss_curve import may_have_fallen


@pytest.mark.parametrize(
    ("losses", "fell"),
    [
        ([1.1, 1.0, 0.8, 0.6], True),
        ([1.0] * 8, False),
        ([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], False),
        ([1.0, 1.0, 1.0], True),
        ([], True),
    ],
    ids=["falls", "level", "rises", "too few points", "none"],
)
def test_a_fall_that_cannot_be_excluded_counts(losses: list[float], fell: bool) -> None:
    assert may_have_fallen(losses) is fell
