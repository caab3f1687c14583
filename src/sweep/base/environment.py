"""The world of a run: versions, hardware and the state of the code."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "sweep",
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "bitsandbytes",
    "datasets",
    "evaluate",
    "mlflow",
    "numpy",
    "pandas",
)


def describe(device: str) -> dict[str, Any]:
    """Return versions, hardware and git state, for environment.json and the run's tags.

    Args:
        device: What the run computes on: `cuda`, `mps` or `cpu`.
    """
    import psutil

    return {
        "versions": {"python": platform.python_version(), **versions()},
        "device": device_name(device),
        "cpu_count": os.cpu_count(),
        "memory_mib": psutil.virtual_memory().total // 2**20,
        "platform": platform.platform(),
        "hostname": platform.node(),
        "git": git_state(),
    }


def fingerprint(world: dict[str, Any], num_threads: int) -> str:
    """Return a hash of machine and versions; times of different ones are not comparable.

    Args:
        world: From `describe`.
        num_threads: That the run computes with.
    """
    identity = {
        key: world[key] for key in ("versions", "device", "cpu_count", "memory_mib", "hostname")
    }
    content = json.dumps([identity, num_threads], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def device_name(device: str) -> str:
    """Name of the GPU or CPU that `cuda`, `mps` or `cpu` means here."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name(0)
    known = torch.cpu.get_capabilities()
    name = known.get("cpu_name") or platform.processor() or platform.machine()
    # One name stands for processors years apart; what decides their speed tells them apart.
    fast = [name for name in ("avx512_bf16", "amx_bf16", "avx512_f", "avx2") if known.get(name)]
    about = ", ".join([str(name), f"{os.cpu_count()} cores", *fast[:1]])
    return f"{about}{' (MPS)' if device == 'mps' else ''}"


def cores() -> int:
    """Count physical cores, or those that a batch system or a container leaves to this process."""
    import psutil

    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if not hasattr(os, "sched_getaffinity"):  # macOS and Windows
        return physical
    return min(physical, len(os.sched_getaffinity(0)))


def git_state() -> str:
    """Return the commit that this code runs from, with `-dirty` for uncommitted changes."""
    try:
        completed = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return completed.stdout.strip()


@functools.cache
def versions() -> dict[str, str]:
    """Return the installed versions of what a result may depend on."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
