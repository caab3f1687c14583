"""Count the optimizer steps of a training; `trainer.num_train_epochs=auto` is settled here.

One epoch of few texts is a handful of steps, so a fixed number of epochs says little about how far
a strategy can get. `auto` is a floor in both, the same for every strategy.
"""

from __future__ import annotations

import math
from dataclasses import replace

from sweep.config.schema import TrainerConfig

AUTO = "auto"
LEAST_STEPS = 200
LEAST_EPOCHS = 2


def steps(trainer: TrainerConfig, train_examples: int) -> int:
    """Return the optimizer steps of a training that nothing stops early."""
    if trainer.max_steps > 0:
        return trainer.max_steps
    each = _steps_per_epoch(trainer, train_examples)
    if trainer.num_train_epochs == AUTO:
        return max(LEAST_STEPS, LEAST_EPOCHS * each)
    return max(1, math.ceil(float(trainer.num_train_epochs) * each))


def settled(trainer: TrainerConfig, train_examples: int) -> TrainerConfig:
    """Return the settings with numbers of epochs and steps in place of `auto`."""
    if trainer.num_train_epochs != AUTO:
        return trainer
    count = steps(trainer, train_examples)
    epochs = count / _steps_per_epoch(trainer, train_examples)
    return replace(trainer, max_steps=count, num_train_epochs=epochs)


def _steps_per_epoch(trainer: TrainerConfig, train_examples: int) -> int:
    batches = math.ceil(train_examples / trainer.per_device_train_batch_size)
    return max(1, math.ceil(batches / trainer.gradient_accumulation_steps))
