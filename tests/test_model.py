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
from conftest import FAMILIES
from helpers import compose
from safetensors.torch import load_file, save_file

from sweep import model
from sweep.config import Config, ConfigError, FreezeConfig

UNSET = "model.name_or_path=unset"
LABELS = ["bad", "good", "plain"]
SavedModel = Callable[[str], Path]


def of_folder(folder: Path, *, max_length: int = 32) -> Config:
    """A configuration for a model that is already saved."""
    cfg = compose("freeze=none", "data=csv", "data.path=unused.csv", "model=hub", UNSET)
    cfg.model.name_or_path = str(folder)
    cfg.data.max_length = max_length
    return cfg


def with_seed(cfg: Config, seed: int) -> Config:
    return dataclasses.replace(cfg, seed=seed)


def state(loaded: model.Loaded) -> dict[str, torch.Tensor]:
    return dict(loaded.model.named_parameters())


def head_of(loaded: model.Loaded) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state(loaded).items() if re.fullmatch(str(loaded.parts["head"]), k)}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.fixture
def copy_of(saved_model: SavedModel, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a saved model that a test may damage."""

    def make(family: str = "bert") -> Path:
        return Path(shutil.copytree(saved_model(family), tmp_path / f"copy-{family}"))

    return make


# Parts and names, for every family.


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_belongs_to_exactly_one_part(family: str, saved_model: SavedModel) -> None:
    empty, parts = model.build_empty(of_folder(saved_model(family)), 3)
    patterns = [parts[part] for part in ("embeddings", "layers", "pooler", "head") if parts[part]]
    owners = {
        name: [p for p in patterns if re.fullmatch(p, name)] for name, _ in empty.named_parameters()
    }
    assert {name: found for name, found in owners.items() if len(found) != 1} == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_numbered_from_zero_without_gaps(family: str, saved_model: SavedModel) -> None:
    empty, parts = model.build_empty(of_folder(saved_model(family)), 3)
    names = [name for name, _ in empty.named_parameters()]
    assert sorted(set(model.layer_indices(names, parts).values())) == [0, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_empty_and_the_loaded_model_have_the_same_tensors(
    family: str, saved_model: SavedModel
) -> None:
    cfg = of_folder(saved_model(family))
    empty, _ = model.build_empty(cfg, 3)
    loaded = model.load(cfg, LABELS)
    assert {name: p.shape for name, p in empty.named_parameters()} == {
        name: p.shape for name, p in loaded.model.named_parameters()
    }
    assert {p.device.type for p in empty.parameters()} == {"meta"}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_backbone_is_the_saved_one(family: str, saved_model: SavedModel) -> None:
    loaded = model.load(of_folder(saved_model(family)), LABELS)
    saved = load_file(saved_model(family) / "model.safetensors")
    backbone = state(loaded).keys() - head_of(loaded).keys()
    assert {name for name in backbone if not torch.equal(state(loaded)[name], saved[name])} == set()
    assert loaded.new_names == frozenset()


def test_the_model_knows_the_names_of_the_labels(saved_model: SavedModel) -> None:
    config = model.load(of_folder(saved_model("bert")), LABELS).model.config
    assert config.id2label == {0: "bad", 1: "good", 2: "plain"}
    assert config.label2id == {"bad": 0, "good": 1, "plain": 2}


def test_weights_are_loaded_in_fp32(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("bert")
    halves = {k: v.half() for k, v in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    loaded = model.load(of_folder(folder), LABELS)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


# The head.


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_drawn_from_the_seed(family: str, saved_model: SavedModel) -> None:
    cfg = of_folder(saved_model(family))
    first, again, other = (head_of(model.load(with_seed(cfg, seed), LABELS)) for seed in (1, 1, 2))
    assert same(first, again)
    weights = [name for name, tensor in first.items() if tensor.ndim == 2]
    assert weights
    assert [name for name in weights if torch.equal(first[name], other[name])] == []


@pytest.mark.parametrize("labels", [LABELS, LABELS[:2]], ids=["3-labels", "2-labels"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_trained_elsewhere_is_drawn_anew(
    family: str, labels: Sequence[str], copy_of: Callable[[str], Path]
) -> None:
    trained = model.load(of_folder(copy_of(family)), labels)
    with torch.no_grad():
        for tensor in head_of(trained).values():
            tensor.fill_(7.0)
    folder = Path(trained.model.config._name_or_path)
    cfg = of_folder(folder)
    expected = head_of(model.load(cfg, LABELS))
    trained.model.save_pretrained(folder)
    assert same(head_of(model.load(cfg, LABELS)), expected)


def test_a_trained_head_does_not_count_as_new(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    without_head = {k: v for k, v in weights.items() if not k.startswith("classifier.")}
    save_file(without_head, folder / "model.safetensors", {"format": "pt"})
    assert model.load(of_folder(folder), LABELS).new_names == frozenset()


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
    loaded = model.load(of_folder(without_pooler(copy_of("bert"))), LABELS)
    assert loaded.new_names == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}


def test_missing_backbone_tensors_are_drawn_from_the_seed(copy_of: Callable[[str], Path]) -> None:
    cfg = of_folder(without_pooler(copy_of("bert")))
    first, again, other = (
        state(model.load(with_seed(cfg, seed), LABELS))["bert.pooler.dense.weight"]
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
    loaded = model.load(of_folder(folder), LABELS)
    assert loaded.new_names == frozenset()
    saved = load_file(folder / "model.safetensors")
    assert torch.equal(state(loaded)["bert.pooler.dense.weight"], saved["pooler.dense.weight"])


# Folders that cannot be used.


def damage_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def damage_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damage_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        pytest.param(
            damage_config,
            "has no config.json. Save the model with save_pretrained().",
            id="no-config",
        ),
        pytest.param(
            damage_weights, "has no weights. It needs model.safetensors.", id="no-weights"
        ),
        pytest.param(
            damage_tokenizer,
            "has no tokenizer. Save it there with AutoTokenizer's save_pretrained().",
            id="no-tokenizer",
        ),
        pytest.param(
            pickle_weights,
            "has pickled weights only (pytorch_model.bin), and unpickling runs code."
            " Save it again with a transformers of version 5, which writes model.safetensors.",
            id="pickled-weights",
        ),
    ],
)
def test_a_folder_that_lacks_something_is_refused(
    damage: Callable[[Path], None], complaint: str, copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of("bert")
    damage(folder)
    with pytest.raises(ConfigError) as caught:
        model.fetch(of_folder(folder).model)
    assert caught.value.messages == (f"model.name_or_path='{folder}' {complaint}",)


def test_all_that_a_folder_lacks_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        model.fetch(of_folder(tmp_path).model)
    assert [message.split(" has no ")[1].split(".")[0] for message in caught.value.messages] == [
        "config",
        "weights",
        "tokenizer",
    ]


def test_a_path_that_is_no_folder_is_not_taken_for_a_hub_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        model.local_folder(of_folder(tmp_path / "absent").model)
    assert str(caught.value).startswith(
        f"model.name_or_path='{tmp_path}/absent' is not a folder (looked at {tmp_path}/absent)."
    )


def test_a_family_without_names_shows_its_parameters(copy_of: Callable[[str], Path]) -> None:
    cfg = of_folder(copy_of("bert"))
    del cfg.families["bert"]
    with pytest.raises(ConfigError) as caught:
        model.build_empty(cfg, 3)
    message = str(caught.value)
    assert "is of the family 'bert', whose parts have no names yet" in message
    assert "  bert.encoder.layer.N.attention.self.query.weight" in message.splitlines()
    assert r"    layers: bert\.encoder\.layer\.(\d+)\..*" in message.splitlines()


def test_a_model_without_text_classifier_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("bert")
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}), "utf-8")
    with pytest.raises(ConfigError) as caught:
        model.build_empty(of_folder(folder), 3)
    assert str(caught.value) == (
        f"model.name_or_path='{folder}' is of type 'vit', which has no text classifier in"
        " transformers. Choose an encoder such as BERT, RoBERTa, DeBERTa or ModernBERT."
    )


@pytest.mark.parametrize(
    ("family", "usable"), [("bert", 64), ("roberta", 62), ("xlm-roberta", 62), ("electra", 64)]
)
def test_texts_longer_than_the_positions_are_refused(
    family: str, usable: int, saved_model: SavedModel
) -> None:
    fitting, too_long = (
        of_folder(saved_model(family), max_length=length) for length in (usable, usable + 1)
    )
    message = (
        f"data.max_length={usable + 1} is more than the {usable} positions of the model 'hub'."
        " Lower data.max_length."
    )
    assert model.check_positions(fitting) == []
    assert model.check_positions(too_long) == [message]
    with pytest.raises(ConfigError) as caught:
        model.build_empty(too_long, 3)
    assert caught.value.messages == (message,)


@pytest.mark.parametrize("family", FAMILIES)
def test_more_top_layers_than_the_model_has_are_refused(
    family: str, saved_model: SavedModel
) -> None:
    def with_count(count: int) -> Config:
        cfg = of_folder(saved_model(family))
        cfg.freeze = FreezeConfig("top", parts=["layers"], count=count)
        return cfg

    assert model.check_positions(with_count(2)) == []
    assert model.check_positions(with_count(3)) == [
        "freeze.count=3 is more than the 2 layers of the model 'hub'. Use a count from 1 to 2."
    ]


# The embedded model and the hub.


def test_the_embedded_model_passes_its_checksum() -> None:
    assert (
        model.fetch(compose("freeze=none", "model=minilm").model) / "model.safetensors"
    ).is_file()


def test_an_embedded_model_with_another_checksum_is_refused() -> None:
    cfg = compose("freeze=none", "model=minilm", f"model.weights_sha256={'0' * 64}")
    with pytest.raises(ConfigError) as caught:
        model.fetch(cfg.model)
    assert re.fullmatch(
        r"\S+/model\.safetensors has the SHA-256 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379"
        rf"cacb4fab128d9db, but model\.weights_sha256={'0' * 64}\. Restore the file, or set"
        r" model\.weights_sha256=null to use it as it is\.",
        str(caught.value),
    )


def test_the_fingerprint_follows_the_weights_and_not_the_path(
    copy_of: Callable[[str], Path], saved_model: SavedModel
) -> None:
    folder = copy_of("bert")
    before = model.weights_fingerprint(saved_model("bert"))
    assert model.weights_fingerprint(folder) == before
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert model.weights_fingerprint(folder) != before


def test_a_hub_model_without_a_network_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cfg = compose("freeze=none", "model=hub", "model.name_or_path=nobody/no-such-model")
    assert model.local_folder(cfg.model) is None
    with pytest.raises(ConfigError) as caught:
        model.fetch(cfg.model)
    message = str(caught.value)
    assert message.startswith(
        "model.name_or_path='nobody/no-such-model' cannot be had from the hub: "
    )
    assert message.endswith(
        " Check the name and the network. Offline, give the folder of a saved model, or use"
        " model=minilm, which needs no network."
    )
