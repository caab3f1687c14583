"""A strategy applied to a model: which tensors train, and what decided it for each."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from sweep.config.schema import ConfigError, FreezeConfig
from sweep.models.parts import Parts, layer_indices
from sweep.strategies import adapters, selection
from sweep.strategies.freeze_report import FreezeReport, Tensor
from sweep.strategies.selection import HEAD

if TYPE_CHECKING:
    from torch import nn


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
        frozen = frozen_modules(self._model)
        if self._dropout:
            return [m for m in frozen if getattr(m, "running_mean", None) is not None]
        inside = {id(part) for m in frozen for part in m.modules() if part is not m}
        return [m for m in frozen if id(m) not in inside]  # eval() reaches the others through them


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules that have weights, all of them frozen."""
    frozen = []
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            frozen.append(module)
    return frozen


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
    """Return the tensors with depth, stage, and whether they are of the head."""
    originals = [adapters.original_name(t.name) for t in tensors]
    index = layer_indices(originals, parts)
    layers = max(index.values(), default=-1) + 1
    _check_stages(strategy, layers)
    embeddings = selection.matching(originals, parts.get("embeddings"))
    head = selection.head_of(originals, parts)
    positioned = []
    for tensor, name in zip(tensors, originals, strict=True):
        depth = index[name] + 1 if name in index else 0 if name in embeddings else layers + 1
        stage = _stage(depth, layers, strategy.stages) if strategy.stages else 1
        decided_by = tensor.decided_by
        if strategy.stages and tensor.trainable:
            decided_by += f"; stage {stage} of {strategy.stages}"
        positioned.append(
            replace(
                tensor,
                decided_by=decided_by,
                depth=depth,
                is_head=name in head and not adapters.is_unused_copy(tensor.name),
                stage=stage,
            )
        )
    return tuple(positioned)


def _stage(depth: int, layers: int, stages: int) -> int:
    """Return a depth's stage: stage s thaws the top s/stages of layers, the last embeddings too."""
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
