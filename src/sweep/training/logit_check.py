"""Check, before training, that a model computes the same in ways that have to agree.

A few texts of the data are computed in one padded batch, one by one, and with faster kernels. What
differs by more than rounding points to a pad token, a padding side or a pooling that the model does
not expect, or to a kernel that it does not get along with: Falcon, for one, compares the name of
its attention with "sdpa" and computes something else for any other name, without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sweep.base.device import Hardware
from sweep.base.words import Remark
from sweep.data.collate import Padding
from sweep.data.encode import Encoded
from sweep.features.frozen_part import FrozenPart
from sweep.models import cpu_kernels
from sweep.models.cpu_kernels import ATTENTION, NORMS
from sweep.models.modes import evaluating

TEXTS = 4
"""How many are computed, from the shortest to one that is longer than three quarters of them."""
EXACT, LOOSE = 0.01, 0.1
"""Largest difference of a logit, in units of how far the texts' logits lie apart: in fp32, and
where weights or sums have 8 bits of mantissa. A wrong mask is off by about 1."""
ROUNDINGS = 4
"""How many times its own rounding error a model may be off with kernels, in bf16."""

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class LogitCheck:
    """The kernels that a model may be trained with, and remarks on them."""

    kernels: frozenset[str]
    """Those of `cpu_kernels.KERNELS` with which the model computes what it does without."""
    notes: list[str]


def check(part: FrozenPart) -> LogitCheck:
    """Compare the logits of a few texts, computed in several ways.

    Nothing that a training depends on changes: neither weights nor modes, nor the state of torch's
    generators. A model is not refused for an answer that depends on its batch: some do by design
    (FNet has no mask), and all runs of a comparison do alike. It is said.

    Args:
        part: Its model has its strategy applied, and is moved to where it trains.
    """
    kernels = cpu_kernels.available(part.hardware, part.cfg.trainer.torch_compile)
    texts, tokenizer = part.tokens.encoded["train"], part.loaded.tokenizer
    return compare(part.model, tokenizer, texts, part.hardware, kernels)


def compare(
    model: nn.Module,
    tokenizer: Any,
    texts: Encoded,
    hardware: Hardware,
    kernels: frozenset[str] = frozenset(),
) -> LogitCheck:
    """Do what `check` does.

    Args:
        model: Moved to where it trains.
        tokenizer: Pads the batch.
        texts: A few of them are taken.
        hardware: What the run computes on.
        kernels: Those to be tried.
    """
    if next(model.parameters()).device.type != hardware.device:  # where the Trainer would put it
        model.to(hardware.device)
    examples = [_inputs(texts[index]) for index in _spread(texts.lengths)]
    pad = Padding.of(tokenizer, None)
    notes: list[Remark] = []
    devices = [torch.cuda.current_device()] if hardware.device == "cuda" else []
    with evaluating(model), torch.no_grad(), torch.random.fork_rng(devices):
        ways = _Ways(model, pad(examples), hardware)
        alone = torch.cat([ways.logits(pad([example])) for example in examples])
        if not ways.is_close(alone, ways.plain):
            notes.append(Remark("note.batched", ways.difference(alone)))
        usable = next(few for few in _fewer(kernels) if ways.agree(few))
        if left := sorted(kernels - usable):
            notes.append(Remark("note.kernels", {"names": ", ".join(left)}))
    return LogitCheck(usable, [str(note) for note in notes])


@dataclass
class _Ways:
    """One batch, computed in several ways."""

    model: nn.Module
    batch: Batch
    hardware: Hardware

    def __post_init__(self) -> None:
        self.plain = self.logits(self.batch)
        """(texts, classes), in fp32, all texts in one batch, without kernels."""
        exact = all(p.dtype == torch.float32 for p in self.model.parameters())
        self._apart = _spread_of(self.plain)
        # Rounding grows with the logits, also where a fresh head gives all texts nearly the same.
        floor = 0.01 if exact else 0.1
        size = max(self._apart, floor * float(self.plain.abs().max()))
        self._allowed = (EXACT if exact else LOOSE) * size
        self._rounded: torch.Tensor | None = None

    def logits(self, batch: Batch, rounded: bool = False) -> torch.Tensor:
        """Return (texts, classes) of a batch, in fp32 or rounded to the precision of the run."""
        there = {name: values.to(self.hardware.device) for name, values in batch.items()}
        with self.hardware.autocast() if rounded else nullcontext():
            logits: torch.Tensor = self.model(**there).logits
        return logits.float()

    def is_close(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        """Whether two computations in fp32 give the same but for rounding."""
        return float((one - other).abs().max()) <= self._allowed

    def difference(self, other: torch.Tensor) -> dict[str, str]:
        """Return the distance of another computation, for a note."""
        off = float((other - self.plain).abs().max())
        return {"off": f"{off:.2g}", "apart": f"{self._apart:.2g}"}

    def agree(self, kernels: frozenset[str]) -> bool:
        """Whether these kernels change nothing, in fp32 and in the precision of the run."""
        if not kernels:
            return True
        try:
            with cpu_kernels.faster(self.model, kernels):
                exact = self.logits(self.batch)
                rounded = self.logits(self.batch, rounded=True)
        except Exception:  # a model's own code may take a kernel in any way
            return False
        return self.is_close(exact, self.plain) and self._is_rounding(rounded)

    def _is_rounding(self, rounded: torch.Tensor) -> bool:
        if self.hardware.precision == "fp32":
            return True
        if self._rounded is None:
            self._rounded = self.logits(self.batch, rounded=True)
        usual = float((self._rounded - self.plain).abs().max())
        allowed = max(ROUNDINGS * usual, LOOSE * self._apart)
        return float((rounded - self.plain).abs().max()) <= allowed


def _fewer(kernels: frozenset[str]) -> Iterator[frozenset[str]]:
    """Yield all kernels, then fewer and fewer of them."""
    for without in ({*()}, {ATTENTION}, {NORMS}, {ATTENTION, NORMS}):
        yield kernels - without
    yield frozenset()


def _spread_of(logits: torch.Tensor) -> float:
    return float((logits - logits.mean(0)).abs().max())


def _spread(lengths: list[int]) -> list[int]:
    """Return examples of several lengths but the longest, which would take most of the time."""
    order = np.argsort(lengths, kind="stable")
    picked = np.linspace(0, 0.75 * (len(order) - 1), min(TEXTS, len(order)))
    return [int(order[i]) for i in dict.fromkeys(picked.astype(int))]


def _inputs(example: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in example.items() if name not in ("labels", "row")}
