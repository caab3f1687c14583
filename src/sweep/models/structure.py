"""Find the parts of an architecture that has no entry in families.yaml, from how it is built."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedModel

_NUMBERED = re.compile(r"(.+?)\.(\d+)\.(\w+)\..+")
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_EMBEDDING = re.compile(r"emb|^w[tp]e$", re.IGNORECASE)
_BEHIND = re.compile(r"final|out|pool|norm", re.IGNORECASE)
"""Modules that some architectures register before the layers, but run after them."""


def find_parts(model: PreTrainedModel) -> dict[str, str | None] | None:
    """Return the part patterns of a model, or None where its structure leaves a doubt.

    There is a doubt where the numbered blocks are not as many as config.json's layers (shared
    layers), where there are two stacks of them (encoder and decoder), where none of a block's
    modules is an attention, or where nothing stands outside the pretrained backbone.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        return None
    names = [name for name, _ in model.named_parameters()]
    backbone = model.base_model_prefix + "."
    heads = [name for name in names if not name.startswith(backbone)]
    stacks: dict[str, set[int]] = {}
    for name in set(names) - set(heads):
        if match := _NUMBERED.fullmatch(name):
            stacks.setdefault(match[1], set()).add(int(match[2]))
    count = getattr(model.config, "num_hidden_layers", None)
    full = [prefix for prefix, numbers in stacks.items() if numbers == set(range(count or 0))]
    if len(full) != 1 or not heads:
        return None
    stack = full[0]
    attention, feed_forward = _children(model, stack)
    if not attention:
        return None
    block = rf"{re.escape(stack)}\.\d+\."
    outside = [name for name in names if name.startswith(backbone) and not _within(name, stack)]
    first = next(i for i, name in enumerate(names) if _within(name, stack))
    before = set(names[:first])
    embeddings = [name for name in outside if _embeds(model, name, name in before)]
    norms = {n for n, module in model.named_modules() if "Norm" in type(module).__name__}
    return {
        "embeddings": _any_of(embeddings),
        "layers": rf"{re.escape(stack)}\.(\d+)\..*",
        "attention": rf"{block}({'|'.join(attention)})\..*",
        "feed_forward": rf"{block}({'|'.join(feed_forward)})\..*" if feed_forward else None,
        "layer_norm": _any_of(name for name in names if name.rpartition(".")[0] in norms),
        "bias": r".*\.bias" if any(name.endswith(".bias") for name in names) else None,
        "pooler": _any_of(name for name in outside if name not in embeddings),
        "head": _any_of(heads),
    }


def _children(model: Module, stack: str) -> tuple[list[str], list[str]]:
    """Return the names of a block's attention modules, and of what else in it is no norm."""
    children: dict[str, Module] = {}
    for block in model.get_submodule(stack).children():
        children |= dict(block.named_children())
    weighty = [
        name
        for name, module in children.items()
        if "Norm" not in type(module).__name__ and any(True for _ in module.parameters())
    ]
    attention = [name for name in weighty if _ATTENTION.search(name)]
    return attention, [name for name in weighty if name not in attention]


def _within(name: str, stack: str) -> bool:
    return re.match(rf"{re.escape(stack)}\.\d+\.", name) is not None


def _embeds(model: Module, name: str, is_before: bool) -> bool:
    from torch.nn import Embedding

    steps = name.split(".")[1:]  # without the backbone's own name
    if isinstance(model.get_submodule(name.rpartition(".")[0]), Embedding):
        return True
    return any(_EMBEDDING.search(step) for step in steps) or (
        is_before and not any(_BEHIND.search(step) for step in steps)
    )


def _any_of(names: Iterable[str]) -> str | None:
    """Return a pattern of these names, layers' numbers left open; None for no name."""
    shapes = dict.fromkeys(re.sub(r"\\\.\d+(?=\\\.)", r"\\.\\d+", re.escape(n)) for n in names)
    return "|".join(shapes) or None
