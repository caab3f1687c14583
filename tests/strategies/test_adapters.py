"""Adapters on every family: what trains, what is counted, what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.anatomy import ANATOMIES, Anatomy
from support.config import compose
from support.models import FAMILIES, SIZES, save_tokenizer
from support.training import SavedModel, Trainings

from sweep.config import strategy_checks
from sweep.config.schema import Config, ConfigError
from sweep.models import pretrained
from sweep.strategies import adapters, freeze
from sweep.strategies.description import describe
from sweep.strategies.freeze_report import FreezeReport

PREFIX = "base_model.model."
SUFFIXES = {
    "lora": ("lora_A.default.weight", "lora_B.default.weight"),
    "dora": (
        "lora_A.default.weight",
        "lora_B.default.weight",
        "lora_magnitude_vector.default.weight",
    ),
    "ia3": ("ia3_l.default",),
    "miss": ("miss_block.default",),
}


@pytest.fixture
def trainings(csv_file: Path, saved_model: SavedModel, tmp_path: Path) -> Trainings:
    return Trainings(csv_file, saved_model, tmp_path / "checkpoints")


def linear_layers(a: Anatomy) -> set[str]:
    """Linear layers of attention and feed-forward blocks, by the names written by hand."""
    stems = a.names(f"{a.attention} {a.feed_forward}")
    weights = {name.removesuffix(".weight") for name in stems if name.endswith(".weight")}
    return {name for name in weights if "norm" not in name.lower()}


def expected(adapter: str, a: Anatomy) -> set[str]:
    added = {f"{PREFIX}{name}.{end}" for name in linear_layers(a) for end in SUFFIXES[adapter]}
    heads = {"pre_classifier", "classifier"}
    head = {tuple(name.split(".", 1)) for name in a.names(a.head)}
    assert {top for top, _ in head} <= heads
    return added | {f"{PREFIX}{top}.modules_to_save.default.{rest}" for top, rest in head}


def empty(cfg: Config) -> tuple[torch.nn.Module, FreezeReport]:
    found, parts = pretrained.build_empty(cfg, 3)
    return freeze.apply(found, parts, cfg.freeze)


def configure(folder: Path, option: str, **settings: Any) -> Config:
    path = "model.name_or_path=unset"
    cfg = compose(f"freeze={option}", "data=csv", "data.path=unused.csv", "model=hub", path)
    cfg.model.name_or_path, cfg.data.max_length = str(folder), 32
    cfg.freeze.rank = cfg.freeze.rank and 4
    for key, value in settings.items():
        setattr(cfg.freeze, key, value)
    return cfg


def trainable(module: torch.nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


# What trains.


@pytest.mark.parametrize("adapter", SUFFIXES)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_trains_exactly_its_tensors_and_the_head(
    adapter: str, family: str, saved_model: SavedModel
) -> None:
    found, report = empty(configure(saved_model(family), adapter))
    assert trainable(found) ^ expected(adapter, ANATOMIES[family]) == set()
    assert {t.name for t in report.tensors if t.trainable} == trainable(found)


@pytest.mark.parametrize(
    ("adapter", "count"),
    [
        # Two layers of width 8 and inner width 16, rank 4: four square matrices, two of 8 x 16.
        ("lora", 2 * (4 * 4 * (8 + 8) + 2 * 4 * (8 + 16))),
        ("dora", 2 * (4 * (4 * (8 + 8) + 8) + 2 * 4 * (8 + 16) + 16 + 8)),
        # One factor per output in attention, per input in feed-forward blocks.
        ("ia3", 2 * (4 * 8 + 8 + 16)),
        # Rank times output width.
        ("miss", 2 * (4 * 4 * 8 + 4 * 16 + 4 * 8)),
    ],
)
def test_counts_are_exact(adapter: str, count: int, saved_model: SavedModel) -> None:
    found, report = empty(configure(saved_model("bert"), adapter))
    head = 3 * 8 + 3
    assert report.trainable_params == count + head
    assert report.total_params == sum(p.numel() for p in found.parameters())
    assert report.checkpoint_params == count + head


def test_lora_on_minilm_has_the_known_counts() -> None:
    _, report = empty(compose("freeze=lora"))
    layer = 4 * 8 * (384 + 384) + 2 * 8 * (384 + 1536)
    head = 384 * 3 + 3
    # peft keeps an unused copy of the head.
    assert report.trainable_params == 6 * layer + head
    assert report.total_params == 22_714_371 + 6 * layer + head


def test_one_part_is_enough(saved_model: SavedModel) -> None:
    found, _ = empty(configure(saved_model("bert"), "lora", targets=["attention"]))
    assert not any(".intermediate." in name for name in trainable(found))


def test_the_report_says_what_decided(saved_model: SavedModel) -> None:
    _, report = empty(configure(saved_model("bert"), "lora"))
    decided = {t.name: t.decided_by for t in report.tensors}
    query = f"{PREFIX}bert.encoder.layer.0.attention.self.query"
    assert decided[f"{query}.lora_A.default.weight"] == "adapter: lora"
    assert decided[f"{query}.base_layer.weight"] == "frozen"
    head = f"{PREFIX}classifier"
    assert decided[f"{head}.modules_to_save.default.weight"] == r"head: classifier\..*"
    assert decided[f"{head}.original_module.weight"] == ("copy from before the training, not used")
    assert [t.name for t in report.tensors if t.is_head] == [
        f"{head}.modules_to_save.default.weight",
        f"{head}.modules_to_save.default.bias",
    ]


def test_a_pooler_that_the_checkpoint_lacks_trains_beside_the_adapter(
    saved_model: SavedModel,
) -> None:
    cfg = configure(saved_model("bert"), "lora")
    found, parts = pretrained.build_empty(cfg, 3)
    new = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    wrapped, report = freeze.apply(found, parts, cfg.freeze, new)
    pooler = {n for n in trainable(wrapped) if "pooler" in n}
    assert pooler == {
        f"{PREFIX}bert.pooler.modules_to_save.default.dense.weight",
        f"{PREFIX}bert.pooler.modules_to_save.default.dense.bias",
    }
    decided = {t.name: t.decided_by for t in report.tensors}
    assert {decided[name] for name in pooler} == {"not in the checkpoint"}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("lora", "LoRA (rank 8) on attention, feed_forward; head"),
        ("dora", "DoRA (rank 8) on attention, feed_forward; head"),
        ("miss", "MiSS (rank 8) on attention, feed_forward; head"),
        ("ia3", "IA3 on attention, feed_forward; head"),
        ("qlora", "LoRA (rank 8, 4-bit backbone) on attention, feed_forward; head"),
    ],
)
def test_an_adapter_is_described(option: str, words: str) -> None:
    assert str(describe(compose(f"freeze={option}").freeze)) == words


# Training.


@pytest.mark.parametrize("adapter", SUFFIXES)
def test_only_the_adapter_and_the_head_move(adapter: str, trainings: Trainings) -> None:
    overrides = [f"freeze={adapter}", "trainer.activation_checkpointing=true"]
    overrides += [] if adapter == "ia3" else ["freeze.rank=4"]
    trained = trainings.run(trainings.configure(*overrides))
    assert trained.changed ^ trained.trainable == set()
    assert trained.result.notes == []


def test_the_same_seed_gives_the_same_bits(trainings: Trainings) -> None:
    cfg = trainings.configure("freeze=lora", "freeze.rank=4", "freeze.dropout=0.1")
    first, second = trainings.run(cfg), trainings.run(cfg)
    for name, parameter in first.after.items():
        assert torch.equal(parameter, second.after[name]), name


def test_dropout_of_the_adapter_stays_on_in_frozen_layers(trainings: Trainings) -> None:
    cfg = trainings.configure("freeze=lora", "freeze.rank=4", "freeze.dropout=0.5")
    _, frozen, _ = trainings.apply(cfg)
    freeze.FrozenModes(frozen.train()).set()
    modes = {n: m.training for n, m in frozen.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert modes.pop(f"{PREFIX}bert.embeddings.dropout") is False
    assert sum("lora_dropout" in name for name in modes) == 12
    assert set(modes.values()) == {True}


def test_flops_of_an_adapter_are_between_those_of_full_and_none(trainings: Trainings) -> None:
    flops = [
        trainings.run(trainings.configure(f"freeze={option}", *rank)).result.metrics["train_flops"]
        for option, rank in (("full", []), ("lora", ["freeze.rank=1"]), ("none", []))
    ]
    assert flops == sorted(flops)


# Four bits.


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT whose matrices are whole blocks of 64 values, as they are packed."""
    folder = tmp_path_factory.mktemp("wide")
    sizes = {**SIZES, "hidden_size": 64, "intermediate_size": 128}
    transformers.set_seed(0)
    config = transformers.BertConfig(**sizes)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture
def packed(trainings: Trainings, wide_model: Path) -> Config:
    cfg = trainings.configure("freeze=qlora")
    cfg.model.name_or_path = str(wide_model)
    return cfg


def test_packed_weights_count_as_the_elements_they_stand_for(
    trainings: Trainings, packed: Config
) -> None:
    _, frozen, report = trainings.apply(packed)
    assert sum(p.dtype == torch.uint8 for p in frozen.parameters()) == 12
    _, planned = empty(packed)
    assert (report.trainable_params, report.total_params) == (
        planned.trainable_params,
        planned.total_params,
    )
    assert [(t.name, t.shape) for t in report.tensors] == [
        (t.name, t.shape) for t in planned.tensors
    ]


def test_head_and_pooler_are_not_packed(trainings: Trainings, packed: Config) -> None:
    _, frozen, _ = trainings.apply(packed)
    kept = {n: p.dtype for n, p in frozen.named_parameters() if "classifier" in n or "pooler" in n}
    assert len(kept) == 6
    assert set(kept.values()) == {torch.float32}


def test_only_adapter_and_head_move_over_packed_weights(
    trainings: Trainings, packed: Config
) -> None:
    trained = trainings.run(packed)
    assert trained.changed ^ trained.trainable == set()


@pytest.mark.parametrize("adapter", ["dora", "ia3", "miss"])
def test_other_adapters_work_over_packed_weights(
    adapter: str, trainings: Trainings, packed: Config
) -> None:
    packed.freeze.adapter = adapter
    packed.freeze.rank = None if adapter == "ia3" else 4
    trained = trainings.run(packed)
    assert trained.changed ^ trained.trainable == set()


def test_a_missing_pooler_is_not_packed_but_trained(
    trainings: Trainings, packed: Config, wide_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "no-pooler"
    save_tokenizer(folder)
    transformers.BertModel.from_pretrained(wide_model, add_pooling_layer=False).save_pretrained(
        folder
    )
    packed.model.name_or_path = str(folder)
    packed.model.pooling = None
    trained = trainings.run(packed)
    assert sum("pooler" in name for name in trained.trainable) == 2
    assert trained.changed ^ trained.trainable == set()


# What is refused.


def refuse(cfg: Config) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        empty(cfg)
    return caught.value.messages


def test_an_unknown_target_is_refused(saved_model: SavedModel) -> None:
    assert refuse(configure(saved_model("bert"), "lora", targets=["attn"])) == (
        "freeze.targets=['attn'] of the strategy 'lora': the model has no part 'attn'. Its parts"
        " are: attention, bias, embeddings, feed_forward, head, layer_norm, layers, pooler.",
    )


def test_a_target_without_linear_layers_is_refused(saved_model: SavedModel) -> None:
    assert refuse(configure(saved_model("bert"), "lora", targets=["layer_norm"])) == (
        "freeze.targets=['layer_norm'] of the strategy 'lora': the part 'layer_norm' of this model"
        " has no linear layer that an adapter could sit in. Choose parts such as attention and"
        " feed_forward.",
    )


def test_a_rank_above_the_width_is_refused(saved_model: SavedModel) -> None:
    assert refuse(configure(saved_model("bert"), "lora", rank=9)) == (
        "freeze.rank=9 is above the width of the layer bert.encoder.layer.0.attention.self.query,"
        " which is 8. Use a rank from 1 to 8.",
    )


@pytest.mark.parametrize(("package", "extra"), [("peft", "peft"), ("bitsandbytes", "qlora")])
def test_a_missing_package_names_its_extra(
    package: str, extra: str, saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else there(name)
    )
    assert refuse(configure(saved_model("bert"), "qlora")) == (
        f"freeze='qlora' needs the package {package}, which is not installed. Install it with:"
        f" pip install 'sweep[{extra}]'",
    )


def test_a_model_that_is_quantised_already_is_refused(
    saved_model: SavedModel, tmp_path: Path
) -> None:
    folder = tmp_path / "quantised"
    folder.mkdir()
    for file in saved_model("bert").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    values = json.loads((folder / "config.json").read_text("utf-8"))
    values["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(values), "utf-8")
    assert refuse(configure(folder, "qlora")) == (
        f"model.name_or_path={str(folder)!r} is quantised already, and training starts from full"
        " weights. Give the folder of the original model; freeze=qlora packs it into 4 bits while"
        " loading.",
    )


@pytest.mark.parametrize(
    ("option", "settings", "message"),
    [
        (
            "lora",
            {"adapter": "lorra"},
            "freeze.adapter='lorra' is not known. Choose one of dora, ia3, lora, miss.",
        ),
        (
            "none",
            {"rank": 4},
            "freeze.rank=4 has no effect: the strategy 'none' has no adapter. Use a strategy such"
            " as lora.",
        ),
        (
            "ia3",
            {"dropout": 0.1},
            "freeze.dropout=0.1 has no effect: ia3 has no such setting. Leave it out.",
        ),
        (
            "lora",
            {"rank": None},
            "freeze.rank is missing: lora needs it. Set freeze.rank, for example freeze.rank=8.",
        ),
        (
            "lora",
            {"parts": ["bias"]},
            "freeze.parts=['bias'] and freeze.adapter='lora' exclude each other: beside an adapter"
            " only the head trains. Leave one of them out.",
        ),
        (
            "qlora",
            {"quantization": "int3"},
            "freeze.quantization='int3' is not known. Use nf4.",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    option: str, settings: dict[str, Any], message: str
) -> None:
    cfg = compose(f"freeze={option}")
    for key, value in settings.items():
        setattr(cfg.freeze, key, value)
    assert strategy_checks.check(cfg) == [message]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "freeze.rank=0",
            "freeze.rank=0 is not allowed. It has to be an integer of 1 or more, below 2147483648.",
        ),
        (
            "freeze.dropout=1",
            "freeze.dropout=1.0 is not allowed. It has to be a number of 0 or more and below 1.",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("freeze=lora", override)
    assert caught.value.messages == (message,)


def test_names_of_a_wrapped_model_lead_back_to_the_original() -> None:
    layer = "bert.encoder.layer.0.output.dense"
    names = ("base_layer.weight", "lora_A.default.weight")
    assert [adapters.original_name(f"{PREFIX}{layer}.{name}") for name in names] == [
        f"{layer}.weight"
    ] * 2
    head = f"{PREFIX}classifier.modules_to_save.default.bias"
    assert adapters.original_name(head) == "classifier.bias"
