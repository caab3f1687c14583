"""Gradual unfreezing, and learning rates that fall from the head down to the embeddings.

Both are from ULMFiT (Howard and Ruder 2018, 1801.06146).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import TrainerCallback

from sweep.base.words import Remark, Text
from sweep.strategies.freeze_report import FreezeReport, Tensor


@dataclass
class Thaw(TrainerCallback):
    """Lets the tensors of each stage begin to train, at equal shares of all optimizer steps.

    The optimizer is given all tensors before the first step, so it never has to be made anew; it
    holds no state for a tensor that has not had a gradient.
    """

    model: nn.Module
    report: FreezeReport
    on_stage: Callable[[int], None] = lambda stage: None
    """Told the number of each stage when it begins."""
    begun: list[dict[str, Any]] = field(default_factory=list)
    """Per stage that has begun: its number, the optimizer step, the epoch, and what it thawed."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop gradients for all that waits."""
        self._require_grad(range(2, self.report.stages + 1), False)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin the stages whose step has come."""
        stages = self.report.stages
        while len(self.begun) < stages and (
            state.global_step >= round(len(self.begun) * state.max_steps / stages)
        ):
            stage = len(self.begun) + 1
            self._require_grad(range(stage, stage + 1), True)
            self.on_stage(stage)
            self.begun.append(
                {
                    "stage": stage,
                    "step": state.global_step,
                    "epoch": round(state.epoch or 0.0, 2),
                    "thawed": self._thawed(stage),
                }
            )

    def keep(self) -> list[dict[str, Any]]:
        """Return the state that a checkpoint has to keep."""
        return self.begun

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Go on from what `keep` gave: stages that have begun train again."""
        self.begun = state
        self._require_grad(range(1, len(state) + 1), True)
        if state:
            self.on_stage(len(state))

    @property
    def notes(self) -> list[Text]:
        """One line per stage."""
        return [Remark("note.stage", self._values(s)) for s in self.begun]

    def _values(self, begun: dict[str, Any]) -> dict[str, object]:
        shown = {"epoch": f"{begun['epoch']:g}", "names": ", ".join(begun["thawed"])}
        counted = {"stage": begun["stage"], "step": begun["step"], "stages": self.report.stages}
        return {**shown, **counted}

    def _require_grad(self, stages: range, value: bool) -> None:
        names = {t.name for t in self.report.tensors if t.trainable and t.stage in stages}
        for name, parameter in self.model.named_parameters():
            if name in names:
                parameter.requires_grad_(value)

    def _thawed(self, stage: int) -> list[str]:
        """Name the tensors that begin in a stage, from the top: head, layer 5, embeddings."""
        starting = [t for t in self.report.tensors if t.trainable and t.stage == stage]
        top = max(t.depth for t in self.report.tensors)
        starting.sort(key=lambda t: (not t.is_head, -t.depth))
        return list(dict.fromkeys(_place(tensor, top) for tensor in starting))


def _place(tensor: Tensor, top: int) -> str:
    if tensor.depth == 0:
        return "embeddings"
    if tensor.depth < top:
        return f"layer {tensor.depth - 1}"
    return "head" if tensor.is_head else "pooler"


def discriminate(optimizer: Any, model: nn.Module, report: FreezeReport, decay: float) -> None:
    """Split the optimizer's groups by depth; each depth learns `decay` times as fast as the next.

    Args:
        optimizer: Changed in place, before its first step.
        model: What it trains.
        report: Knows the depth of every tensor.
        decay: Above 0, up to 1, which changes nothing.
    """
    depths = {tensor.name: tensor.depth for tensor in report.tensors}
    depth_of = {id(p): depths[name] for name, p in model.named_parameters()}
    top = max(depths.values())
    groups = []
    for depth in range(top, -1, -1):  # the top first: the Trainer logs the rate of the first group
        for group in optimizer.param_groups:
            members = [p for p in group["params"] if depth_of[id(p)] == depth]
            rate = group["lr"] * decay ** (top - depth)
            if members:
                groups.append({**group, "params": members, "lr": rate})
    optimizer.param_groups[:] = groups
