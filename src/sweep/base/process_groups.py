"""Refuse to be one of several processes that were started together, as torchrun does it.

A run is one process on one device. accelerate would join the runs of such processes, which are
different ones, into one training, and each would be recorded as if it had been alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

from sweep.config.schema import ConfigError

SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
OTHERS = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
PREFIXES = (
    *("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_", "TORCHELASTIC_", "GROUP_", "ROLE_"),
    *("OMPI_COMM_", "PMI_", "PMIX_", "MV2_COMM_", "MPI_LOCAL"),
)
"""Of what torchrun, accelerate launch and mpirun tell a process about the others."""


def refuse(environment: Mapping[str, str] = os.environ) -> None:
    """Raise if this is one of several processes.

    Raises:
        ConfigError: With the variable that says so.
    """
    sizes = [(name, 2) for name in SIZES]
    for name, least in [*sizes, ("PMIX_RANK", 1), *_slurm(environment)]:
        if _number(environment.get(name)) >= least:
            raise ConfigError(
                f"{name}={environment[name]} says that this is one of several processes, as"
                " torchrun, accelerate launch, mpirun and srun start them, and a run uses one."
                " Start python -m sweep once, without them: jobs=N does N runs at a time, each on"
                f" a GPU of its own where there are several. If nothing did so, unset {name}."
            )


def forget(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove what would tell a library of other processes, such as a WORLD_SIZE=1 of a job."""
    for name in list(environment):
        if name in (*SIZES, *OTHERS) or name.startswith(PREFIXES):
            del environment[name]


def _slurm(environment: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return the signs of other tasks: a batch script has a number of tasks too, but is alone."""
    if "SLURM_STEP_ID" not in environment:
        return [("SLURM_PROCID", 1)]
    of_step = "SLURM_STEP_NUM_TASKS"
    return [(of_step if of_step in environment else "SLURM_NTASKS", 2), ("SLURM_PROCID", 1)]


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0
