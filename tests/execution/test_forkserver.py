"""The process that loads the libraries goes when the command has ended."""

import subprocess
import sys
import time
from pathlib import Path

import psutil


def servers(folder: Path) -> list[int]:
    """Processes with their place in a folder, without the dead."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_a_mistake_leaves_no_server_that_is_still_importing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweep", "freeze=nope"]
    # Pipes would stay open, and waited for, until the server has gone.
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    assert subprocess.run(command, cwd=tmp_path, check=False, **silent).returncode == 2
    time.sleep(1)  # importing takes several
    assert servers(tmp_path) == []
