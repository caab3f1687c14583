"""The files of a pretrained model: what is told of a folder before anything is loaded."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.config import compose, of_folder
from support.models import FAMILIES

from sweep.config.schema import Config, ConfigError, FreezeConfig
from sweep.models import model_files, pretrained

SavedModel = Callable[[str], Path]


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
        model_files.fetch(of_folder(folder).model)
    assert caught.value.messages == (f"model.name_or_path='{folder}' {complaint}",)


# Adapters.

ABOUT = {"peft_type": "LORA", "base_model_name_or_path": "the/base"}


def add_adapter(folder: Path, about: object = ABOUT) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(about), "utf-8")
    save_file({"lora_A.weight": torch.zeros(2)}, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("about", "removed", "listed"),
    [
        (ABOUT, "", "adapter_config.json, adapter_model.safetensors, made on 'the/base'"),
        ({}, "", "adapter_config.json, adapter_model.safetensors"),
        ([], "", "adapter_config.json, adapter_model.safetensors"),
        (ABOUT, "adapter_config.json", "adapter_model.safetensors"),
        (ABOUT, "adapter_model.safetensors", "adapter_config.json, made on 'the/base'"),
    ],
)
@pytest.mark.parametrize("with_config", [False, True])
def test_an_adapter_is_no_model(
    about: object, removed: str, listed: str, with_config: bool, copy_of: SavedModel
) -> None:
    folder = copy_of("bert")
    (folder / "model.safetensors").unlink()
    if not with_config:
        (folder / "config.json").unlink()
    add_adapter(folder, about)
    if removed:
        (folder / removed).unlink()
    with pytest.raises(ConfigError) as caught:
        model_files.fetch(of_folder(folder).model)
    assert caught.value.messages == (
        f"model.name_or_path='{folder}' is an adapter ({listed}), which is no model without its"
        " base. Give the base model, or merge the two with peft's merge_and_unload() and give the"
        " folder that save_pretrained() makes of the result.",
    )


def test_an_adapter_beside_a_model_is_not_applied_unasked(copy_of: SavedModel) -> None:
    folder = copy_of("bert")
    add_adapter(folder)
    with pytest.raises(ConfigError) as caught:
        model_files.fetch(of_folder(folder).model)
    assert caught.value.messages == (
        f"model.name_or_path='{folder}' has an adapter (adapter_config.json, made on 'the/base')"
        " beside its own weights, and none is applied unasked. Move adapter_config.json elsewhere"
        " to start from the weights alone, or merge the adapter with peft's merge_and_unload() and"
        " give the folder of the result.",
    )
    (folder / "adapter_config.json").unlink()
    assert model_files.fetch(of_folder(folder).model) == folder


# Shards.


def split(folder: Path) -> dict[str, str]:
    """Write the weights as two shards; returns which tensor is in which."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {name: f"model-{1 + (i % 2)}.safetensors" for i, name in enumerate(names)}
    for shard in set(shards.values()):
        part = {name: weights[name] for name in names if shards[name] == shard}
        save_file(part, folder / shard, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": shards}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    return shards


def complaint_about(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        model_files.fetch(of_folder(folder).model)
    (message,) = caught.value.messages
    return message.removeprefix(f"model.name_or_path='{folder}' ")


def test_shards_are_a_model(copy_of: SavedModel) -> None:
    folder = copy_of("bert")
    split(folder)
    assert model_files.fetch(of_folder(folder).model) == folder
    assert pretrained.load(of_folder(folder), ["a", "b", "c"]).new_names == frozenset()


@pytest.mark.parametrize(
    ("absent", "listed"),
    [
        ([2], "model-2.safetensors, and the folder lacks it"),
        ([1, 2], "model-1.safetensors, model-2.safetensors, and the folder lacks these 2 files"),
    ],
)
def test_a_shard_that_is_missing_is_named(
    absent: list[int], listed: str, copy_of: SavedModel
) -> None:
    folder = copy_of("bert")
    split(folder)
    for number in absent:
        (folder / f"model-{number}.safetensors").unlink()
    assert complaint_about(folder) == (
        f"has a model.safetensors.index.json that names {listed}. Copy the model again."
    )


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "b"}}', "[" * 100_000]
)
def test_a_damaged_index_is_told(content: str, copy_of: SavedModel) -> None:
    folder = copy_of("bert")
    split(folder)
    (folder / "model.safetensors.index.json").write_text(content, "utf-8")
    assert complaint_about(folder) == (
        "has a damaged model.safetensors.index.json. Save the model anew, or copy it again."
    )


def test_a_shard_that_was_cut_is_named(copy_of: SavedModel) -> None:
    folder = copy_of("bert")
    split(folder)
    path = folder / "model-1.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert complaint_about(folder).startswith("has a damaged model-1.safetensors: ")


def test_a_revision_of_a_folder_is_told(saved_model: SavedModel) -> None:
    cfg = of_folder(saved_model("bert"))
    cfg.model.revision = "main"
    with pytest.raises(ConfigError) as caught:
        model_files.local_folder(cfg.model)
    assert caught.value.messages == (
        f"model.revision='main' has no effect on model.name_or_path='{saved_model('bert')}', which"
        " is a folder. Leave it out, or set model.revision=null.",
    )


def test_all_that_a_folder_lacks_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        model_files.fetch(of_folder(tmp_path).model)
    assert [message.split(" has no ")[1].split(".")[0] for message in caught.value.messages] == [
        "config",
        "weights",
        "tokenizer",
    ]


def test_a_path_that_is_no_folder_is_not_taken_for_a_hub_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        model_files.local_folder(of_folder(tmp_path / "absent").model)
    assert str(caught.value).startswith(
        f"model.name_or_path='{tmp_path}/absent' is not a folder (looked at {tmp_path}/absent)."
    )


@pytest.mark.parametrize(
    ("family", "usable"), [("bert", 64), ("roberta", 63), ("xlm-roberta", 63), ("electra", 64)]
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
    assert model_files.check_positions(fitting) == []
    assert model_files.check_positions(too_long) == [message]
    with pytest.raises(ConfigError) as caught:
        pretrained.build_empty(too_long, 3)
    assert caught.value.messages == (message,)


@pytest.mark.parametrize("family", FAMILIES)
def test_more_top_layers_than_the_model_has_are_refused(
    family: str, saved_model: SavedModel
) -> None:
    def with_count(count: int) -> Config:
        cfg = of_folder(saved_model(family))
        cfg.freeze = FreezeConfig("top", parts=["layers"], count=count)
        return cfg

    assert model_files.check_positions(with_count(2)) == []
    assert model_files.check_positions(with_count(3)) == [
        "freeze.count=3 is more than the 2 layers of the model 'hub'. Use a count from 1 to 2."
    ]


# The embedded model and the hub.


def test_the_embedded_model_passes_its_checksum() -> None:
    assert (
        model_files.fetch(compose("freeze=none", "model=minilm").model) / "model.safetensors"
    ).is_file()


def test_an_embedded_model_with_another_checksum_is_refused() -> None:
    cfg = compose("freeze=none", "model=minilm", f"model.weights_sha256={'0' * 64}")
    with pytest.raises(ConfigError) as caught:
        model_files.fetch(cfg.model)
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
    before = model_files.content_fingerprint(saved_model("bert"))
    assert model_files.content_fingerprint(folder) == before
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert model_files.content_fingerprint(folder) != before


def test_the_fingerprint_follows_the_code_of_a_model(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("bert")
    before = model_files.content_fingerprint(folder)
    (folder / "modeling_own.py").write_text("DEPTH = 1")
    first = model_files.content_fingerprint(folder)
    (folder / "modeling_own.py").write_text("DEPTH = 2  # as many layers")
    assert len({before, first, model_files.content_fingerprint(folder)}) == 3


def test_a_hub_model_without_a_network_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cfg = compose("freeze=none", "model=hub", "model.name_or_path=nobody/no-such-model")
    assert model_files.local_folder(cfg.model) is None
    with pytest.raises(ConfigError) as caught:
        model_files.fetch(cfg.model)
    message = str(caught.value)
    assert message.startswith(
        "model.name_or_path='nobody/no-such-model' cannot be had from the hub: "
    )
    assert message.endswith(
        " Check the name and the network. Offline, give the folder of a saved model, or use"
        " model=minilm, which needs no network."
    )


# What identifies a hub model.

NAME, FIRST, SECOND = "nobody/tiny", "1" * 40, "2" * 40


def from_hub(*typed: str) -> str:
    """The fingerprint of a model of the hub."""
    return model_files.fingerprint(
        compose("freeze=none", "model=hub", f"model.name_or_path={NAME}", *typed).model
    )


@pytest.fixture
def cached(saved_model: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub that holds the first commit, without a network."""
    folder = tmp_path / "hub" / "models--nobody--tiny"
    shutil.copytree(saved_model("bert"), folder / "snapshots" / FIRST)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(FIRST, "utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub on this machine, on which the second commit is the newest."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.startswith(f"/api/models/{NAME}")
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"id": NAME, "sha": SECOND}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", address, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield
        server.shutdown()


def test_a_hub_model_is_identified_by_the_commit_in_the_cache(cached: Path) -> None:
    assert from_hub() == f"{NAME}@{FIRST}"
    assert from_hub("model.revision=main") == f"{NAME}@{FIRST}"


def test_the_newest_commit_counts_when_the_hub_answers(cached: Path, hub: None) -> None:
    assert from_hub() == f"{NAME}@{SECOND}"


def test_a_revision_that_is_a_commit_needs_no_hub(cached: Path) -> None:
    assert from_hub(f"model.revision={SECOND}") == f"{NAME}@{SECOND}"


def test_without_cache_and_hub_the_revision_has_to_do(cached: Path) -> None:
    assert from_hub("model.revision=v1") == f"{NAME}@v1"


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("model_type", ["bert"], "a text"),
        ("id2label", ["a", "b"], "an object"),
        ("label2id", "a", "an object"),
        ("architectures", "BertModel", "a list"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(
    key: str, value: object, kind: str, copy_of: SavedModel
) -> None:
    folder = copy_of("bert")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {key: value}), "utf-8")
    with pytest.raises(ConfigError) as caught:
        model_files.local_folder(of_folder(folder).model)
    assert caught.value.messages == (
        f"model.name_or_path='{folder}' has a config.json with {key}={value!r}, which has to be"
        f" {kind}. Restore the config.json of these weights.",
    )
