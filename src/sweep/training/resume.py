"""Stops a training between two steps when asked, and keeps what it needs to go on bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from sweep.training.checkpoint import is_whole, seal
from sweep.training.stopping import Stopped, StopRequest

State = dict[str, tuple[Callable[[], Any], Callable[[Any], None]]]
"""By name, what gives a JSON value to keep and what takes it back."""


@dataclass
class Keeper(TrainerCallback):
    """Watches one training.

    A step's log, evaluation and save are over when the next one begins. In the first step of an
    epoch the data order has been drawn already, so there it stops before that, as the epoch begins.
    """

    trainer: Any
    stop: StopRequest
    state: State = field(default_factory=dict)
    resumed: dict[str, Any] | None = None
    """What was kept, when the training goes on from a checkpoint."""
    _epoch_step: int = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Hand back what was kept."""
        if self.resumed is not None:
            for name, (_, restore) in self.state.items():
                restore(self.resumed[name])

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say which epoch's order comes next; stop here if asked."""
        if self.trainer.order is not None:
            self.trainer.order.epoch = int(state.epoch or 0)
        self._epoch_step = state.global_step
        self._stop_if_asked(state)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop here if asked."""
        if state.global_step > self._epoch_step:
            self._stop_if_asked(state)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Complete a checkpoint that the Trainer has just written."""
        self._seal(state)

    def _stop_if_asked(self, state: Any) -> None:
        if not self.stop.asked:
            return
        # A resumed training that is stopped before its first step has not yet got its random state.
        if state.global_step and not is_whole(self._folder(state)):
            self.trainer._save_checkpoint(self.trainer.model, trial=None)
            self._seal(state)
        raise Stopped(state.global_step)

    def _seal(self, state: Any) -> None:
        state_by_name = {name: give() for name, (give, _) in self.state.items()}
        seal(self._folder(state), state.global_step, state_by_name)

    def _folder(self, state: Any) -> Path:
        return Path(self.trainer.args.output_dir) / f"checkpoint-{state.global_step}"
