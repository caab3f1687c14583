"""Labels that look the same are one class; those that may not be are asked about."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from support.data import config, pairs, refusal, save, table
from support.models import make_rows

from sweep.data.splits import load_splits

ROWS = make_rows(60)
GOOD = sum(label == "good" for _, label in ROWS)
RESPELLED = (
    "csv: {n} labels are written otherwise than their class, in composition, case, blanks or what"
    " cannot be seen, and were taken for it"
)


def spelled(name: str, other: str, count: int = 4) -> list[tuple[str, str]]:
    """The rows with `name` in place of good, and `other` in the first few of them."""
    found, rows = 0, []
    for text, label in ROWS:
        if label == "good":
            found += 1
            label = other if found <= count else name
        rows.append((text, label))
    return rows


DECOMPOSED = unicodedata.normalize("NFD", "긍정")


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("긍정", DECOMPOSED),
        ("café", "cafe\u0301"),
        ("good", "good\u200b"),
        ("good", "\ufeffgood"),
        ("good", "go\u00adod"),
        ("good", "good\u2060"),
        ("very good", "very\u00a0good"),
        ("very good", "very  good"),
        ("very good", "very\tgood"),
        ("good", "good\u202e"),
        ("good", "good\x00"),
        ("good", "\x1b[31mgood\x1b[0m"),
        ("good", "\x1b]0;title\x07good"),
        ("good", "good\u3164"),
        ("good", "good\U000e0041"),
        ("❤️", "❤"),
        ("می‌خواهم", "میخواهم"),
    ],
    ids=ascii,
)
def test_spellings_that_look_the_same_are_one_class(name: str, other: str, tmp_path: Path) -> None:
    splits = load_splits(config(save(tmp_path, table(spelled(name, other)))))
    assert set(splits.label_names) == {name, "bad", "plain"}
    assert pairs(splits) == sorted(spelled(name, name))
    assert splits.notes[1:] == [RESPELLED.format(n=4)]


def test_a_label_of_invisible_characters_is_none(tmp_path: Path) -> None:
    splits = load_splits(config(save(tmp_path, table(spelled("good", "\u200b\x1b")))))
    assert splits.notes[0].endswith("dropped: 4 without label")


def test_the_commonest_spelling_gives_the_name(tmp_path: Path) -> None:
    splits = load_splits(config(save(tmp_path, table(spelled("❤", "❤️", count=GOOD - 1)))))
    assert "❤️" in splits.label_names


def test_control_characters_are_no_part_of_a_name(tmp_path: Path) -> None:
    path = save(tmp_path, table(spelled("\x1b=go\x07od", "", count=0)))
    names = load_splits(config(path)).label_names
    assert names == ["=good", "bad", "plain"]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("good", "GOOD"),
        ("pos", "ｐｏｓ"),
        ("straße", "STRASSE"),
        ("1", "1.0"),
        ("0", "-0"),
        ("10", "10."),
        ("1", "+1"),
        ("1", "１"),
        ("7", "٧"),
        ("positive", "роѕitive"),
        ("BAP", "ΒΑΡ"),
        ("βαρ", "ΒΑΡ"),
        ("iyi", "İYİ"),
        ("sıcak", "sicak"),
        ("non-toxic", "non–toxic"),
        ("don't", "don’t"),
        ("good", "ɡood"),
        ("1/2", "½"),
    ],
    ids=ascii,
)
def test_classes_that_may_be_one_are_asked_about(name: str, other: str, tmp_path: Path) -> None:
    path = save(tmp_path, table(spelled(name, other)))
    shown = sorted([f"{other!r} (4 rows)", f"{name!r} ({GOOD - 4} rows)"])
    assert refusal(path) == (
        "data.label_column='label' has classes that differ only in case, width, letters of another"
        f" alphabet or the way a number is written: {' and '.join(shown)}. List the classes in"
        " data.label_names: with one spelling of each they are merged, with all spellings they stay"
        " apart."
    )
    merged = load_splits(config(path, label_names=[name, "bad", "plain"]))
    assert pairs(merged) == sorted(spelled(name, name))
    assert merged.notes[1:] == [RESPELLED.format(n=4)]
    apart = load_splits(config(path, label_names=[name, other, "bad", "plain"]))
    assert pairs(apart) == sorted(spelled(name, other))
    assert len(apart.notes) == 1


def test_listed_names_may_be_composed_otherwise(tmp_path: Path) -> None:
    path = save(tmp_path, table(spelled("긍정", "긍정")))
    splits = load_splits(config(path, label_names=["bad", DECOMPOSED, "plain"]))
    assert splits.label_names == ["bad", DECOMPOSED, "plain"]


def test_decimal_classes_are_sorted_as_numbers(tmp_path: Path) -> None:
    rows = [(f"text {i}", f"{i % 12 - 1}.0") for i in range(120)]
    names = load_splits(config(save(tmp_path, table(rows)))).label_names
    assert names == [f"{i}.0" for i in range(-1, 11)]


def test_plain_labels_are_left_alone_without_a_word(tmp_path: Path) -> None:
    rows = spelled("=1+1", "01", count=8)
    splits = load_splits(config(save(tmp_path, table(rows))))
    assert pairs(splits) == sorted(rows)
    assert len(splits.notes) == 1


@pytest.mark.parametrize("label", ["good,odd", "good; bad", "bad|plain", "good,bad,"])
def test_several_labels_in_one_cell_are_no_class(label: str, tmp_path: Path) -> None:
    path = save(tmp_path, table(spelled("good", label)))
    assert refusal(path) == (
        f"data.label_column='label' holds several labels in one cell, such as {label!r}. Several"
        " labels per text are not supported yet: write one label per row, or take one out with"
        " data.label_pattern; (.*) takes such cells for classes of their own."
    )
    kept = load_splits(config(path, label_pattern="(.*)"))
    assert pairs(kept) == sorted(spelled("good", label))


def test_labels_that_never_stand_alone_are_several_too(tmp_path: Path) -> None:
    rows = [(f"text {i}", ("a,b", "b,c", "a,c")[i % 3]) for i in range(60)]
    assert "several labels in one cell, such as 'a,b', 'a,c', 'b,c'." in refusal(
        save(tmp_path, table(rows))
    )


def test_a_comma_within_a_name_is_no_list(tmp_path: Path) -> None:
    names = ["Seoul, Korea", "Busan, Korea", "very good", "good"]
    rows = [(f"text {i}", names[i % 4]) for i in range(80)]
    assert set(load_splits(config(save(tmp_path, table(rows)))).label_names) == set(names)
