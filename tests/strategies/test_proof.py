"""Every proof, held and broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.training import SavedModel, Trained, Trainings
from transformers import TrainerCallback

from sweep.base.device import CPU
from sweep.commands.sweep import main
from sweep.config.schema import Config
from sweep.data.encode import encode
from sweep.data.splits import load_splits
from sweep.models import cpu_kernels, pretrained
from sweep.strategies import freeze, proof
from sweep.strategies.proof import ProofError
from sweep.training import saved_model as saving
from sweep.training import train
from sweep.training.trainer import Subject

FROZEN = "bert.encoder.layer.0.output.dense.weight"


@pytest.fixture
def trainings(csv_file: Path, saved_model: SavedModel, tmp_path: Path) -> Trainings:
    return Trainings(csv_file, saved_model, tmp_path / "checkpoints")


class Break(TrainerCallback):
    """Does something to the model at the end of every step."""

    def __init__(self, action: Any) -> None:
        self.action = action

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any, optimizer: Any, **_: Any
    ) -> None:
        with torch.no_grad():
            self.action(dict(model.named_parameters()), optimizer)


def fails(trainings: Trainings, cfg: Config) -> str:
    with pytest.raises(ProofError) as caught:
        trainings.run(cfg)
    return str(caught.value)


# Frozen tensors.


def test_a_frozen_tensor_that_is_nudged_is_found(trainings: Trainings) -> None:
    trainings.callbacks = [Break(lambda named, _: named[FROZEN].view(-1)[0].add_(1e-7))]
    assert fails(trainings, trainings.configure("freeze=attention")) == (
        f"frozen tensors changed while training: {FROZEN}"
    )


def test_a_packed_tensor_whose_constants_change_is_found(
    trainings: Trainings,
) -> None:
    def nudge(named: dict[str, Any], _: Any) -> None:
        packed = next(p for p in named.values() if hasattr(p, "quant_state"))
        packed.quant_state.state2.absmax.add_(1e-6)

    trainings.callbacks = [Break(nudge)]
    cfg = trainings.configure("freeze=qlora", "freeze.rank=4")
    assert fails(trainings, cfg) == (
        "frozen tensors changed while training:"
        " base_model.model.bert.encoder.layer.0.attention.self.query.base_layer.weight"
    )


def test_frozen_statistics_that_change_are_found(trainings: Trainings) -> None:
    def nudge(frozen: torch.nn.Module) -> None:
        frozen.bert.encoder.register_buffer("running_mean", torch.zeros(2))
        trainings.callbacks = [Break(lambda *_: frozen.bert.encoder.running_mean.add_(1.0))]

    trainings.hook = nudge
    assert fails(trainings, trainings.configure("freeze=full")) == (
        "frozen tensors changed while training: bert.encoder.running_mean"
    )


@pytest.mark.parametrize("frozen_dropout", [False, True])
def test_frozen_statistics_do_not_change(frozen_dropout: bool) -> None:
    frozen = torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout()),
        torch.nn.Linear(4, 2),
    )
    frozen[0].requires_grad_(False)
    freeze.FrozenModes(frozen.train(), frozen_dropout).set()
    before = proof.checksums(frozen)
    frozen(torch.randn(8, 4))
    assert proof.checksums(frozen) == before
    assert frozen[0][2].training is frozen_dropout


# Trained tensors.


def test_a_head_left_frozen_is_found(trainings: Trainings) -> None:
    trainings.hook = lambda frozen: frozen.classifier.requires_grad_(False)
    assert fails(trainings, trainings.configure("freeze=attention")) == (
        "the head does not train: classifier.weight, classifier.bias"
    )


def test_a_tensor_that_trains_against_the_strategy_is_found(trainings: Trainings) -> None:
    trainings.hook = lambda frozen: frozen.get_parameter(FROZEN).requires_grad_(True)
    assert fails(trainings, trainings.configure("freeze=attention")) == (
        f"not what the strategy says about training: {FROZEN}"
    )


def test_a_tensor_that_no_strategy_knows_is_found(trainings: Trainings) -> None:
    trainings.hook = lambda frozen: frozen.register_parameter(
        "late", torch.nn.Parameter(torch.zeros(1))
    )
    assert fails(trainings, trainings.configure("freeze=full")) == (
        "neither trained nor frozen by the strategy: late"
    )


def test_a_trained_tensor_that_stands_still_is_found(trainings: Trainings) -> None:
    name = "classifier.weight"

    def hold(frozen: torch.nn.Module) -> None:
        kept = frozen.get_parameter(name).detach().clone()
        trainings.callbacks = [Break(lambda named, _: named[name].copy_(kept))]

    trainings.hook = hold
    assert fails(trainings, trainings.configure("freeze=attention")) == (
        f"trained tensors got gradients but did not change: {name}"
    )


def test_a_layer_that_no_gradient_reaches_is_found(trainings: Trainings) -> None:
    def cut(frozen: torch.nn.Module) -> None:
        layer = frozen.bert.encoder.layer[1]
        layer.register_forward_hook(lambda _module, _inputs, output: output.detach())

    trainings.hook = cut
    assert fails(trainings, trainings.configure("freeze=attention")) == (
        "no gradient reaches layer 0, layer 1, although it should train"
    )


def test_a_gradient_that_is_not_finite_is_found(trainings: Trainings) -> None:
    trainings.hook = lambda frozen: frozen.classifier.bias.register_hook(
        lambda gradient: gradient * float("nan")
    )
    # The norm of all gradients is not finite either, and clipping spreads it.
    assert fails(trainings, trainings.configure("freeze=full")) == (
        "gradients are not finite in the first step of: classifier.weight, classifier.bias"
    )


def test_an_unused_pooler_is_named_and_no_failure(trainings: Trainings) -> None:
    def bypass(frozen: torch.nn.Module) -> None:
        frozen.bert.pooler.forward = lambda hidden: hidden[:, 0]

    trainings.hook = bypass
    assert trainings.run(trainings.configure("freeze=attention")).result.notes == [
        "to be trained, but the model does not use them: bert.pooler.dense.weight,"
        " bert.pooler.dense.bias"
    ]


def test_a_single_step_of_a_warm_up_moves_nothing_and_says_so(trainings: Trainings) -> None:
    cfg = trainings.configure("freeze=full", "trainer.max_steps=1", "optimizer.warmup_steps=0.1")
    assert trainings.run(cfg).result.notes == [
        "to be trained, but did not move, because the learning rate was 0: classifier.bias,"
        " classifier.weight"
    ]


# The optimizer.


def test_state_for_a_frozen_tensor_is_found(trainings: Trainings) -> None:
    def waste(named: dict[str, Any], optimizer: Any) -> None:
        optimizer.state[named[FROZEN]]["exp_avg"] = torch.zeros(1)

    trainings.callbacks = [Break(waste)]
    assert fails(trainings, trainings.configure("freeze=attention")) == (
        f"the optimizer holds state for frozen tensors: {FROZEN}"
    )


def test_a_trained_tensor_that_the_optimizer_does_not_hold_is_found(trainings: Trainings) -> None:
    class Drop(TrainerCallback):
        def on_train_begin(self, *_: Any, optimizer: Any, **__: Any) -> None:
            for group in optimizer.param_groups:
                group["params"] = group["params"][:-1]

    trainings.callbacks = [Drop()]
    assert fails(trainings, trainings.configure("freeze=full")).startswith(
        "the optimizer does not hold a tensor that trains: classifier."
    )


@pytest.mark.parametrize("option", ["attention", "top_layers", "lora", "gradual"])
@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_all_of_it_holds(option: str, checkpointing: str, trainings: Trainings) -> None:
    overrides = [f"freeze={option}", f"trainer.activation_checkpointing={checkpointing}"]
    overrides += ["freeze.rank=4"] if option == "lora" else []
    trained = trainings.run(trainings.configure(*overrides))
    assert trained.changed ^ trained.trainable == set()


def test_it_holds_when_the_best_checkpoint_is_loaded(trainings: Trainings) -> None:
    cfg = trainings.configure("freeze=lora", "freeze.rank=4")
    cfg.trainer.eval_steps, cfg.trainer.load_best_model_at_end = 1, True
    trained = trainings.run(cfg)
    assert trained.changed <= trained.trainable


# Saved models.


def reload(trainings: Trainings, trained: Trained, cfg: Config, folder: Path) -> np.ndarray:
    """Test probabilities of the model that a folder holds."""
    splits = load_splits(cfg.data)
    tokenizer = trained.trainer.processing_class
    fresh = saving.load_again(cfg, folder, pretrained.load(cfg, splits.label_names), CPU)
    encoded = encode(splits.test, tokenizer, cfg.data, by_length=True)
    with cpu_kernels.faster(fresh, cpu_kernels.KERNELS):
        subject = Subject(fresh, tokenizer, CPU)
        return train.predict(subject, encoded, cfg, trainings.output_dir)


SAVED = ["none", "full", "lora", "dora", "ia3", "miss", "qlora"]


@pytest.mark.parametrize("option", SAVED)
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_saved_model_predicts_the_same(
    option: str, family: str, trainings: Trainings, tmp_path: Path
) -> None:
    rank = ["freeze.rank=4"] if option in ("lora", "dora", "miss", "qlora") else []
    cfg = trainings.configure(f"freeze={option}", *rank, family=family)
    trained = trainings.run(cfg)
    saving.save(trained.trainer.model, trained.trainer.processing_class, tmp_path / "saved")
    again = reload(trainings, trained, cfg, tmp_path / "saved")
    proof.check_saved(trained.result.probabilities["test"], again)
    assert not list((tmp_path / "saved").glob("*.bin"))


def test_an_adapter_saved_without_its_head_is_found(trainings: Trainings, tmp_path: Path) -> None:
    cfg = trainings.configure("freeze=lora", "freeze.rank=4")
    trained = trainings.run(cfg)
    folder = tmp_path / "saved"
    saving.save(trained.trainer.model, trained.trainer.processing_class, folder)
    weights, about = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    save_file({k: v for k, v in load_file(weights).items() if "classifier" not in k}, weights)
    with pytest.raises(RuntimeError) as caught:
        reload(trainings, trained, cfg, folder)
    assert str(caught.value) == (
        "the saved adapter lacks the tensor 'base_model.model.classifier.weight'"
    )
    # An adapter that was never told of the head loads without a word.
    values = json.loads(about.read_text("utf-8"))
    about.write_text(json.dumps({**values, "task_type": None, "modules_to_save": None}), "utf-8")
    again = reload(trainings, trained, cfg, folder)
    with pytest.raises(ProofError, match="gives other predictions when it is loaded again"):
        proof.check_saved(trained.result.probabilities["test"], again)


def test_a_difference_above_the_tolerance_is_told() -> None:
    first = np.array([[0.5, 0.5]], np.float32)
    proof.check_saved(first, first + 5e-5)
    with pytest.raises(ProofError) as caught:
        proof.check_saved(first, first + 0.25)
    assert str(caught.value) == (
        "the saved model gives other predictions when it is loaded again: probabilities differ by"
        " up to 0.25, and 0.0001 is allowed"
    )


def test_nan_is_a_difference() -> None:
    with pytest.raises(ProofError):
        proof.check_saved(np.zeros((1, 2)), np.full((1, 2), np.nan))


def test_the_model_card_escapes_what_comes_from_outside(
    trainings: Trainings, tmp_path: Path
) -> None:
    cfg = trainings.configure("freeze=lora", "freeze.rank=4")
    cfg.data.path = "<script>|[x](javascript:1)`"
    _, _, report = trainings.apply(trainings.configure("freeze=lora", "freeze.rank=4"))
    saving.write_card(cfg, ['a"', "```\n# b"], report, {"test_accuracy": 0.5}, tmp_path)
    text = (tmp_path / "README.md").read_text("utf-8")
    assert r"&lt;script>\|\[x\]\(javascript:1\)\`" in text
    assert text.count("```") == 2
    assert "| test\\_accuracy | 0.5000 |" in text
    code = text.split("```")[1]
    assert 'id2label={0: "a\\"", 1: "\\u0060\\u0060\\u0060\\n# b"}' in code
    assert 'label2id={"a\\"": 0, "\\u0060\\u0060\\u0060\\n# b": 1}' in code
    assert len(code.strip().splitlines()) == 4  # the language, and three lines


@pytest.mark.parametrize("typed", [["freeze=none"], ["freeze=lora", "freeze.rank=4"]], ids=str)
@pytest.mark.parametrize(
    "of_the_base",
    [["LABEL_0", "LABEL_1", "LABEL_2"], ["plain", "bad", "good"], ["plain", "bad"]],
    ids=["no-names", "other-order", "two"],
)
def test_the_code_of_the_model_card_loads_the_model(
    of_the_base: list[str],
    typed: list[str],
    trainings: Trainings,
    copy_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = copy_of("bert")
    path = base / "config.json"
    labels = {"id2label": dict(enumerate(of_the_base))}
    labels["label2id"] = {name: i for i, name in enumerate(of_the_base)}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | labels), "utf-8")
    cfg, names = trainings.configure(*typed), ["bad", "good", "plain"]
    cfg.model.name_or_path = str(base)
    loaded, trained, report = trainings.apply(cfg)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.1 * parameter.requires_grad)
    saving.save(trained, loaded.tokenizer, tmp_path)
    saving.write_card(cfg, names, report, {}, tmp_path)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec((tmp_path / "README.md").read_text("utf-8").split("```")[1].removeprefix("python"), scope)
    inputs = scope["tokenizer"]("a lovely day", return_tensors="pt")
    found = scope["model"].eval()(**inputs).logits
    torch.testing.assert_close(found, trained.eval()(**inputs).logits)
    config = scope["model"].config
    assert config.id2label == dict(enumerate(names))
    assert config.label2id == {name: i for i, name in enumerate(names)}


# The whole path.


def test_a_run_saves_an_adapter_with_a_card_and_lists_every_tensor(overrides: list[str]) -> None:
    line = ["freeze=lora", "freeze.rank=4", "trainer.save_model=true", "tracking=none"]
    assert main([*overrides, *line]) == 0
    (folder,) = Path("mlruns/sweeps").glob("*/000_lora")
    record = json.loads((folder / "record.json").read_text("utf-8"))
    listed = json.loads((folder / "freeze.json").read_text("utf-8"))
    saved = {path.name for path in (folder / "model").iterdir()}
    assert {"README.md", "adapter_model.safetensors", "adapter_config.json"} <= saved
    assert not saved & {"model.safetensors", "training_args.bin"}
    weights = load_file(folder / "model" / "adapter_model.safetensors").values()
    assert sum(w.numel() for w in weights) == listed["trainable_params"]
    assert record["metrics"]["checkpoint_mib"] == listed["trainable_params"] * 4 / 2**20
    assert not (folder / "checkpoints").exists()
