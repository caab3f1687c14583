"""A pretrained encoder with a fresh head, on a tiny random model of every family."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.config import of_folder
from support.models import FAMILIES

from sweep.config.schema import Config, ConfigError
from sweep.models import pretrained
from sweep.models.parts import layer_indices

LABELS = ["bad", "good", "plain"]
SavedModel = Callable[[str], Path]


def with_seed(cfg: Config, seed: int) -> Config:
    return dataclasses.replace(cfg, seed=seed)


def state(loaded: pretrained.Loaded) -> dict[str, torch.Tensor]:
    return dict(loaded.model.named_parameters())


def head_of(loaded: pretrained.Loaded) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state(loaded).items() if re.fullmatch(str(loaded.parts["head"]), k)}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# Parts and names, for every family.


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_belongs_to_exactly_one_part(family: str, saved_model: SavedModel) -> None:
    empty, parts = pretrained.build_empty(of_folder(saved_model(family)), 3)
    patterns = [parts[part] for part in ("embeddings", "layers", "pooler", "head") if parts[part]]
    owners = {
        name: [p for p in patterns if re.fullmatch(p, name)] for name, _ in empty.named_parameters()
    }
    assert {name: found for name, found in owners.items() if len(found) != 1} == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_numbered_from_zero_without_gaps(family: str, saved_model: SavedModel) -> None:
    empty, parts = pretrained.build_empty(of_folder(saved_model(family)), 3)
    names = [name for name, _ in empty.named_parameters()]
    assert sorted(set(layer_indices(names, parts).values())) == [0, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_empty_and_the_loaded_model_have_the_same_tensors(
    family: str, saved_model: SavedModel
) -> None:
    cfg = of_folder(saved_model(family))
    empty, _ = pretrained.build_empty(cfg, 3)
    loaded = pretrained.load(cfg, LABELS)
    assert {name: p.shape for name, p in empty.named_parameters()} == {
        name: p.shape for name, p in loaded.model.named_parameters()
    }
    assert {p.device.type for p in empty.parameters()} == {"meta"}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_backbone_is_the_saved_one(family: str, saved_model: SavedModel) -> None:
    loaded = pretrained.load(of_folder(saved_model(family)), LABELS)
    saved = load_file(saved_model(family) / "model.safetensors")
    backbone = state(loaded).keys() - head_of(loaded).keys()
    assert {name for name in backbone if not torch.equal(state(loaded)[name], saved[name])} == set()
    assert loaded.new_names == frozenset()


def test_the_model_knows_the_names_of_the_labels(saved_model: SavedModel) -> None:
    config = pretrained.load(of_folder(saved_model("bert")), LABELS).model.config
    assert config.id2label == {0: "bad", 1: "good", 2: "plain"}
    assert config.label2id == {"bad": 0, "good": 1, "plain": 2}


def test_weights_are_loaded_in_fp32(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("bert")
    halves = {k: v.half() for k, v in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    loaded = pretrained.load(of_folder(folder), LABELS)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


# The head.


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_drawn_from_the_seed(family: str, saved_model: SavedModel) -> None:
    cfg = of_folder(saved_model(family))
    first, again, other = (
        head_of(pretrained.load(with_seed(cfg, seed), LABELS)) for seed in (1, 1, 2)
    )
    assert same(first, again)
    weights = [name for name, tensor in first.items() if tensor.ndim == 2]
    assert weights
    assert [name for name in weights if torch.equal(first[name], other[name])] == []


@pytest.mark.parametrize("labels", [LABELS, LABELS[:2]], ids=["3-labels", "2-labels"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_trained_elsewhere_is_drawn_anew(
    family: str, labels: Sequence[str], copy_of: Callable[[str], Path]
) -> None:
    trained = pretrained.load(of_folder(copy_of(family)), labels)
    with torch.no_grad():
        for tensor in head_of(trained).values():
            tensor.fill_(7.0)
    folder = Path(trained.model.config._name_or_path)
    cfg = of_folder(folder)
    expected = head_of(pretrained.load(cfg, LABELS))
    trained.model.save_pretrained(folder)
    assert same(head_of(pretrained.load(cfg, LABELS)), expected)


def test_a_trained_head_does_not_count_as_new(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    without_head = {k: v for k, v in weights.items() if not k.startswith("classifier.")}
    save_file(without_head, folder / "model.safetensors", {"format": "pt"})
    assert pretrained.load(of_folder(folder), LABELS).new_names == frozenset()


# Tensors the checkpoint lacks.


def without_pooler(folder: Path) -> Path:
    """Take the pooler out of a saved BERT, as masked language models are saved."""
    weights = load_file(folder / "model.safetensors")
    kept = {k: v for k, v in weights.items() if not k.startswith("bert.pooler.")}
    assert len(kept) == len(weights) - 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_backbone_tensors_missing_from_the_checkpoint_are_reported(
    copy_of: Callable[[str], Path],
) -> None:
    cfg = of_folder(without_pooler(copy_of("bert")))
    cfg.model.pooling = None
    loaded = pretrained.load(cfg, LABELS)
    assert loaded.new_names == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}


def test_missing_backbone_tensors_are_drawn_from_the_seed(copy_of: Callable[[str], Path]) -> None:
    cfg = of_folder(without_pooler(copy_of("bert")))
    cfg.model.pooling = None
    first, again, other = (
        state(pretrained.load(with_seed(cfg, seed), LABELS))["bert.pooler.dense.weight"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_plain_encoder_without_a_head_can_be_used(
    saved_model: SavedModel, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved_model("bert"), tmp_path / "encoder")
    transformers.AutoModel.from_pretrained(saved_model("bert")).save_pretrained(folder)
    assert not any(k.startswith("bert.") for k in load_file(folder / "model.safetensors"))
    loaded = pretrained.load(of_folder(folder), LABELS)
    assert loaded.new_names == frozenset()
    saved = load_file(folder / "model.safetensors")
    assert torch.equal(state(loaded)["bert.pooler.dense.weight"], saved["pooler.dense.weight"])


# Models that cannot be used.


def test_a_family_without_names_shows_its_parameters(
    copy_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of("bert")
    cfg = of_folder(folder)
    del cfg.families["bert"]
    assert pretrained.build_empty(cfg, 3)[1]["layers"] == r"bert\.encoder\.layer\.(\d+)\..*"
    monkeypatch.setattr("sweep.models.parts.find_parts", lambda model: None)
    with pytest.raises(ConfigError) as caught:
        pretrained.build_empty(cfg, 3)
    message = str(caught.value)
    assert "is of the family 'bert', whose parts have no names yet" in message
    assert "  bert.encoder.layer.N.attention.self.query.weight" in message.splitlines()
    assert r"    layers: bert\.encoder\.layer\.(\d+)\..*" in message.splitlines()


def without_tokens(folder: Path, *keys: str) -> Path:
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({k: v for k, v in values.items() if k not in keys}), "utf-8")
    return folder


def test_end_of_text_pads_where_the_tokenizer_has_no_pad_token(
    copy_of: Callable[[str], Path],
) -> None:
    folder = without_tokens(copy_of("bert"), "pad_token")
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**values, "eos_token": "[SEP]"}), "utf-8")
    values = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**values, "pad_token_id": None}), "utf-8")
    loaded = pretrained.load(of_folder(folder), LABELS)
    assert loaded.tokenizer.pad_token == "[SEP]"
    assert loaded.model.config.pad_token_id == loaded.tokenizer.pad_token_id == 3


def test_a_tokenizer_that_cannot_pad_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = without_tokens(copy_of("bert"), "pad_token")
    with pytest.raises(ConfigError, match="neither a pad token nor an end-of-text token"):
        pretrained.load_tokenizer(of_folder(folder).model, folder)


def test_a_model_without_text_classifier_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("bert")
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}), "utf-8")
    with pytest.raises(ConfigError) as caught:
        pretrained.build_empty(of_folder(folder), 3)
    assert str(caught.value) == (
        f"model.name_or_path='{folder}' is of type 'vit', which has no text classifier in"
        " transformers. Choose an encoder such as BERT, RoBERTa, DeBERTa or ModernBERT."
    )
