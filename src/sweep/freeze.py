"""A strategy applied to a model: which tensors train, and what decided it for each."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sweep.config import ConfigError, FreezeConfig
from sweep.model import Parts, layer_indices

if TYPE_CHECKING:
    from torch import nn

EVERYTHING = "everything"
HEAD = "head"


@dataclass(frozen=True)
class Tensor:
    """One parameter of the model."""

    name: str
    shape: tuple[int, ...]
    trainable: bool
    decided_by: str

    @property
    def numel(self) -> int:
        """Number of elements."""
        size = 1
        for length in self.shape:
            size *= length
        return size


@dataclass(frozen=True)
class FreezeReport:
    """Every tensor of the model with what became of it."""

    strategy: str
    tensors: tuple[Tensor, ...]

    @property
    def trainable_params(self) -> int:
        """Elements that train."""
        return sum(t.numel for t in self.tensors if t.trainable)

    @property
    def total_params(self) -> int:
        """Elements of the model."""
        return sum(t.numel for t in self.tensors)

    @property
    def trainable_fraction(self) -> float:
        """Share of the elements that train, from 0 to 1."""
        return self.trainable_params / self.total_params

    def to_json(self) -> str:
        """All of it, for the artifact freeze.json."""
        summary = {
            "strategy": self.strategy,
            "trainable_params": self.trainable_params,
            "total_params": self.total_params,
            "tensors": [asdict(t) for t in self.tensors],
        }
        return json.dumps(summary, indent=1)


def apply_freeze(
    model: nn.Module, parts: Parts, strategy: FreezeConfig, new_names: Collection[str] = ()
) -> FreezeReport:
    """Let the strategy's parts and the head train, and stop gradients for all other parameters.

    Args:
        model: Changed in place: only `requires_grad`. May be on the meta device.
        parts: Pattern per part; a name has to match as a whole.
        strategy: Its `parts` and `count`.
        new_names: Backbone tensors without pretrained values; they train under every strategy,
            because frozen noise would be neither pretrained nor learnt.

    Raises:
        ConfigError: A part the model does not have, or a pattern that matches nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    wanted = _patterns(names, parts, strategy)
    tensors = []
    for name, parameter in model.named_parameters():
        decided_by = next((why for why, matched in wanted.items() if name in matched), "")
        if not decided_by and name in new_names:
            decided_by = "not in the checkpoint"
        parameter.requires_grad_(bool(decided_by))
        tensors.append(
            Tensor(name, tuple(parameter.shape), bool(decided_by), decided_by or "frozen")
        )
    return FreezeReport(strategy.name, tuple(tensors))


def describe(strategy: FreezeConfig) -> str:
    """What trains, in words, for every listing that shows the strategy's name."""
    if EVERYTHING in strategy.parts:
        return "everything"
    top = f"top {strategy.count} layers" if strategy.count else "layers"
    return ", ".join([*(top if p == "layers" else p for p in strategy.parts), HEAD])


def set_frozen_modes(model: nn.Module) -> None:
    """Put modules whose own and inherited weights are all frozen into evaluation mode.

    Their dropout is off then, and normalisation statistics stay. Changes `training` in place.
    """
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def _patterns(names: list[str], parts: Parts, strategy: FreezeConfig) -> dict[str, set[str]]:
    """Per reason, the names that train because of it; the head comes first."""
    wanted = {f"head: {parts[HEAD]}": _matching(names, parts, HEAD, strategy)}
    for part in strategy.parts:
        if part == EVERYTHING:
            wanted[EVERYTHING] = set(names)
        elif part not in parts:
            available = ", ".join(sorted([*parts, EVERYTHING]))
            raise ConfigError(
                f"freeze.parts={strategy.parts} of the strategy {strategy.name!r}: the model has"
                f" no part {part!r}. Its parts are: {available}."
            )
        elif parts[part] is not None:  # null: the family has none, and says so
            matched = _matching(names, parts, part, strategy)
            wanted[f"{part}: {parts[part]}"] = matched
    head, *others = wanted.values()
    if strategy.parts and not set().union(*others) - head:
        raise ConfigError(
            f"freeze.parts={strategy.parts} of the strategy {strategy.name!r}: this model has none"
            " of these parts, so nothing but the head would train. Use freeze=full for that."
        )
    return wanted


def _matching(names: list[str], parts: Parts, part: str, strategy: FreezeConfig) -> set[str]:
    pattern = str(parts[part])
    try:
        matched = {name for name in names if re.fullmatch(pattern, name)}
    except re.error as error:
        raise ConfigError(
            f"model.parts.{part}={pattern!r} is no regular expression: {error}."
        ) from None
    if not matched:
        raise ConfigError(
            f"model.parts.{part}={pattern!r} matches none of the {len(names)} parameters,"
            f" for example {names[0]!r}. Correct it, or set it to null if the model has no {part}."
        )
    if part == "layers" and strategy.count is not None:
        index = layer_indices(names, parts)
        top = sorted(set(index.values()))[-strategy.count :]
        return {name for name in matched if index[name] in top}
    return matched
