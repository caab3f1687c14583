"""Stages of unfreezing, rates that fall with depth, and patterns that choose tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.config import compose
from support.training import SavedModel, Trainings
from transformers import TrainerCallback

from sweep.config import strategy_checks
from sweep.config.schema import Config, ConfigError
from sweep.models import pretrained as model
from sweep.strategies import description, freeze, freeze_report


@pytest.fixture
def trainings(csv_file: Path, saved_model: SavedModel, tmp_path: Path) -> Trainings:
    return Trainings(csv_file, saved_model, tmp_path / "checkpoints")


class Diary(TrainerCallback):
    """Writes down what has gradients and what the optimizer holds in every step."""

    def __init__(self) -> None:
        self.awake: list[set[str]] = []
        self.states: list[dict[str, int]] = []
        self.optimizers: set[int] = set()

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any, optimizer: Any, **_: Any
    ) -> None:
        named = dict(model.named_parameters())
        self.awake.append({name for name, p in named.items() if p.grad is not None})
        steps = {name: optimizer.state.get(p, {}).get("step") for name, p in named.items()}
        self.states.append({name: int(step) for name, step in steps.items() if step is not None})
        self.optimizers.add(id(optimizer))


def layers_of(names: set[str]) -> set[str]:
    """Places among names, such as layer.1 and embeddings."""
    places = ("embeddings", "layer.0", "layer.1", "pooler", "classifier")
    return {place for place in places for name in names if f"{place}." in name}


TOP = {"layer.1", "pooler", "classifier"}


def gradual(trainings: Trainings, *overrides: str) -> Config:
    return trainings.configure("freeze=gradual", "trainer.max_steps=4", *overrides)


# Stages.


def test_each_stage_thaws_when_it_says(trainings: Trainings) -> None:
    diary = Diary()
    trainings.callbacks = [diary]
    trained = trainings.run(gradual(trainings))
    assert [layers_of(names) for names in diary.awake] == [
        TOP,
        TOP,
        {*TOP, "layer.0", "embeddings"},
        {*TOP, "layer.0", "embeddings"},
    ]
    assert [(s["stage"], s["step"], s["thawed"]) for s in trained.result.stages] == [
        (1, 0, ["head", "pooler", "layer 1"]),
        (2, 2, ["layer 0", "embeddings"]),
    ]
    assert trained.changed ^ trained.trainable == set()


def test_the_optimizer_keeps_its_state_over_stages(trainings: Trainings) -> None:
    diary = Diary()
    trainings.callbacks = [diary]
    trainings.run(gradual(trainings))
    assert len(diary.optimizers) == 1
    last = diary.states[-1]
    assert {layers_of({name}).pop(): step for name, step in last.items()} == {
        **dict.fromkeys(TOP, 4),
        "layer.0": 2,
        "embeddings": 2,
    }
    assert layers_of(set(diary.states[1])) == TOP


def test_stages_are_equal_shares_of_the_epochs(trainings: Trainings) -> None:
    # 84 texts in batches of 8: 11 steps an epoch.
    cfg = gradual(trainings, "trainer.max_steps=-1", "trainer.num_train_epochs=2")
    trained = trainings.run(cfg)
    assert [(s["step"], s["epoch"]) for s in trained.result.stages] == [(0, 0.0), (11, 1.0)]
    assert trained.result.notes == [
        "stage 1 of 2 began at step 0 (epoch 0) with head, pooler, layer 1",
        "stage 2 of 2 began at step 11 (epoch 1) with layer 0, embeddings",
    ]


def test_the_report_names_the_stage_of_every_tensor(trainings: Trainings) -> None:
    _, _, report = trainings.apply(gradual(trainings))
    decided = {t.name: t.decided_by for t in report.tensors}
    assert decided["classifier.weight"] == r"head: classifier\..*; stage 1 of 2"
    assert decided["bert.encoder.layer.1.output.dense.bias"] == "everything; stage 1 of 2"
    assert decided["bert.encoder.layer.0.output.dense.bias"] == "everything; stage 2 of 2"
    assert decided["bert.embeddings.word_embeddings.weight"] == "everything; stage 2 of 2"


def test_gradual_unfreezing_costs_less_than_none(trainings: Trainings) -> None:
    slow = trainings.run(trainings.configure("freeze=none", "trainer.max_steps=4"))
    fast = trainings.run(gradual(trainings))
    assert fast.result.metrics["train_flops"] < slow.result.metrics["train_flops"]


@pytest.mark.parametrize(
    ("steps", "epochs", "key"),
    [(-1, 2, "trainer.num_train_epochs=2"), (2, 5, "trainer.max_steps=2")],
)
def test_more_stages_than_epochs_or_steps_are_refused(steps: int, epochs: int, key: str) -> None:
    cfg = compose("freeze=gradual")
    cfg.freeze.stages = 3
    cfg.trainer.max_steps, cfg.trainer.num_train_epochs = steps, epochs
    assert strategy_checks.check(cfg) == [
        f"freeze.stages=3 is more than {key}, so a stage would be shorter than one. Lower"
        f" freeze.stages, or raise {key.split('=')[0]}."
    ]


def test_more_stages_than_layers_are_refused(saved_model: SavedModel) -> None:
    cfg = compose("freeze=gradual")
    cfg.model.name_or_path, cfg.data.max_length = str(saved_model("bert")), 32
    cfg.model.weights_sha256, cfg.freeze.stages = None, 3
    empty, parts = model.build_empty(cfg, 3)
    with pytest.raises(ConfigError) as caught:
        freeze.apply(empty, parts, cfg.freeze)
    assert caught.value.messages == (
        "freeze.stages=3 of the strategy 'gradual': the model has 2 layers that its parts name."
        " Use from 2 to 2 stages.",
    )


# Rates by depth.


@pytest.mark.parametrize("option", ["none", "gradual"])
def test_rates_fall_from_the_head_down(option: str, trainings: Trainings) -> None:
    cfg = trainings.configure(
        f"freeze={option}", "optimizer.layer_decay=0.5", "optimizer.learning_rate=8e-3"
    )
    trained = trainings.run(cfg)
    names = {id(p): name for name, p in trained.after.items()}
    rates = {
        place: group["initial_lr"]
        for group in trained.trainer.optimizer.param_groups
        for p in group["params"]
        for place in layers_of({names[id(p)]})
    }
    assert rates == {
        "classifier": 8e-3,
        "pooler": 8e-3,
        "layer.1": 4e-3,
        "layer.0": 2e-3,
        "embeddings": 1e-3,
    }
    held = [id(p) for group in trained.trainer.optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(names)


def test_biases_still_have_no_weight_decay(trainings: Trainings) -> None:
    cfg = trainings.configure("freeze=none", "optimizer.layer_decay=0.9")
    trained = trainings.run(cfg)
    names = {id(p): name for name, p in trained.after.items()}
    for group in trained.trainer.optimizer.param_groups:
        plain = [n for n in (names[id(p)] for p in group["params"]) if n.endswith("bias")]
        assert bool(plain) == (group["weight_decay"] == 0.0)


def test_a_decay_of_one_changes_nothing(trainings: Trainings) -> None:
    plain = trainings.run(trainings.configure("freeze=attention"))
    same = trainings.run(trainings.configure("freeze=attention", "optimizer.layer_decay=1"))
    for name, parameter in plain.after.items():
        torch.testing.assert_close(parameter, same.after[name])


# Patterns.


def by_patterns(saved_model: SavedModel, *patterns: str) -> freeze_report.FreezeReport:
    cfg = compose("freeze=none")
    cfg.model.name_or_path, cfg.data.max_length = str(saved_model("bert")), 32
    cfg.model.weights_sha256 = None
    cfg.freeze.parts, cfg.freeze.name, cfg.freeze.train = [], "mine", list(patterns)
    assert strategy_checks.check(cfg) == []
    empty, parts = model.build_empty(cfg, 3)
    return freeze.apply(empty, parts, cfg.freeze)[1]


def test_the_first_pattern_that_matches_decides(saved_model: SavedModel) -> None:
    report = by_patterns(saved_model, r".*layer\.1\.output\.dense\..*", "!bert.*", ".*")
    assert {t.name for t in report.tensors if t.trainable} == {
        "bert.encoder.layer.1.output.dense.weight",
        "bert.encoder.layer.1.output.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }
    decided = {t.name: t.decided_by for t in report.tensors}
    assert decided["bert.pooler.dense.bias"] == "pattern: !bert.*"
    assert decided["classifier.bias"] == "pattern: .*"


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        pytest.param(
            ["classifier.*", "bert.pooler", "!bert.*"],
            "freeze.train of the strategy 'mine': the pattern 'bert.pooler' matches none of the 41"
            " parameters as a whole. Near misses: bert.pooler.dense.weight, bert.pooler.dense.bias."
            " Correct it, or leave it out.",
            id="part of a name",
        ),
        pytest.param(
            ["classifier.*", "!bert.*", ".*pooler.*"],
            "freeze.train of the strategy 'mine': the pattern '.*pooler.*' decides nothing, because"
            " the patterns before it match all it matches. The first match wins; move it to the"
            " front, or leave it out.",
            id="too late",
        ),
        pytest.param(
            ["classifier.*", "!bert.e.*"],
            "freeze.train of the strategy 'mine' does not say what becomes of 2 parameters:"
            " bert.pooler.dense.weight, bert.pooler.dense.bias. Every parameter has to be covered;"
            " add '!.*' as the last pattern to freeze all others.",
            id="not covered",
        ),
        pytest.param(
            ["bert.*", "!.*"],
            "freeze.train of the strategy 'mine' freezes the head, which is new and has to train:"
            r" classifier.bias, classifier.weight. Put 'classifier\\..*' in front of the other"
            " patterns.",
            id="frozen head",
        ),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(
    patterns: list[str], message: str, saved_model: SavedModel
) -> None:
    with pytest.raises(ConfigError) as caught:
        by_patterns(saved_model, *patterns)
    assert caught.value.messages == (message,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"train": ["(a"], "parts": []},
            "freeze.train: '(a' is no regular expression: missing ), unterminated subpattern at"
            " position 0. Correct it.",
        ),
        (
            {"train": [], "parts": []},
            "freeze.train=[] has no pattern. Add some, or set freeze.train=null.",
        ),
        (
            {"train": [".*"]},
            "freeze.train=['.*'] and freeze.parts=['everything'] both say what trains. Leave one"
            " of them out.",
        ),
    ],
)
def test_patterns_are_checked_without_a_model(settings: dict[str, Any], message: str) -> None:
    cfg = compose("freeze=none")
    for key, value in settings.items():
        setattr(cfg.freeze, key, value)
    assert strategy_checks.check(cfg) == [message]


def test_strategies_are_described() -> None:
    assert str(description.describe(compose("freeze=gradual").freeze)) == (
        "everything; from the top in 2 stages"
    )
    cfg = compose("freeze=none")
    cfg.freeze.train = ["!bert.*", "a.*", "b.*"]
    assert description.describe(cfg.freeze) == "a.* | b.*"
