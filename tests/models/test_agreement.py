"""Folders whose config.json, weights and tokenizer were not made for each other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.config import of_folder
from support.models import FAMILIES, SIZES

from sweep.config.schema import ConfigError
from sweep.models import agreement, pretrained
from sweep.runs.run import preflight

SavedModel = Callable[[str], Path]
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(copy_of: SavedModel) -> Path:
    """A copy of the tiny BERT, to be changed."""
    return copy_of("bert")


def set_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def complaint(folder: Path, num_labels: int = 3) -> str:
    """What is said of a folder before the first run, without the name of the folder."""
    with pytest.raises(ConfigError) as caught:
        preflight(of_folder(folder), num_labels)
    return "\n".join(caught.value.messages).replace(f"model.name_or_path='{folder}' ", "")


# Shapes.


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"vocab_size": 48},
            "1 tensor has another shape, for example 'bert.embeddings.word_embeddings.weight'"
            " (40, 8), which config.json (vocab_size=48) makes (48, 8).",
        ),
        (
            {"type_vocab_size": 3},
            "1 tensor has another shape, for example"
            " 'bert.embeddings.token_type_embeddings.weight' (2, 8), which config.json"
            " (type_vocab_size=3) makes (3, 8).",
        ),
        (
            {"intermediate_size": 24},
            "6 tensors have another shape, for example"
            " 'bert.encoder.layer.0.intermediate.dense.weight' (16, 8), which config.json"
            " (intermediate_size=24) makes (24, 8).",
        ),
    ],
)
def test_a_shape_that_config_json_does_not_make_is_refused(
    changes: dict[str, int], reason: str, folder: Path
) -> None:
    set_config(folder, **changes)
    message = (
        f"has weights that do not fit its config.json: {reason} Restore the config.json of these"
        " weights, or save the model anew with save_pretrained()."
    )
    assert complaint(folder) == message
    with pytest.raises(ConfigError, match=re.escape(message)):
        pretrained.load(of_folder(folder), ["a", "b", "c"])


def test_a_head_of_another_task_is_drawn_anew(saved_model: SavedModel) -> None:
    cfg = of_folder(saved_model("bert"))
    preflight(cfg, 7)
    loaded = pretrained.load(cfg, list("abcdefg"))
    assert loaded.new_names == frozenset()
    assert loaded.model.num_labels == 7


# Weights that config.json has no place for.


@pytest.mark.parametrize(("layers", "tensors"), [(1, 16), (0, 32)])
def test_a_layer_is_not_left_out(layers: int, tensors: int, folder: Path) -> None:
    set_config(folder, num_hidden_layers=layers)
    assert complaint(folder) == (
        f"has weights that its config.json has no place for: {tensors} tensors of layers would be"
        f" left out, for example"
        f" 'bert.encoder.layer.{layers}.attention.output.LayerNorm.bias'; config.json makes"
        f" {layers} layers. Restore the config.json of these weights, or save the model"
        " anew with save_pretrained()."
    )


def test_a_tensor_inside_a_layer_is_not_left_out(folder: Path) -> None:
    extra = {"bert.encoder.layer.1.attention.self.query.lora_A.weight": torch.zeros(2, 8)}
    change_weights(folder, lambda tensors: tensors | extra)
    assert complaint(folder).startswith(
        "has weights that its config.json has no place for: 1 tensors of layers would be left out,"
        " for example 'bert.encoder.layer.1.attention.self.query.lora_A.weight'; config.json makes"
        " 2 layers."
    )


@pytest.mark.parametrize(
    ("prefix", "by"),
    [
        ("_orig_mod", "torch.compile"),
        ("module", "DataParallel"),
        ("student", "a wrapper"),
        ("base_model.model", "a wrapper"),
    ],
)
@pytest.mark.parametrize("backbone_only", [False, True])
def test_a_prefix_of_all_names_is_named(
    prefix: str, by: str, backbone_only: bool, folder: Path
) -> None:
    cut = "bert." if backbone_only else ""
    change_weights(
        folder, lambda old: {f"{prefix}.{k.removeprefix(cut)}": v for k, v in old.items()}
    )
    assert complaint(folder) == (
        f"has weights whose names begin with '{prefix}.', as {by} leaves them, so that no layer"
        " finds its own. Save the model inside of it with save_pretrained()."
    )


def test_heads_of_other_tasks_are_left_out_with_a_word(folder: Path) -> None:
    extra = {
        "cls.predictions.bias": torch.zeros(40),
        "cls.predictions.transform.dense.weight": torch.zeros(8, 8),
        "qa_outputs.weight": torch.zeros(2, 8),
        "bert.embeddings.position_ids": torch.arange(64)[None],
    }
    change_weights(folder, lambda tensors: tensors | extra)
    preflight(of_folder(folder), 3)
    loaded = pretrained.load(of_folder(folder), ["a", "b", "c"])
    assert loaded.unused == {"cls.predictions", "qa_outputs"}


def test_a_classifier_that_was_saved_uses_all_of_it(saved_model: SavedModel) -> None:
    assert pretrained.load(of_folder(saved_model("bert")), ["a", "b", "c"]).unused == frozenset()


# Tokens.


def resize_tokenizer(folder: Path, words: list[str], special: list[str]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"filler{i}" for i in range(40 - len(tokenizer))])
    tokenizer.add_tokens(words)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("words", "special", "knows", "shown"),
    [
        (["new"], [], 41, "'new' (40)"),
        ([], ["[EVT]"], 41, "'[EVT]' (40)"),
        (["n1", "n2", "n3"], ["[EVT]"], 44, "'n1' (40), 'n2' (41), 'n3' (42), ..."),
    ],
)
def test_a_token_without_an_embedding_is_refused(
    words: list[str], special: list[str], knows: int, shown: str, folder: Path
) -> None:
    resize_tokenizer(folder, words, special)
    assert complaint(folder) == (
        f"has a tokenizer that knows {knows} tokens, and a model that knows 40: there is no"
        f" embedding for {shown}. Give the model one for each, with"
        f" model.resize_token_embeddings({knows}) and save_pretrained(), or put the tokenizer of"
        " this model into the folder."
    )


def test_as_many_tokens_as_embeddings_are_fine(folder: Path) -> None:
    resize_tokenizer(folder, [], [])
    preflight(of_folder(folder), 3)


@pytest.mark.parametrize(("rows", "is_fine"), [(1100, False), (1030, True)])
def test_a_tokenizer_far_smaller_than_the_embeddings_is_another_ones(
    rows: int, is_fine: bool, folder: Path
) -> None:
    knows = len(transformers.AutoTokenizer.from_pretrained(folder).get_vocab())
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    model.resize_token_embeddings(rows)
    model.save_pretrained(folder)
    if is_fine:
        preflight(of_folder(folder), 3)
        return
    assert complaint(folder) == (
        f"has a tokenizer that knows {knows} tokens, and a model that knows 1,100, so it is hardly"
        " the one that the model was trained with. Put the tokenizer of this model into the folder,"
        f" or, if it is, drop the unused rows with model.resize_token_embeddings({knows}) and"
        " save_pretrained()."
    )


def test_an_index_that_only_a_template_gives_counts_too(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    content["post_processor"]["special_tokens"]["[SEP]"]["ids"] = [99]
    path.write_text(json.dumps(content), "utf-8")
    assert complaint(folder).startswith(
        "has a tokenizer that knows 100 tokens, and a model that knows 40: there is no embedding"
        " for 'token 99' (99)."
    )


def test_a_type_of_tokens_without_an_embedding_is_refused(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    for piece in content["post_processor"]["single"]:
        next(iter(piece.values()))["type_id"] = 2
    path.write_text(json.dumps(content), "utf-8")
    path = folder / "tokenizer_config.json"
    columns = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | columns), "utf-8")
    assert complaint(folder) == (
        "has a tokenizer that gives tokens of type 2, and a model that knows 2 types, counted from"
        " 0. Put the tokenizer of this model into the folder."
    )


# Positions.


def position_model(name: str, **changes: Any) -> Any:
    transformers.set_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES | changes)
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize(
    ("family", "changes", "usable"),
    [
        ("Bert", {}, 64),
        ("Roberta", {"pad_token_id": 1}, 62),
        ("Roberta", {"pad_token_id": 0}, 63),
        ("Roberta", {"pad_token_id": 3}, 60),
        ("Camembert", {"pad_token_id": 1}, 62),
        ("Data2VecText", {"pad_token_id": 1}, 62),
        ("MPNet", {"pad_token_id": 1}, 62),
        ("Electra", {}, 64),
        ("OPT", {"ffn_dim": 16, "word_embed_proj_dim": 8, "pad_token_id": 1}, 64),
        ("GPT2", {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 64}, 64),
        ("Nystromformer", {"num_landmarks": 2, "segment_means_seq_len": 64}, 64),
        ("DistilBert", {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}, 64),
    ],
)
def test_usable_positions_are_those_that_the_model_computes(
    family: str, changes: dict[str, Any], usable: int
) -> None:
    model = position_model(family, **changes)
    assert agreement.usable_positions(model) == usable
    with torch.no_grad():
        model(torch.full((1, usable), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, usable + 1), 5))


def test_positions_behind_the_padding_index_are_no_positions(
    copy_of: SavedModel, tmp_path: Path
) -> None:
    position_model("MPNet", pad_token_id=1).save_pretrained(tmp_path / "mpnet")
    copy = copy_of("bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "mpnet" / name).write_bytes((copy / name).read_bytes())
    fitting, too_long = (of_folder(tmp_path / "mpnet", max_length=n) for n in (62, 63))
    for cfg in (fitting, too_long):
        cfg.model.parts = {"head": r"classifier\..*", "layers": r"mpnet\.encoder\.layer\.(\d+)\..*"}
    preflight(fitting, 3)
    with pytest.raises(ConfigError) as caught:
        preflight(too_long, 3)
    assert caught.value.messages == (
        "data.max_length=63 is more than the 62 positions of the model 'hub'."
        " Lower data.max_length.",
    )


# What config.json says.


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"num_attention_heads": 7},
            "The hidden size (8) is not a multiple of the number of attention heads (7)",
        ),
        ({"num_attention_heads": 0}, "ZeroDivisionError: integer modulo by zero"),
        ({"hidden_act": "nope"}, "hidden_act='nope' is not known"),
        (
            {"hidden_size": "8"},
            "Validation error for field 'hidden_size': TypeError: Field 'hidden_size' expected int,"
            " got str (value: '8')",
        ),
        (
            {"hidden_size": 1e9},
            "Validation error for field 'hidden_size': TypeError: Field 'hidden_size' expected int,"
            " got float (value: 1000000000.0)",
        ),
        ({"dtype": "float99"}, "module 'torch' has no attribute 'float99'"),
        (
            {"hidden_dropout_prob": 7.0},
            "dropout probability has to be between 0 and 1, but got 7.0",
        ),
    ],
)
def test_a_config_json_that_makes_no_model_is_told_in_a_sentence(
    changes: dict[str, Any], reason: str, folder: Path
) -> None:
    set_config(folder, **changes)
    assert complaint(folder) == (
        f"has a config.json that cannot be used: {reason}. Restore the file, or save the model anew"
        " with save_pretrained()."
    )


def test_a_width_that_no_machine_holds_is_told_by_the_weights(folder: Path) -> None:
    set_config(folder, hidden_size=10**9)
    assert complaint(folder).startswith(
        "has weights that do not fit its config.json: 37 tensors have another shape, for example"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("n_layer", 10**9),
        ("num_experts", 10**9),
        ("num_hidden_layers", -1),
        ("num_attention_heads", -2),
        ("type_vocab_size", -1),
    ],
)
def test_a_number_that_a_slip_has_made_is_refused(key: str, value: int, folder: Path) -> None:
    set_config(folder, **{key: value})
    assert complaint(folder) == (
        f"has a config.json with {key}={value}, and no model has as many or as few. Restore the"
        " config.json of these weights."
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_folders_that_were_saved_together_agree(family: str, saved_model: SavedModel) -> None:
    preflight(of_folder(saved_model(family)), 3)
