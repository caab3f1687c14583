"""Rates of strategies: a ratio to the base rate of the model, as typed, measured or guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.config import compose

from sweep.config import checks
from sweep.config.compose import compose_sweep
from sweep.config.rates import guess, with_base_rate
from sweep.config.schema import ConfigError

MINILM = {
    "none": 2e-4,
    "attention": 4e-4,
    "full": 1e-1,
    "top_layers": 1e-3,
    "all_layers": 2e-4,
    "feed_forward": 2e-4,
    "bias": 4e-3,
    "layer_norm": 1e-2,
    "gradual": 2e-4,
    "lora": 2e-3,
    "dora": 2e-3,
    "qlora": 2e-3,
    "miss": 5e-4,
    "ia3": 3e-2,
}
"""As they were measured."""


@pytest.mark.parametrize("strategy", MINILM)
def test_on_minilm_every_strategy_has_the_rate_that_was_measured(strategy: str) -> None:
    cfg = compose(f"freeze={strategy}")
    assert cfg.learning_rate == MINILM[strategy]
    assert with_base_rate(cfg, {}).source == "measured"


@pytest.mark.parametrize(
    ("width", "batch", "rate"),
    [(8, 32, 2e-4), (384, 32, 1.14e-4), (768, 32, 8.07e-5), (768, 8, 4.03e-5), (0, 32, 2e-5)],
)
def test_a_rate_is_guessed_from_width_and_batch(width: int, batch: int, rate: float) -> None:
    assert guess(width, batch) == pytest.approx(rate)
    assert guess(100_000, 32) == 2e-5


def test_a_base_rate_is_typed_measured_or_guessed() -> None:
    hub = ["model=hub", "model.name_or_path=someone/model", "freeze=attention"]
    cfg = compose(*hub)
    rates = with_base_rate(cfg, {"hidden_size": 768})
    assert (rates.source, rates.base_rate) == ("guessed", 8.07e-5)
    cfg.rates = rates
    assert cfg.learning_rate == pytest.approx(2 * 8.07e-5)
    assert with_base_rate(cfg, {"hidden_size": 99}) == rates  # settled
    typed = compose(*hub, "rates.base_rate=1e-4")
    assert with_base_rate(typed, {"hidden_size": 768}).source == "typed"
    assert typed.learning_rate == 2e-4
    own = compose(*hub, "model.base_rate=3e-5")
    assert with_base_rate(own, {}).source == "measured"
    assert own.learning_rate == 6e-5


def test_a_factor_multiplies_the_rate_of_each_strategy() -> None:
    jobs = compose_sweep(["freeze=none,attention", "rates.factor=0.5,1"]).jobs
    assert [job.cfg.learning_rate for job in jobs] == [1e-4, 2e-4, 2e-4, 4e-4]


def test_a_rate_of_a_strategy_of_ones_own_holds_for_every_model(tmp_path: Path) -> None:
    cfg = compose("freeze=none", "freeze.learning_rate=3e-4")
    assert (cfg.learning_rate, with_base_rate(cfg, {}).source) == (3e-4, "typed")


@pytest.mark.parametrize("typed", ["rates.factor=3", "rates.base_rate=1e-4"])
def test_one_rate_for_all_excludes_own_rates(typed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_sweep(["freeze=none", "optimizer.learning_rate=1e-4", typed])
    (message,) = caught.value.messages
    assert typed.partition("=")[0] in message
    assert "optimizer.learning_rate=0.0001 exclude each other" in message


@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_a_factor_is_above_zero(value: str) -> None:
    with pytest.raises(ConfigError, match=r"rates\.factor"):
        compose_sweep(["freeze=none", f"rates.factor={value}"])
    assert checks.RANGES["rates.factor"]
