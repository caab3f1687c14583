"""What the server loads that runs are forked from: all that takes long, and nothing of CUDA."""

from __future__ import annotations

import json
import subprocess
import sys

RECORD = """
import json, sys
import torch

calls = []

def stand_in(name, answer):
    def call(*args, **kwargs):
        calls.append(name)
        return answer
    return call

# A machine with a GPU, as far as Python asks.
answers = {
    "is_available": True, "device_count": 1, "get_device_capability": (9, 0),
    "current_device": 0, "_lazy_init": None, "init": None, "get_device_properties": None,
    "get_device_name": "a GPU", "mem_get_info": (1, 1), "synchronize": None,
}
for name, answer in answers.items():
    setattr(torch.cuda, name, stand_in(name, answer))
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_server_does_not_start_cuda() -> None:
    finished = run(
        RECORD
        + "import importlib.util, os\n"
        + "assert importlib.util.find_spec('bitsandbytes') is not None\n"
        + "import sweep.execution.preload\n"
        + "loaded = [m for m in ('transformers.trainer', 'peft', 'bitsandbytes')"
        + " if sys.modules.get(m)]\n"
        + "print(json.dumps([calls, loaded, os.environ['PYTORCH_NVML_BASED_CUDA_CHECK']]))\n"
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert json.loads(finished.stdout) == [[], ["transformers.trainer", "peft"], "1"]


CHILD = """
import os
os.environ.update(WORLD_SIZE="1", MASTER_ADDR="elsewhere", ACCELERATE_MIXED_PRECISION="fp16")
import sweep.execution.preload
import peft.import_utils
from transformers.utils import is_bitsandbytes_available
from sweep.config.schema import FreezeConfig
from sweep.models import quantization

assert not {"WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"} & set(os.environ)
# What a run with an adapter asks first remembers that there is nothing.
assert not peft.import_utils.is_bnb_available() and not is_bitsandbytes_available()
quantization.require(FreezeConfig(name="lora", adapter="lora"))
assert not peft.import_utils.is_bnb_4bit_available()
quantization.require(FreezeConfig(name="qlora", adapter="lora", quantization="nf4"))
assert is_bitsandbytes_available() and peft.import_utils.is_bnb_4bit_available()
"""


def test_a_run_hears_of_no_other_processes_and_has_bitsandbytes_where_it_quantises() -> None:
    finished = run(CHILD)
    assert (finished.returncode, finished.stderr) == (0, "")
