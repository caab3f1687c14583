"""Sentences: every language has all of them, code knows them, and stored ones come back."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from sweep.base import words
from sweep.base.words import Remark, from_json, to_json

SOURCE = Path(__file__).parents[2] / "src" / "sweep"
CODE = {path: path.read_text("utf-8") for path in sorted(SOURCE.rglob("*.py"))}
ENGLISH, KOREAN = words.load("en"), words.load("ko")


def fields(sentence: str) -> set[str]:
    """Names of what fills a sentence in."""
    return {name for _, name, _, _ in Formatter().parse(sentence) if name}


def made() -> Iterator[tuple[str, set[str] | None]]:
    """Every remark of the code whose key is written out, with its values where they are too."""
    for source in CODE.values():
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id == "Remark":
                keys = [k for k in ast.walk(node.args[0]) if isinstance(k, ast.Constant)]
                literal = isinstance(node.args[0], ast.Constant | ast.IfExp)
                given = node.args[1] if len(node.args) > 1 else ast.Dict([], [])
                names = {k.value for k in given.keys} if isinstance(given, ast.Dict) else None  # type: ignore[union-attr]
                yield from ((str(k.value), names) for k in keys if literal and "." in str(k.value))


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_every_language_says_the_same(language: str) -> None:
    sentences = words.load(language).sentences
    assert set(sentences) == set(ENGLISH.sentences)
    for key, sentence in ENGLISH.sentences.items():
        assert fields(sentences[key]) == fields(sentence), key


def test_every_remark_of_the_code_has_a_sentence_and_its_values() -> None:
    found = list(made())
    assert len(found) > 60
    for key, names in found:
        assert key in ENGLISH.sentences
        assert names is None or fields(ENGLISH.sentences[key]) <= names, key


def test_no_sentence_is_left_unused() -> None:
    code = "\n".join(
        [*CODE.values(), (SOURCE / "reporting" / "templates" / "index.html.j2").read_text("utf-8")]
    )
    text = code.replace("'", '"')
    sections = set(re.findall(r'"(\w+)\."? ?[{+]', text))
    sections |= set(re.findall(r'(?:known|named)\(\s*"(\w+)"', text))
    sections |= set(re.findall(r'"(\w+)\.\{', text))
    unused = [
        key
        for key in ENGLISH.sentences
        if f'"{key}"' not in text and key.partition(".")[0] not in sections
    ]
    assert unused == []


def test_a_remark_is_its_english_sentence_where_it_is_shown() -> None:
    remark = Remark("warning.groups", {"groups": ("a", "b")})
    assert str(remark) == "strategies are compared within each of a; b, and never across"
    assert f"{remark}." == f"{remark!s}."
    assert repr(Remark("warning.lost", {"strategy": "x"})) == (
        "Remark('no run of x finished, so it is not compared')"
    )
    assert json.loads(json.dumps([remark], default=str)) == [str(remark)]


def test_remarks_within_remarks_are_told_in_the_same_language() -> None:
    problems = (Remark("timing.devices", {"values": (Remark("timing.unknown"), "gpu"), "of": ""}),)
    remark = Remark("warning.timing", {"problems": problems})
    assert str(remark) == (
        "training times are shown but not ranked: runs had different devices (unknown, gpu)"
    )
    assert KOREAN.tell(remark) == (
        "학습 시간은 보여 주기만 하고 순위는 매기지 않습니다"
        "(실행마다 장치가 다름: 알 수 없음, gpu)."
    )


def test_words_that_are_data_stay() -> None:
    assert KOREAN.tell("lora") == "lora"
    assert words.named("part", "adapters_of_mine") == "adapters_of_mine"


NOTE = Remark(
    "note.data",
    {
        "data": "mine",
        "sizes": (Remark("note.train", {"n": "1,100"}), Remark("note.validation", {"n": "20"})),
        "classes": 3,
        "left": Remark("note.left", {"unused": "5", "size": 1100}),
        "dropped": (Remark("note.repeated", {"n": "2"}), Remark("note.empty", {"n": "1,000"})),
    },
)


def test_a_stored_remark_comes_back_with_all_its_parts() -> None:
    back = from_json(json.loads(json.dumps(to_json(NOTE))))
    assert str(back) == (
        "mine: 1,100 train, 20 validation texts in 3 classes (5 left out by data.train_size=1100);"
        " dropped: 2 repeated, 1,000 with empty text"
    )
    assert KOREAN.tell(back) == (
        "mine: 텍스트 학습 1,100개, 검증 20개, 클래스 3개(data.train_size=1100 설정으로 쓰지 않은"
        " 텍스트 5개), 제외: 중복 2개, 빈 텍스트 1,000개"
    )


def test_what_is_stored_is_the_key_and_the_values() -> None:
    remark = Remark("note.tokens", {"reason": Remark("note.over_disk", {"size": "9"})})
    reason = {"key": "note.over_disk", "values": {"size": "9"}}
    assert to_json(remark) == {"key": "note.tokens", "values": {"reason": reason}}
    assert to_json("ValueError: no") == "ValueError: no"


@pytest.mark.parametrize("copied", [pickle.loads(pickle.dumps(NOTE)), copy.deepcopy(NOTE)])
def test_a_remark_stays_one_between_processes(copied: Remark) -> None:
    assert KOREAN.tell(copied) == KOREAN.tell(NOTE)


def test_text_of_a_version_that_stored_sentences_stays() -> None:
    assert from_json(str(NOTE)) == str(NOTE)
    assert KOREAN.tell(from_json(str(NOTE))) == str(NOTE)


@pytest.mark.parametrize(
    "stored",
    [
        {"key": "note.of_a_later_version", "values": {"n": 3}},
        {"key": "note.cut", "values": {"share": "1%"}},
        {"key": "note.cut", "values": 3},
        {"values": {}},
        ["a", "b"],
        3,
        None,
    ],
    ids=str,
)
def test_what_has_no_sentence_here_is_shown_as_it_is_stored(stored: object) -> None:
    assert from_json(stored) == KOREAN.tell(from_json(stored)) == json.dumps(stored)
