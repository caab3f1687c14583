"""A pretrained encoder with a fresh head: configuration -> folder -> model and tokenizer.

The only importer of `AutoModel*` and `AutoTokenizer`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.base.device import CPU, Hardware
from sweep.config.schema import Config, ConfigError, ModelConfig
from sweep.models import agreement, pooling, quantization, stored_values
from sweep.models.agreement import Checkpoint
from sweep.models.model_files import count_errors, fetch, limit_errors, read_config
from sweep.models.parts import Parts, parts_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_LOADING: dict[str, Any] = {
    "dtype": "float32",
    "use_safetensors": True,
    "ignore_mismatched_sizes": True,  # a head for another number of labels is replaced anyway
    "output_loading_info": True,
}


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
    unused: frozenset[str] = frozenset()
    """Modules of the checkpoint that a classifier has no place for, such as the head of another
    task."""


def build_empty(
    cfg: Config, num_labels: int, folder: Path | None = None
) -> tuple[PreTrainedModel, Parts]:
    """Return the model without its weights, on the meta device: names and shapes at no cost.

    Args:
        cfg: The run.
        num_labels: How many classes the head tells apart.
        folder: Of the model's files; they are fetched if it is None.

    Raises:
        ConfigError: No text classifier, an unknown family, too few positions, or sizes in
            config.json that make no model.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    folder = folder or fetch(cfg.model)
    model_config = _model_config(folder, cfg, num_labels)
    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(
                model_config, trust_remote_code=cfg.model.trust_remote_code
            )
    except Exception as error:  # whatever a constructor trips over
        raise _unusable(cfg.model, folder, error) from None
    if errors := limit_errors(cfg, agreement.usable_positions(model)):
        raise ConfigError(*errors)
    parts = parts_of(cfg, model)
    return model, pooling.attach(model, pooling.resolve(cfg, folder), parts)


def check_agreement(cfg: Config, empty: PreTrainedModel, parts: Parts, folder: Path) -> None:
    """Make sure that config.json, weights and tokenizer of a folder belong together.

    Args:
        cfg: The run.
        empty: From `build_empty`, as are the parts.
        parts: Of the model.
        folder: Of the model's files.

    Raises:
        ConfigError: They do not.
    """
    files = tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in folder.iterdir())
    model = cfg.model.name_or_path, cfg.model.revision, cfg.model.trust_remote_code
    errors = _disagreements(model, folder, files, empty.config.num_labels, tuple(parts.items()))
    if errors:
        raise ConfigError(*errors)


@lru_cache(maxsize=16)  # the same for all strategies of a model
def _disagreements(
    model: tuple[str, str | None, bool],
    folder: Path,
    files: tuple[tuple[str, int, int], ...],
    num_labels: int,
    parts: tuple[tuple[str, str | None], ...],
) -> tuple[str, ...]:
    """Return the disagreements within a folder; `files` changes when one of its files does."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    name, revision, trust_remote_code = model
    cfg = ModelConfig(name, name, revision, trust_remote_code=trust_remote_code)
    where = f"model.name_or_path={name!r}"
    try:
        # A look at what the checkpoint lacks, without reading a weight.
        empty, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=AutoConfig.from_pretrained(
                folder, num_labels=num_labels, trust_remote_code=trust_remote_code
            ),
            device_map="meta",
            **_LOADING,
            trust_remote_code=trust_remote_code,
        )
    except Exception as error:
        raise ConfigError(
            f"{where} has weights that cannot be loaded: {_reason(error)}. Save the model anew with"
            " save_pretrained(), or copy it again."
        ) from None
    checkpoint, values = Checkpoint.of(empty, info), read_config(folder) or {}
    return (
        *agreement.weight_errors(where, checkpoint, dict(parts), values),
        *agreement.token_errors(where, load_tokenizer(cfg, folder), empty),
        *stored_values.value_errors(where, folder, checkpoint, dict(parts)),
    )


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
        "trust_remote_code": cfg.model.trust_remote_code,
        **_LOADING,
    }
    if cfg.freeze.quantization:
        options |= _packing(cfg, folder, options, hardware)
    set_seed(cfg.seed)
    model, info = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    quantization.settle(model)
    parts = parts_of(cfg, model)
    parts = pooling.attach(model, pooling.resolve(cfg, folder), parts)
    set_seed(cfg.seed)
    _draw_head(model, str(parts["head"]))
    checkpoint, values = Checkpoint.of(model, info), read_config(folder) or {}
    where = f"model.name_or_path={cfg.model.name_or_path!r}"
    if errors := agreement.weight_errors(where, checkpoint, parts, values):
        raise ConfigError(*errors)
    tokenizer = load_tokenizer(cfg.model, folder)
    if model.config.pad_token_id is None:  # decoders find a text's last token by it
        model.config.pad_token_id = tokenizer.pad_token_id
    new_names = checkpoint.new_names(parts)
    return Loaded(model, tokenizer, parts, new_names, folder, checkpoint.unused())


def load_tokenizer(cfg: ModelConfig, folder: Path | None = None) -> Any:
    """Load the tokenizer of the model's folder; end-of-text pads where nothing else does.

    Raises:
        ConfigError: Its files are damaged or of a kind that transformers does not know, or it has
            no token to fill batches up with.
    """
    from transformers import AutoTokenizer

    folder = folder or fetch(cfg)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=cfg.trust_remote_code)
    except Exception as error:  # the tokenizers library raises plain Exception for damaged files
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ConfigError(
            f"model.name_or_path={cfg.name_or_path!r} has a tokenizer that cannot be loaded:"
            f" {reason}. Save it again with save_pretrained()."
        ) from None
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ConfigError(
                f"model.name_or_path={cfg.name_or_path!r} has a tokenizer with neither a pad token"
                " nor an end-of-text token, so batches cannot be filled up. Set its pad_token and"
                " save it again with save_pretrained()."
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _packing(
    cfg: Config, folder: Path, options: dict[str, Any], hardware: Hardware
) -> dict[str, Any]:
    """Return the options that pack the backbone, but neither what is new nor the small pooler."""
    import copy

    from transformers import AutoModelForSequenceClassification

    # A look at what the checkpoint lacks, without reading a weight.
    plan = {**options, "config": copy.deepcopy(options["config"]), "device_map": "meta"}
    empty, info = AutoModelForSequenceClassification.from_pretrained(folder, **plan)
    parts = parts_of(cfg, empty)
    new_names = Checkpoint.of(empty, info).new_names(parts)
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
        config = AutoConfig.from_pretrained(
            folder, num_labels=num_labels, trust_remote_code=cfg.model.trust_remote_code
        )
    except Exception as error:  # each of its checks raises its own kind
        raise _unusable(cfg.model, folder, error) from None
    auto_map = getattr(config, "auto_map", None) or {}
    known = type(config) in AutoModelForSequenceClassification._model_mapping
    if not known and "AutoModelForSequenceClassification" not in auto_map:
        raise ConfigError(
            f"{where} is of type {config.model_type!r}, which has no text classifier in"
            " transformers. Choose an encoder such as BERT, RoBERTa, DeBERTa or ModernBERT."
        )
    if errors := count_errors(cfg, getattr(config, "num_hidden_layers", None)):
        raise ConfigError(*errors)
    config.problem_type = "single_label_classification"
    return config


def _unusable(cfg: ModelConfig, folder: Path, error: Exception) -> ConfigError:
    """Return the error for a config.json that makes no model, told as one mistake."""
    return ConfigError(
        f"model.name_or_path={cfg.name_or_path!r} has a config.json that cannot be used:"
        f" {_reason(error, read_config(folder) or {})}. Restore the file, or save the model anew"
        " with save_pretrained()."
    )


def _reason(error: Exception, values: Mapping[str, Any] | None = None) -> str:
    """Put a library's error in one line; a value that is no key of a table, by its name."""
    if isinstance(error, KeyError) and error.args:
        names = [name for name, value in (values or {}).items() if value == error.args[0]]
        name = f"{names[0]}=" if names else ""
        return f"{name}{error.args[0]!r} is not known"
    text = " ".join(str(error).split())[:300].rstrip(".")
    return f"{type(error).__name__}: {text}" if len(text.split()) < 5 else text


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
