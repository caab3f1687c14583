"""The files of a pretrained model: name -> folder, checked before transformers is imported."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.base.disk import sha256
from sweep.base.files import check_sha256, find, reason_of
from sweep.config.schema import Config, ConfigError, ModelConfig

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
MOST_MODULES = 2000
"""Layers or experts of a model; the largest published ones have a few hundred, and building a
number that a slip has made takes hours."""
COUNTS = re.compile("(layers?|experts?)$|(heads|hidden_size|intermediate_size|vocab_size)$")
"""Keys of config.json that are never below 0; the first kind makes modules."""
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model_type": (lambda value: isinstance(value, str), "a text"),
    "id2label": (lambda value: isinstance(value, dict), "an object"),
    "label2id": (lambda value: isinstance(value, dict), "an object"),
    "architectures": (lambda value: isinstance(value, list), "a list"),
}
"""Keys of config.json, the values of which libraries trip over without naming them."""
TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


def local_folder(cfg: ModelConfig) -> Path | None:
    """Return the folder that `name_or_path` means; None when it is the name of a hub model.

    Raises:
        ConfigError: A folder that is not there, or lacks what a model needs.
    """
    name = cfg.name_or_path
    path = find(name, "model.name_or_path")
    if os.path.isdir(path):  # unlike Path.is_dir, False for a name too long to be a path
        if cfg.revision is not None:
            raise ConfigError(
                f"model.revision={cfg.revision!r} has no effect on model.name_or_path={name!r},"
                " which is a folder. Leave it out, or set model.revision=null."
            )
        _check_folder(path, cfg)
        return path
    if name.startswith(("pkg://", ".", "/", "~")) or name.count("/") > 1 or os.path.exists(path):
        raise ConfigError(
            f"model.name_or_path={name!r} is not a folder (looked at {path.absolute()})."
            " Give a folder with config.json and model.safetensors, or a hub name like"
            " 'google-bert/bert-base-multilingual-cased'."
        )
    return None


def fetch(cfg: ModelConfig) -> Path:
    """Return the folder with the model's files, downloaded once if it is a hub model.

    Raises:
        ConfigError: The hub cannot be reached, does not know the name, or has no safetensors.
    """
    folder = local_folder(cfg)
    if folder is not None:
        return folder
    try:
        folder = _cached_commit(cfg) or _snapshot(cfg)
    except Exception as error:  # HTTP, DNS, validation and cache errors share no base class
        raise ConfigError(
            f"model.name_or_path={cfg.name_or_path!r} cannot be had from the hub:"
            f" {reason_of(error)}. Check the name and the network. Offline, give the folder of a"
            " saved model, or use model=minilm, which needs no network."
        ) from None
    _check_folder(folder, cfg)
    return folder


def _cached_commit(cfg: ModelConfig) -> Path | None:
    """Return the folder of a commit that was downloaded before; a commit does not change."""
    if not re.fullmatch("[0-9a-f]{40}", cfg.revision or ""):
        return None
    with contextlib.suppress(Exception):
        folder = _snapshot(cfg, cached=True)
        if any((folder / name).is_file() for name in WEIGHTS):  # not cut off half-way
            return folder
    return None


def fetch_same(cfg: ModelConfig, fingerprint: str, stamp: str) -> Path:
    """Return the folder with the files that a sweep began with.

    Args:
        cfg: The model.
        fingerprint: What `fingerprint` gave when the sweep began. The commit in it pins a hub
            model, so a push while the sweep runs changes nothing.
        stamp: What `file_stamp` gave then. Files are hashed again only where it differs now.

    Raises:
        ConfigError: As `fetch`.
        RuntimeError: The files of a folder are others than those.
    """
    if commit := re.search("@([0-9a-f]{40})$", fingerprint):
        return fetch(replace(cfg, revision=commit[1]))
    folder = find(cfg.name_or_path, "model.name_or_path")
    if not fingerprint or not folder.is_dir():
        return fetch(cfg)
    if _stamp(folder) != stamp and content_fingerprint(folder) != fingerprint:
        raise RuntimeError(
            f"the files of model.name_or_path={cfg.name_or_path!r} changed while the sweep ran, so"
            " its runs could not be compared; start it anew"
        )
    return folder


def file_stamp(cfg: ModelConfig) -> str:
    """Return sizes and times of a local folder's files, which tell cheaply that none was written.

    It is empty for a hub model, whose commit says as much.
    """
    folder = local_folder(cfg)
    return _stamp(folder) if folder else ""


def _stamp(folder: Path) -> str:
    stats = [(file.name, file.stat()) for file in _that_count(folder)]
    return ";".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)


def _snapshot(cfg: ModelConfig, cached: bool = False) -> Path:
    """Return the folder of a hub model, brought up to date unless only the cache may be used."""
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.txt", "*.model", "*.safetensors"]
    if cfg.trust_remote_code:
        patterns.append("*.py")
    return Path(
        snapshot_download(
            cfg.name_or_path,
            revision=cfg.revision,
            allow_patterns=patterns,
            local_files_only=cached,
        )
    )


def fingerprint(cfg: ModelConfig) -> str:
    """Return the hash of a local folder's content; of a hub model, its name and commit.

    Raises:
        ConfigError: As `local_folder`.
    """
    folder = local_folder(cfg)
    if folder is None:
        return f"{cfg.name_or_path}@{_commit(cfg) or cfg.revision}"
    return content_fingerprint(folder)


def _commit(cfg: ModelConfig) -> str | None:
    """Return the commit that `fetch` will take, or None when neither hub nor cache can tell.

    The hub is asked first, as by a download; what is in the cache may be older.
    """
    if re.fullmatch("[0-9a-f]{40}", cfg.revision or ""):
        return cfg.revision
    from huggingface_hub import HfApi

    # A name that the hub does not know, and no network, are told by `fetch`, with what to do.
    with contextlib.suppress(Exception):
        return HfApi().model_info(cfg.name_or_path, revision=cfg.revision, timeout=5).sha
    with contextlib.suppress(Exception):
        return _snapshot(cfg, cached=True).name
    return None


def content_fingerprint(folder: Path) -> str:
    """Return the SHA-256 of weights, code and the files that shape model and tokens."""
    digest = hashlib.sha256()
    for file in _that_count(folder):
        digest.update(file.name.encode() + bytes.fromhex(sha256(file)))
    return digest.hexdigest()


def _that_count(folder: Path) -> list[Path]:
    kinds = (".safetensors", ".json", ".txt", ".model", ".py")
    return sorted(f for f in folder.iterdir() if f.suffix in kinds and f.is_file())


def _check_folder(folder: Path, cfg: ModelConfig) -> None:
    """Check all that the files alone can tell; all mistakes at once."""
    where = f"model.name_or_path={cfg.name_or_path!r}"
    if adapter := _adapter_error(where, folder):
        raise ConfigError(adapter)
    errors = _config_errors(where, folder)
    if not any((folder / name).is_file() for name in WEIGHTS):
        pickled = sorted(p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt")])
        errors.append(
            f"{where} has pickled weights only ({', '.join(pickled)}), and unpickling runs code."
            " Save it again with a transformers of version 5, which writes model.safetensors."
            if pickled
            else f"{where} has no weights. It needs model.safetensors."
        )
    if not any((folder / name).is_file() for name in TOKENIZER):
        errors.append(
            f"{where} has no tokenizer. Save it there with AutoTokenizer's save_pretrained()."
        )
    errors += [f"{where} has {problem}" for problem in weights_damage(folder)]
    if errors:
        raise ConfigError(*errors)
    if cfg.weights_sha256:
        check_sha256(folder / WEIGHTS[0], cfg.weights_sha256, "model.weights_sha256")


def _config_errors(where: str, folder: Path) -> list[str]:
    values = read_config(folder)
    if not (folder / "config.json").is_file():
        return [f"{where} has no config.json. Save the model with save_pretrained()."]
    if values is None:
        return [f"{where} has a damaged config.json. Save the model anew, or copy it again."]
    errors = [
        f"{where} has a config.json with {key}={value}, and no model has as many or as few. Restore"
        " the config.json of these weights."
        for key, value in values.items()
        if type(value) is int and (counts := COUNTS.search(key))
        if value < 0 or (counts[1] and value > MOST_MODULES)
    ]
    errors += [
        f"{where} has a config.json with {key}={values[key]!r}, which has to be {kind}. Restore the"
        " config.json of these weights."
        for key, (right, kind) in KINDS.items()
        if values.get(key) is not None and not right(values[key])
    ]
    if "quantization_config" in values:
        errors.append(
            f"{where} is quantised already, and training starts from full weights. Give the folder"
            " of the original model; freeze=qlora packs it into 4 bits while loading."
        )
    return errors


def _adapter_error(where: str, folder: Path) -> str:
    """Complain about an adapter, which transformers would apply, or take for its base, unasked."""
    names = [name for name in ADAPTER if (folder / name).is_file()]
    whole = any((folder / name).is_file() for name in WEIGHTS)
    if not names or (whole and ADAPTER[0] not in names):
        return ""
    base = (read_json(folder / ADAPTER[0]) or {}).get("base_model_name_or_path")
    made = f", made on {base!r}" if base else ""
    if whole:
        return (
            f"{where} has an adapter ({ADAPTER[0]}{made}) beside its own weights, and none is"
            f" applied unasked. Move {ADAPTER[0]} elsewhere to start from the weights alone, or"
            " merge the adapter with peft's merge_and_unload() and give the folder of the result."
        )
    return (
        f"{where} is an adapter ({', '.join(names)}{made}), which is no model without its base."
        " Give the base model, or merge the two with peft's merge_and_unload() and give the folder"
        " that save_pretrained() makes of the result."
    )


def weights_damage(folder: Path) -> list[str]:
    """Say what is wrong with the safetensors files of a folder, from headers, sizes and index."""
    problems = [
        f"a damaged {file.name}: {reason}. Copy it again; a file of some hundred bytes"
        " is a Git LFS pointer, which `git lfs pull` replaces."
        for file in sorted(folder.glob("*.safetensors"))
        if (reason := _damage(file))
    ]
    if (folder / WEIGHTS[0]).is_file() or not (folder / WEIGHTS[1]).is_file():
        return problems
    index = read_json(folder / WEIGHTS[1]) or {}
    shards, about = index.get("weight_map"), index.get("metadata")
    if not isinstance(shards, dict) or not shards or not isinstance(about, dict):
        return [*problems, f"a damaged {WEIGHTS[1]}. Save the model anew, or copy it again."]
    absent = sorted({str(name) for name in shards.values() if not _is_file(folder, name)})
    if absent:
        listed = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        problems.append(
            f"a {WEIGHTS[1]} that names {listed}, and the folder lacks"
            f" {'it' if len(absent) == 1 else f'these {len(absent)} files'}. Copy the model again."
        )
    return problems


def weight_files(folder: Path) -> list[Path]:
    """Return the files that the weights are loaded from; their index has been checked."""
    if (folder / WEIGHTS[0]).is_file():
        return [folder / WEIGHTS[0]]
    shards = (read_json(folder / WEIGHTS[1]) or {}).get("weight_map", {}).values()
    return [folder / name for name in sorted(set(shards))]


def _is_file(folder: Path, name: object) -> bool:
    return isinstance(name, str) and (folder / name).is_file()


def tokenizer_fingerprint(cfg: ModelConfig, folder: Path | None = None) -> str:
    """Return the SHA-256 of the files that a tokenizer may be made from."""
    folder = folder or fetch(cfg)
    kinds = (".json", ".txt", ".model", ".py" if cfg.trust_remote_code else ".json")
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        # The index of the weights is large for a large model, and says nothing about tokens.
        if file.suffix in kinds and file.is_file() and file.name != WEIGHTS[1]:
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def check_positions(cfg: Config) -> list[str]:
    """Complain about limits that a local config.json states, without importing transformers."""
    folder = local_folder(cfg.model)
    values = (read_config(folder) if folder else None) or {}
    return limit_errors(cfg, _stated_positions(values)) + count_errors(
        cfg, values.get("num_hidden_layers") or values.get("n_layers")
    )


def _stated_positions(values: Mapping[str, Any]) -> int | None:
    """Return the positions that config.json states; `agreement.usable_positions` asks the model."""
    positions, padding = values.get("max_position_embeddings"), values.get("pad_token_id")
    if type(positions) is not int or positions <= 0:
        return None
    family = str(values.get("model_type", ""))
    if family == "mpnet":
        return positions - 2
    # RoBERTa and its kin number positions from the padding index on, which is 1 by default.
    if "roberta" in family or family == "camembert":
        return positions - 1 - (padding if type(padding) is int else 1)
    return positions


def read_config(folder: Path) -> dict[str, Any] | None:
    """Read config.json; None when it is damaged."""
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON file's object; None when the file is missing, damaged or of another kind."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _damage(weights: Path) -> str:
    """Say what is wrong with a safetensors file as a whole, from its header and its size."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="np"):
            return ""
    except (SafetensorError, OSError) as error:
        return str(error).rstrip(".")


def limit_errors(cfg: Config, positions: int | None) -> list[str]:
    """Complain about texts longer than the usable positions of the model."""
    if positions is None or cfg.data.max_length <= positions:
        return []
    return [
        f"data.max_length={cfg.data.max_length} is more than the {positions} positions of the model"
        f" {cfg.model.name!r}. Lower data.max_length."
    ]


def count_errors(cfg: Config, layers: Any) -> list[str]:
    """Complain about more top layers than the model has."""
    if cfg.freeze.count is None or not isinstance(layers, int) or cfg.freeze.count <= layers:
        return []
    return [
        f"freeze.count={cfg.freeze.count} is more than the {layers} layers of the model"
        f" {cfg.model.name!r}. Use a count from 1 to {layers}."
    ]
