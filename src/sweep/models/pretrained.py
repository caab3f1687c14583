"""A pretrained encoder with a fresh head: configuration -> folder -> model and tokenizer.

The only importer of `AutoModel*` and `AutoTokenizer`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.base.device import CPU, Hardware
from sweep.config.schema import Config, ConfigError, ModelConfig
from sweep.models import quantization
from sweep.models.model_files import count_errors, fetch, limit_errors
from sweep.models.parts import Parts, layer_indices, parts_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Loaded:
    """A model ready to be frozen, in evaluation mode on the CPU."""

    model: PreTrainedModel
    tokenizer: Any
    parts: Parts
    new_names: frozenset[str]
    """Backbone tensors that the checkpoint lacks: freshly initialised, so they train as the head
    does under every strategy."""
    folder: Path
    """Of the pretrained files."""


def build_empty(
    cfg: Config, num_labels: int, folder: Path | None = None
) -> tuple[PreTrainedModel, Parts]:
    """The model without its weights, on the meta device: names and shapes at no cost.

    Args:
        cfg: The run.
        num_labels: How many classes the head tells apart.
        folder: Of the model's files; they are fetched if it is None.

    Raises:
        ConfigError: No text classifier, an unknown family, or too few positions.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    model_config = _model_config(folder or fetch(cfg.model), cfg, num_labels)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(
            model_config, trust_remote_code=cfg.model.trust_remote_code
        )
    return model, parts_of(cfg, model_config.model_type, _names(model))


def load(
    cfg: Config,
    label_names: Sequence[str],
    hardware: Hardware = CPU,
    folder: Path | None = None,
) -> Loaded:
    """Load weights and tokenizer; the head is drawn from `cfg.seed`, whatever the folder holds.

    Args:
        cfg: The run; `freeze.quantization` packs the backbone while it is loaded.
        label_names: Names of the classes.
        hardware: Where weights are packed, and what they are unpacked to; all others are fp32,
            and without packing the model stays on the CPU.
        folder: Of the model's files; they are fetched if it is None.

    Raises:
        ConfigError: As `build_empty`, or a folder whose tokenizer cannot be used.
    """
    from transformers import AutoModelForSequenceClassification, set_seed

    quantization.require(cfg.freeze)
    folder = folder or fetch(cfg.model)
    model_config = _model_config(folder, cfg, len(label_names))
    model_config.id2label = dict(enumerate(label_names))
    model_config.label2id = {name: i for i, name in enumerate(label_names)}
    options = {
        "config": model_config,
        "dtype": "float32",
        "use_safetensors": True,
        "trust_remote_code": cfg.model.trust_remote_code,
        "ignore_mismatched_sizes": True,  # a head for another number of labels is replaced anyway
        "output_loading_info": True,
    }
    if cfg.freeze.quantization:
        options |= _packing(cfg, folder, options, hardware)
    set_seed(cfg.seed)
    model, info = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    quantization.settle(model)
    parts = parts_of(cfg, model_config.model_type, _names(model))
    set_seed(cfg.seed)
    _draw_head(model, str(parts["head"]))
    new_names = _new_names(model, info, parts)
    _check_pretrained(cfg, new_names, parts)
    return Loaded(model, load_tokenizer(cfg.model, folder), parts, new_names, folder)


def load_tokenizer(cfg: ModelConfig, folder: Path | None = None) -> Any:
    """The tokenizer of the model's folder.

    Raises:
        ConfigError: Its files are damaged or of a kind that transformers does not know.
    """
    from transformers import AutoTokenizer

    folder = folder or fetch(cfg)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=cfg.trust_remote_code)
    except Exception as error:  # the tokenizers library raises plain Exception for damaged files
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ConfigError(
            f"model.name_or_path={cfg.name_or_path!r} has a tokenizer that cannot be loaded:"
            f" {reason}. Save it again with save_pretrained()."
        ) from None


def _check_pretrained(cfg: Config, new_names: frozenset[str], parts: Parts) -> None:
    """A checkpoint of something else loads without a word and leaves the layers to chance."""
    missing = sorted(layer_indices(sorted(new_names), parts))
    if missing:
        raise ConfigError(
            f"model.name_or_path={cfg.model.name_or_path!r} has weights that do not fit its"
            f" config.json: {len(missing)} tensors of its layers are not among them, for example"
            f" {missing[0]!r}. Give the folder of a model saved with save_pretrained()."
        )


def _new_names(model: PreTrainedModel, info: Any, parts: Parts) -> frozenset[str]:
    """Names of backbone tensors that the checkpoint lacks."""
    head = re.compile(str(parts["head"]))
    fresh = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    return frozenset(name for name in fresh & set(_names(model)) if not head.fullmatch(name))


def _packing(
    cfg: Config, folder: Path, options: dict[str, Any], hardware: Hardware
) -> dict[str, Any]:
    """Options that pack the backbone, but neither what is new nor the small pooler."""
    import copy

    from transformers import AutoModelForSequenceClassification

    # A look at what the checkpoint lacks, without reading a weight.
    plan = {**options, "config": copy.deepcopy(options["config"]), "device_map": "meta"}
    empty, info = AutoModelForSequenceClassification.from_pretrained(folder, **plan)
    parts = parts_of(cfg, options["config"].model_type, _names(empty))
    new_names = _new_names(empty, info, parts)
    skip = quantization.modules_to_train(empty, str(parts["head"]), new_names)
    if parts.get("pooler"):
        skip += quantization.modules_to_train(empty, str(parts["pooler"]), [])
    return {
        "quantization_config": quantization.quantization_config(skip, hardware.precision),
        "device_map": {"": hardware.device},
    }


def _model_config(folder: Path, cfg: Config, num_labels: int) -> Any:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    where = f"model.name_or_path={cfg.model.name_or_path!r}"
    try:
        found = AutoConfig.from_pretrained(
            folder, num_labels=num_labels, trust_remote_code=cfg.model.trust_remote_code
        )
    except (ValueError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{where} has a config.json that cannot be used: {reason}") from None
    auto_map = getattr(found, "auto_map", None) or {}
    known = type(found) in AutoModelForSequenceClassification._model_mapping
    if not known and "AutoModelForSequenceClassification" not in auto_map:
        raise ConfigError(
            f"{where} is of type {found.model_type!r}, which has no text classifier in"
            " transformers. Choose an encoder such as BERT, RoBERTa, DeBERTa or ModernBERT."
        )
    positions = getattr(found, "max_position_embeddings", None)
    errors = limit_errors(cfg, positions, found.model_type)
    errors += count_errors(cfg, getattr(found, "num_hidden_layers", None))
    if errors:
        raise ConfigError(*errors)
    found.problem_type = "single_label_classification"
    return found


def _draw_head(model: PreTrainedModel, pattern: str) -> None:
    """Initialise the head anew, so that no strategy starts from a head trained elsewhere."""
    import torch

    head = re.compile(pattern)
    with torch.no_grad():
        for prefix, module in model.named_modules():
            names = [f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)]
            if names and all(head.fullmatch(name) for name in names):
                for parameter in module.parameters(recurse=False):
                    # from_pretrained marks loaded tensors so that _init_weights skips them.
                    parameter.__dict__.pop("_is_hf_initialized", None)
                module.__dict__.pop("_is_hf_initialized", None)
                model._init_weights(module)


def _names(model: PreTrainedModel) -> list[str]:
    return [name for name, _ in model.named_parameters()]
