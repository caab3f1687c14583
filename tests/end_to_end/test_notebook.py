"""experiment=notebook against what the notebook's cells and outputs say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sweep.config.checks import value_at
from sweep.config.compose import compose_jobs
from sweep.config.schema import Config
from sweep.data.splits import load_splits

ROWS = 51_628
CODES = ("E18", "E20", "E37", "E41", "E55", "E69")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up CSV of the corpus' shape: as many rows, Korean text, codes of six emotions."""
    path = tmp_path_factory.mktemp("corpus") / "train.csv"
    rows = [f"오늘은 {i}번째로 기분이 달라요,{CODES[i % 6]}" for i in range(ROWS)]
    path.write_text("\n".join(["HS01,label", *rows]) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def runs(corpus: Path) -> dict[str, Config]:
    """The two runs that the bare experiment makes."""
    jobs = compose_jobs(["experiment=notebook", f"data.path={corpus}"])
    return {job.cfg.freeze.name: job.cfg for job in jobs}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.name_or_path", "google-bert/bert-base-multilingual-cased"),
        ("data.text_column", "HS01"),
        ("data.label_names", ["E1", "E6", "E3", "E5", "E2", "E4"]),
        ("data.max_length", 60),
        ("optimizer.learning_rate", 2e-5),
        ("optimizer.optim", "adamw_torch_fused"),
        ("optimizer.warmup_steps", 0),
        ("trainer.padding", "max_length"),
        ("trainer.per_device_train_batch_size", 64),
        ("trainer.num_train_epochs", 5),
        ("trainer.eval_steps", 200),
        ("trainer.load_best_model_at_end", True),
        ("trainer.train_sampling_strategy", "random"),
        ("trainer.precision", "fp32"),
        ("freeze.frozen_dropout", True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_is_the_notebooks(runs: dict[str, Config], key: str, value: object) -> None:
    assert [value_at(cfg, key) for cfg in runs.values()] == [value, value]


def test_both_cells_are_run_with_their_weight_decay(runs: dict[str, Config]) -> None:
    found = {name: cfg.optimizer.weight_decay for name, cfg in runs.items()}
    assert found == {"none": 2e-5, "attention": 1e-5}


def test_the_split_is_the_notebooks(runs: dict[str, Config]) -> None:
    splits = load_splits(runs["none"].data)
    generator = torch.Generator().manual_seed(42)
    rows = torch.utils.data.TensorDataset(torch.arange(ROWS))
    held_out, train = torch.utils.data.random_split(rows, [0.2, 0.8], generator=generator)
    assert (len(splits.validation), len(splits.train), len(splits.test)) == (10_326, 41_302, 0)
    np.testing.assert_array_equal(splits.validation.ids, held_out.indices)
    np.testing.assert_array_equal(splits.train.ids, train.indices)
    first = splits.train.ids[0]
    assert splits.train.texts[0] == f"오늘은 {first}번째로 기분이 달라요"
    assert splits.label_names[splits.train.labels[0]] == CODES[first % 6][:2]


def test_the_run_has_as_many_steps_as_the_output_shows(runs: dict[str, Config]) -> None:
    trainer = runs["none"].trainer
    per_epoch = math.ceil(41_302 / trainer.per_device_train_batch_size)
    assert per_epoch * trainer.num_train_epochs == 3_230
