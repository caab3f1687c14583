"""Files of every kind -> cleaned rows -> splits -> token ids."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from support.config import compose
from support.data import config, pairs, save, table
from support.models import make_rows

from sweep.config.schema import ConfigError
from sweep.data.encode import encode
from sweep.data.split_rows import NAMES
from sweep.data.splits import Split, Splits, load_splits

ROWS = make_rows(60)


def ids(splits: Splits) -> dict[str, list[int]]:
    """Rows of the file by split."""
    return {name: getattr(splits, name).ids.tolist() for name in NAMES}


def write_jsonl(frame: pd.DataFrame, path: Path) -> None:
    """Write JSON lines without escapes."""
    frame.to_json(path, orient="records", lines=True, force_ascii=False)


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "txt": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "jsonl": write_jsonl,
    "json": lambda frame, path: frame.to_json(path, orient="records", force_ascii=False),
    "parquet": lambda frame, path: frame.to_parquet(path),
}


# Reading.


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(suffix: str, tmp_path: Path) -> None:
    rows = [*ROWS, ('commas, "quotes"\nand a line break', "good"), ("한국어 문장", "bad")]
    path = tmp_path / f"rows.{suffix}"
    WRITERS[suffix](table(rows), path)
    assert pairs(load_splits(config(path))) == sorted(rows)


def test_a_suffix_in_capitals_is_known(tmp_path: Path) -> None:
    path = save(tmp_path, table(ROWS), "ROWS.CSV")
    assert pairs(load_splits(config(path))) == sorted(ROWS)


@pytest.mark.parametrize("encoding", ["cp949", "euc-kr", "utf-16", "utf-8"])
def test_korean_text_is_read_in_its_encoding(encoding: str, tmp_path: Path) -> None:
    rows = [(f"기분이 좋은 날 {i}", "기쁨") for i in range(20)]
    rows += [(f"기분이 나쁜 날 {i}", "슬픔") for i in range(20)]
    path = tmp_path / "rows.csv"
    table(rows).to_csv(path, index=False, encoding=encoding)
    splits = load_splits(config(path, encoding=encoding))
    assert pairs(splits) == sorted(rows)
    assert splits.label_names == ["기쁨", "슬픔"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    table(ROWS).to_csv(path, index=False, encoding="utf-8-sig")
    assert pairs(load_splits(config(path))) == sorted(ROWS)


@pytest.mark.parametrize("separator", [";", "|", "\t", r"\t"], ids=repr)
def test_a_separator_of_its_own_is_used(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    table(ROWS).to_csv(path, index=False, sep="\t" if "t" in separator else separator)
    assert pairs(load_splits(config(path, separator=separator))) == sorted(ROWS)


def test_labels_stay_as_they_are_written(tmp_path: Path) -> None:
    rows = [(text, {"good": "01", "bad": "1", "plain": "NA"}[label]) for text, label in ROWS]
    path = save(tmp_path, table(rows))
    assert load_splits(config(path)).label_names == ["01", "1", "NA"]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_whole_numbers_beside_an_empty_label_stay_whole(suffix: str, tmp_path: Path) -> None:
    frame = table(ROWS)
    frame["label"] = pd.array([None, *(len(label) for _, label in ROWS[1:])], "Int64")
    WRITERS[suffix](frame, tmp_path / f"rows.{suffix}")
    splits = load_splits(config(tmp_path / f"rows.{suffix}"))
    assert splits.label_names == ["3", "4", "5"]
    assert splits.notes[0].endswith("dropped: 1 without label")


def test_a_lone_surrogate_in_json_becomes_a_question_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": f"{text} \ud83d", "label": label}) for text, label in ROWS]
    path.write_text("\n".join(lines), "utf-8")
    assert all(text.endswith(" ?") for text, _ in pairs(load_splits(config(path))))


def test_rows_shorter_than_the_header_have_an_empty_label(tmp_path: Path) -> None:
    path = save(tmp_path, table(ROWS))
    path.write_text(path.read_text("utf-8") + "one cell only\n", "utf-8")
    assert load_splits(config(path)).notes[0].endswith("dropped: 1 without label")


def test_the_embedded_tweets_are_what_their_file_says() -> None:
    splits = load_splits(compose("data=tweets", "data.train_size=null", "freeze=none").data)
    sizes = [len(getattr(splits, name)) for name in NAMES]
    assert sum(sizes) == 37_197
    assert splits.label_names == ["negative", "neutral", "positive"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_local_folder_is_read_with_the_datasets_library(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    WRITERS[kind](table(ROWS), folder / f"train.{kind}")
    WRITERS[kind](table(make_rows(30, seed=1)), folder / f"test.{kind}")
    cfg = compose("data=hub", f"data.dataset={folder}", "data.test_split=test", "freeze=none").data
    splits = load_splits(cfg)
    assert sorted(splits.test.texts) == sorted(text for text, _ in make_rows(30, seed=1))
    assert len(splits.train) + len(splits.validation) == 60


def test_classes_that_a_dataset_declares_keep_their_order(tmp_path: Path) -> None:
    import datasets

    names = ["plain", "good", "never seen", "bad"]
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
    )
    columns = {"text": [t for t, _ in ROWS], "label": [names.index(label) for _, label in ROWS]}
    folder = tmp_path / "own"
    folder.mkdir()
    datasets.Dataset.from_dict(columns, features).to_parquet(folder / "train.parquet")
    splits = load_splits(compose("data=hub", f"data.dataset={folder}", "freeze=none").data)
    assert splits.label_names == ["plain", "good", "bad"]
    assert pairs(splits) == sorted(ROWS)


# Labels.

KOREAN = [
    (f"{feeling} 이야기 {number}", f"E{emotion}{number % 10}")
    for emotion, feeling in enumerate(["분노", "슬픔", "불안", "상처", "당황", "기쁨"], start=1)
    for number in range(20)
]


def test_korean_dialogue_takes_the_emotion_from_the_code(tmp_path: Path) -> None:
    frame = table(KOREAN).rename(columns={"text": "HS01"})
    path = save(tmp_path, frame, "train.csv")
    splits = load_splits(compose("data=korean_dialogue", f"data.path={path}", "freeze=none").data)
    assert splits.label_names == ["E1", "E6", "E3", "E5", "E2", "E4"]
    assert pairs(splits) == sorted((text, code[:2]) for text, code in KOREAN)


def test_classes_are_sorted_with_numbers_as_numbers(tmp_path: Path) -> None:
    rows = [(f"text {i}", ["10", "9", "-1", "b", "a"][i % 5]) for i in range(50)]
    path = save(tmp_path, table(rows))
    assert load_splits(config(path)).label_names == ["-1", "9", "10", "a", "b"]


def test_label_names_give_the_order(tmp_path: Path) -> None:
    path = save(tmp_path, table(ROWS))
    splits = load_splits(config(path, label_names=["plain", "bad", "good"]))
    assert splits.label_names == ["plain", "bad", "good"]
    assert pairs(splits) == sorted(ROWS)


def test_decimal_classes_are_taken_when_they_are_listed(tmp_path: Path) -> None:
    rows = [(f"text {i}", ["0.5", "1.0"][i % 2]) for i in range(40)]
    path = save(tmp_path, table(rows))
    assert load_splits(config(path, label_names=["1.0", "0.5"])).label_names == ["1.0", "0.5"]


def test_spaces_around_a_label_do_not_make_another_class(tmp_path: Path) -> None:
    rows = [(text, f" {label} " if i % 2 else label) for i, (text, label) in enumerate(ROWS)]
    assert pairs(load_splits(config(save(tmp_path, table(rows))))) == sorted(ROWS)


# Cleaning.


def test_what_is_dropped_is_counted_by_reason(tmp_path: Path) -> None:
    rows = [
        *ROWS,
        ("  ", "good"),  # empty
        ("no label", ""),
        ("no label either", " "),
        ("ambiguous", "good"),
        ("ambiguous", "bad"),
        *ROWS[:3],  # repeated
    ]
    splits = load_splits(config(save(tmp_path, table(rows))))
    assert splits.notes == [
        "csv: 42 train, 6 validation, 12 test texts in 3 classes; dropped: 1 with empty text,"
        " 2 without label, 2 with a text that carries two labels, 3 repeated"
    ]
    assert pairs(splits) == sorted(ROWS)


def test_repeated_texts_stay_without_deduplication(tmp_path: Path) -> None:
    rows = [*ROWS, *ROWS[:3], ("ambiguous", "good"), ("ambiguous", "bad")]
    splits = load_splits(config(save(tmp_path, table(rows)), deduplicate=False))
    assert pairs(splits) == sorted(rows)


def test_texts_of_the_test_file_are_taken_out_of_train(tmp_path: Path) -> None:
    train = save(tmp_path, table(ROWS), "train.csv")
    test = save(tmp_path, table([*ROWS[:9], *make_rows(9, seed=1)]), "test.csv")
    splits = load_splits(config(train, test_path=str(test)))
    assert len(splits.test) == 18
    assert not set(splits.test.texts) & {*splits.train.texts, *splits.validation.texts}
    assert splits.notes[0].endswith("dropped: 9 with a text that is also in a held-out split")


def test_no_text_is_in_two_splits(tmp_path: Path) -> None:
    splits = load_splits(config(save(tmp_path, table(ROWS))))
    assert max(Counter(text for text, _ in pairs(splits)).values()) == 1


# Splitting.


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({}, (210, 30, 60)),
        ({"test_size": 0}, (270, 30, 0)),
        ({"test_size": None}, (270, 30, 0)),
        ({"test_size": 50, "validation_size": 25}, (225, 25, 50)),
        ({"test_size": 50, "validation_size": 0.5}, (100, 150, 50)),
        ({"train_size": 40}, (40, 30, 60)),
        ({"train_size": 0.5}, (150, 30, 60)),
        ({"train_size": 210}, (210, 30, 60)),
        ({"train_size": 209}, (209, 30, 60)),
    ],
    ids=str,
)
def test_sizes_are_counts_or_fractions_of_all_rows(
    sizes: dict[str, Any], expected: tuple[int, ...], tmp_path: Path
) -> None:
    splits = load_splits(config(save(tmp_path, table(make_rows(300))), **sizes))
    assert tuple(len(getattr(splits, name)) for name in NAMES) == expected


def test_every_split_has_the_classes_in_their_proportions(tmp_path: Path) -> None:
    rows = [(f"text {i}", "rare" if i % 10 == 0 else "common") for i in range(400)]
    splits = load_splits(config(save(tmp_path, table(rows)), train_size=100))
    shares = [float(np.mean(getattr(splits, name).labels)) for name in NAMES]
    assert splits.label_names == ["common", "rare"]
    assert shares == pytest.approx([0.1, 0.1, 0.1], abs=0.011)


def test_a_class_of_three_rows_is_in_every_split(tmp_path: Path) -> None:
    rows = [(f"text {i}", "rare" if i < 3 else "common") for i in range(400)]
    splits = load_splits(config(save(tmp_path, table(rows))))
    assert [int(getattr(splits, name).labels.sum()) for name in NAMES] == [1, 1, 1]


def test_the_same_seed_gives_the_same_splits(tmp_path: Path) -> None:
    path = save(tmp_path, table(ROWS))
    assert ids(load_splits(config(path))) == ids(load_splits(config(path)))


def test_another_seed_gives_other_splits(tmp_path: Path) -> None:
    path = save(tmp_path, table(ROWS))
    test_rows = [ids(load_splits(config(path, split_seed=seed)))["test"] for seed in (0, 1)]
    assert test_rows[0] != test_rows[1]


def test_another_train_size_leaves_validation_and_test_as_they_are(tmp_path: Path) -> None:
    path = save(tmp_path, table(ROWS))
    small, whole = (ids(load_splits(config(path, train_size=size))) for size in (12, None))
    assert small["validation"] == whole["validation"]
    assert small["test"] == whole["test"]


def test_a_smaller_train_size_is_part_of_a_larger_one(tmp_path: Path) -> None:
    path = save(tmp_path, table(ROWS))
    sizes = [ids(load_splits(config(path, train_size=size)))["train"] for size in (3, 12, 30)]
    assert set(sizes[0]) < set(sizes[1]) < set(sizes[2])


def test_ids_are_rows_of_the_file(tmp_path: Path) -> None:
    rows = [("", "good"), *ROWS]
    splits = load_splits(config(save(tmp_path, table(rows))))
    assert [rows[i][0] for i in splits.train.ids] == splits.train.texts


def test_random_split_gives_the_rows_that_torch_gives(tmp_path: Path) -> None:
    rows = [(f"text {i}", "ab"[i % 2]) for i in range(51_628)]
    path = tmp_path / "rows.parquet"
    table(rows).to_parquet(path)
    cfg = config(path, split_method="random_split", split_seed=42, validation_size=0.2, test_size=0)
    validation, train = torch.utils.data.random_split(
        rows, [0.2, 0.8], generator=torch.Generator().manual_seed(42)
    )
    rows_of_splits = ids(load_splits(cfg))
    assert rows_of_splits == {"train": train.indices, "validation": validation.indices, "test": []}
    assert (len(rows_of_splits["validation"]), len(rows_of_splits["train"])) == (10_326, 41_302)


def test_random_split_takes_a_count_exactly(tmp_path: Path) -> None:
    path = save(tmp_path, table(ROWS))
    splits = load_splits(config(path, split_method="random_split", validation_size=7, test_size=0))
    assert (len(splits.train), len(splits.validation)) == (53, 7)


@pytest.mark.parametrize("name", ["validation", "dev", "valid", " VAL "])
def test_a_split_column_says_which_rows_go_where(name: str, tmp_path: Path) -> None:
    column = ["train"] * 40 + [name] * 10 + ["test"] * 10
    path = save(tmp_path, table(ROWS, part=column))
    assert ids(load_splits(config(path, split_column="part"))) == {
        "train": list(range(40)),
        "validation": list(range(40, 50)),
        "test": list(range(50, 60)),
    }


def test_a_split_column_without_validation_has_it_cut_from_train(tmp_path: Path) -> None:
    path = save(tmp_path, table(ROWS, part=["train"] * 40 + ["test"] * 20))
    rows_of_splits = ids(load_splits(config(path, split_column="part", validation_size=0.25)))
    assert (len(rows_of_splits["validation"]), rows_of_splits["test"]) == (10, list(range(40, 60)))


def test_files_of_their_own_are_the_splits(tmp_path: Path) -> None:
    parts = {name: make_rows(30, seed=i) for i, name in enumerate(NAMES)}
    paths = {name: save(tmp_path, table(rows), f"{name}.csv") for name, rows in parts.items()}
    splits = load_splits(
        config(
            paths["train"],
            validation_path=str(paths["validation"]),
            test_path=str(paths["test"]),
            deduplicate=False,
        )
    )
    assert {name: getattr(splits, name).texts for name in NAMES} == {
        name: [text for text, _ in rows] for name, rows in parts.items()
    }


def test_the_built_in_splits_never_change() -> None:
    sizes = ["data.train_size=2048", "data.validation_size=512", "data.test_size=1024"]
    splits = load_splits(compose("data=tweets", *sizes, "freeze=none").data)
    digest = hashlib.sha256(json.dumps(ids(splits)).encode()).hexdigest()
    assert digest[:16] == "8baea747870b154c"


# Fingerprint.


def test_the_fingerprint_follows_the_content_and_not_the_path(tmp_path: Path) -> None:
    one, other = (save(tmp_path, table(ROWS), name) for name in ("one.csv", "other.csv"))
    assert load_splits(config(one)).fingerprint == load_splits(config(other)).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [(rows[0][0] + "!", rows[0][1]), *rows[1:]],
        lambda rows: [(rows[0][0], "bad"), *rows[1:]],
        lambda rows: rows[1:],
        lambda rows: rows[::-1],
    ],
    ids=["another text", "another label", "a row less", "another order"],
)
def test_the_fingerprint_sees_every_change(change: Any, tmp_path: Path) -> None:
    before = save(tmp_path, table(ROWS), "before.csv")
    after = save(tmp_path, table(change(ROWS)), "after.csv")
    assert load_splits(config(before)).fingerprint != load_splits(config(after)).fingerprint


# Tokens.


@pytest.fixture
def tokenizer(saved_model: Callable[[str], Path]) -> Any:
    return transformers.AutoTokenizer.from_pretrained(saved_model("bert"))


TEXTS = ["good", "warm bright happy fine", "the cold dark"]
SPLIT = Split(TEXTS, np.array([0, 1, 2]), np.arange(3))


def test_texts_are_cut_at_max_length_and_counted(tokenizer: Any) -> None:
    encoded = encode(SPLIT, tokenizer, config(None, max_length=4), by_length=False)
    assert [len(example["input_ids"]) for example in encoded] == [3, 4, 4]
    assert encoded.truncated == 2
    cut = tokenizer(TEXTS[1], truncation=True, max_length=4).input_ids
    assert encoded[1]["input_ids"].tolist() == cut


def test_a_text_of_exactly_max_length_is_not_counted_as_cut(tokenizer: Any) -> None:
    assert encode(SPLIT, tokenizer, config(None, max_length=6), by_length=False).truncated == 0


def test_examples_keep_their_labels_and_order(tokenizer: Any) -> None:
    encoded = encode(SPLIT, tokenizer, config(None), by_length=False)
    assert [example["labels"] for example in encoded] == [0, 1, 2]
    assert encoded.order.tolist() == [0, 1, 2]


def test_by_length_puts_long_texts_first_and_says_which_they_are(tokenizer: Any) -> None:
    encoded = encode(SPLIT, tokenizer, config(None), by_length=True)
    assert encoded.order.tolist() == [1, 2, 0]
    assert [example["labels"] for example in encoded] == [1, 2, 0]


def test_an_empty_split_gives_no_examples(tokenizer: Any) -> None:
    empty = Split([], np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert len(encode(empty, tokenizer, config(None), by_length=True)) == 0


def test_a_file_with_another_checksum_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, table(ROWS))
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_splits(config(path, sha256=actual))
    with pytest.raises(ConfigError) as caught:
        load_splits(config(path, sha256="0" * 64))
    assert str(caught.value) == (
        f"{path} has the SHA-256 {actual}, but data.sha256={'0' * 64}. Restore the file, or set"
        " data.sha256=null to use it as it is."
    )
