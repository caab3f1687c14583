"""Several processes that were started together are refused, what is left of one is forgotten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.config import compose

from sweep.base import process_groups
from sweep.base.device import CPU
from sweep.config.schema import ConfigError
from sweep.training import trainer


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        pytest.param({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE", id="torchrun"),
        pytest.param({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE", id="openmpi"),
        pytest.param({"PMI_SIZE": "2", "PMI_RANK": "0"}, "PMI_SIZE", id="mpich"),
        pytest.param({"MV2_COMM_WORLD_SIZE": "2"}, "MV2_COMM_WORLD_SIZE", id="mvapich"),
        pytest.param({"PMIX_RANK": "1"}, "PMIX_RANK", id="pmix"),
        pytest.param(
            {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"},
            "SLURM_STEP_NUM_TASKS",
            id="first-task-of-srun",
        ),
        pytest.param({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "3"}, "SLURM_NTASKS", id="srun-of-old"),
        pytest.param({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, "SLURM_PROCID", id="second-task"),
    ],
)
def test_one_of_several_processes_is_refused(environment: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        process_groups.refuse(environment)
    assert caught.value.messages == (
        f"{name}={environment[name]} says that this is one of several processes, as torchrun,"
        " accelerate launch, mpirun and srun start them, and a run uses one. Start python -m sweep"
        " once, without them: jobs=N does N runs at a time, each on a GPU of its own where there"
        f" are several. If nothing did so, unset {name}.",
    )


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"WORLD_SIZE": "1", "RANK": "0", "MASTER_PORT": "29500"}, id="alone"),
        pytest.param({"WORLD_SIZE": "many"}, id="no-number"),
        pytest.param({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, id="batch-script"),
        pytest.param(
            {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"},
            id="step-of-one-task",
        ),
    ],
)
def test_a_process_that_is_alone_is_not(environment: dict[str, str]) -> None:
    process_groups.refuse(environment)


def test_what_tells_of_other_processes_is_forgotten() -> None:
    environment = {
        **{"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "PMI_SIZE": "1"},
        **{"TORCHELASTIC_RUN_ID": "none", "ACCELERATE_MIXED_PRECISION": "fp16", "FSDP_X": "1"},
        **{"PATH": "/bin", "SLURM_PROCID": "0", "CUDA_VISIBLE_DEVICES": "3", "RANKING": "1"},
    }
    process_groups.forget(environment)
    assert set(environment) == {"PATH", "SLURM_PROCID", "CUDA_VISIBLE_DEVICES", "RANKING"}


@pytest.mark.parametrize("command", ["sweep", "sweep.plan"])
def test_torchrun_ends_with_one_sentence(command: str, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", command, "freeze=none"],
        cwd=tmp_path,
        env={**os.environ, "WORLD_SIZE": "2", "RANK": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.startswith("error: WORLD_SIZE=2 says that this is one of several")
    assert finished.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_training_begins_among_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="^WORLD_SIZE=2 says that this is one of several"):
        trainer.training_arguments(compose("freeze=none", "trainer.device=cpu"), CPU, tmp_path, 1)
