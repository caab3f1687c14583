"""Training on stored states of the frozen part is training the whole model."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from support.config import compose
from support.models import FAMILIES
from support.training import Trainings

from sweep.base import cache
from sweep.base.device import Hardware, resolve_hardware
from sweep.config.schema import Config
from sweep.data import encode
from sweep.data.splits import Splits, load_splits
from sweep.features import compute as features
from sweep.features import frozen_part
from sweep.features.cut import Level, cut_model, levels_of
from sweep.features.frozen_part import SAMPLE, FrozenPart
from sweep.models import cpu_kernels, pretrained
from sweep.runs.record import run_key
from sweep.strategies import freeze
from sweep.training import train
from sweep.training.resume import Stopped, StopRequest
from sweep.training.trainer import Subject

pytestmark = pytest.mark.usefixtures("one_thread")
SavedModel = Callable[[str], Path]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trainings(csv_file: Path, saved_model: SavedModel, tmp_path: Path) -> Trainings:
    return Trainings(csv_file, saved_model, tmp_path / "checkpoints")


@dataclass
class Outcome:
    """A training with what its features were."""

    losses: list[float]
    probabilities: np.ndarray
    weights: dict[str, torch.Tensor]
    features: features.Features
    result: train.TrainResult
    model: torch.nn.Module


def spread(network: torch.nn.Module) -> None:
    """Make random weights large enough for texts to get different states."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10)


def prepared(cfg: Config) -> tuple[Splits, Any, Any, Any, Any]:
    splits = load_splits(cfg.data)
    loaded = pretrained.load(cfg, splits.label_names)
    spread(loaded.model)
    frozen, report = freeze.apply(loaded.model, loaded.parts, cfg.freeze, loaded.new_names)
    found = encode.encode_splits(splits, loaded.tokenizer, cfg)
    return splits, loaded, frozen, report, found


def prepare(loaded: tuple[Any, ...], cfg: Config, sharing: int = 1) -> features.Features:
    """What becomes of the frozen part on a CPU in the precision of a configuration."""
    hardware = resolve_hardware(cfg.trainer)
    with cpu_kernels.faster(loaded[0], cpu_kernels.available(hardware, False)):
        return features.prepare(FrozenPart(*loaded, cfg, hardware), sharing)


def run(cfg: Config, folder: Path | None = None, stop_after: int = 0) -> Outcome:
    """What `sweep.run` does between loading and recording."""
    _, loaded, frozen, report, found = prepared(cfg)
    hardware = resolve_hardware(cfg.trainer)
    part = FrozenPart(frozen, loaded, report, found, cfg, hardware)
    losses: list[float] = []
    stop = StopRequest()

    def told(metrics: dict[str, float], step: int, steps: int) -> None:
        losses.extend(value for name, value in metrics.items() if name == "train_loss")
        if step == stop_after:
            stop.ask()

    folder = Path(tempfile.mkdtemp(dir=".")) if folder is None else folder
    session = train.Session(folder, told, stop)
    with cpu_kernels.faster(frozen, cpu_kernels.available(hardware, False)):
        own = features.prepare(part)
        subject = Subject(frozen, loaded.tokenizer, hardware, own.cut)
        with cut_model(own.cut):
            result = train.train(subject, found.encoded, cfg, session, report)
    weights = {name: p.detach().clone() for name, p in frozen.named_parameters()}
    return Outcome(losses, result.probabilities["test"], weights, own, result, frozen)


def configure(trainings: Trainings, *overrides: str, family: str = "bert") -> Config:
    own = ["trainer.max_steps=6", "trainer.logging_steps=1", "trainer.cache_features=true"]
    return trainings.configure(*own, *overrides, family=family)


def without(cfg: Config) -> Config:
    return replace(cfg, trainer=replace(cfg.trainer, cache_features=False))


def assert_same(one: Outcome, other: Outcome, tolerance: float = 1e-5) -> None:
    assert len(one.losses) == len(other.losses) == 6
    np.testing.assert_allclose(one.losses, other.losses, rtol=0, atol=tolerance)
    np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=0, atol=tolerance)
    assert (one.probabilities.argmax(-1) == other.probabilities.argmax(-1)).all()


# The same results.


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("option", ["full", "top_layers"])
def test_cached_and_uncached_training_are_the_same(
    option: str, family: str, trainings: Trainings
) -> None:
    extra = ["freeze.count=1"] if option == "top_layers" else []
    cfg = configure(trainings, f"freeze={option}", *extra, family=family)
    whole, cached = run(without(cfg)), run(cfg)
    assert (whole.features.state, cached.features.state) == ("off", "built")
    assert cached.features.notes == []
    # It could not differ if all texts were alike, or if dropout were off.
    assert len(np.unique(whole.probabilities.round(4), axis=0)) > 10
    # Not the weights one by one: AdamW blows up the noise of a gradient that is zero in theory.
    assert_same(whole, cached)


def test_gradual_unfreezing_cuts_each_stage_where_it_is_frozen(trainings: Trainings) -> None:
    cfg = configure(
        trainings,
        "freeze=gradual",
        "freeze.stages=2",
        "freeze.train=null",
        "freeze.parts=[layers,pooler]",
    )
    whole, cached = run(without(cfg)), run(cfg)
    assert cached.features.cut is not None
    assert cached.features.cut.levels == [Level(1), Level(0)]
    assert_same(whole, cached)


def test_the_best_checkpoint_of_a_cut_model_is_loaded(trainings: Trainings) -> None:
    cfg = configure(
        trainings, "freeze=full", "trainer.load_best_model_at_end=true", "trainer.eval_steps=2"
    )
    assert_same(run(without(cfg)), run(cfg))


def test_the_same_seed_gives_the_same_bits(trainings: Trainings) -> None:
    cfg = configure(trainings, "freeze=top_layers", "freeze.count=1")
    built, shared = run(cfg), run(cfg)
    assert (built.features.state, shared.features.state) == ("built", "shared")
    assert built.losses == shared.losses
    assert all(torch.equal(w, shared.weights[name]) for name, w in built.weights.items())


@pytest.mark.parametrize("step", [2, 4], ids=["while it is cut", "when it is whole again"])
def test_a_stopped_training_goes_on_with_the_same_bits(step: int, trainings: Trainings) -> None:
    cfg = configure(trainings, "freeze=gradual", "freeze.stages=2", "freeze.parts=[layers,pooler]")
    whole = run(cfg)
    with pytest.raises(Stopped):
        run(cfg, Path("pieces"), stop_after=step)
    pieces = run(cfg, Path("pieces"))
    assert pieces.losses == whole.losses[step:]
    assert all(torch.equal(w, pieces.weights[name]) for name, w in whole.weights.items())


def forwards(network: torch.nn.Module) -> dict[str, object]:
    """Forward passes that are not those of a module's class."""
    return {
        name: module.__dict__["forward"]
        for name, module in network.named_modules()
        if "forward" in module.__dict__
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_is_as_it_was_after_its_training(precision: str, trainings: Trainings) -> None:
    cfg = configure(trainings, "freeze=full", f"trainer.precision={precision}")
    _, loaded, frozen, _, _ = prepared(cfg)
    before = [type(module) for module in frozen.modules()], vars(loaded.model.config)
    trained = run(cfg)
    assert trained.features.cut is not None
    assert forwards(trained.model) == {}
    # Else the next Trainer would not compute it in bf16.
    assert not hasattr(trained.model, "_is_accelerate_prepared")
    config: Any = trained.model.config
    assert ([type(module) for module in trained.model.modules()], vars(config)) == before


def test_a_cut_model_is_whole_after_an_error(trainings: Trainings) -> None:
    cut = run(configure(trainings, "freeze=full")).features.cut
    assert cut is not None
    with cut_model(cut):
        assert set(forwards(cut.model)) == {"bert"}
    with pytest.raises(KeyError), cut_model(cut):
        raise KeyError
    assert forwards(cut.model) == {}


def test_a_cut_model_is_whole_again_after_the_block(trainings: Trainings) -> None:
    cached = run(configure(trainings, "freeze=full"))
    batch = {"input_ids": torch.tensor([[2, 7, 9, 3]]), "attention_mask": torch.ones(1, 4).long()}
    cut = cached.features.cut
    assert cut is not None
    network = cached.model.eval()
    one, other = (
        network(**{**batch, "input_ids": ids}).logits
        for ids in (batch["input_ids"], batch["input_ids"].flip(1))
    )
    assert not torch.equal(one, other)
    assert set(network.state_dict()) == set(cached.weights)


def test_bf16_features_take_half_and_train_nearly_the_same(trainings: Trainings) -> None:
    cfg = configure(trainings, "freeze=full")
    half = replace(cfg, trainer=replace(cfg.trainer, feature_dtype="bf16"))
    exact, rounded = run(cfg), run(half)
    assert_same(exact, rounded, tolerance=0.02)
    sizes = sorted(path.stat().st_size for path in cache.ROOT.glob("features/*/states.bin"))
    assert sizes[1] == 2 * sizes[0]


# What is shared.


@pytest.mark.parametrize(
    "change", ["seed=1", "optimizer.learning_rate=1e-3", "trainer.per_device_train_batch_size=4"]
)
def test_runs_with_one_frozen_part_share_it(change: str, trainings: Trainings) -> None:
    assert run(configure(trainings, "freeze=full")).features.state == "built"
    other = run(configure(trainings, "freeze=full", change))
    assert (other.features.state, other.features.runtime_s) == ("shared", 0)


@pytest.mark.parametrize("change", ["data.max_length=6", "freeze=top_layers", "data.split_seed=1"])
def test_what_changes_the_states_makes_new_ones(change: str, trainings: Trainings) -> None:
    run(configure(trainings, "freeze=full"))
    overrides = dict.fromkeys(["freeze=full", change])
    extra = ["freeze.count=1"] if "top" in change else []
    assert run(configure(trainings, *overrides, *extra)).features.state == "built"


def test_other_weights_make_new_ones(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = configure(trainings, "freeze=full")
    run(cfg)
    monkeypatch.setattr(
        sys.modules[__name__], "spread", lambda network: network.bert.pooler.dense.bias.data.add_(1)
    )
    assert run(cfg).features.state == "built"


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 0.02)])
def test_a_longer_frozen_part_starts_from_a_shorter_one(
    precision: str, tolerance: float, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = f"trainer.precision={precision}"
    full = configure(trainings, "freeze=full", own)
    alone = run(full)
    top = configure(trainings, "freeze=top_layers", "freeze.count=1", own)
    for folder in cache.ROOT.glob("features/*/"):
        os.rename(folder, folder.parent.parent / folder.name)
    run(top)
    calls = []
    layer = transformers.models.bert.modeling_bert.BertLayer
    original = layer.forward

    def counted(self: Any, states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append((self.attention.self.layer_idx, len(states)))
        return original(self, states, *args, **kwargs)

    monkeypatch.setattr(layer, "forward", counted)
    _, loaded, frozen, report, found = prepared(full)
    built = prepare((frozen, loaded, report, found), full)
    monkeypatch.undo()
    assert built.state == "built"
    # All 120 rows go through the upper layer alone; samples of 8 go through both.
    assert [call for call in calls if call[1] > SAMPLE] == [(1, 64), (1, 56)]
    assert alone.features.cut is not None
    assert built.cut is not None
    kinds = np.uint16 if precision == "bf16" else np.float32
    found, expected = (
        torch.from_numpy(cut.states["pooled"].values.view(kinds).copy())
        .view(getattr(torch, {"fp32": "float32", "bf16": "bfloat16"}[precision]))
        .float()
        for cut in (built.cut, alone.features.cut)
    )
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def test_only_the_vector_that_the_head_reads_is_kept(trainings: Trainings) -> None:
    cut = run(configure(trainings, "freeze=full")).features.cut
    assert cut is not None
    assert cut.states["pooled"].values.shape == (120, 8)


@pytest.mark.parametrize("pools", ["the first token", "all tokens"])
def test_the_last_layer_computes_what_the_pooler_reads(
    pools: str, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bert = transformers.models.bert.modeling_bert
    if pools == "all tokens":
        monkeypatch.setattr(
            bert.BertPooler, "forward", lambda self, states: self.dense(states.mean(1))
        )
    seen = []
    original = bert.BertIntermediate.forward

    def counted(self: Any, states: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(states.shape[:2]))
        return original(self, states)

    cfg = configure(trainings, "freeze=full")
    whole = run(without(cfg))
    monkeypatch.setattr(bert.BertIntermediate, "forward", counted)
    cached = run(cfg)
    lower, upper = [shape for shape in seen if shape[0] == 64]  # one whole batch, two layers
    assert lower[1] > 1
    assert (upper[1] == 1) == (pools == "the first token")
    assert_same(whole, cached)


def test_a_head_that_reads_all_tokens_gets_all_of_them(
    trainings: Trainings, saved_model: SavedModel
) -> None:
    network = transformers.AutoModelForSequenceClassification.from_pretrained(
        saved_model("modernbert"), classifier_pooling="mean"
    )
    network.save_pretrained("mean")
    transformers.AutoTokenizer.from_pretrained(saved_model("modernbert")).save_pretrained("mean")
    cfg = configure(trainings, "freeze=full", f"model.name_or_path={Path('mean').absolute()}")
    whole, cached = run(without(cfg)), run(cfg)
    assert cached.features.cut is not None
    assert cached.features.cut.levels == [Level(2)]
    assert_same(whole, cached)


# When nothing is cached.


@pytest.mark.parametrize("option", ["none", "attention", "bias", "lora"])
def test_without_a_frozen_lower_part_there_are_no_features(
    option: str, trainings: Trainings
) -> None:
    cfg = configure(trainings, f"freeze={option}", *(["freeze.rank=2"] if option == "lora" else []))
    _, loaded, frozen, report, found = prepared(cfg)
    assert prepare((frozen, loaded, report, found), cfg) == features.Features()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_head_that_reads_what_is_not_stored_is_found_out(
    precision: str, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By logits that lie as close as those of an untrained head do."""
    cls = transformers.models.bert.modeling_bert.BertForSequenceClassification
    original = cls.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        lowest: list[torch.Tensor] = []
        hook = self.bert.encoder.layer[0].register_forward_hook(
            lambda _, given, __: lowest.append(given[0])
        )
        found = original(self, *args, **kwargs)
        hook.remove()
        read = lowest[0] if lowest else torch.zeros(1, 1)
        found.logits = 0.01 * (found.logits + read.float().abs().flatten(1).mean(-1, keepdim=True))
        return found

    monkeypatch.setattr(cls, "forward", forward)
    own = configure(trainings, "freeze=full", f"trainer.precision={precision}")
    assert run(own).features.notes[0].startswith("features are not cached: the model cannot be cut")


def test_a_model_that_cannot_be_cut_says_so_and_trains(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own code calls a layer that stored states stand for."""
    cls = transformers.models.bert.modeling_bert.BertForSequenceClassification
    original = cls.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, *args, **kwargs)
        lowest = self.bert.encoder.layer[0](torch.arange(16.0).view(1, 2, 8))
        found.logits = found.logits * (1 + lowest[0, 0].abs().max())
        return found

    monkeypatch.setattr(cls, "forward", forward)
    own = run(configure(trainings, "freeze=top_layers", "freeze.count=1")).features
    assert own.state == "off"
    assert own.cut is None
    (note,) = own.notes
    assert note.startswith("features are not cached: the model cannot be cut")


def test_layers_without_states_are_told(trainings: Trainings, monkeypatch: Any) -> None:
    monkeypatch.setattr("sweep.features.frozen_part.layer_modules", lambda *_: [])
    own = run(configure(trainings, "freeze=top_layers", "freeze.count=1")).features
    assert own.notes == ["features are not cached: its layers are not modules of their own"]


def test_a_full_disk_is_one_line(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = configure(trainings, "freeze=full")
    parts = prepared(cfg)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    own = prepare((parts[2], parts[1], *parts[3:]), cfg)
    assert own == features.Features(
        notes=[f"features are not cached: {cache.ROOT} cannot be written (No space left on device)"]
    )


def test_a_damaged_file_is_made_anew(trainings: Trainings) -> None:
    cfg = configure(trainings, "freeze=full")
    first = run(cfg)
    (path,) = cache.ROOT.glob("features/*/states.bin")
    content = bytearray(path.read_bytes())
    content[100] ^= 255
    path.write_bytes(content)
    again = run(cfg)
    assert again.features.state == "built"
    assert again.losses == first.losses


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            ["trainer.cache_limit_mib=0"],
            "they would take up to 0 MiB, more than trainer.cache_limit_mib",
        ),
        (["trainer.cache_features=false"], ""),
        (["freeze.frozen_dropout=true", "trainer.cache_features=auto"], ""),
        (["trainer.cache_features=auto", "trainer.max_steps=2"], ""),
    ],
    ids=["limit", "switched off", "frozen dropout", "not worth it"],
)
def test_features_are_left_alone(overrides: list[str], reason: str, trainings: Trainings) -> None:
    cfg = configure(trainings, "freeze=full", *overrides)
    _, loaded, frozen, report, found = prepared(cfg)
    notes = [f"features are not cached: {reason}"] if reason else []
    assert prepare((frozen, loaded, report, found), cfg) == features.Features(notes=notes)


@pytest.mark.parametrize(
    ("short", "reason"),
    [
        ("sweep.base.cache.free_mib", "more than half of what the disk has left"),
        ("sweep.features.payoff.psutil.virtual_memory", "more than half of the free memory"),
    ],
    ids=["disk", "memory"],
)
def test_without_room_nothing_is_computed_and_what_is_there_is_read(
    short: str, reason: str, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = configure(trainings, "freeze=full", "trainer.cache_features=auto")
    there = configure(trainings, "freeze=full", "trainer.cache_features=auto", "data.max_length=6")

    def again(cfg: Config) -> features.Features:
        _, loaded, frozen, report, found = prepared(cfg)
        return prepare((frozen, loaded, report, found), cfg, sharing=9)

    assert again(there).state == "built"
    nothing = SimpleNamespace(available=0) if "memory" in short else 0.0
    monkeypatch.setattr(short, lambda: nothing)
    assert again(there).state == "shared"
    (note,) = again(cfg).notes
    assert note.startswith("features are not cached: they would take up to")
    assert note.endswith(reason)


def test_many_runs_make_features_worth_it(trainings: Trainings) -> None:
    cfg = configure(trainings, "freeze=full", "trainer.cache_features=auto", "trainer.max_steps=2")
    _, loaded, frozen, report, found = prepared(cfg)
    assert prepare((frozen, loaded, report, found), cfg, sharing=9).state == "built"


# What a run records.


def test_skipped_layers_cost_no_flops(trainings: Trainings) -> None:
    cfg = configure(trainings, "freeze=top_layers", "freeze.count=1")
    whole, cached = run(without(cfg)), run(cfg)
    assert cached.result.metrics["train_flops"] < whole.result.metrics["train_flops"]


def test_the_key_of_a_run_does_not_depend_on_caches_but_on_what_they_keep() -> None:
    def key(*overrides: str) -> str:
        return run_key(compose("freeze=top_layers", *overrides), "data", "weights")

    assert key() == key("trainer.cache_features=false") == key("trainer.cache_limit_mib=1")
    assert key() != key("trainer.feature_dtype=bf16")


def test_levels_count_frozen_layers_from_the_bottom(trainings: Trainings) -> None:
    cfg = configure(trainings, "freeze=top_layers", "freeze.count=2")
    _, _, frozen, report, _ = prepared(cfg)
    assert levels_of(frozen, report) == [Level(0)]


@pytest.mark.parametrize(("device", "hangs"), [("cpu", True), ("cuda", False)])
def test_threads_of_the_cpu_are_no_matter_of_a_gpu(
    device: str, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that jobs=2 takes what jobs=1 has made."""
    monkeypatch.setattr(frozen_part.environment, "device_name", str)
    part: Any = SimpleNamespace(
        model=torch.nn.Linear(1, 1),
        tokens=SimpleNamespace(key="tokens"),
        hardware=Hardware(device, "fp32"),
        cfg=SimpleNamespace(trainer=SimpleNamespace(feature_dtype="fp32")),
    )
    before = frozen_part._surroundings(part)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 999)
    assert (frozen_part._surroundings(part) != before) is hangs
