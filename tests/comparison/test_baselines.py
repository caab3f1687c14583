"""What is reached without fine-tuning, on texts whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from support.config import compose
from support.runs import write_run

from sweep.base import cache, words
from sweep.base.words import Remark
from sweep.comparison import baselines, verdict
from sweep.config.schema import CompareConfig
from sweep.data.splits import Split, Splits, load_splits
from sweep.runs.record import Record, saved_config


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def splits(csv_file: Path) -> Splits:
    """Three classes that single words give away."""
    return load_splits(compose("freeze=none", "data=csv", f"data.path={csv_file}").data)


@pytest.fixture
def finished(csv_file: Path, tmp_path: Path) -> Record:
    """A run whose folder has its configuration."""
    run = write_run(tmp_path)
    cfg = compose("freeze=none", "data=csv", f"data.path={csv_file}", "compare.margin=0.02")
    OmegaConf.save(OmegaConf.structured(cfg), Path(run.folder) / "config.yaml")
    return run


def part(texts: list[str], labels: list[int]) -> Split:
    return Split(texts, np.array(labels, np.int64), np.arange(len(texts)))


def test_the_majority_class_is_that_of_training() -> None:
    train, held_out = part(["x y"] * 5, [1, 1, 1, 0, 2]), part(["x"] * 4, [0, 1, 1, 2])
    splits = Splits(train, held_out, held_out, ["a", "b", "c"], [])
    majority = baselines.compute(splits)[0]
    assert majority.name == "majority class"
    assert majority.predictions == ("b",) * 4
    assert majority.metrics["test_accuracy"] == 0.5
    assert majority.metrics["test_f1"] == pytest.approx((2 * 2 / 6) / 3)


def test_words_that_give_the_class_away_are_found(splits: Splits) -> None:
    (majority, linear) = baselines.compute(splits)
    assert linear.name.startswith("TF-IDF of ")
    assert linear.metrics["test_accuracy"] > 0.9 > majority.metrics["test_accuracy"]
    assert set(linear.metrics) == {
        *("runtime_s", "eval_accuracy", "eval_f1", "test_accuracy", "test_f1")
    }
    right = np.array(linear.predictions) == np.array(splits.label_names)[splits.test.labels]
    assert right.mean() == pytest.approx(linear.metrics["test_accuracy"])


def test_the_same_texts_give_the_same_baseline(splits: Splits) -> None:
    one, other = baselines.compute(splits)[1], baselines.compute(splits)[1]
    assert (one.name, one.predictions) == (other.name, other.predictions)


def test_validation_chooses_characters_where_words_say_nothing() -> None:
    rng = np.random.default_rng(0)

    def texts(count: int) -> Split:
        labels = rng.integers(0, 2, count)
        words = [f"{rng.integers(10**6)}{'xq' if k else 'zw'}{rng.integers(10**6)}" for k in labels]
        return part(words, labels.tolist())

    splits = Splits(texts(200), texts(100), texts(100), ["a", "b"], [])
    linear = baselines.compute(splits)[1]
    assert linear.name.startswith("TF-IDF of character 1-4-grams")
    assert linear.metrics["test_accuracy"] > 0.9


def test_texts_of_one_class_have_the_majority_alone() -> None:
    train, held_out = part(["x y", "x z"], [0, 0]), part(["x", "y"], [0, 1])
    found = baselines.compute(Splits(train, held_out, part([], []), ["a", "b"], []))
    assert [b.name for b in found] == ["majority class"]
    assert set(found[0].metrics) == {"runtime_s", "eval_accuracy", "eval_f1"}
    assert len(found[0].predictions) == 2


def test_texts_without_a_word_are_no_obstacle() -> None:
    emoji = part(["\U0001f600", "\u2764"] * 5, [0, 1] * 5)
    linear = baselines.compute(Splits(emoji, emoji, emoji, ["a", "b"], []))[1]
    assert linear.metrics["test_accuracy"] == 1


def test_baselines_are_computed_once_per_sweep(finished: Record, tmp_path: Path) -> None:
    cache = tmp_path / "baselines.json"
    first = baselines.of_records([finished], cache)
    (Path(finished.folder) / "config.yaml").unlink()
    assert baselines.of_records([finished], cache) == first
    assert len(first) == 2


def test_baselines_of_other_data_are_added(
    splits: Splits, finished: Record, tmp_path: Path
) -> None:
    """A report on a sweep that was still running has written down the data of its first runs."""
    file = tmp_path / "baselines.json"
    file.write_text(json.dumps({"of": ["DataConfig(name='other')"], "baselines": []}))
    first = baselines.of_records([finished], file)
    assert len(first) == 2
    file.write_text(file.read_text()[:100])  # as a process leaves it that dies while it writes
    assert [b.predictions for b in baselines.of_records([finished], file)] == [
        b.predictions for b in first
    ]


def test_a_later_sweep_takes_over_what_an_earlier_one_has_computed(
    splits: Splits, finished: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.ROOT.parent.mkdir(exist_ok=True)
    expected = baselines.compute(splits)
    data = saved_config(Path(finished.folder)).data
    baselines.prepare([data, data])
    monkeypatch.setattr(baselines, "compute", None)
    found = baselines.of_records([finished], tmp_path / "baselines.json")
    assert [b.predictions for b in found] == [b.predictions for b in expected]
    assert [b.name for b in found] == [b.name for b in expected]


def test_large_data_is_left_for_the_end(
    finished: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache.ROOT.parent.mkdir(exist_ok=True)
    monkeypatch.setattr(baselines, "EARLY_CHARACTERS", 10)
    baselines.prepare([saved_config(Path(finished.folder)).data])
    assert not cache.ROOT.exists()
    assert len(baselines.of_records([finished], tmp_path / "baselines.json")) == 2
    assert cache.ROOT.exists()


def test_where_no_sweep_was_run_nothing_is_kept(
    finished: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert len(baselines.of_records([finished], tmp_path / "baselines.json")) == 2
    assert not list(elsewhere.iterdir())


def test_the_verdict_has_baselines(finished: Record, tmp_path: Path) -> None:
    found = verdict.judge([finished], CompareConfig(margin=0.02), tmp_path)
    assert len(found.baselines) == 2
    assert found.margin == 0.02


def test_data_that_is_gone_is_a_warning(finished: Record, tmp_path: Path) -> None:
    path = Path(finished.folder) / "config.yaml"
    path.write_text(path.read_text().replace("rows.csv", "gone.csv"))
    found = verdict.judge([finished], CompareConfig(), tmp_path)
    assert found.baselines == []
    assert "no baselines, for the data cannot be read any more: data.path=" in str(
        found.warnings[-1]
    )


def test_a_subset_of_many_texts_is_fixed_and_in_order() -> None:
    count = baselines.CHOICE_TEXTS + 100
    many = part([str(i) for i in range(count)], [i % 2 for i in range(count)])
    one, other = baselines._subset(many), baselines._subset(many)
    assert len(one) == baselines.CHOICE_TEXTS
    assert one.texts == other.texts == sorted(one.texts, key=int)


@pytest.mark.parametrize("grams", ["words", "characters"])
def test_names_that_were_stored_as_text_are_known_again(grams: str, tmp_path: Path) -> None:
    names = ["majority class", str(Remark(f"baseline.{grams}", {"strength": "0.3"})), "x on rows"]
    stored = [{"name": name, "metrics": {}, "predictions": []} for name in names]
    file = tmp_path / "baselines.json"
    file.write_text(json.dumps({"of": [], "baselines": stored}), "utf-8")
    found = [b.name for b in baselines.of_records([], file)]
    assert found == names
    assert [words.load("ko").tell(name) for name in found] == [
        "최다 클래스",
        words.load("ko")(f"baseline.{grams}", strength="0.3"),
        "x on rows",
    ]
