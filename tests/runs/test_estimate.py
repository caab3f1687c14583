"""What a run will take, from records written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.config import compose

from sweep.config.schema import Config
from sweep.runs import estimate
from sweep.runs.estimate import Guess, Size, guess, guess_each, texts_of
from sweep.runs.record import Record

SIZE = Size(1_000_000, 4_000_000, 8e6, "fp32", "a CPU")
PARAMS: dict[str, Any] = {
    "model": "minilm",
    "data": "tweets",
    "train_examples": 1_000,
    "max_length": 128,
    "per_device_train_batch_size": 10,
    "precision": "fp32",
}
METRICS = {
    "train_samples_per_second": 100.0,
    "train_runtime_s": 20.0,
    "total_runtime_s": 35.0,
    "peak_memory_mib": 800.0,
    "train_flops": 4e11,
    "trainable_params": 2_000_000.0,
    "tokens_per_text": 25.0,
}


@pytest.fixture
def cfg() -> Config:
    batch = "trainer.per_device_train_batch_size=10"
    return compose("freeze=none", batch, "trainer.num_train_epochs=2", "data.max_length=128")


def finished(strategy: str = "none", **changes: Any) -> Record:
    """A finished run; a change goes to wherever its name belongs."""
    record = Record("", strategy, strategy, "FINISHED", params=dict(PARAMS), metrics=dict(METRICS))
    record.tags = {"sweep.device": "a CPU"}
    for key, value in changes.items():
        table = record.params if key in PARAMS else record.metrics
        table[key] = value
    return record


def test_texts_are_those_of_all_epochs_or_of_all_steps(cfg: Config) -> None:
    assert texts_of(cfg, 1_000) == 2_000
    cfg.trainer.max_steps, cfg.trainer.gradient_accumulation_steps = 7, 2
    assert texts_of(cfg, 1_000) == 140


def test_runs_like_it_tell_time_and_memory(cfg: Config) -> None:
    # 2,000 texts at 100 a second, and the 15 s beside the steps.
    assert guess(cfg, 1_000, SIZE, [finished()]) == Guess(35.0, 800.0)


def test_the_time_grows_with_the_steps(cfg: Config) -> None:
    cfg.trainer.num_train_epochs = 4.0
    assert guess(cfg, 1_000, SIZE, [finished()]).seconds == 55.0
    cfg.trainer.max_steps = 10
    assert guess(cfg, 1_000, SIZE, [finished()]).seconds == 16.0


def test_of_several_runs_the_middle_one_counts(cfg: Config) -> None:
    records = [finished(train_samples_per_second=float(n)) for n in (1, 100, 200)]
    assert guess(cfg, 1_000, SIZE, records).seconds == 35.0


def test_runs_that_were_alone_count_more_than_those_that_were_not(cfg: Config) -> None:
    contended = finished(train_samples_per_second=10.0)
    contended.tags["timing_contended"] = "true"
    assert guess(cfg, 1_000, SIZE, [contended, finished()]).seconds == 35.0
    assert guess(cfg, 1_000, SIZE, [contended]).seconds == 215.0


def test_another_strategy_tells_it_by_operations_and_trained_elements(cfg: Config) -> None:
    estimate = guess(cfg, 1_000, SIZE, [finished("full")])
    # 8e6 per token, 25 tokens per text, 2,000 texts, at 4e11 in 20 s; then 15 s.
    assert estimate.seconds == pytest.approx(8e6 * 25 * 2_000 / (4e11 / 20) + 15)
    assert estimate.memory_mib == pytest.approx(800 - 1_000_000 * 12 / 2**20)


def test_another_amount_of_the_same_data_is_told_by_operations(cfg: Config) -> None:
    estimate = guess(cfg, 500, SIZE, [finished()])
    assert estimate.seconds == pytest.approx(8e6 * 25 * 1_000 / (4e11 / 20) + 15)


NOT_LIKE_IT: dict[str, dict[str, Any]] = {
    "model": {"model": "mbert"},
    "batch": {"per_device_train_batch_size": 32},
    "precision": {"precision": "bf16"},
    "data": {"data": "csv"},
    "length": {"max_length": 64},
}


@pytest.mark.parametrize("changes", NOT_LIKE_IT.values(), ids=NOT_LIKE_IT)
@pytest.mark.parametrize("strategy", ["none", "full"])
def test_what_is_not_like_it_tells_nothing(
    strategy: str, changes: dict[str, Any], cfg: Config
) -> None:
    assert guess(cfg, 1_000, SIZE, [finished(strategy, **changes)]) == Guess(None, None)


def test_another_device_tells_nothing(cfg: Config) -> None:
    record = finished()
    record.tags["sweep.device"] = "another CPU"
    assert guess(cfg, 1_000, SIZE, [record]) == Guess()


def test_a_run_that_did_not_finish_tells_nothing(cfg: Config) -> None:
    record = finished()
    record.status = "FAILED"
    assert guess(cfg, 1_000, SIZE, [record]) == Guess()


def test_a_record_without_a_number_is_passed_over(cfg: Config) -> None:
    old = finished("full")
    del old.metrics["tokens_per_text"]
    assert guess(cfg, 1_000, SIZE, [old]).seconds is None
    assert guess(cfg, 1_000, SIZE, [old, finished("full")]).seconds is not None


def test_nothing_is_known_without_records(cfg: Config) -> None:
    assert guess(cfg, 1_000, SIZE, []) == Guess()


def test_runs_that_are_alike_are_looked_up_once(
    cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []

    def counted(*arguments: Any) -> Guess:
        looked_up.append(arguments)
        return guess(*arguments)

    monkeypatch.setattr(estimate, "guess", counted)
    longer = replace(cfg, trainer=replace(cfg.trainer, num_train_epochs=4))
    larger = replace(SIZE, total_params=8_000_000)
    seeds = [(replace(cfg, seed=seed), 1_000, SIZE) for seed in range(5)]
    jobs = [*seeds, (longer, 1_000, SIZE), (cfg, 500, SIZE), (cfg, 1_000, larger)]
    assert guess_each(jobs, [finished()]) == [guess(*job, [finished()]) for job in jobs]
    assert len(looked_up) == 4
