"""What the head of a model reads: which vector stands for a text.

Most architectures hand the head their first token, or a pooler over it. Many checkpoints were made
for something else: sentence encoders for the mean of their tokens, and some lack the pooler that
their architecture would draw at random. What is chosen here goes for every strategy alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.config.schema import ConfigError, ModelConfig
from sweep.models.model_files import read_json, weight_files
from sweep.models.parts import Parts

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

STATED = "1_Pooling/config.json"
"""In which sentence-transformers writes down what its vectors are."""
_STATED = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


def resolve(cfg: ModelConfig, families: Mapping[str, Parts], folder: Path) -> str | None:
    """Return what `model.pooling` stands for; None is the architecture's own way.

    Reads names of tensors, but neither torch nor a weight.

    Args:
        cfg: The model.
        families: From conf/families.yaml: they tell which architectures have a pooler.
        folder: Of the model's files.

    Raises:
        ConfigError: `pooler`, and the checkpoint has none.
    """
    if cfg.pooling not in ("auto", "pooler"):
        return cfg.pooling
    family = (read_json(folder / "config.json") or {}).get("model_type")
    pattern = (cfg.parts or families.get(str(family)) or {}).get("pooler") or ""
    has_pooler = _is_of_backbone(pattern)
    lacks = has_pooler and not any("pooler" in name for name in _tensor_names(folder))
    if cfg.pooling == "auto":
        return _stated(folder) or ("mean" if lacks else None)
    if lacks or not has_pooler:
        raise ConfigError(
            f"model.pooling='pooler': the model {cfg.name!r} has no pretrained pooler. Choose cls,"
            " mean or last, or set model.pooling=null for the architecture's own way."
        )
    return None  # which is what such an architecture does


def attach(model: PreTrainedModel, pooling: str | None, parts: Parts) -> Parts:
    """Let the head read this vector of each text, and return the parts that are left.

    The backbone hands on the one vector in the place of every token, so that each head finds it
    where it looks; a pooler, which would be in between, is taken out.

    Args:
        model: Changed in place, for as long as it lives. Its config says so as `pooling`.
        pooling: From `resolve`.
        parts: Of the model.

    Raises:
        ConfigError: The backbone cannot be told from the rest.
    """
    if pooling is None:
        return parts
    from torch import nn

    backbone = getattr(model, model.base_model_prefix or "?", None)
    if not isinstance(backbone, nn.Module):
        raise ConfigError(
            f"model.pooling={pooling!r}: the backbone of a {type(model).__name__} has no name, so"
            " what it hands on cannot be changed. Set model.pooling=null."
        )
    if _is_of_backbone(parts.get("pooler") or ""):
        if isinstance(getattr(backbone, "pooler", None), nn.Module):
            backbone.pooler = None
        parts = {**parts, "pooler": None}
    model.config.pooling = pooling
    backbone.register_forward_hook(_Pooling(pooling), with_kwargs=True)
    return parts


class _Pooling:
    """Hook behind a backbone."""

    def __init__(self, pooling: str) -> None:
        self.pooling = pooling

    def __call__(self, _: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
        states = output["last_hidden_state"]
        mask = kwargs.get("attention_mask")
        if mask is None and len(args) > 1:
            mask = args[1]
        # Stored features come as the one vector that they are.
        vectors = states[:, 0] if states.shape[1] == 1 else pool(states, mask, self.pooling)
        tokens = states.shape[1] if mask is None else mask.shape[1]
        output["last_hidden_state"] = vectors[:, None].expand(-1, tokens, -1)
        if hasattr(output, "pooler_output"):
            output["pooler_output"] = vectors
        return output


def pool(states: torch.Tensor, mask: torch.Tensor | None, pooling: str) -> torch.Tensor:
    """Return one vector per text, (texts, width).

    Args:
        states: (texts, tokens, width).
        mask: (texts, tokens), 0 for padding on either side; None where nothing is padded.
        pooling: `mean`, `cls` or `last`.
    """
    import torch

    if mask is None:
        mask = states.new_ones(states.shape[:2])
    if pooling == "mean":
        weights = mask[..., None].to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
    tokens = states.shape[1]
    positions = torch.arange(tokens, device=states.device)
    is_text = mask.bool()
    at = (
        torch.where(is_text, positions, tokens).amin(1).clamp(max=tokens - 1)
        if pooling == "cls"
        else torch.where(is_text, positions, 0).amax(1)
    )
    return states[torch.arange(len(states), device=states.device), at]


def _stated(folder: Path) -> str | None:
    """Return the pooling of a sentence encoder; None where it is none, or of another kind."""
    values = read_json(folder / STATED) or {}
    modes = [key for key, value in values.items() if key.startswith("pooling_mode_") and value]
    return _STATED.get(modes[0]) if len(modes) == 1 else None


def _is_of_backbone(pattern: str) -> bool:
    r"""Whether a family's pooler is the one over the first token that a backbone may leave out.

    Its pattern begins with the backbone, `\w+\.pooler`; others are a part of the head.
    """
    return re.match(r"\\w\+\\\.pooler", pattern) is not None


def _tensor_names(folder: Path) -> list[str]:
    from safetensors import safe_open

    names: list[str] = []
    for file in weight_files(folder):
        with safe_open(file, framework="numpy") as tensors:
            names += tensors.keys()
    return names
