"""What the head of a model reads: which vector stands for a text.

Most architectures hand the head their first token, or a pooler over it. Many checkpoints were made
for something else: sentence encoders for the mean of their tokens, and some lack the pooler that
their architecture would draw at random.
"""

from __future__ import annotations

import inspect
import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.config.schema import Config, ConfigError
from sweep.models.model_files import read_json, weight_files
from sweep.models.parts import Parts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

STATED = "1_Pooling/config.json"
"""In which sentence-transformers writes down what its vectors are."""
MODULE = "pooled_model"
"""Of the class in a saved model's folder."""
_CODE = '''\
"""A {model} whose head reads one vector per text, made by pooling what the backbone hands on."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from transformers import {config}, {model}


class PooledConfig({config}):
    model_type = "{type}"

    def __init__(self, pooling: str = "{pooling}", **kwargs: Any) -> None:
        self.pooling = pooling
        super().__init__(**kwargs)


class PooledModel({model}):
    config_class = PooledConfig

    def __init__(self, config: PooledConfig) -> None:
        super().__init__(config)
        backbone = getattr(self, self.base_model_prefix)
        if getattr(backbone, "pooler", None) is not None:
            setattr(backbone, "pooler", None)  # noqa: B010  # as architectures themselves do
        backbone.register_forward_hook(partial(hand_on, config.pooling), with_kwargs=True)


{functions}'''
_STATED = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


def resolve(cfg: Config, folder: Path) -> str | None:
    """Return what `model.pooling` stands for in a run; None is the architecture's own way.

    `auto` puts the mean of the tokens in place of a pooler that the checkpoint lacks. A head that
    is solved reads what the model says of itself, since nothing below it can adapt; where more
    trains, a pretrained pooler stays: on 512 tweets, attention lost up to 3 points without it.

    Reads names of tensors, but neither torch nor a weight.

    Args:
        cfg: The run.
        folder: Of the model's files.

    Raises:
        ConfigError: `pooler`, and the checkpoint has none.
    """
    model = cfg.model
    if model.pooling not in ("auto", "pooler"):
        return model.pooling
    family = (read_json(folder / "config.json") or {}).get("model_type")
    pattern = (model.parts or cfg.families.get(str(family)) or {}).get("pooler") or ""
    has_pooler = _is_of_backbone(pattern)
    names = _tensor_names(folder) if has_pooler else []
    lacks = bool(names) and not any("pooler" in name for name in names)
    if model.pooling == "auto":
        stated = _stated(folder) if lacks or cfg.solves_probe else None
        return stated or ("mean" if lacks else None)
    if lacks or not has_pooler:
        raise ConfigError(
            f"model.pooling='pooler': the model {model.name!r} has no pretrained pooler. Choose"
            " cls, mean or last, or set model.pooling=null for the architecture's own way."
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
            setattr(backbone, "pooler", None)  # noqa: B010  # as architectures themselves do
        parts = {**parts, "pooler": None}
    model.config.pooling = pooling
    backbone.register_forward_hook(partial(hand_on, pooling), with_kwargs=True)
    return parts


def hand_on(pooling: str, _: Any, args: Any, kwargs: Any, output: Any) -> Any:
    """Put the one vector in the place of every token of a backbone's output; a forward hook."""
    states = output["last_hidden_state"]
    mask = kwargs.get("attention_mask")
    if mask is None and len(args) > 1:
        mask = args[1]
    # Stored features come as the one vector that they are.
    vectors = states[:, 0] if states.shape[1] == 1 else pool(states, mask, pooling)
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


def write_code(folder: Path, model: PreTrainedModel) -> None:
    """Write the class that a saved model with such a head is loaded with, as transformers looks it
    up for `trust_remote_code=True`.

    Without it config.json names a type that transformers does not know: an error, where the plain
    class would read another vector in silence.

    Args:
        folder: Of the saved model, or of an adapter on it, which has no config.json.
        model: The one that was saved; what an adapter sits in.
    """
    base = next(kind for kind in type(model).__mro__ if kind.__module__.startswith("transformers."))
    settings = type(model.config)
    values = {
        "config": settings.__name__,
        "model": base.__name__,
        "type": f"pooled-{settings.model_type}",
        "pooling": model.config.pooling,
        "functions": "\n\n".join(inspect.getsource(function) for function in (hand_on, pool)),
    }
    (folder / f"{MODULE}.py").write_text(_CODE.format(**values), "utf-8")
    path = folder / "config.json"
    if not path.exists():
        return
    named = json.loads(path.read_text("utf-8"))
    named |= {"model_type": values["type"], "architectures": ["PooledModel"]}
    named["auto_map"] = {
        "AutoConfig": f"{MODULE}.PooledConfig",
        "AutoModelForSequenceClassification": f"{MODULE}.PooledModel",
    }
    path.write_text(json.dumps(named, indent=2) + "\n", "utf-8")


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
