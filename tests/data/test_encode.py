"""Tokens from the cache are those of the tokenizer, and are made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from support.config import compose

from sweep.base import cache
from sweep.config.schema import Config
from sweep.data import encode as tokens
from sweep.data.encode import encode
from sweep.data.split_rows import NAMES
from sweep.data.splits import Splits, load_splits


@pytest.fixture
def cfg(overrides: list[str]) -> Config:
    return compose(*overrides, "freeze=none")


@pytest.fixture
def splits(cfg: Config) -> Splits:
    return load_splits(cfg.data)


@pytest.fixture
def encode_splits(cfg: Config, splits: Splits) -> Callable[..., tokens.Tokens]:
    def call(**changed: Any) -> tokens.Tokens:
        own = replace(cfg, **changed)
        tokenizer = transformers.AutoTokenizer.from_pretrained(own.model.name_or_path)
        return tokens.encode_splits(splits, tokenizer, own)

    return call


Encode = Callable[..., tokens.Tokens]


def test_they_are_those_of_the_tokenizer(encode_splits: Encode, cfg: Config, splits: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(cfg.model.name_or_path)
    for _ in ("made", "read"):
        found = encode_splits().encoded
        for name in NAMES:
            part = encode(getattr(splits, name), tokenizer, cfg.data, name != "train")
            assert len(found[name]) == len(part) > 0
            assert found[name].order.tolist() == part.order.tolist()
            for one, other in zip(found[name], part, strict=True):
                assert one["input_ids"].tolist() == other["input_ids"].tolist()
                assert one["labels"] == other["labels"]


def test_the_second_run_does_not_tokenise(encode_splits: Encode) -> None:
    assert encode_splits().runtime_s > 0
    assert encode_splits().runtime_s == 0


def test_rows_are_counted_through_all_splits(encode_splits: Encode) -> None:
    encoded = encode_splits().encoded
    rows = [example["row"] for name in NAMES for example in encoded[name]]
    assert sorted(rows) == list(range(sum(len(part) for part in encoded.values())))


def other_tokenizer(cfg: Config, folder: Path) -> Config:
    shutil.copytree(cfg.model.name_or_path, folder)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('"warm"', '"cool"'), "utf-8")
    return replace(cfg, model=replace(cfg.model, name_or_path=str(folder)))


@pytest.mark.parametrize(
    "change",
    [
        lambda cfg, _: replace(cfg, data=replace(cfg.data, max_length=4)),
        other_tokenizer,
    ],
    ids=["max_length", "tokenizer"],
)
def test_what_changes_the_tokens_makes_new_ones(
    change: Callable[[Config, Path], Config], encode_splits: Encode, cfg: Config, tmp_path: Path
) -> None:
    encode_splits()
    other = change(cfg, tmp_path / "other")
    assert encode_splits(data=other.data, model=other.model).runtime_s > 0


def test_a_cache_that_cannot_be_written_is_told_and_costs_time_only(
    encode_splits: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = encode_splits().encoded["train"][0]["input_ids"]
    monkeypatch.setattr(cache, "ROOT", Path("blocked") / "cache")
    Path("blocked").write_text("")
    found = encode_splits()
    assert found.notes == [
        f"tokens are not cached: {cache.ROOT} cannot be written (Not a directory)"
    ]
    assert found.runtime_s > 0
    np.testing.assert_array_equal(found.encoded["train"][0]["input_ids"], expected)
