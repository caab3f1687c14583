"""A model whose frozen lower part is not computed: stored states take the place of its output.

Modules are found through the parts of the model; nothing about an architecture is written here.
Only `forward` of modules is replaced, so parameters, checkpoints and saved models stay whole, and
only within `cut_model`, after which the model computes all of itself again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sweep.models.parts import Parts
from sweep.strategies import adapters
from sweep.strategies.freeze_report import FreezeReport, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

POOLED = "pooled"
Forward = Callable[..., Any]


class CutError(RuntimeError):
    """This model cannot be cut there; the message says why."""


@dataclass(frozen=True)
class Level:
    """The part that is frozen from the bottom up while a stage lasts."""

    layers: int
    """How many layers, from the lowest; 0 when there is nothing to be saved."""
    pooled: bool = False
    """The whole backbone is frozen, and the head alone trains."""

    @property
    def name(self) -> str:
        """The name in keys and messages."""
        return POOLED if self.pooled else f"layer {self.layers}"


@dataclass(frozen=True)
class Form:
    """The shape in which a module hands on its states."""

    output: type | None = None
    """Class of a backbone's output; None for the output of a layer."""
    pooler: bool = False
    """The head reads the pooled output, and not the first token."""
    beside: int = 0
    """How many other values a layer returns after its states, all of them unused."""

    def wrap(self, states: torch.Tensor) -> Any:
        """Return an output that holds these states where the rest of the model looks for them."""
        if self.output is not None:
            sequence = states[:, None]
            return self.output(
                last_hidden_state=sequence, **{"pooler_output": states} if self.pooler else {}
            )
        return (states, *[None] * self.beside) if self.beside else states

    def unwrap(self, output: Any) -> torch.Tensor:
        """Take the states out of an output; of a backbone, one vector per text."""
        if self.output is None:
            return states_of(output)
        vectors: torch.Tensor = output["pooler_output"] if self.pooler else states_of(output)[:, 0]
        return vectors


@dataclass(frozen=True)
class States:
    """Output of the frozen part for every row of all splits."""

    values: np.ndarray
    """(rows, width) for vectors, (tokens, width) for sequences; bf16 as uint16."""
    ends: np.ndarray | None
    """(rows + 1,), where the tokens of each row begin; None for vectors."""
    dtype: torch.dtype
    """What the model computes there."""

    def batch(self, rows: Sequence[int], tokens: int, left: bool) -> torch.Tensor:
        """Return (texts, width), or (texts, tokens, width) with zeros for padding."""
        width = self.values.shape[-1]
        if self.ends is None:
            states = self.values[rows]
        else:
            states = np.zeros((len(rows), tokens, width), self.values.dtype)
            for line, row in zip(states, rows, strict=True):
                vectors = self.values[self.ends[row] : self.ends[row + 1]]
                line[tokens - len(vectors) if left else 0 :][: len(vectors)] = vectors
        tensor = torch.from_numpy(states)
        if states.dtype == np.uint16:
            tensor = tensor.view(torch.bfloat16)
        return tensor.to(self.dtype)


@dataclass
class Cut:
    """The cut of one model, stage by stage."""

    model: nn.Module
    parts: Parts
    levels: list[Level]
    """One per stage of unfreezing."""
    states: dict[str, States] = field(default_factory=dict)
    """By the name of the level."""
    left: bool = False
    """Batches are padded on the left."""
    forms: dict[str, Form] = field(default_factory=dict)
    """By the name of the level."""
    _level: Level | None = None
    _batch: torch.Tensor | None = None

    def use(self, stage: int) -> None:
        """Cut where the frozen part of this stage ends, or not at all; see `cut_model`."""
        self.use_level(self.levels[stage - 1])

    def use_level(self, level: Level | None) -> None:
        """Replace the forward passes below a level; None computes everything again."""
        for module in self.model.modules():
            # A `forward` of the instance hides the one of its class; without it, that is back.
            # Others', such as the Trainer's around the whole model for autocast, stay.
            if isinstance(module.__dict__.get("forward"), _Stored):
                del module.forward
        self._level = level if level and level.layers and level.name in self.states else None
        if self._level is None:
            return
        skipped = (
            [backbone(self.model)]
            if self._level.pooled
            else layer_modules(self.model, self.parts)[: self._level.layers]
        )
        form = self.forms[self._level.name]
        # Every layer below the cut hands on the states of the last one, whatever it is given. So
        # the loop over the layers, which is the model's own code, need not be touched, and what a
        # layer got from the embeddings and those before it does not matter.
        for module in skipped:
            module.forward = _Stored(self, form)

    def load(self, rows: torch.Tensor, tokens: int, device: torch.device) -> None:
        """Fetch the states of a batch, before the model is called with it."""
        if self._level is not None:
            states = self.states[self._level.name]
            # `forward` is given ids, but not which rows of the data they are; so states cannot be
            # looked up there, and whoever has the rows leaves them here first.
            self._batch = states.batch(rows.tolist(), tokens, self.left).to(device)

    def computes(self, tensor: Tensor, stage: int) -> bool:
        """Whether a tensor takes part in a forward pass of a stage."""
        level = self.levels[stage - 1]
        if level.name not in self.states:
            return True
        if level.pooled:
            return not in_backbone(self.model, tensor.name)
        return tensor.depth > level.layers or tensor.is_head

    @property
    def current(self) -> torch.Tensor:
        """States of the batch that was loaded last."""
        assert self._batch is not None, "a batch came without its rows"
        return self._batch


@contextmanager
def cut_model(cut: Cut | None) -> Iterator[None]:
    """Compute a model above its cut only while the block lasts, from the first stage on.

    Stages of gradual unfreezing move the cut meanwhile; see `Cut.use`.

    Args:
        cut: Its model is changed in place, and computes all of itself again afterwards. None
            leaves the model as it is.
    """
    if cut is None:
        yield
        return
    try:
        cut.use(1)
        yield
    finally:
        cut.use_level(None)


@dataclass
class _Stored:
    """Forward pass of a module that is not computed."""

    cut: Cut
    form: Form

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.form.wrap(self.cut.current)


def levels_of(model: nn.Module, report: FreezeReport) -> list[Level]:
    """Return the longest frozen part from the bottom up, per stage of unfreezing."""
    levels = []
    for stage in range(1, report.stages + 1):
        training = [t for t in report.tensors if t.trainable and t.stage <= stage]
        layers = max(min(t.depth for t in training) - 1, 0)
        top = max(t.depth for t in report.tensors)
        head_alone = layers == top - 1 and not any(in_backbone(model, t.name) for t in training)
        levels.append(Level(layers, pooled=head_alone))
    return levels


def layer_modules(model: nn.Module, parts: Parts) -> list[nn.Module]:
    """Return the layers that the parts name, from the lowest."""
    paths: dict[int, str] = {}
    for name, _ in model.named_parameters():
        if match := re.fullmatch(parts.get("layers") or "", adapters.original_name(name)):
            paths[int(match[1])] = adapters.original_name(name)[: match.end(1)]
    by_path = {adapters.original_name(name): module for name, module in model.named_modules()}
    return [by_path[paths[index]] for index in sorted(paths)]


def attention_of(layer: nn.Module, model: nn.Module, parts: Parts) -> nn.Module | None:
    """Return the block of a layer that lets tokens see each other, if it is one module."""
    pattern = re.compile(parts.get("attention") or "")
    path = next(name for name, module in model.named_modules() if module is layer)
    block_names = [
        name.split(".")[0]
        for name, _ in layer.named_parameters()
        if pattern.fullmatch(adapters.original_name(f"{path}.{name}"))
    ]
    return layer.get_submodule(block_names[0]) if len(set(block_names)) == 1 else None


@contextmanager
def first_token_alone(block: nn.Module) -> Iterator[None]:
    """Compute the modules behind an attention block for the first token of each text only."""

    def shorten(_: nn.Module, __: Any, output: Any) -> Any:
        states = states_of(output)[:, :1]
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handle = block.register_forward_hook(shorten)
    try:
        yield
    finally:
        handle.remove()


def backbone(model: Any) -> nn.Module:
    """Return the pretrained part below pooler or head, as transformers names it.

    Raises:
        CutError: It has no name.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    base_model = getattr(inner, getattr(inner, "base_model_prefix", "") or "?", None)
    if not isinstance(base_model, nn.Module) or base_model is inner:
        raise CutError("its backbone has no name")
    return base_model


def in_backbone(model: Any, name: str) -> bool:
    """Whether a parameter lies in the backbone."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    prefix = getattr(inner, "base_model_prefix", "")
    return adapters.original_name(name).startswith(f"{prefix}.")


class _EnoughError(Exception):
    """Stops a forward pass whose upper part is not needed."""


@contextmanager
def stopped_at(module: nn.Module) -> Iterator[list[Any]]:
    """End forward passes in the block at a module; its output is put into the list."""
    outputs: list[Any] = []

    def stop(_: nn.Module, __: Any, output: Any) -> None:
        outputs.append(output)
        raise _EnoughError

    handle = module.register_forward_hook(stop)
    try:
        yield outputs
    except _EnoughError:
        pass
    finally:
        handle.remove()


def states_of(output: Any) -> torch.Tensor:
    """Return the hidden states in the output of a layer or backbone.

    Raises:
        CutError: There are none.
    """
    if isinstance(output, Mapping):
        output = output.get("last_hidden_state")
    elif isinstance(output, tuple) and output:
        output = output[0]
    if not isinstance(output, torch.Tensor) or output.ndim != 3:
        raise CutError("a layer does not give states of shape (texts, tokens, width)")
    return output


def layer_form(model: nn.Module, layer: nn.Module, batch: Mapping[str, torch.Tensor]) -> Form:
    """Return the form of a layer's output.

    Raises:
        CutError: No states.
    """
    with torch.no_grad(), stopped_at(layer) as outputs:
        model(**batch)
    states_of(outputs[0])
    return Form(beside=len(outputs[0]) - 1 if isinstance(outputs[0], tuple) else 0)


def pooled_form(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Form:
    """Find by gradients what the head uses of the backbone's output, and return its form.

    Raises:
        CutError: The head uses more than one vector per text.
    """
    body = backbone(model)
    with torch.no_grad(), stopped_at(body) as outputs:
        model(**batch)
    (output,) = outputs
    if not isinstance(output, Mapping):
        raise CutError("its backbone does not name its outputs")
    tensors = {k: v for k, v in output.items() if v is not None}
    if getattr(getattr(model, "config", None), "pooling", None):
        # Every token is the one vector, of which whatever else is handed on is made.
        tensors = {"last_hidden_state": states_of(output)[:, :1]}
    leaves = {k: v.detach().float().requires_grad_() for k, v in tensors.items()}
    # The backbone gives back what it gave before, as leaves of a graph of their own: whatever the
    # head does with them, their gradients show which of them it reads.
    body.forward = lambda *_, **__: type(output)(**leaves)
    try:
        with torch.enable_grad():
            logits = model(**batch).logits
        grads = torch.autograd.grad(
            logits.float().square().sum(), [*leaves.values()], allow_unused=True
        )
    finally:
        del body.forward
    used = {name: grad for name, grad in zip(leaves, grads, strict=True) if grad is not None}
    if set(used) == {"pooler_output"}:
        return Form(type(output), pooler=True)
    if set(used) == {"last_hidden_state"} and not bool(used["last_hidden_state"][:, 1:].any()):
        return Form(type(output))
    raise CutError("its head uses more than one vector per text")
