"""Which tensors train under each strategy, against names written out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from support import config as options
from support.anatomy import ANATOMIES, BERT, Anatomy
from support.config import STRATEGIES, compose
from support.models import FAMILIES, SIZES, save_tokenizer

from sweep.config.schema import Config, ConfigError, FreezeConfig
from sweep.models import parts, pretrained
from sweep.models.parts import layer_indices
from sweep.strategies import description, freeze, freeze_report

SavedModel = Callable[[str], Path]
# Adapters and stages do more than choose tensors.
TESTED_ELSEWHERE = {"lora", "dora", "ia3", "miss", "qlora", "gradual"}


def expected_names(strategy: str, a: Anatomy) -> set[str]:
    """What trains in a two-layer model, by the table of strategies in the README."""
    layers = f"{a.attention} {a.feed_forward}"
    return {
        "none": a.everything,
        "attention": a.names(f"{a.attention} {a.pooler} {a.head}"),
        "full": a.names(a.head),
        "all_layers": a.names(f"{layers} {a.pooler} {a.head}"),
        "feed_forward": a.names(f"{a.feed_forward} {a.pooler} {a.head}"),
        "top_layers": a.names(layers.replace("layers.1.attn_norm", "layers.{i}.attn_norm"), (1,))
        | a.names(f"{a.pooler} {a.head}"),
        "layer_norm": a.names(f"{a.norms} {a.head}"),
        "bias": {name for name in a.everything if name.endswith("bias")} | a.names(a.head),
    }[strategy]


def configure(folder: Path | None = None, strategy: str = "none", option: str = "hub") -> Config:
    path = "model.name_or_path=unset"
    cfg = compose("freeze=none", "data=csv", "data.path=unused.csv", f"model={option}", path)
    cfg.freeze = options.strategy(strategy)
    cfg.data.max_length = 32
    if folder:
        cfg.model.name_or_path = str(folder)
    return cfg


def freeze_empty(
    cfg: Config, num_labels: int = 3
) -> tuple[torch.nn.Module, freeze_report.FreezeReport]:
    empty, parts = pretrained.build_empty(cfg, num_labels)
    return empty, freeze.apply_freeze(empty, parts, cfg.freeze)


def trainable(module: torch.nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


# Exact sets.


@pytest.mark.parametrize("family", FAMILIES)
def test_the_names_written_by_hand_are_all_there_are(family: str, saved_model: SavedModel) -> None:
    empty, _ = freeze_empty(configure(saved_model(family)))
    names = {name for name, _ in empty.named_parameters()}
    assert names ^ ANATOMIES[family].everything == set()
    assert ANATOMIES[family].names(ANATOMIES[family].norms) <= names


# ModernBERT has no biases in its backbone; the tests of errors cover that.
PAIRS = [(s, f) for s in STRATEGIES for f in FAMILIES if (s, f) != ("bias", "modernbert")]


@pytest.mark.parametrize(("strategy", "family"), PAIRS)
def test_a_strategy_trains_exactly_its_tensors(
    strategy: str, family: str, saved_model: SavedModel
) -> None:
    cfg = configure(saved_model(family), strategy)
    cfg.freeze.count = 1 if strategy == "top_layers" else None
    empty, report = freeze_empty(cfg)
    assert trainable(empty) ^ expected_names(strategy, ANATOMIES[family]) == set()
    assert {t.name for t in report.tensors if t.trainable} == trainable(empty)


def test_every_strategy_of_the_configuration_is_tested() -> None:
    folder = Path(__file__).parents[2] / "conf" / "freeze"
    assert {file.stem for file in folder.glob("*.yaml")} - TESTED_ELSEWHERE == set(STRATEGIES)


def test_without_a_count_all_layers_train(saved_model: SavedModel) -> None:
    cfg = configure(saved_model("bert"), "top_layers")
    cfg.freeze.count = None
    empty, _ = freeze_empty(cfg)
    assert trainable(empty) == expected_names("all_layers", BERT)


def test_top_layers_count_by_number_and_not_by_spelling(tmp_path: Path) -> None:
    config = transformers.BertConfig(**{**SIZES, "num_hidden_layers": 12})
    cfg = configure(save_config_only(config, tmp_path), "top_layers")
    cfg.freeze.count = 3
    empty, parts = pretrained.build_empty(cfg, 3)
    freeze.apply_freeze(empty, parts, cfg.freeze)
    indices = layer_indices(sorted(trainable(empty)), parts)
    assert set(indices.values()) == {9, 10, 11}


def test_a_second_strategy_leaves_nothing_of_the_first(saved_model: SavedModel) -> None:
    empty, parts = pretrained.build_empty(configure(saved_model("bert")), 3)
    for strategy in ("full", "none", "attention"):
        freeze.apply_freeze(empty, parts, configure(None, strategy).freeze)
    assert trainable(empty) == expected_names("attention", BERT)


# Exact counts.


def save_config_only(config: Any, folder: Path) -> Path:
    """A folder that a model without weights can be built from."""
    config.save_pretrained(folder)
    save_tokenizer(folder)
    save_file({}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("strategy", "count"),
    [("none", 22_714_371), ("attention", 3_701_763)],
)
def test_minilm_with_three_labels_has_the_known_counts(strategy: str, count: int) -> None:
    cfg = compose("freeze=none", "model=minilm")
    cfg.freeze = options.strategy(strategy)
    _, report = freeze_empty(cfg, 3)
    assert (report.trainable_params, report.total_params) == (count, 22_714_371)


def test_a_head_that_is_solved_on_minilm_reads_no_pooler() -> None:
    cfg = compose("freeze=full", "model=minilm")
    _, report = freeze_empty(cfg, 3)
    assert (report.trainable_params, report.total_params) == (1_155, 22_566_531)


@pytest.mark.parametrize(
    ("strategy", "count"),
    [("none", 177_858_054), ("attention", 28_962_054), ("full", 4_614)],
)
def test_multilingual_bert_with_six_labels_has_the_known_counts(
    strategy: str, count: int, tmp_path: Path
) -> None:
    config = transformers.BertConfig(
        vocab_size=119_547,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=512,
        type_vocab_size=2,
    )
    cfg = configure(save_config_only(config, tmp_path), strategy, option="mbert")
    _, report = freeze_empty(cfg, 6)
    assert (report.trainable_params, report.total_params) == (count, 177_858_054)


# Errors.


def refuse(module: torch.nn.Module, parts: parts.Parts, strategy: FreezeConfig) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        freeze.apply_freeze(module, parts, strategy)
    return caught.value.messages


def test_an_unknown_part_is_refused_with_the_known_ones(saved_model: SavedModel) -> None:
    empty, parts = pretrained.build_empty(configure(saved_model("bert")), 3)
    assert refuse(empty, parts, FreezeConfig("mine", ["pooler", "attn"])) == (
        "freeze.parts=['pooler', 'attn'] of the strategy 'mine': the model has no part 'attn'."
        " Its parts are: attention, bias, embeddings, everything, feed_forward, head, layer_norm,"
        " layers, pooler.",
    )


@pytest.mark.parametrize("part", ["pooler", "head"])
def test_a_pattern_that_matches_nothing_is_refused(part: str, saved_model: SavedModel) -> None:
    empty, parts = pretrained.build_empty(configure(saved_model("bert")), 3)
    changed = {**parts, part: r"bert\.nowhere\..*"}
    assert refuse(empty, changed, FreezeConfig("mine", parts=["pooler"])) == (
        rf"model.parts.{part}='bert\\.nowhere\\..*' matches none of the 41 parameters, for example"
        " 'bert.embeddings.word_embeddings.weight'. Correct it, or set it to null if the model has"
        f" no {part}.",
    )


def test_a_pattern_has_to_match_the_whole_name(saved_model: SavedModel) -> None:
    empty, parts = pretrained.build_empty(configure(saved_model("bert")), 3)
    (message,) = refuse(
        empty, {**parts, "pooler": r"bert\.pooler"}, FreezeConfig("mine", parts=["pooler"])
    )
    assert message.startswith(r"model.parts.pooler='bert\\.pooler' matches none of the ")


def test_a_pattern_that_is_no_regular_expression_is_refused(saved_model: SavedModel) -> None:
    empty, parts = pretrained.build_empty(configure(saved_model("bert")), 3)
    assert refuse(empty, {**parts, "pooler": "bert.(pooler"}, FreezeConfig("m", ["pooler"])) == (
        "model.parts.pooler='bert.(pooler' is no regular expression: missing ), unterminated"
        " subpattern at position 5.",
    )


def test_parts_without_a_head_are_refused(saved_model: SavedModel) -> None:
    cfg = configure(saved_model("bert"))
    cfg.model.parts = {"pooler": r"bert\.pooler\..*"}
    with pytest.raises(ConfigError) as caught:
        pretrained.build_empty(cfg, 3)
    assert caught.value.messages == (
        "model.parts of 'hub' does not say what the head is called."
        " Add a line `head: PATTERN`; the head always trains.",
    )


@pytest.mark.parametrize(
    ("family", "parts"),
    [
        pytest.param("roberta", ["pooler"], id="roberta-has-no-pooler"),
        pytest.param("distilbert", ["pooler"], id="distilbert-has-no-pooler"),
        pytest.param("modernbert", ["bias"], id="modernbert-has-no-biases"),
    ],
)
def test_a_strategy_that_would_train_the_head_alone_is_refused(
    family: str, parts: list[str], saved_model: SavedModel
) -> None:
    empty, patterns = pretrained.build_empty(configure(saved_model(family)), 3)
    assert refuse(empty, patterns, FreezeConfig("mine", parts=parts)) == (
        f"freeze.parts={parts} of the strategy 'mine': this model has none of these parts, so"
        " nothing but the head would train. Use freeze=full for that.",
    )


# The report.


def test_the_report_counts_elements(saved_model: SavedModel) -> None:
    _, report = freeze_empty(configure(saved_model("bert"), "full"))
    embeddings = 8 * (40 + 64 + 2) + 16
    layer = 4 * (64 + 8) + (128 + 16) + (128 + 8) + 2 * 16
    total = embeddings + 2 * layer + (64 + 8) + (3 * 8 + 3)
    assert (report.trainable_params, report.total_params) == (27, total)
    assert report.trainable_fraction == pytest.approx(27 / total)


def test_the_report_says_what_decided_each_tensor(saved_model: SavedModel) -> None:
    _, report = freeze_empty(configure(saved_model("bert"), "attention"))
    decided = {t.name: t.decided_by for t in report.tensors}
    assert decided["bert.embeddings.LayerNorm.bias"] == "frozen"
    assert decided["bert.encoder.layer.1.output.dense.weight"] == "frozen"
    assert decided["bert.pooler.dense.bias"] == r"pooler: \w+\.pooler\..*"
    assert decided["classifier.weight"] == r"head: classifier\..*"
    assert decided["bert.encoder.layer.0.attention.self.key.bias"] == (
        r"attention: \w+\.encoder\.layer\.\d+\.attention\..*"
    )


def test_tensors_that_the_checkpoint_lacks_train_under_every_strategy(
    saved_model: SavedModel,
) -> None:
    empty, parts = pretrained.build_empty(configure(saved_model("bert")), 3)
    new = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    report = freeze.apply_freeze(empty, parts, configure(None, "full").freeze, new)
    assert trainable(empty) == {*new, "classifier.weight", "classifier.bias"}
    decided = {t.name: t.decided_by for t in report.tensors}
    assert {decided[name] for name in new} == {"not in the checkpoint"}


@pytest.mark.parametrize(
    ("strategy", "depth"), [("none", 0), ("attention", 1), ("top_layers", 2), ("full", 3)]
)
def test_the_report_says_how_deep_gradients_go(
    strategy: str, depth: int, saved_model: SavedModel
) -> None:
    cfg = configure(saved_model("bert"), strategy)
    if cfg.freeze.count:
        cfg.freeze.count = 1
    report = freeze_empty(cfg)[1]
    assert (report.layers, report.lowest_trained_depth) == (2, depth)


def test_the_report_as_json_lists_every_tensor(saved_model: SavedModel) -> None:
    empty, report = freeze_empty(configure(saved_model("bert"), "full"))
    found = json.loads(report.to_json())
    assert (found["strategy"], found["trainable_params"]) == ("full", 27)
    assert found["total_params"] == sum(p.numel() for p in empty.parameters())
    assert [t["name"] for t in found["tensors"]] == [name for name, _ in empty.named_parameters()]
    assert found["tensors"][-1] == {
        "name": "classifier.bias",
        "shape": [3],
        "trainable": True,
        "decided_by": r"head: classifier\..*",
        "depth": 3,
        "stage": 1,
        "head": True,
    }


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("none", "everything"),
        ("attention", "attention, pooler, head"),
        ("full", "head"),
        ("all_layers", "layers, pooler, head"),
        ("top_layers", "top 2 layers, pooler, head"),
        ("bias", "bias, head"),
    ],
)
def test_a_strategy_is_described_by_what_trains(strategy: str, words: str) -> None:
    assert str(description.describe(configure(None, strategy).freeze)) == words


# Frozen modules without dropout.


def modes(strategy: str, folder: Path) -> dict[str, bool]:
    """Per module, whether it is in training mode after `FrozenModes.set`."""
    empty, _ = freeze_empty(configure(folder, strategy))
    freeze.FrozenModes(empty.train()).set()
    return {name: module.training for name, module in empty.named_modules()}


def test_under_full_only_the_dropout_before_the_head_is_on(saved_model: SavedModel) -> None:
    awake = {name for name, training in modes("full", saved_model("bert")).items() if training}
    assert awake == {"", "dropout", "classifier"}


def test_under_attention_embeddings_and_feed_forward_have_no_dropout(
    saved_model: SavedModel,
) -> None:
    dropouts = {k: on for k, on in modes("attention", saved_model("bert")).items() if "drop" in k}
    assert dropouts == {
        "bert.embeddings.dropout": False,
        "bert.encoder.layer.0.attention.self.dropout": True,
        "bert.encoder.layer.0.attention.output.dropout": True,
        "bert.encoder.layer.0.output.dropout": False,
        "bert.encoder.layer.1.attention.self.dropout": True,
        "bert.encoder.layer.1.attention.output.dropout": True,
        "bert.encoder.layer.1.output.dropout": False,
        "dropout": True,
    }


def test_without_freezing_everything_is_in_training_mode(saved_model: SavedModel) -> None:
    assert set(modes("none", saved_model("bert")).values()) == {True}


def test_frozen_modules_are_looked_for_again_only_when_something_thaws(
    saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, _ = freeze_empty(configure(saved_model("bert"), "full"))
    searches: list[torch.nn.Module] = []
    search = freeze.frozen_modules
    monkeypatch.setattr(freeze, "frozen_modules", lambda m: [searches.append(m), *search(m)][1:])
    frozen = freeze.FrozenModes(empty)

    def awake() -> bool:
        empty.train()
        frozen.set()
        return bool(empty.bert.encoder.layer[1].output.dropout.training)

    assert [awake(), awake(), len(searches)] == [False, False, 1]
    empty.bert.encoder.layer[1].output.dense.weight.requires_grad_(True)
    assert [awake(), awake(), len(searches)] == [True, True, 2]
