"""Pack a backbone into 4 bits, and keep its frozen weights as they are packed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from sweep.config.schema import ConfigError, FreezeConfig
from sweep.models import bitsandbytes_import

if TYPE_CHECKING:
    from torch import nn


EXTRAS = {"peft": "peft", "bitsandbytes": "qlora"}
"""Package -> the extra of `sweep` that brings it."""


def require(strategy: FreezeConfig) -> None:
    """Make sure that the packages a strategy needs are installed, without importing them.

    Raises:
        ConfigError: With the extra to install.
    """
    needed = ["peft"] if strategy.adapter else []
    if strategy.quantization:
        bitsandbytes_import.show()
        needed.append("bitsandbytes")
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"freeze={strategy.name!r} needs the package {package}, which is not installed."
                f" Install it with: pip install 'sweep[{EXTRAS[package]}]'"
            )


def modules_to_train(model: nn.Module, head: str, new_names: Collection[str]) -> list[str]:
    """Return the topmost modules whose tensors all belong to the head or are new.

    A new tensor among pretrained ones takes the module that holds it along.
    """
    train = {
        name
        for name, _ in model.named_parameters()
        if name in new_names or re.fullmatch(head, name)
    }
    modules: dict[str, None] = {}
    for name in sorted(train):
        steps = name.split(".")[:-1]
        paths = [".".join(steps[:end]) for end in range(1, len(steps) + 1)]
        modules[next((p for p in paths if _names_below(model, p) <= train), paths[-1])] = None
    return list(modules)


def quantization_config(skip: Collection[str], precision: str) -> Any:
    """Return the options for packing a backbone: NF4, its constants quantised again.

    Args:
        skip: Full names of modules that stay as they are. Modules without pretrained values have
            to be among them: there is nothing to pack, and their first forward pass would fail.
        precision: What weights are unpacked to for a matrix product: `bf16`, `fp16` or `fp32`.
    """
    import torch
    from transformers import BitsAndBytesConfig

    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtypes.get(precision, torch.float32),
        llm_int8_skip_modules=[re.escape(name) for name in skip],
    )


def settle(model: nn.Module) -> None:
    """Do at once what bitsandbytes would do to frozen weights in the first forward passes.

    It casts biases to the precision of the matrix product, and on a CPU with AVX-512 BF16 it packs
    the weights of an evaluation anew, which rounds their constants. Frozen tensors have to stay
    bit-identical from here on, so biases are cast now and the repacking is switched off.
    """
    packed: list[Any] = [m for m in model.modules() if hasattr(m, "support_avx512bf16_for_cpu")]
    for layer in packed:
        layer.support_avx512bf16_for_cpu = False
        if layer.bias is not None:
            layer.bias.data = layer.bias.data.to(layer.compute_dtype)


def packed_state(parameter: nn.Parameter) -> list[Any]:
    """Return the constants that unpack a 4-bit weight; an empty list for any other parameter."""
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return []
    nested = [state.offset, state.state2.absmax, state.state2.code] if state.nested else []
    return [state.absmax, state.code, *nested]


def _names_below(model: nn.Module, path: str) -> set[str]:
    return {f"{path}.{name}" for name, _ in model.get_submodule(path).named_parameters()}
