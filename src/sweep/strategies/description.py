"""Describe in words what a strategy trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweep.base.words import Remark, Text, named
from sweep.config.schema import FreezeConfig
from sweep.strategies import adapters
from sweep.strategies.selection import EVERYTHING, HEAD

if TYPE_CHECKING:
    pass


def describe(strategy: FreezeConfig) -> Text:
    """Say what trains, for every listing that shows the strategy's name."""
    trained: Text
    if strategy.adapter:
        trained = _describe_adapter(strategy)
    elif strategy.train is not None:
        trained = " | ".join(pattern for pattern in strategy.train if not pattern.startswith("!"))
    elif EVERYTHING in strategy.parts:
        trained = named("part", EVERYTHING)
    else:
        top = Remark("trains.top", {"count": strategy.count}) if strategy.count else "layers"
        parts = [top if part == "layers" else part for part in strategy.parts]
        trained = Remark("trains.parts", {"parts": _parts([*parts, HEAD])})
    if not strategy.stages:
        return trained
    return Remark("trains.stages", {"trains": trained, "stages": strategy.stages})


def _describe_adapter(strategy: FreezeConfig) -> Remark:
    details: list[Text] = [Remark("trains.rank", {"rank": strategy.rank})] if strategy.rank else []
    details += ["rsLoRA"] if strategy.use_rslora else []
    details += [Remark("trains.four_bit")] if strategy.quantization else []
    values = {
        "adapter": adapters.NAMES[strategy.adapter or ""],
        "details": tuple(details),
        "targets": _parts(strategy.targets),
        "head": named("part", HEAD),
    }
    return Remark("trains.adapter_with" if details else "trains.adapter", values)


def _parts(names: Sequence[Text]) -> tuple[Text, ...]:
    return tuple(named("part", name) for name in names)
