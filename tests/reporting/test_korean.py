"""The Korean report: no sentence of it is left in English; only names and data are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support.config import compose
from support.korean import LATIN, STRATEGIES, english, foreign, texts_of
from support.report import make_run, make_sweep

from sweep.base import words
from sweep.base.words import Remark
from sweep.comparison import compare
from sweep.comparison.results import Baseline
from sweep.config.schema import CompareConfig
from sweep.reporting import page as pages
from sweep.reporting.material import Material
from sweep.runs import read_outputs
from sweep.runs.record import Record


def with_config(record: Record) -> Record:
    """The run with the configuration of its strategy beside, as runs leave it."""
    cfg = compose(STRATEGIES[record.strategy])
    OmegaConf.save(OmegaConf.structured(cfg), Path(record.folder) / "config.yaml")
    return record


def unfair_sweep(folder: Path) -> list[Record]:
    """Runs that leave nothing unsaid: other budgets, devices, texts, seeds, and failures."""
    records = make_sweep(folder, tuple(STRATEGIES), classes=("기쁨", "슬픔", "분노"))
    for record in map(with_config, records):
        record.notes = [
            Remark("note.cut", {"share": "1.0%", "length": 64}),
            Remark(
                "note.data",
                {
                    "data": "rows",
                    "sizes": (
                        Remark("note.train", {"n": "1,100"}),
                        Remark("note.test", {"n": 120}),
                    ),
                    "classes": 3,
                    "left": Remark("note.left", {"unused": "5", "size": 1100}),
                    "dropped": (Remark("note.empty", {"n": "3"}),),
                },
            ),
        ]
        record.params |= {"num_train_epochs": 2.0, "train_examples": 100}
        record.tags |= {"sweep.layers": "2", "sweep.lowest_trained_depth": str(len(records) % 4)}
    first, second, third = records[:3]
    first.tags |= {"timing_contended": "true", "sweep.version.torch": "2.0.0"}
    del first.tags["sweep.num_threads"]
    second.tags |= {"sweep.device": "another", "sweep.data_fingerprint": "e" * 64}
    third.metrics["eval_loss"] = float("nan")
    for record in records[3:6]:
        record.params["num_train_epochs"] = 3.0
    (Path(records[6].folder) / "predictions.csv").unlink()
    other = make_run(folder / "other", "full", 7, ("기쁨", "슬픔"))
    tuned = make_run(folder / "tuned", "none", 0, ("기쁨", "슬픔", "분노"))
    tuned.swept["optimizer.learning_rate"] = "1"
    failed = make_run(folder / "failed", "top_layers", 9, ("기쁨", "슬픔"))
    failed.status, failed.reason = "FAILED", "ValueError: some words of a library"
    killed = make_run(folder / "killed", "lora", 9, ("기쁨", "슬픔"))
    killed.status = "RUNNING"
    for record in records[-2:]:
        record.status, record.reason = "KILLED", "ValueError: some words of a library"
    return [*records, other, tuned, failed, killed]


def build(folder: Path, records: list[Record], language: str, **options: object) -> str:
    """The page of runs, with the baselines that `baselines` computes."""
    comparison = compare.compare(records, CompareConfig(**options))  # type: ignore[arg-type]
    truth = next(p for r in records if (p := read_outputs.predictions(r)).ids)
    for key in ("baseline.majority", "baseline.words"):
        name = Remark(key, {"strength": "0.3"})
        metrics = {"test_accuracy": 0.4, "test_f1": 0.2, "runtime_s": 0.1}
        comparison.baselines.append(Baseline(name, metrics, (truth.labels[0],) * len(truth.labels)))
    plan = read_outputs.Plan("sweep", "python -m sweep", "", "", "", ({"name": "none seed=5"},))
    material = Material(comparison, records, plan, words.load(language), {}, 0)
    return pages.build(folder, material).read_text("utf-8")


def names(records: list[Record]) -> list[str]:
    """What a page shows of every run as it is: its name, its tags and its log."""
    texts = ["python -m sweep", "trained", "loading"]
    for record in records:
        texts += [record.name, *map(str, record.tags.values())]
    return [text for text in texts if LATIN.search(text)]


def quoted(records: list[Record]) -> list[str]:
    """Names, and the words of libraries."""
    return [*names(records), *(record.reason for record in records)]


@pytest.mark.parametrize("options", [{}, {"cost": "memory"}, {"max_time_s": 30.0}], ids=repr)
def test_no_sentence_of_a_korean_page_is_english(
    options: dict[str, object], tmp_path: Path
) -> None:
    records = unfair_sweep(tmp_path / "runs")
    page = build(tmp_path / "report", records, "ko", **options)
    assert english(texts_of(page), quoted(records)) == []
    assert page.count("<li>") > 8


def test_no_sentence_on_several_models_is_english(tmp_path: Path) -> None:
    records = []
    for model in ("tiny", "small"):
        sweep = make_sweep(tmp_path / model, ("none", "full"), classes=("기쁨", "슬픔"))
        for record in map(with_config, sweep):
            record.swept["model"], record.params["model"] = model, model
            record.name, record.key = f"{record.name} model={model}", f"{record.key} {model}"
            records.append(record)
    page = build(tmp_path / "report", records, "ko")
    assert english(texts_of(page), ["model=", "small", *quoted(records)]) == []
    assert page.count("model=small: ‘") + page.count("model=small: 뚜렷한 승자가") == 1


def test_no_sentence_on_a_sweep_without_results_is_english(tmp_path: Path) -> None:
    records = make_sweep(tmp_path / "runs", ("none", "full"), 1)
    for record in map(with_config, records):
        record.status, record.metrics = "FAILED", {}
        record.reason = Remark("end.starved", {"signal": "SIGKILL"})
    page = build(tmp_path / "report", records, "ko")
    assert english(texts_of(page), ["python -m sweep", "SIGKILL", *names(records)]) == []
    assert "메모리가 모자라 프로세스가 SIGKILL 신호로 종료되었습니다." in page


def test_an_english_sentence_would_be_found(tmp_path: Path) -> None:
    records = unfair_sweep(tmp_path / "runs")
    sentences = english(texts_of(build(tmp_path / "report", records, "en")), quoted(records))
    assert "no fine-tuning" in sentences
    assert any(text.startswith("training times are shown but not ranked") for text in sentences)
    assert any(text.startswith("The cheapest strategy by") for text in sentences)


def test_no_korean_sentence_has_english_words() -> None:
    foreign_words = {
        key: foreign(re.sub(r"{.*?}", "", sentence))
        for key, sentence in words.load("ko").sentences.items()
    }
    assert {key: matches for key, matches in foreign_words.items() if matches} == {}
