"""What several test modules need beside the fixtures."""

from __future__ import annotations

import copy
import functools

from sweep.compose import compose_jobs
from sweep.config import Config, FreezeConfig


@functools.cache
def _composed(overrides: tuple[str, ...]) -> Config:
    (job,) = compose_jobs(overrides)
    return job.cfg


def compose(*overrides: str) -> Config:
    """The one configuration that these overrides of the real conf/ make; a copy to change."""
    return copy.deepcopy(_composed(overrides))


def strategy(name: str) -> FreezeConfig:
    """An option of the group freeze; a copy to change."""
    return compose(f"freeze={name}").freeze
