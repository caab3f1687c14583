"""Real trainings of a tiny BERT, in this process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from support.config import STRATEGIES, compose, strategy
from support.training import Trained, Trainings

from sweep.base import device, environment
from sweep.base.device import Hardware
from sweep.config.compose import options
from sweep.config.schema import Config, ConfigError, TrainerConfig
from sweep.data.splits import load_splits
from sweep.training import cost, train, trainer

pytestmark = pytest.mark.usefixtures("one_thread")
Tensors = Mapping[str, torch.Tensor]


@dataclass
class Bench:
    """Makes configurations for the tiny data and model, and trains them."""

    csv_file: Path
    folder: Path
    output_dir: Path
    hooks: list[Callable[[torch.nn.Module], None]] = field(default_factory=list)
    """Called with the model before it trains."""

    def configure(self, name: str = "none", **trainer: Any) -> Config:
        """Three steps with a batch of 8, no warm-up, weight decay, and these trainer settings."""
        cfg = compose(
            "freeze=none",
            "data=csv",
            "data.path=unset",
            "model=hub",
            "model.name_or_path=unset",
            "trainer.device=cpu",
            "trainer.precision=fp32",
            "trainer.max_steps=3",
            "trainer.num_train_epochs=2",
            "trainer.per_device_train_batch_size=8",
            "trainer.logging_steps=1",
            "optimizer.warmup_steps=0",
            "optimizer.weight_decay=0.1",
            "optimizer.learning_rate=1e-3",
            "data.max_length=32",
        )
        cfg.data.path, cfg.model.name_or_path = str(self.csv_file), str(self.folder)
        cfg.freeze = strategy(name)
        if cfg.freeze.count:
            cfg.freeze.count = 1
        for key, value in trainer.items():
            assert hasattr(cfg.trainer, key)
            setattr(cfg.trainer, key, value)
        return cfg

    def train(self, cfg: Config) -> Trained:
        """What `run` does between loading and recording."""

        def hook(network: torch.nn.Module) -> None:
            for change in self.hooks:
                change(network)

        trainings = Trainings(self.csv_file, lambda _: self.folder, self.output_dir, hook=hook)
        return trainings.run(cfg)


@pytest.fixture
def bench(csv_file: Path, saved_model: Callable[[str], Path], tmp_path: Path) -> Bench:
    """On 84 training, 12 validation and 24 test texts."""
    return Bench(csv_file, saved_model("bert"), tmp_path / "checkpoints")


@pytest.fixture
def no_dropout(bench: Bench, tmp_path: Path) -> Bench:
    """As `bench`, with a model that has no dropout."""
    bench.folder = shutil.copytree(bench.folder, tmp_path / "no-dropout")
    path = bench.folder / "config.json"
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | off), "utf-8")
    return bench


def spread(root: torch.nn.Module) -> None:
    """Make random weights large enough for texts to get different predictions."""
    with torch.no_grad():
        for parameter in root.parameters():
            if parameter.ndim == 2:
                parameter.mul_(30)


def changed(before: Tensors, after: Tensors) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def untimed(result: train.TrainResult) -> dict[str, float]:
    """The metrics that do not depend on the machine's mood."""
    timed = {"train_samples_per_second", "peak_memory_mib"}
    timed |= {name for name in result.metrics if name.endswith("_s")}
    assert {"train_samples_per_second", "peak_memory_mib", "train_runtime_s"} <= timed
    return {name: value for name, value in result.metrics.items() if name not in timed}


# What trains and what does not.


@pytest.mark.parametrize("name", STRATEGIES)
def test_frozen_tensors_stay_bit_identical_and_all_others_move(name: str, bench: Bench) -> None:
    trained = bench.train(bench.configure(name))
    trainable = {name for name, p in trained.after.items() if p.requires_grad}
    assert changed(trained.before, trained.after) ^ trainable == set()


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_optimizer_holds_state_for_trained_tensors_only(name: str, bench: Bench) -> None:
    trained = bench.train(bench.configure(name, max_steps=1))
    names = {id(p): name for name, p in trained.after.items()}
    trainable = {name for name, p in trained.after.items() if p.requires_grad}
    optimizer = trained.trainer.optimizer
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {names[id(p)] for p in held} == trainable
    assert {names[id(p)] for p in optimizer.state} == trainable


def watch_modes(seen: dict[str, set[bool]], *names: str) -> Callable[[torch.nn.Module], None]:
    """A hook that notes in which mode modules run while the model trains."""

    def watch(root: torch.nn.Module) -> None:
        for name in names:

            def note(module: torch.nn.Module, *_: Any, name: str = name) -> None:
                if root.training:
                    seen.setdefault(name, set()).add(module.training)

            root.get_submodule(name).register_forward_hook(note)

    return watch


@pytest.mark.parametrize("frozen_dropout", [False, True], ids=["frozen-off", "frozen-on"])
def test_dropout_of_frozen_modules_is_on_only_if_asked_for(
    frozen_dropout: bool, bench: Bench
) -> None:
    seen: dict[str, set[bool]] = {}
    bench.hooks.append(watch_modes(seen, "bert.embeddings.dropout", "dropout"))
    cfg = bench.configure("full")
    cfg.freeze.frozen_dropout = frozen_dropout
    bench.train(cfg)
    assert seen == {"bert.embeddings.dropout": {frozen_dropout}, "dropout": {True}}


# Determinism.


def test_the_same_seed_gives_the_same_bits(bench: Bench) -> None:
    first, again = (bench.train(bench.configure("attention")) for _ in range(2))
    assert changed(first.after, again.after) == set()
    assert untimed(first.result) == untimed(again.result)
    assert np.array_equal(first.result.probabilities["test"], again.result.probabilities["test"])


def test_another_seed_gives_other_weights_and_metrics(bench: Bench) -> None:
    cfg = bench.configure("none")
    first = bench.train(cfg)
    cfg.seed = 1
    other = bench.train(cfg)
    assert changed(first.after, other.after) == first.after.keys()
    assert first.result.metrics["test_loss"] != other.result.metrics["test_loss"]


def test_another_seed_gives_another_order_of_the_texts(no_dropout: Bench) -> None:
    """Without dropout and with one head, only the order is left to differ."""

    def fix_head(root: torch.nn.Module) -> None:
        torch.nn.init.constant_(root.get_parameter("classifier.weight"), 0.1)

    no_dropout.hooks.append(fix_head)
    cfg = no_dropout.configure("full", train_sampling_strategy="random")
    first = no_dropout.train(cfg)
    cfg.seed = 1
    other = no_dropout.train(cfg)
    assert changed(first.before, other.before) == set()
    assert "classifier.weight" in changed(first.after, other.after)


def test_training_lowers_the_loss(no_dropout: Bench) -> None:
    cfg = no_dropout.configure("none", max_steps=200, per_device_train_batch_size=16)
    cfg.optimizer.learning_rate = 0.02
    no_dropout.hooks.append(spread)
    curve = list(no_dropout.train(cfg).curve("train_loss").values())
    assert sum(curve[-10:]) < 0.5 * sum(curve[:10])


# Losses that are not finite.


def test_a_diverging_loss_stops_the_run_at_its_step(bench: Bench) -> None:
    cfg = bench.configure("none")
    cfg.optimizer.learning_rate = 1e30
    with pytest.raises(trainer.DivergedError) as caught:
        bench.train(cfg)
    assert re.fullmatch(
        r"The training loss became (nan|inf) at step 2\. Lower optimizer\.learning_rate, raise"
        r" optimizer\.warmup_steps, or use trainer\.precision=fp32\.",
        str(caught.value),
    )


def test_a_loss_that_is_infinite_from_the_start_names_step_1(bench: Bench) -> None:
    def spoil(root: torch.nn.Module) -> None:
        with torch.no_grad():
            root.get_parameter("classifier.bias")[0] = float("inf")

    bench.hooks.append(spoil)
    with pytest.raises(trainer.DivergedError, match=r"became (nan|inf) at step 1\."):
        bench.train(bench.configure("none"))


def test_a_model_that_breaks_in_the_last_step_is_diverged_too(bench: Bench) -> None:
    cfg = bench.configure("none", max_steps=1)
    cfg.optimizer.learning_rate = 1e30
    with pytest.raises(trainer.DivergedError) as caught:
        bench.train(cfg)
    assert str(caught.value) == (
        "eval_loss, test_loss ended as NaN or infinite. Lower optimizer.learning_rate."
    )


# Settings of the trainer.


@pytest.mark.parametrize("name", ["none", "attention", "full"])
def test_activation_checkpointing_gives_the_same_weights(name: str, bench: Bench) -> None:
    plain = bench.train(bench.configure(name))
    saving = bench.train(bench.configure(name, activation_checkpointing=True))
    assert saving.trainer.model.is_activation_checkpointing
    assert not plain.trainer.model.is_activation_checkpointing
    assert changed(plain.after, saving.after) == set()


def test_accumulated_small_batches_do_what_a_large_one_does(no_dropout: Bench) -> None:
    """With SGD, because Adam turns rounding errors into steps of any size."""
    cfg = no_dropout.configure("none", train_sampling_strategy="sequential")
    cfg.optimizer.optim, cfg.optimizer.learning_rate = "sgd", 1.0
    large = no_dropout.train(cfg)
    cfg.trainer.per_device_train_batch_size = 2
    cfg.trainer.gradient_accumulation_steps = 4
    small = no_dropout.train(cfg)
    assert small.trainer.state.global_step == 3
    for name, tensor in large.after.items():
        torch.testing.assert_close(small.after[name], tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        pytest.param({"max_steps": 5}, 5, id="max_steps"),
        pytest.param({"max_steps": 13}, 13, id="max_steps-beyond-an-epoch"),
        pytest.param({"num_train_epochs": 2, "max_steps": -1}, 22, id="epochs"),
        pytest.param({"num_train_epochs": 0.5, "max_steps": -1}, 6, id="half-an-epoch"),
        pytest.param(
            {"num_train_epochs": 1, "max_steps": -1, "gradient_accumulation_steps": 4},
            3,
            id="accumulation",
        ),
    ],
)
def test_a_run_takes_as_many_steps_as_asked(
    settings: dict[str, Any], steps: int, bench: Bench
) -> None:
    trained = bench.train(bench.configure("full", **settings))
    assert trained.trainer.state.global_step == steps
    assert max(trained.curve("train_loss")) == steps
    assert {total for _, _, total in trained.reports} == {steps}
    assert trained.result.metrics["eval_loss"] == trained.curve("eval_loss")[steps]


def test_eval_steps_evaluates_that_often(bench: Bench) -> None:
    trained = bench.train(bench.configure("full", max_steps=5, eval_steps=2))
    assert list(trained.curve("eval_loss")) == [2, 4, 5]  # and at the end


def test_evaluation_that_never_comes_is_told(bench: Bench) -> None:
    notes = bench.train(bench.configure("full", max_steps=2, eval_steps=3)).result.notes
    assert notes == [
        "trainer.eval_steps=3 is more than the 2 steps of the run: it was evaluated at the end only"
    ]


def test_final_scores_are_those_of_the_final_weights(bench: Bench) -> None:
    bench.hooks.append(spread)  # else the last step changes the loss by less than its last bit
    trained = bench.train(bench.configure("none", max_steps=5, eval_steps=2))
    metrics = trained.result.metrics
    assert metrics["eval_loss"] != trained.curve("eval_loss")[4]
    assert metrics["eval_loss"] == pytest.approx(trained.trainer.evaluate()["eval_loss"], rel=1e-6)


def test_without_a_test_split_validation_is_predicted(bench: Bench) -> None:
    cfg = bench.configure("full")
    cfg.data.test_size = 0
    result = bench.train(cfg).result
    assert result.probabilities.keys() == {"validation"}
    assert "eval_accuracy" in result.metrics
    assert "test_accuracy" not in result.metrics


def test_the_best_checkpoint_is_loaded_at_the_end(bench: Bench) -> None:
    cfg = bench.configure("none", max_steps=6, eval_steps=1, load_best_model_at_end=True)
    cfg.optimizer.learning_rate, cfg.optimizer.warmup_steps = 3.0, 6  # worse with every step
    trained = bench.train(cfg)
    losses = trained.curve("eval_loss")
    best = min(losses.values())
    assert losses[6] > 2 * best
    assert trained.result.metrics["eval_loss"] == pytest.approx(best, rel=1e-5)


def test_the_best_checkpoint_is_that_of_the_metric_asked_for(bench: Bench) -> None:
    settings = {"load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
    cfg = bench.configure("none", max_steps=6, eval_steps=1, **settings)
    cfg.optimizer.learning_rate, cfg.optimizer.warmup_steps = 3.0, 6
    trained = bench.train(cfg)
    accuracies = trained.curve("eval_accuracy")
    assert trained.result.metrics["eval_accuracy"] == max(accuracies.values())
    assert trained.trainer.state.best_metric == max(accuracies.values())


@pytest.mark.parametrize("best_at_end", [False, True])
def test_a_training_ends_after_evaluations_without_a_better_one(
    best_at_end: bool, bench: Bench
) -> None:
    settings = {"early_stopping_patience": 2, "metric_for_best_model": "loss"}
    settings |= {"load_best_model_at_end": best_at_end}
    cfg = bench.configure("none", max_steps=30, eval_steps=1, **settings)
    cfg.optimizer.learning_rate = 3.0
    trained = bench.train(cfg)
    losses = list(trained.curve("eval_loss").values())
    assert len(losses) < 30
    assert min(losses) == losses[-3] <= min(losses[-2:])
    metrics = trained.result.metrics
    assert metrics["train_steps"] == len(losses)
    assert metrics["train_epochs"] == pytest.approx(len(losses) / 11)
    expected = losses[-3] if best_at_end else losses[-1]
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-4)


def test_auto_makes_two_hundred_steps_of_few_texts(bench: Bench) -> None:
    cfg = bench.configure("full", max_steps=-1, num_train_epochs="auto")
    trained = bench.train(cfg)
    assert trained.trainer.state.global_step == trained.result.metrics["train_steps"] == 200
    assert trained.result.metrics["train_epochs"] == pytest.approx(200 / 11, rel=1e-2)
    assert trained.curve("learning_rate")[200] == pytest.approx(1e-3 / 200)


def test_weights_and_smoothing_are_for_the_training_loss_alone(no_dropout: Bench) -> None:
    no_dropout.hooks.append(spread)
    plain = no_dropout.train(no_dropout.configure("none", max_steps=1)).result.metrics
    other = no_dropout.configure("none", max_steps=1, label_smoothing_factor=0.5)
    other.optimizer.learning_rate = 1e-12  # so that both are evaluated with the same weights
    smoothed = no_dropout.train(other).result.metrics
    plain_again = no_dropout.configure("none", max_steps=1)
    plain_again.optimizer.learning_rate = 1e-12
    unmoved = no_dropout.train(plain_again).result.metrics
    assert smoothed["eval_loss"] == pytest.approx(unmoved["eval_loss"], rel=1e-6)
    assert smoothed["train_loss"] != pytest.approx(plain["train_loss"], rel=1e-3)


@pytest.mark.parametrize("option", sorted(options()["optimizer"]))
def test_every_optimizer_trains(option: str, bench: Bench) -> None:
    cfg = bench.configure("attention")
    cfg.optimizer = compose("freeze=none", f"optimizer={option}").optimizer
    cfg.optimizer.learning_rate = cfg.optimizer.learning_rate or 1e-3
    cfg.optimizer.warmup_steps = 0
    trained = bench.train(cfg)
    trainable = {name for name, p in trained.after.items() if p.requires_grad}
    assert changed(trained.before, trained.after) ^ trainable == set()


def test_optimizer_arguments_reach_the_optimizer(bench: Bench) -> None:
    cfg = bench.configure("full", max_steps=1)
    cfg.optimizer = compose("freeze=none", "optimizer=sgd").optimizer
    (group, *_) = bench.train(cfg).trainer.optimizer.param_groups
    assert (group["initial_lr"], group["momentum"]) == (0.02, 0.9)


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_batches_are_padded_as_asked(padding: str, bench: Bench) -> None:
    trained = bench.train(bench.configure("full", max_steps=1, padding=padding))
    widths = {batch["input_ids"].shape[1] for batch in trained.trainer.get_train_dataloader()}
    # Texts have at most 8 + 3 words, and two special tokens.
    assert widths == {32} if padding == "max_length" else max(widths) <= 13


@pytest.mark.parametrize(
    ("schedule", "expected"), [("linear", [4, 3, 2, 1]), ("constant", [4, 4, 4, 4])]
)
def test_the_learning_rate_follows_the_schedule(
    schedule: str, expected: list[int], bench: Bench
) -> None:
    cfg = bench.configure("full", max_steps=4)
    cfg.optimizer.learning_rate, cfg.optimizer.lr_scheduler_type = 4e-3, schedule
    rates = bench.train(cfg).curve("learning_rate")
    assert [rate * 1e3 for rate in rates.values()] == pytest.approx(expected)


# Precision and device.


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_given_precision_is_taken_as_it_is(precision: str) -> None:
    assert device.resolve_precision(TrainerConfig(precision=precision), "cpu") == precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        pytest.param({"avx2": True, "avx512_bf16": False}, "fp32", id="avx2-alone"),
        pytest.param({"avx512_bf16": True}, "bf16", id="avx512"),
        pytest.param({"amx_bf16": True}, "bf16", id="amx"),
        pytest.param({"bf16": True, "neon": True}, "bf16", id="arm"),
        pytest.param({}, "fp32", id="unknown"),
    ],
)
def test_auto_on_a_cpu_takes_bf16_only_with_instructions_for_it(
    capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert device.resolve_precision(TrainerConfig(), "cpu") == expected


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux")
def test_auto_on_this_cpu_agrees_with_the_kernel() -> None:
    flags = set(Path("/proc/cpuinfo").read_text("utf-8").split())
    native = flags & {"avx512_bf16", "amx_bf16", "bf16"}
    expected = "bf16" if native else "fp32"
    assert device.resolve_precision(TrainerConfig(), "cpu") == expected


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        device.resolve_precision(TrainerConfig(precision="fp16"), "cpu")
    assert caught.value.messages == (
        "trainer.precision='fp16' needs a GPU. Use bf16, fp32 or auto on a CPU.",
    )


def test_a_run_in_bf16_keeps_its_weights_in_fp32(bench: Bench) -> None:
    exact = bench.train(bench.configure("none"))
    rounded = bench.train(bench.configure("none", precision="bf16"))
    assert {p.dtype for p in rounded.after.values()} == {torch.float32}
    assert exact.result.metrics["train_loss"] != rounded.result.metrics["train_loss"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        device.resolve_device(TrainerConfig(device="cuda"))
    assert str(caught.value).startswith("trainer.device='cuda' is not available here. Use one of ")


# Time, memory and cost.


class Clock:
    """Stands in for time.perf_counter."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that moves only when told."""
    found = Clock()
    monkeypatch.setattr(time, "perf_counter", found)
    return found


def test_the_stopwatch_leaves_paused_blocks_out(clock: Clock) -> None:
    watch = cost.Stopwatch()
    watch.start()
    clock.now += 3
    with watch.paused():
        clock.now += 50
    clock.now += 4
    watch.stop()
    clock.now += 100
    assert watch.elapsed_s == 7


def test_a_pause_waits_for_what_the_device_has_still_to_do(clock: Clock) -> None:
    """A GPU ends its steps later than they are given to it, and no step is waited for."""
    given = 0.0

    def settle() -> None:
        nonlocal given
        clock.now += given
        given = 0.0

    watch = cost.Stopwatch(settle)
    watch.start()
    for _ in range(5):
        clock.now += 1
        given += 2
        watch.lap()
    assert watch.elapsed_s == 5
    with watch.paused():
        assert watch.elapsed_s == 15
        clock.now += 100
    given += 3
    watch.stop()
    watch.stop()
    assert watch.elapsed_s == 18


def test_a_loss_that_is_found_later_is_told_as_of_then() -> None:
    with pytest.raises(trainer.DivergedError, match=r"became nan by step 10\. Lower"):
        trainer.check_loss(float("nan"), 10, "by")


def test_pauses_may_be_nested_and_may_end_in_an_error(clock: Clock) -> None:
    watch = cost.Stopwatch()
    watch.start()
    with contextlib.suppress(KeyError), watch.paused():
        clock.now += 5
        with watch.paused():
            clock.now += 5
        clock.now += 5
        raise KeyError
    clock.now += 2
    watch.stop()
    assert watch.elapsed_s == 2


def test_a_pause_does_not_start_a_watch_that_stands_still(clock: Clock) -> None:
    watch = cost.Stopwatch()
    with watch.paused():
        clock.now += 5
    clock.now += 5
    watch.stop()
    assert watch.elapsed_s == 0


def test_a_mark_counts_the_time_since_the_last_one_without_pauses(clock: Clock) -> None:
    watch = cost.Stopwatch()
    watch.start()
    clock.now += 1
    watch.mark("forward")
    with watch.paused():
        clock.now += 100
    clock.now += 2
    watch.mark("backward")
    watch.lap()
    clock.now += 4
    watch.mark("forward")
    assert watch.phases == {"forward": 5, "backward": 2}


def test_the_phases_of_a_training_add_up_to_its_time(bench: Bench) -> None:
    metrics = bench.train(bench.configure("none")).result.metrics
    phases = [metrics[f"train_{name}_s"] for name in ("forward", "backward", "optimizer", "data")]
    assert min(phases) > 0
    # What is left is the Trainer's end of the last step.
    assert 0 <= metrics["train_runtime_s"] - sum(phases) < 0.1 * metrics["train_runtime_s"] + 0.05


def test_the_first_two_laps_are_the_warm_up(clock: Clock) -> None:
    watch = cost.Stopwatch()
    watch.start()
    for seconds in (30, 20, 1, 1):
        clock.now += seconds
        watch.lap()
    watch.stop()
    assert (watch.steps, watch.warmup_s, watch.elapsed_s) == (4, 50, 52)


def test_evaluation_does_not_count_as_training_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every evaluation is made a second longer than the few milliseconds it takes."""
    original = trainer.Trainer.evaluate

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(trainer.Trainer, "evaluate", slow)
    metrics = bench.train(bench.configure("full", max_steps=2, eval_steps=1)).result.metrics
    assert metrics["train_runtime_s"] > 0
    texts = 84 * 2 / 11  # two of the eleven batches of an epoch
    assert metrics["train_samples_per_second"] == pytest.approx(texts / metrics["train_runtime_s"])


def test_peak_memory_is_that_of_a_process(bench: Bench) -> None:
    peak_mib = bench.train(bench.configure("full", max_steps=1)).result.metrics["peak_memory_mib"]
    assert 50 < peak_mib < psutil.virtual_memory().total / 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_memory_of_an_evaluation_is_not_that_of_training(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trainer.Trainer.evaluate
    peaks: list[int | None] = []

    def large(*args: Any, **kwargs: Any) -> Any:
        np.ones(2**26)  # 512 MiB, touched
        peaks.append(cost.peak_memory("cpu"))
        return original(*args, **kwargs)

    monkeypatch.setattr(trainer.Trainer, "evaluate", large)
    metrics = bench.train(bench.configure("full", max_steps=2, eval_steps=1)).result.metrics
    assert len(peaks) == 2
    assert all(peak and metrics["peak_memory_mib"] < peak / 2**20 - 400 for peak in peaks)


def test_loading_the_best_checkpoint_does_not_count_as_training_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trainer.Trainer._load_best_model

    def slow(*args: Any) -> Any:
        time.sleep(2)
        return original(*args)

    monkeypatch.setattr(trainer.Trainer, "_load_best_model", slow)
    cfg = bench.configure("full", max_steps=2, eval_steps=1, load_best_model_at_end=True)
    assert 0 < bench.train(cfg).result.metrics["train_runtime_s"] < 2


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_memory_that_was_given_back_before_does_not_count() -> None:
    block = np.ones(2**26)  # 512 MiB, touched
    with_block = cost.peak_memory("cpu")
    del block
    cost.reset_peak_memory("cpu")
    after = cost.peak_memory("cpu")
    assert with_block is not None
    assert after is not None
    assert after < with_block - 400 * 2**20


def test_the_memory_of_a_run_on_the_cpu_is_the_process_s_also_beside_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = cost.peak_memory("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cost.reset_peak_memory("cpu")
    assert (cost.peak_memory("cpu") is None) == (before is None)


def test_a_peak_that_cannot_be_measured_is_left_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "_CLEAR", Path(__file__) / "gone")  # as on macOS
    metrics = bench.train(bench.configure("full", max_steps=1)).result.metrics
    assert "peak_memory_mib" not in metrics
    assert "train_runtime_s" in metrics
    assert cost.peak_memory("mps") is None


# One device.


def test_a_run_uses_one_of_several_gpus(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cfg = bench.configure()
    arguments = trainer.training_arguments(cfg, Hardware("cuda", "fp32"), bench.output_dir, 84)
    assert arguments.n_gpu == 1
    assert arguments.train_batch_size == cfg.trainer.per_device_train_batch_size


def test_the_device_that_is_named_is_the_run_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    cpu = environment.describe("cpu")["device"]
    assert environment.device_name("cuda") == "GPU 0"
    assert environment.device_name("mps") == f"{cpu} (MPS)"
    assert "GPU" not in cpu


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_cores_are_those_that_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    assert 1 <= environment.cores() <= len(allowed)
    try:
        os.sched_setaffinity(0, [min(allowed)])
        assert environment.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def flops_per_token(trained: Trained) -> float:
    tokens = trained.encoded["train"].tokens
    return trained.result.metrics["train_flops"] / (tokens * trained.trainer.state.epoch)


# Elements of the tiny BERT's weight matrices.
ATTENTION, FEED_FORWARD, POOLER, HEAD = 4 * 8 * 8, 2 * 8 * 16, 8 * 8, 3 * 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "none", 6 * (2 * (ATTENTION + FEED_FORWARD) + POOLER + HEAD), id="everything-thrice"
        ),
        pytest.param(
            # Below the first query nothing trains, so its input needs no gradient.
            "attention",
            6 * (2 * ATTENTION + POOLER + HEAD) + 4 * 2 * FEED_FORWARD - 2 * 8 * 8,
            id="backward-through-frozen-feed-forward",
        ),
        pytest.param(
            "full",
            2 * (2 * (ATTENTION + FEED_FORWARD) + POOLER) + 4 * HEAD,
            id="forward-alone-below-the-head",
        ),
        pytest.param(
            "top_layers",
            2 * (ATTENTION + FEED_FORWARD)
            + 6 * (ATTENTION + FEED_FORWARD + POOLER + HEAD)
            - 2 * 8 * 8,
            id="forward-alone-below-the-top-layer",
        ),
    ],
)
def test_flops_count_what_freezing_saves(name: str, expected: int, bench: Bench) -> None:
    trained = bench.train(bench.configure(name, max_steps=1))
    assert flops_per_token(trained) == pytest.approx(expected)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "deberta-v2", "modernbert"])
def test_a_strategy_that_trains_less_costs_less(
    family: str, bench: Bench, saved_model: Callable[[str], Path]
) -> None:
    bench.folder = saved_model(family)
    none, attention, full = (
        flops_per_token(bench.train(bench.configure(name, max_steps=1)))
        for name in ("none", "attention", "full")
    )
    assert none > attention > full
    # The forward pass is a third of training everything, and all but the head's part of `full`.
    assert full < 0.5 * none


# Predictions.


def test_predictions_are_in_the_order_of_the_split(bench: Bench) -> None:
    bench.hooks.append(spread)
    trained = bench.train(bench.configure("none"))
    splits = load_splits(bench.configure().data)
    network, tokenizer = trained.trainer.model.eval(), trained.trainer.processing_class
    with torch.no_grad():
        one_by_one = [
            torch.softmax(network(**tokenizer(text, return_tensors="pt")).logits[0], -1).numpy()
            for text in splits.test.texts
        ]
    np.testing.assert_allclose(trained.result.probabilities["test"], one_by_one, atol=1e-4)
    # The test could not fail if evaluation took the texts as they come, or found them all alike.
    order = trained.encoded["test"].order
    assert not np.allclose(np.array(one_by_one)[order], one_by_one, atol=0.1)


def test_accuracy_is_that_of_the_predictions(bench: Bench) -> None:
    bench.hooks.append(spread)
    trained = bench.train(bench.configure("none"))
    labels = load_splits(bench.configure().data).test.labels
    predictions = trained.result.probabilities["test"].argmax(-1)
    assert len(set(predictions)) == 3
    assert trained.result.metrics["test_accuracy"] == pytest.approx((predictions == labels).mean())
