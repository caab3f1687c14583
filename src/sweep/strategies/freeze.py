"""A strategy applied to a model: which tensors train, and what decided it for each."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sweep.base.words import Remark, Text, named
from sweep.config.schema import ConfigError, FreezeConfig
from sweep.models.pretrained import Parts, layer_indices
from sweep.strategies import adapters, selection
from sweep.strategies.selection import EVERYTHING, HEAD

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Tensor:
    """One parameter of the model."""

    name: str
    shape: tuple[int, ...]
    """As the model computes with it, also when the values are packed into 4 bits."""
    trainable: bool
    decided_by: str
    depth: int = 0
    """0 for embeddings, 1 for the lowest layer, one more than the top layer for all above it."""
    is_head: bool = False
    stage: int = 1
    """Stage of gradual unfreezing in which it begins to train."""

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class FreezeReport:
    """Every tensor of the model with what became of it."""

    strategy: str
    tensors: tuple[Tensor, ...]
    adapter: bool = False
    """Whether an adapter is all that has to be saved, beside the head."""

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

    @property
    def lowest_trained_depth(self) -> int:
        """How deep gradients have to go: a depth as in `Tensor`."""
        return min(t.depth for t in self.tensors if t.trainable)

    @property
    def layers(self) -> int:
        """How many layers the model's parts name."""
        return max(t.depth for t in self.tensors) - 1

    @property
    def stages(self) -> int:
        """How many stages of unfreezing there are; 1 when all starts at once."""
        return max(t.stage for t in self.tensors)

    @property
    def has_layers(self) -> bool:
        """Whether the model's parts name layers; without them the head is at depth 1."""
        return max(t.depth for t in self.tensors) > 1

    @property
    def checkpoint_params(self) -> int:
        """Elements that are saved: all of the model, or the adapter and the head."""
        return self.trainable_params if self.adapter else self.total_params

    def to_json(self, **others: Any) -> str:
        """All of it, for the artifact freeze.json, with further keys."""
        keys = ("name", "shape", "trainable", "decided_by")
        summary = {
            "strategy": self.strategy,
            "trainable_params": self.trainable_params,
            "total_params": self.total_params,
            "layers": self.layers,
            "lowest_trained_depth": self.lowest_trained_depth,
            **others,
            "tensors": [{key: getattr(t, key) for key in keys} for t in self.tensors],
        }
        return json.dumps(summary, indent=1)


def apply(
    model: nn.Module, parts: Parts, strategy: FreezeConfig, new_names: Collection[str] = ()
) -> tuple[nn.Module, FreezeReport]:
    """Apply any strategy; with an adapter, the model that is returned is another one.

    Args:
        model: Changed in place. May be on the meta device.
        parts: Pattern per part; a name has to match as a whole.
        strategy: What trains.
        new_names: As for `apply_freeze`.

    Raises:
        ConfigError: As `apply_freeze` and `adapters.wrap`.
    """
    if not strategy.adapter:
        return model, apply_freeze(model, parts, strategy, new_names)
    wrapped = adapters.wrap(model, parts, strategy, new_names)
    return wrapped, _adapter_report(wrapped, parts, strategy, new_names)


def apply_freeze(
    model: nn.Module, parts: Parts, strategy: FreezeConfig, new_names: Collection[str] = ()
) -> FreezeReport:
    """Let the strategy's tensors and the head train, and stop gradients for all others.

    Args:
        model: Changed in place: only `requires_grad`. May be on the meta device.
        parts: Pattern per part; a name has to match as a whole.
        strategy: One without an adapter. Tensors of later stages train too: what waits for its
            stage is decided while training.
        new_names: Backbone tensors without pretrained values; they train under every strategy,
            because frozen noise would be neither pretrained nor learnt.

    Raises:
        ConfigError: A part the model does not have, or a pattern that matches nothing.
    """
    assert not strategy.adapter, "adapters need a model of their own: use apply"
    names = [name for name, _ in model.named_parameters()]
    decisions = selection.decide(names, parts, strategy)
    for name in new_names:
        if not decisions[name].trains:
            decisions[name] = selection.Decision(True, "not in the checkpoint")
    tensors = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(decisions[name].trains)
        tensors.append(Tensor(name, _shape(parameter), *decisions[name]))
    return FreezeReport(strategy.name, _with_depths(tensors, parts, strategy))


def describe(strategy: FreezeConfig) -> Text:
    """What trains, for every listing that shows the strategy's name."""
    found: Text
    if strategy.adapter:
        found = _describe_adapter(strategy)
    elif strategy.train is not None:
        found = " | ".join(pattern for pattern in strategy.train if not pattern.startswith("!"))
    elif EVERYTHING in strategy.parts:
        found = named("part", EVERYTHING)
    else:
        top = Remark("trains.top", {"count": strategy.count}) if strategy.count else "layers"
        parts = [top if part == "layers" else part for part in strategy.parts]
        found = Remark("trains.parts", {"parts": _parts([*parts, HEAD])})
    if not strategy.stages:
        return found
    return Remark("trains.stages", {"trains": found, "stages": strategy.stages})


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
    return tuple(named("part", name) if isinstance(name, str) else name for name in names)


class FrozenModes:
    """Puts modules whose own and inherited weights are all frozen into evaluation mode.

    Their dropout is off then, and normalisation statistics stay. Which modules these are is looked
    up again only when a tensor was frozen or thawed since.
    """

    def __init__(self, model: nn.Module, dropout: bool = False) -> None:
        """Take a model with its strategy applied.

        Args:
            model: Its tensors stay the same objects.
            dropout: Leave dropout on, so that only normalisations with statistics are changed.
        """
        self._model = model
        self._dropout = dropout
        self._parameters = list(model.parameters())
        self._known: list[bool] = []
        self._frozen: list[nn.Module] = []

    def set(self) -> None:
        """Change `training` of the modules in place; to be called after `model.train()`."""
        trains = [parameter.requires_grad for parameter in self._parameters]
        if trains != self._known:
            self._known, self._frozen = trains, self._find()
        for module in self._frozen:
            module.eval()

    def _find(self) -> list[nn.Module]:
        found = frozen_modules(self._model)
        if self._dropout:
            return [m for m in found if getattr(m, "running_mean", None) is not None]
        inside = {id(part) for m in found for part in m.modules() if part is not m}
        return [m for m in found if id(m) not in inside]  # eval() reaches the others through them


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """Modules that have weights, all of them frozen."""
    found = []
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            found.append(module)
    return found


def _adapter_report(
    model: nn.Module, parts: Parts, strategy: FreezeConfig, new_names: Collection[str]
) -> FreezeReport:
    head = selection.head_of(
        [adapters.original_name(n) for n, _ in model.named_parameters()], parts
    )
    tensors = []
    for name, parameter in model.named_parameters():
        original = adapters.original_name(name)
        if not parameter.requires_grad:
            copy = adapters.is_unused_copy(name)
            why = "copy from before the training, not used" if copy else selection.FROZEN
        elif adapters.is_adapter(name):
            why = f"adapter: {strategy.adapter}"
        elif original in head:
            why = f"{HEAD}: {parts[HEAD]}"
        else:
            why = "not in the checkpoint" if original in new_names else "beside a new tensor"
        tensors.append(Tensor(name, _shape(parameter), parameter.requires_grad, why))
    return FreezeReport(strategy.name, _with_depths(tensors, parts, strategy), adapter=True)


def _shape(parameter: nn.Parameter) -> tuple[int, ...]:
    state = getattr(parameter, "quant_state", None)  # of a weight packed by bitsandbytes
    return tuple(parameter.shape if state is None else state.shape)


def _with_depths(tensors: list[Tensor], parts: Parts, strategy: FreezeConfig) -> tuple[Tensor, ...]:
    """The tensors with where they stand: depth, head or not, and stage."""
    originals = [adapters.original_name(t.name) for t in tensors]
    index = layer_indices(originals, parts)
    layers = max(index.values(), default=-1) + 1
    _check_stages(strategy, layers)
    embeddings = selection.matching(originals, parts.get("embeddings"))
    head = selection.head_of(originals, parts)
    found = []
    for tensor, name in zip(tensors, originals, strict=True):
        depth = index[name] + 1 if name in index else 0 if name in embeddings else layers + 1
        stage = _stage(depth, layers, strategy.stages) if strategy.stages else 1
        decided_by = tensor.decided_by
        if strategy.stages and tensor.trainable:
            decided_by += f"; stage {stage} of {strategy.stages}"
        found.append(
            replace(
                tensor,
                decided_by=decided_by,
                depth=depth,
                is_head=name in head and not adapters.is_unused_copy(tensor.name),
                stage=stage,
            )
        )
    return tuple(found)


def _stage(depth: int, layers: int, stages: int) -> int:
    """Stage s thaws the top s/stages of the layers, the last one embeddings too."""
    if depth == 0:
        return stages
    below_top = max(layers - depth, -1)
    return next(s for s in range(1, stages + 1) if math.ceil(layers * s / stages) > below_top)


def _check_stages(strategy: FreezeConfig, layers: int) -> None:
    if strategy.stages and strategy.stages > layers:
        raise ConfigError(
            f"freeze.stages={strategy.stages} of the strategy {strategy.name!r}: the model has"
            f" {layers} layers that its parts name. Use from 2 to {layers} stages."
            if layers > 1
            else f"freeze.stages={strategy.stages} of the strategy {strategy.name!r}: the model's"
            " parts name no layers. Add `layers: PATTERN` to its parts."
        )
