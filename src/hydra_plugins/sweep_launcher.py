"""The launcher `local`, in the one package that Hydra takes launchers from.

Every program that uses Hydra loads this file where sweep is installed, so it is light.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Gives all runs to the scheduler at once, which starts `jobs` of them at a time."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the task, a `sweep.execution.launcher.Task`."""
        self._task: Any = task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Do the runs with these numbers; one that was never begun has no known status."""
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        records = self._task.together(numbers)
        return [
            JobReturn(
                overrides=overrides,
                status=JobStatus.UNKNOWN if record is None else JobStatus.COMPLETED,
                _return_value=record,
            )
            for overrides, record in zip(job_overrides, records, strict=True)
        ]
