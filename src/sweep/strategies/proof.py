"""Proof that a strategy does what it says: checked in every run, before, while and after training.

Before: what trains and what is frozen are all parameters, and the head trains. In the first step
of every tensor: its gradient is there and finite, and the optimizer holds state for nothing that
is frozen. After: frozen tensors have every bit they were loaded with, trained ones have moved. A
saved model has to give the same predictions when it is loaded again. Whatever does not hold
raises ProofError, and the run has failed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import TrainerCallback

from sweep.base.words import Remark, Text, from_json, to_json
from sweep.models.quantization import packed_state
from sweep.strategies.freeze import frozen_modules
from sweep.strategies.freeze_report import FreezeReport, Tensor
from sweep.strategies.selection import HEAD, few

TOLERANCE = 1e-4
"""Largest difference of a probability between a model and its saved copy. The copy computes with
the same weights, batches and precision, so it is 0 on one machine; an untrained head or a missing
adapter is off by far more."""
LOOKS = 5
"""Steps in which a tensor is looked at, from its first one on. The first may prove little: the
rate of a warm-up starts at 0, and one half of LoRA gets gradients once the other has moved."""


class ProofError(RuntimeError):
    """A strategy did not do what it says."""


@dataclass
class Proof(TrainerCallback):
    """Watches one training; its notes name trained tensors that were not used or did not move."""

    model: nn.Module
    report: FreezeReport
    off_the_clock: Callable[[], AbstractContextManager[None]] = nullcontext
    notes: list[Text] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_start(self.model, self.report)
        self._before = checksums(self.model)
        self._parameters = dict(self.model.named_parameters())
        self._looks = {t.name: LOOKS for t in self.report.tensors if t.trainable}
        self._must_move: set[str] = set()
        self._unused: set[str] = set()
        self._moved: set[str] = set()
        self._rate = 0.0

    def keep(self) -> dict[str, Any]:
        """Return the state that a checkpoint has to keep."""
        return {
            "looks": self._looks,
            "must_move": sorted(self._must_move),
            "unused": sorted(self._unused),
            "moved": sorted(self._moved),
            "rate": self._rate,
            "notes": to_json(self.notes),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `keep` gave; what is compared with stays what was loaded at first."""
        self._looks, self._rate = state["looks"], state["rate"]
        self.notes = [from_json(note) for note in state["notes"]]
        self._must_move, self._unused = set(state["must_move"]), set(state["unused"])
        self._moved = set(state["moved"])

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Look at tensors in their first steps."""
        if not self._looks or getattr(optimizer, "step_was_skipped", False):
            return  # fp16 skips steps until it has found a scale that does not overflow
        with self.off_the_clock():
            awake = [name for name in self._looks if self._parameters[name].requires_grad]
            new = [name for name in awake if self._looks[name] == LOOKS]
            if new:
                self._check_first_step(new)
                check_state(self._parameters, optimizer)
            self._look(awake, optimizer)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the last weights, before they are replaced with the best ones."""
        if args.load_best_model_at_end and state.global_step >= state.max_steps:
            with self.off_the_clock():
                self._moved = self._changed()

    def finish(self, optimizer: Any = None) -> None:
        """Compare every tensor with what it was before the training.

        Args:
            optimizer: The one that trained; None for a head that was solved.

        Raises:
            ProofError: A frozen one changed, or a trained one did not.
        """
        if optimizer is not None:
            check_state(self._parameters, optimizer)
        trained = {t.name for t in self.report.tensors if t.trainable}
        changed = self._changed()
        if broken := sorted(changed - trained):
            raise ProofError(f"frozen tensors changed while training: {few(broken)}")
        changed |= self._moved
        if stuck := sorted(self._must_move - changed):
            raise ProofError(f"trained tensors got gradients but did not change: {few(stuck)}")
        if not changed and self._rate:
            raise ProofError("nothing changed while training; raise optimizer.learning_rate")
        if still := sorted(trained - changed - self._unused):
            key = "note.small_gradients" if self._rate else "note.no_rate"
            self.notes.append(Remark(key, {"names": few(still)}))

    def _changed(self) -> set[str]:
        after = checksums(self.model)
        return {n for n in after.keys() | self._before if after.get(n) != self._before.get(n)}

    def _check_first_step(self, names: list[str]) -> None:
        gradients = {n: g for n in names if (g := self._parameters[n].grad) is not None}
        bad = [name for name, grad in gradients.items() if not bool(torch.isfinite(grad).all())]
        if bad:
            raise ProofError(f"gradients are not finite in the first step of: {few(bad)}")
        groups: dict[str, list[str]] = {}
        for tensor in self.report.tensors:
            if tensor.name in names and (group := self._group(tensor)):
                groups.setdefault(group, []).append(tensor.name)
        dead = [group for group, members in groups.items() if not gradients.keys() & set(members)]
        if dead:
            raise ProofError(f"no gradient reaches {', '.join(dead)}, although it should train")
        if unused := [name for name in names if name not in gradients]:
            self._unused |= set(unused)
            self.notes.append(Remark("note.unused", {"names": few(unused)}))

    def _group(self, tensor: Tensor) -> str:
        """Name the group that needs some gradient; a single tensor or a pooler may be unused."""
        if tensor.is_head:
            return HEAD
        top = max(t.depth for t in self.report.tensors)
        return f"layer {tensor.depth - 1}" if 0 < tensor.depth < top else ""

    def _look(self, names: list[str], optimizer: Any) -> None:
        """Find the tensors that this step moves for certain; the rest gets a few more looks."""
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for name in names:
            parameter = self._parameters[name]
            if id(parameter) not in rates:
                raise ProofError(f"the optimizer does not hold a tensor that trains: {name}")
            self._looks[name] -= 1
            self._rate = max(self._rate, rates[id(parameter)])
            if parameter.grad is None:
                del self._looks[name]
                continue
            # A step below the last bit of the largest value proves nothing about the others.
            step = float(parameter.grad.abs().max()) * rates[id(parameter)]
            if step > torch.finfo(parameter.dtype).eps * float(parameter.detach().abs().max()):
                self._must_move.add(name)
            if name in self._must_move or not self._looks[name]:
                del self._looks[name]


def check_start(model: nn.Module, report: FreezeReport) -> None:
    """Compare the model with the report of its strategy.

    Raises:
        ProofError: Trained and frozen are not all, or the head is frozen.
    """
    parameters = dict(model.named_parameters())
    reported = {tensor.name: tensor for tensor in report.tensors}
    if missing := sorted(parameters.keys() ^ reported.keys()):
        raise ProofError(f"neither trained nor frozen by the strategy: {few(missing)}")
    wrong = [name for name, p in parameters.items() if p.requires_grad != reported[name].trainable]
    heads = [tensor.name for tensor in report.tensors if tensor.is_head]
    if frozen := [name for name in heads if not parameters[name].requires_grad] or (
        [] if heads else ["it has no tensors"]
    ):
        raise ProofError(f"the head does not train: {few(frozen)}")
    if wrong:
        raise ProofError(f"not what the strategy says about training: {few(wrong)}")


def check_state(parameters: dict[str, nn.Parameter], optimizer: Any) -> None:
    """Raise ProofError if the optimizer holds state for a tensor that does not train now."""
    held = {id(parameter) for parameter, state in optimizer.state.items() if state}
    wasted = [n for n, p in parameters.items() if id(p) in held and not p.requires_grad]
    if wasted:
        raise ProofError(f"the optimizer holds state for frozen tensors: {few(wasted)}")


def check_saved(original: np.ndarray, again: np.ndarray) -> None:
    """Compare probabilities of the trained model with those of its saved copy, loaded again.

    Raises:
        ProofError: They differ by more than TOLERANCE.
    """
    difference = float(np.abs(original - again).max())
    if not difference <= TOLERANCE:
        raise ProofError(
            "the saved model gives other predictions when it is loaded again: probabilities differ"
            f" by up to {difference:.2g}, and {TOLERANCE:g} is allowed"
        )


def checksums(model: nn.Module) -> dict[str, str]:
    """Return the SHA-256 of each parameter, with a packed one's constants, and frozen statistic."""
    tensors = {name: [p, *packed_state(p)] for name, p in model.named_parameters()}
    tensors |= {name: [buffer] for name, buffer in _frozen_buffers(model)}
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # hashing lets other threads work
        return dict(zip(tensors, pool.map(_checksum, tensors.values()), strict=True))


def _frozen_buffers(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    frozen = {id(module) for module in frozen_modules(model)}
    for prefix, module in model.named_modules():
        if id(module) in frozen:
            for name, buffer in module.named_buffers(recurse=False):
                yield f"{prefix}.{name}", buffer


def _checksum(tensors: Iterable[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(str(flat.dtype).encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
