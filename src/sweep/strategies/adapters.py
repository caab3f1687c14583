"""Adapters and 4-bit weights: small new tensors train beside pretrained ones that stay.

The only importer of `peft`, and the only one that knows `bitsandbytes`. Modules are found through
the parts of the model, so that one strategy serves every architecture.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.config.schema import ConfigError, FreezeConfig
from sweep.models.quantization import modules_to_train, require

if TYPE_CHECKING:
    from torch import nn

NAMES = {"lora": "LoRA", "dora": "DoRA", "ia3": "IA3", "miss": "MiSS"}
# It looks for a faster kernel on a hub when it is imported and warns that there is none.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
_DECORATION = re.compile(
    r"^base_model\.model\.|\.(base_layer|original_module|modules_to_save\.default)(?=\.)"
    r"|\.(lora_\w+|ia3_l|miss_block)\.default"
)
# transformers' Trainer imports it through peft wherever both are installed, and on CPUs with native
# bf16 it then looks for a faster kernel on a hub and warns that there is none.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def wrap(
    model: nn.Module,
    parts: Mapping[str, str | None],
    strategy: FreezeConfig,
    new_names: Collection[str] = (),
) -> nn.Module:
    """Put adapters into the linear layers of the target parts; only they and the head train.

    Args:
        model: Changed in place. May be on the meta device, or have packed weights.
        parts: Pattern per part.
        strategy: Its adapter, targets and their settings.
        new_names: Backbone tensors without pretrained values; their modules train as a whole.

    Returns:
        The `PeftModel` around it; adapters that start from noise are drawn from torch's generator.

    Raises:
        ConfigError: A missing package, a target that is not there, or a rank that is too large.
    """
    require(strategy)
    whole = modules_to_train(model, str(parts["head"]), new_names)
    by_part = {part: _linear_layers(model, parts, part, whole) for part in strategy.targets}
    layers = {
        name: module for part_layers in by_part.values() for name, module in part_layers.items()
    }
    _check_targets(strategy, parts, by_part)
    _check_rank(strategy, layers)
    peft = load_peft()
    config = _config(strategy, list(layers), list(by_part.get("feed_forward", {})), whole)
    return _quietly(lambda: peft.get_peft_model(model, config))


def original_name(name: str) -> str:
    """Name of the pretrained tensor, or of the layer, that a parameter of a wrapped model is of."""
    return _DECORATION.sub("", name)


def is_adapter(name: str) -> bool:
    """Whether a parameter of a wrapped model is one that the adapter added."""
    return re.search(r"\.(lora_\w+|ia3_l|miss_block)\.default", name) is not None


def is_unused_copy(name: str) -> bool:
    """Whether a parameter is the copy of the untrained head that peft keeps and never computes."""
    return ".original_module." in name


def load_saved(base: nn.Module, folder: Path) -> nn.Module:
    """Load an adapter and its head from a folder onto a freshly loaded base.

    Raises:
        RuntimeError: The folder lacks a tensor, such as one of the head.
    """
    peft = load_peft()
    try:
        return _quietly(lambda: peft.PeftModel.from_pretrained(base, str(folder)))
    except KeyError as error:
        raise RuntimeError(f"the saved adapter lacks the tensor {error}") from None


def _config(
    strategy: FreezeConfig, targets: list[str], feed_forward: list[str], whole: list[str]
) -> Any:
    peft = load_peft()
    common = {"task_type": "SEQ_CLS", "target_modules": targets, "modules_to_save": whole}
    if strategy.adapter == "ia3":
        return peft.IA3Config(feedforward_modules=feed_forward, **common)
    if strategy.adapter == "miss":
        return peft.MissConfig(r=strategy.rank, miss_dropout=strategy.dropout, **common)
    return peft.LoraConfig(
        r=strategy.rank,
        lora_alpha=2 * (strategy.rank or 0) if strategy.alpha is None else strategy.alpha,
        lora_dropout=strategy.dropout,
        use_rslora=strategy.use_rslora,
        use_dora=strategy.adapter == "dora",
        **common,
    )


def _linear_layers(
    model: nn.Module, parts: Mapping[str, str | None], part: str, whole: Collection[str]
) -> dict[str, Any]:
    """Return linear layers, packed ones too, whose weight belongs to a part and is pretrained."""
    from torch import nn

    pattern = parts.get(part)
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and pattern
        and re.fullmatch(pattern, f"{name}.weight")
        and not any(name == top or name.startswith(f"{top}.") for top in whole)
    }


def _check_targets(
    strategy: FreezeConfig,
    parts: Mapping[str, str | None],
    by_part: Mapping[str, Mapping[str, Any]],
) -> None:
    where = f"freeze.targets={strategy.targets} of the strategy {strategy.name!r}"
    unknown = [part for part in strategy.targets if part not in parts]
    if unknown:
        raise ConfigError(
            f"{where}: the model has no part {unknown[0]!r}."
            f" Its parts are: {', '.join(sorted(parts))}."
        )
    empty = [part for part, layers in by_part.items() if not layers]
    if empty:
        raise ConfigError(
            f"{where}: the part {empty[0]!r} of this model has no linear layer that an adapter"
            " could sit in. Choose parts such as attention and feed_forward."
        )


def _check_rank(strategy: FreezeConfig, layers: Mapping[str, Any]) -> None:
    """Refuse a rank above a layer's width: its parameters could not express any more."""
    widths = {name: min(layer.in_features, layer.out_features) for name, layer in layers.items()}
    name = min(widths, key=lambda name: widths[name])
    if strategy.rank is not None and strategy.rank > widths[name]:
        raise ConfigError(
            f"freeze.rank={strategy.rank} is above the width of the layer {name}, which is"
            f" {widths[name]}. Use a rank from 1 to {widths[name]}."
        )


def load_peft() -> Any:
    """Import the library; it drags in all models and their hints on what is not installed."""
    from transformers import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        import peft
    finally:
        transformers_logging.set_verbosity(verbosity)
    return peft


def _quietly(make: Callable[[], nn.Module]) -> nn.Module:
    """Call without peft's warning about an attribute that transformers has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return make()
