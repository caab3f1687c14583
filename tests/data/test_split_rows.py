"""Splits that are given, and texts that may not be in two of them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from support.config import compose
from support.data import config, refusal, save, table
from support.models import make_rows

from sweep.config.schema import ConfigError
from sweep.data.splits import NAMES, load_splits

ROWS = make_rows(60)
OTHERS = make_rows(20, seed=1)
NEVER = "A split that is given is never filled from another one."


def unlabelled(rows: list[tuple[str, str]] = OTHERS) -> pd.DataFrame:
    """A table as competitions give it for the test."""
    return table(rows).assign(label="")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_given_file_without_labels_is_not_filled_from_train(split: str, tmp_path: Path) -> None:
    train = save(tmp_path, table(ROWS), "train.csv")
    given = save(tmp_path, unlabelled(), "given.csv")
    message = refusal(train, **{f"{split}_path": str(given)})
    assert message == (
        f"data.{split}_path='given.csv' gives the {split} split, and none of its 20 rows can be"
        f" used: 20 without label. {NEVER} Mend its rows, or set data.{split}_path=null to have the"
        " split cut from the training rows."
    )


def test_every_reason_is_counted(tmp_path: Path) -> None:
    train = save(tmp_path, table(ROWS), "train.csv")
    rows = [("", "good"), ("\u200b", "bad"), ("no label", ""), ("both", "good"), ("both", "bad")]
    given = save(tmp_path, table(rows), "given.csv")
    message = refusal(train, test_path=str(given))
    assert (
        "none of its 5 rows can be used: 2 with empty text, 1 without label, 2 with a text that"
        " carries two labels." in message
    )


@pytest.mark.parametrize("name", ["test", "dev", " VALID "])
def test_a_split_column_is_not_filled_either(name: str, tmp_path: Path) -> None:
    frame = pd.concat([table(ROWS, part=["train"] * 60), unlabelled().assign(part=name)])
    split = "test" if name == "test" else "validation"
    assert refusal(save(tmp_path, frame), split_column="part") == (
        f"data.split_column='part' gives the {split} split, and none of its 20 rows can be used: 20"
        f" without label. {NEVER} Mend its rows, or leave them out."
    )


def test_a_train_split_without_labels_is_told(tmp_path: Path) -> None:
    frame = pd.concat([table(ROWS, part=["test"] * 60), unlabelled().assign(part="train")])
    message = refusal(save(tmp_path, frame), split_column="part")
    assert message.startswith("data.split_column='part' gives the train split, and none of its 20")


def test_a_split_of_a_dataset_without_labels_is_told(tmp_path: Path) -> None:
    import datasets

    names = ["bad", "good", "plain"]
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
    )
    folder = tmp_path / "set"
    folder.mkdir()
    for split, rows in {"train": ROWS, "test": OTHERS}.items():
        labels = [names.index(x) if split == "train" else -1 for _, x in rows]
        columns = {"text": [text for text, _ in rows], "label": labels}
        datasets.Dataset.from_dict(columns, features).to_parquet(folder / f"{split}.parquet")
    cfg = compose("data=hub", f"data.dataset={folder}", "data.test_split=test", "freeze=none").data
    with pytest.raises(ConfigError) as caught:
        load_splits(cfg)
    assert str(caught.value) == (
        "data.test_split='test' gives the test split, and none of its 20 rows can be used: 20"
        f" without label. {NEVER} Mend its rows, or set data.test_split=null to have the split cut"
        " from the training rows."
    )


def test_labels_that_are_partly_there_are_used_and_counted(tmp_path: Path) -> None:
    train = save(tmp_path, table(ROWS), "train.csv")
    given = table(OTHERS)
    given.loc[:4, "label"] = ""
    splits = load_splits(config(train, test_path=str(save(tmp_path, given, "given.csv"))))
    assert splits.test.ids.tolist() == list(range(5, 20))
    assert splits.notes[0].endswith("dropped: 5 without label")


def test_a_validation_split_that_is_in_the_test_split_is_told(tmp_path: Path) -> None:
    train = save(tmp_path, table(ROWS), "train.csv")
    given = save(tmp_path, table(OTHERS), "given.csv")
    assert refusal(train, validation_path=str(given), test_path=str(given)) == (
        "The validation split has no row left: the texts of all its 20 rows are in the test split"
        " too. Take them out of one of the two."
    )


ALIKE = {
    "trailing blank": lambda text: f"{text} ",
    "line break": lambda text: text.replace(" ", "\n"),
    "case": str.upper,
    "width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "z" else c for c in text),
    "zero width": lambda text: "\u200b".join(text),
    "no-break space": lambda text: text.replace(" ", "\u00a0"),
    "accents": lambda text: text.replace("e", "é").replace("a", "à"),
    "signs set apart": lambda text: text.replace(" ", ""),
    "control": lambda text: f"\x02{text}",
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
}


@pytest.mark.parametrize("how", ALIKE)
def test_texts_that_look_alike_are_not_in_two_splits(how: str, tmp_path: Path) -> None:
    rows = [(f"é {text}", label) for text, label in ROWS]
    twins = [(ALIKE[how](text), label) for text, label in rows]
    splits = load_splits(config(save(tmp_path, table([*rows, *twins]))))
    original = {text: i for i, pair in enumerate(zip(rows, twins, strict=True)) for text, _ in pair}
    sets = [{original[text] for text in getattr(splits, name).texts} for name in NAMES]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]
    assert splits.notes[0].endswith(
        " with a text that is in a held-out split but for case, accents, blanks or what"
        " cannot be seen"
    )
    assert len(splits.test) == 24


def test_texts_that_differ_in_case_stay_within_a_split(tmp_path: Path) -> None:
    train = save(tmp_path, table([*ROWS, *((t.upper(), x) for t, x in ROWS)]), "train.csv")
    test = save(tmp_path, table(OTHERS), "test.csv")
    splits = load_splits(config(train, test_path=str(test), validation_size=12))
    texts = splits.train.texts
    assert any(text.upper() in texts and text != text.upper() for text in texts)
