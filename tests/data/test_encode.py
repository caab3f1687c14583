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
from sweep.config.schema import Config, ConfigError
from sweep.data import encode as tokens
from sweep.data.encode import encode
from sweep.data.split_rows import NAMES
from sweep.data.splits import Split, Splits, load_splits


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
        encoded = encode_splits().encoded
        for name in NAMES:
            part = encode(getattr(splits, name), tokenizer, cfg.data, name != "train")
            assert len(encoded[name]) == len(part) > 0
            assert encoded[name].order.tolist() == part.order.tolist()
            for one, other in zip(encoded[name], part, strict=True):
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
    tokenised = encode_splits()
    assert tokenised.notes == [
        f"tokens are not cached: {cache.ROOT} cannot be written (Not a directory)"
    ]
    assert tokenised.runtime_s > 0
    np.testing.assert_array_equal(tokenised.encoded["train"][0]["input_ids"], expected)


def splits_of(rows: dict[str, list[tuple[str, int]]]) -> Splits:
    """Splits by name, with labels 0 and 1."""
    parts = {
        name: Split([t for t, _ in texts], np.array([y for _, y in texts]), np.arange(len(texts)))
        for name, texts in rows.items()
    }
    return Splits(**parts, label_names=["a", "b"], notes=[])


ROWS = {
    "train": [("great cup", 0), ("\U00013000 cup", 1), ("sad cup", 1), ("a a a sad", 1)],
    "validation": [("\U00013001 cup", 0), ("road", 1)],
    "test": [("\U00013002 cup", 1), ("a a a great", 0), ("a", 0)],
}
"""Characters that no small tokenizer knows, and texts that differ behind five tokens."""


def test_texts_that_are_one_to_the_model_are_in_one_split(cfg: Config) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(cfg.model.name_or_path)
    short = replace(cfg, data=replace(cfg.data, max_length=5))
    tokenised = tokens.encode_splits(splits_of(ROWS), tokenizer, short)
    kept = {name: sorted(part.order.tolist()) for name, part in tokenised.encoded.items()}
    assert kept == {"train": [0, 2], "validation": [1], "test": [0, 1, 2]}
    assert tokenised.encoded["train"].lengths == [4, 4]
    assert tokenised.encoded["train"].tokens == 8
    assert [example["row"] for example in tokenised.encoded["validation"]] == [5]
    assert [str(note).partition(":")[0] for note in tokenised.notes] == [
        "3 texts left out of training and validation"
    ]
    long = tokens.encode_splits(splits_of(ROWS), tokenizer, cfg)
    assert long.encoded["train"].order.tolist() == [0, 2, 3]
    all_rows = replace(cfg, data=replace(cfg.data, deduplicate=False))
    assert len(tokens.encode_splits(splits_of(ROWS), tokenizer, all_rows).encoded["train"]) == 4


def test_a_tokenizer_that_knows_nothing_of_the_data_is_refused(cfg: Config) -> None:
    rows = {name: [(f"{chr(0x13000 + i)}", i % 2) for i in range(4)] for name in NAMES}
    tokenizer = transformers.AutoTokenizer.from_pretrained(cfg.model.name_or_path)
    with pytest.raises(ConfigError) as caught:
        tokens.encode_splits(splits_of(rows), tokenizer, cfg)
    assert str(caught.value) == (
        "the tokenizer gives 8 texts the token ids of a text in a later split, and without them"
        " training lacks a class, or validation is empty. Choose a model for the language of the"
        " data, or raise data.max_length."
    )
