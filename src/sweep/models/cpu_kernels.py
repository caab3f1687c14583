"""Kernels that beat PyTorch's own on a CPU: dropout, attention over short texts, norms.

CPU time on one AVX-512 core, bf16, batch 64 of 40 tokens, MiniLM, forward and backward, medians of
6 to 9: dropout of the hidden states 7.2 -> 4.2 ms (fp32); attention with dropout 56 -> 19 ms,
because PyTorch has no fused kernel for it; attention without dropout 102 -> 19 ms, because the
backward pass of the fused kernel is made for long texts. A whole training step: none 1.07 -> 0.91
s, attention 0.79 -> 0.68 s, feed_forward 1.00 -> 0.78 s. With norms that hand on bf16, a step of
none takes 0.95 of the time, one of attention 0.96 (two threads, 32 batches, each both ways).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from sweep.base.device import Hardware

ATTENTION, DROPOUT, NORMS = "attention", "dropout", "norms"
KERNELS = frozenset({ATTENTION, DROPOUT, NORMS})
NAME = "sweep_cpu"
"""Of the attention, as transformers knows it."""
LEVELS = 2**16
"""Probabilities of dropout are rounded to a multiple of 1 / LEVELS."""
FUSED_FROM = 128
"""Tokens from which scores of all pairs take more time than the fused kernel; a forward pass alone
takes 5.8 and 8.2 ms at 40 tokens, 48 and 37 ms at 128."""


class Dropout(nn.Dropout):
    """As `nn.Dropout`, with masks from 16 random bits per element in place of a float."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop elements; the others are scaled by the share that the rounded probability keeps."""
        if not self.training or not self.p or x.device.type != "cpu" or self.inplace:
            return super().forward(x)
        return drop(x, self.p)


class LayerNorm(nn.LayerNorm):
    """As `nn.LayerNorm`, but hands on the type that autocast computes in.

    PyTorch's keeps the fp32 of its input, and each of the three projections that read it makes a
    bf16 copy of its own, forward and backward. Mean and variance are fp32 here as well. Where a
    norm follows each sum, as in BERT, the sums between layers are bf16 too.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize; the result has the type of `x` without autocast, else that of autocast."""
        normalized = super().forward(x)
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return normalized.to(torch.get_autocast_dtype("cpu"))
        return normalized


def drop(x: torch.Tensor, p: float) -> torch.Tensor:
    """Zero each element with probability p, rounded to 2^-16, and scale the others."""
    return cast(torch.Tensor, _Drop.apply(x, p))  # type: ignore[no-untyped-call]


def available(hardware: Hardware, compiled: bool) -> frozenset[str]:
    """Return which of `KERNELS` a run could use; whether its model may, `agreement` finds out."""
    return KERNELS if hardware.device == "cpu" and not compiled else frozenset()


@contextmanager
def faster(model: nn.Module, kernels: Collection[str]) -> Iterator[None]:
    """Compute dropout, attention and norms of a model as here while the block lasts.

    Draws come from torch's generator, so that a seed decides them and a checkpoint restores them;
    they are others than those of `nn.Dropout`.

    Args:
        model: Changed in place. Afterwards its modules have their own classes again, and its
            configurations name the attention that they named before.
        kernels: Some of `KERNELS`.
    """
    with ExitStack() as undo:
        for name, module in model.named_modules():
            if (faster_class := _faster_class(name, module, kernels)) is not None:
                # Only the class changes: the module stays the object that optimizers, hooks,
                # adapters and checkpoints know, and its weights stay where they are.
                undo.callback(setattr, module, "__class__", type(module))
                module.__class__ = faster_class
        if ATTENTION in kernels:
            _use_attention(model, undo)
        yield


def _faster_class(name: str, module: nn.Module, kernels: Collection[str]) -> type | None:
    # Subclasses are left alone: what else they do is not known.
    if type(module) is nn.Dropout and DROPOUT in kernels:
        return Dropout
    # Outside of what is numbered, a norm may begin a sum that all layers add to, as in ModernBERT;
    # so many additions would be rounded that it stays fp32.
    inner = any(part.isdigit() for part in name.split("."))
    return LayerNorm if type(module) is nn.LayerNorm and inner and NORMS in kernels else None


def _use_attention(model: nn.Module, undo: ExitStack) -> None:
    """Name the attention of this module in every configuration of a model that names sdpa."""
    # A model looks up its attention and the mask for it by name, in every forward pass.
    for table, function in ((AttentionInterface, attention), (AttentionMaskInterface, sdpa_mask)):
        if NAME not in table._global_mapping:  # a block inside another one leaves it to that
            table.register(NAME, function)
            undo.callback(table._global_mapping.pop, NAME)  # there is no way to unregister
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        # Layers mostly share one configuration; those of an encoder and a decoder differ.
        if getattr(config, "_attn_implementation", None) == "sdpa":
            # Setting it would also set that of all parts, which may differ and come by themselves.
            undo.callback(setattr, config, "_attn_implementation_internal", "sdpa")
            config._attn_implementation_internal = NAME


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention over short texts, or with dropout; PyTorch does everything else.

    Whether gradients are wanted does not matter, so that frozen layers have the same last bits
    with and without activation checkpointing.
    """
    plain = query.shape == key.shape and query.device.type == "cpu"
    special = any(kwargs.get(name) is not None for name in ("position_bias", "softcap", "cache"))
    causal = kwargs.get("is_causal") or getattr(module, "is_causal", False)
    if not plain or special or causal or (not dropout and key.shape[2] >= FUSED_FROM):
        return cast(
            tuple[torch.Tensor, None],
            sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout, scaling, **kwargs
            ),
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scale, key.transpose(2, 3))  # (texts, heads, tokens, tokens)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    if dropout:
        weights = drop(weights, dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


class _Drop(torch.autograd.Function):
    """Dropout whose mask is kept as factors, as PyTorch keeps its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float) -> torch.Tensor:
        dropped = min(round(p * LEVELS), LEVELS - 1)
        bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        keep = bits.view(torch.int16)[: x.numel()] >= dropped - LEVELS // 2
        factors = keep.view(x.shape).to(x.dtype).mul_(LEVELS / (LEVELS - dropped))
        ctx.save_for_backward(factors)
        return x * factors

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (factors,) = ctx.saved_tensors
        return grads[0] * factors, None
