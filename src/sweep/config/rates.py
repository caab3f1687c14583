"""The base rate of a model: as typed, as measured on it, or guessed from its width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sweep.config.schema import GUESSES, Config, RatesConfig

WIDTHS = ("hidden_size", "d_model", "dim", "n_embd")
"""What architectures call their width in config.json."""
USUAL_BATCH = 32
"""Texts per optimizer step at which the ratios and base rates were measured."""


def with_base_rate(cfg: Config, values: Mapping[str, Any]) -> RatesConfig:
    """Return the rates of a run with the base rate that it is to use, and where that comes from.

    Args:
        cfg: The run.
        values: The model's config.json.
    """
    if cfg.optimizer.learning_rate is not None or cfg.freeze.learning_rate is not None:
        return replace(cfg.rates, source="typed")
    if cfg.rates.base_rate is not None:
        return cfg.rates if cfg.rates.source != "unknown" else replace(cfg.rates, source="typed")
    if cfg.model.base_rate is not None:
        return replace(cfg.rates, base_rate=cfg.model.base_rate, source="measured")
    width = next((values[key] for key in WIDTHS if isinstance(values.get(key), int)), 0)
    batch = cfg.trainer.per_device_train_batch_size * cfg.trainer.gradient_accumulation_steps
    return replace(cfg.rates, base_rate=guess(width, batch), source="guessed")


def guess(width: int, batch: int) -> float:
    """Return a base rate for AdamW: smaller for wider models and smaller batches.

    Rates that work fall with the width: 2e-4 for 384 (MiniLM, measured), 2e-5 to 5e-5 for 768 and
    1,024 (what BERT's authors tried, 1810.04805). They rise with the square root of the batch, as
    the noise of a gradient falls (Krizhevsky 2014, 1404.5997).

    Args:
        width: Of the hidden states; 0 is unknown, and counts as wide.
        batch: Texts per optimizer step.
    """
    rate = 5e-5 * math.sqrt(2000 / width) if width > 0 else GUESSES[0]
    clipped = min(max(rate, GUESSES[0]), GUESSES[1])
    return float(f"{clipped * math.sqrt(batch / USUAL_BATCH):.3g}")
