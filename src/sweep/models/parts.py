"""Find the parts of an architecture, and its layers, by the names of its tensors."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweep.config.schema import Config, ConfigError
from sweep.models.structure import find_parts

if TYPE_CHECKING:
    from transformers import PreTrainedModel


Parts = dict[str, str | None]


def parts_of(cfg: Config, model: PreTrainedModel) -> Parts:
    """Return the part patterns of a model: its own, its family's, or those of its structure.

    Raises:
        ConfigError: The structure leaves a doubt, or there is no pattern for the head.
    """
    family = model.config.model_type
    parts = cfg.model.parts or cfg.families.get(family) or find_parts(model)
    if parts is None:
        names = [name for name, _ in model.named_parameters()]
        raise ConfigError(_unknown_family(cfg, family, names))
    if not parts.get("head"):
        raise ConfigError(
            f"model.parts of {cfg.model.name!r} does not say what the head is called."
            " Add a line `head: PATTERN`; the head always trains."
        )
    return parts


def layer_indices(names: Sequence[str], parts: Parts) -> dict[str, int]:
    """Return the layer index of every parameter that belongs to a layer."""
    pattern = parts.get("layers")
    if not pattern:
        return {}
    matches = {name: re.fullmatch(pattern, name) for name in names}
    return {name: int(match[1]) for name, match in matches.items() if match}


def _unknown_family(cfg: Config, family: str, names: Sequence[str]) -> str:
    shapes = dict.fromkeys(re.sub(r"\.\d+\.", ".N.", name) for name in names)
    layer = next((name for name in shapes if ".N." in name), "encoder.layer.N.x")
    prefix = re.escape(layer.split(".N.")[0])
    return os.linesep.join(
        [
            f"model {cfg.model.name!r} is of the family {family!r}, whose parts have no names yet."
            " Its parameters are:",
            *(f"  {name}" for name in shapes),
            "Put these lines, with your patterns, into a YAML file in conf/model:",
            "  parts:",
            r"    embeddings: .*embeddings\..*",
            rf"    layers: {prefix}\.(\d+)\..*",
            rf"    attention: {prefix}\.\d+\.attention\..*",
            r"    head: classifier\..*",
        ]
    )
