"""What is reached without fine-tuning, in seconds: does fine-tuning pay at all?"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from sweep.base import cache
from sweep.base.disk import write_atomically
from sweep.base.layout import SweepPaths
from sweep.base.words import Remark, Text, from_json, to_json
from sweep.comparison.results import Baseline
from sweep.config import decides
from sweep.config.decides import Decides
from sweep.config.schema import ConfigError, DataConfig
from sweep.data.splits import Split, Splits, load_splits
from sweep.runs import read_outputs
from sweep.runs.record import Record

GRAMS: dict[str, tuple[str, tuple[int, int]]] = {
    "words": ("word", (1, 2)),
    # Where words are inflected, compounded or not set apart, as in Korean, parts of words say more.
    "characters": ("char_wb", (1, 4)),
}
STRENGTHS = (0.3, 1.0, 3.0, 10.0)
"""Values of C to choose from, on validation like everything else."""
MOST_FEATURES = 50_000
EARLY_CHARACTERS = 500_000
"""Of training texts whose baselines are computed while libraries load, which takes longer."""
MAJORITY = Remark("baseline.majority")
VERSION = 1
"""Raise it when other baselines come out."""
CHOICE_TEXTS = 4_000
"""Training texts that grams and C are chosen with; the chosen model then learns from all."""


def beside(records: Sequence[Record], folder: Path | None) -> tuple[list[Baseline], list[Remark]]:
    """Return the baselines to show beside the runs of a sweep, and why there are none.

    Args:
        records: Of the sweep.
        folder: Of the sweep, where they are kept once they are computed; None computes none.
    """
    if folder is None or all(record.status != "FINISHED" for record in records):
        return [], []
    try:
        return of_records(records, SweepPaths(folder).baselines), []
    except ConfigError as error:
        return [], [Remark("warning.no_data", {"error": error.messages[0]})]
    except OSError as error:
        return [], [Remark("warning.no_baselines", {"error": str(error)})]


def of_records(records: Sequence[Record], file: Path) -> list[Baseline]:
    """Baselines of every data set that finished runs used, computed once per sweep.

    Args:
        records: Of the sweep; their folders hold the configuration.
        file: JSON with what an earlier call found for the same data, or to be written; so that a
            report can be rebuilt when the data is gone.

    Raises:
        ConfigError: The data cannot be read any more.
    """
    configs = _different(_data_of(records))
    names = [repr(cfg) for cfg in configs]
    # There is none yet, or a damaged one.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_text("utf-8"))
        if set(names) <= set(kept["of"]):
            return _from_json(kept["baselines"])
    found = _of_data(configs)
    write_atomically(file, json.dumps({"of": names, "baselines": _to_json(found)}))
    return found


def prepare(configs: Sequence[DataConfig]) -> None:
    """Compute what the end of a sweep will ask for, while this process has nothing else to do.

    Large data is left for then, and so is what fails here.
    """
    with contextlib.suppress(Exception):
        for cfg in _different(configs):
            splits = load_splits(cfg)
            if sum(map(len, splits.train.texts)) <= EARLY_CHARACTERS:
                _cached(splits)


def compute(splits: Splits) -> list[Baseline]:
    """The majority class, and TF-IDF with logistic regression where the texts have features."""
    name = "test" if len(splits.test) else "validation"
    started = time.perf_counter()
    majority = int(np.bincount(splits.train.labels).argmax())
    constant = {part: np.full(len(getattr(splits, part)), majority) for part in _parts(name)}
    found = [_baseline(MAJORITY, splits, constant, name, started)]
    started = time.perf_counter()
    fitted = _best_linear(splits)
    if fitted is not None:
        title, model = fitted
        predicted = {part: model.predict(getattr(splits, part).texts) for part in _parts(name)}
        found.append(_baseline(title, splits, predicted, name, started))
    return found


def _parts(reported: str) -> list[str]:
    return list(dict.fromkeys(("validation", reported)))


def _baseline(
    title: Remark, splits: Splits, predicted: dict[str, np.ndarray], reported: str, started: float
) -> Baseline:
    metrics = {"runtime_s": time.perf_counter() - started}
    for part, classes in predicted.items():
        labels = getattr(splits, part).labels
        prefix = "eval" if part == "validation" else part
        metrics[f"{prefix}_accuracy"] = float(accuracy_score(labels, classes))
        score = f1_score(labels, classes, average="macro", zero_division=0)
        metrics[f"{prefix}_f1"] = float(score)
    names = np.array(splits.label_names, dtype=object)
    return Baseline(title, metrics, tuple(names[predicted[reported]]))


def _best_linear(splits: Splits) -> tuple[Remark, Any] | None:
    """The model that validation prefers, with its name; None where no text has a feature."""
    from sklearn.pipeline import make_pipeline

    if len(np.unique(splits.train.labels)) < 2:
        return None
    few, validation = _subset(splits.train), splits.validation
    scores: dict[tuple[str, float], float] = {}
    for grams in GRAMS:
        vectorizer = _vectorizer(grams, few)
        if vectorizer is None:
            continue
        features, held_out = (vectorizer.transform(part.texts) for part in (few, validation))
        for strength in STRENGTHS:
            model = _classifier(strength).fit(features, few.labels)
            scores[grams, strength] = model.score(held_out, validation.labels)
    if not scores:
        return None
    grams, strength = max(scores, key=lambda choice: scores[choice])
    vectorizer = _vectorizer(grams, splits.train)
    model = _classifier(strength).fit(vectorizer.transform(splits.train.texts), splits.train.labels)
    return _title(grams, strength), make_pipeline(vectorizer, model)


def _subset(train: Split) -> Split:
    """A fixed random part of the training texts, if there are many."""
    if len(train) <= CHOICE_TEXTS:
        return train
    rows = np.sort(np.random.default_rng(0).permutation(len(train))[:CHOICE_TEXTS])
    return Split([train.texts[i] for i in rows], train.labels[rows], train.ids[rows])


def _vectorizer(grams: str, train: Split) -> Any:
    """TF-IDF fitted to texts; None where no gram comes twice."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    analyzer, sizes = GRAMS[grams]
    words = {"token_pattern": r"\w+"} if analyzer == "word" else {}
    vectorizer = TfidfVectorizer(
        analyzer=analyzer,
        ngram_range=sizes,
        sublinear_tf=True,
        min_df=2,
        max_features=MOST_FEATURES,
        **words,
    )
    try:
        return vectorizer.fit(train.texts)
    except ValueError:
        return None


def _classifier(strength: float) -> Any:
    """One logistic regression per class; this solver is a hundred times faster here than lbfgs."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    return OneVsRestClassifier(
        LogisticRegression(
            C=strength, solver="liblinear", dual=True, tol=1e-2, max_iter=1000, random_state=0
        )
    )


def _cached(splits: Splits) -> list[Baseline]:
    """Baselines of a data set, kept for the sweeps of this folder; elsewhere computed each time."""

    def make(_: cache.Draft) -> dict[str, Any]:
        return {"baselines": _to_json(compute(splits))}

    key = cache.key_of(VERSION, splits.fingerprint, version("scikit-learn"))
    if cache.ROOT.parent.is_dir():
        with contextlib.suppress(cache.CacheError):
            return _from_json(cache.get_or_make("baselines", key, make).info["baselines"])
    return compute(splits)


def _to_json(found: Sequence[Baseline]) -> list[dict[str, Any]]:
    return [{**asdict(baseline), "name": to_json(baseline.name)} for baseline in found]


def _from_json(found: Sequence[dict[str, Any]]) -> list[Baseline]:
    return [Baseline(_name(b["name"]), b["metrics"], tuple(b["predictions"])) for b in found]


def _name(stored: object) -> Text:
    """The name of a baseline; versions up to 0.1.0 stored one of these few as English text."""
    text = from_json(stored)
    titles = [_title(grams, strength) for grams in GRAMS for strength in STRENGTHS]
    return next((title for title in (MAJORITY, *titles) if title == text), text)


def _title(grams: str, strength: float) -> Remark:
    return Remark(f"baseline.{grams}", {"strength": f"{strength:g}"})


def _data_of(records: Sequence[Record]) -> list[DataConfig]:
    """The data of finished runs."""
    saved = [read_outputs.settings(record) for record in records if record.status == "FINISHED"]
    return [cfg.data for cfg in saved if cfg is not None]


def _different(configs: Sequence[DataConfig]) -> list[DataConfig]:
    """Each data set once; what only a model sees of a text makes none."""
    of_models = decides.values(DataConfig(), Decides.RESULT)  # all others make the content
    alike = [replace(cfg, **of_models) for cfg in configs]
    return list({repr(cfg): cfg for cfg in alike}.values())


def _of_data(configs: Sequence[DataConfig]) -> list[Baseline]:
    """Of different data sets."""
    found = []
    for cfg in configs:
        for baseline in _cached(load_splits(cfg)):
            place = Remark("baseline.on", {"name": baseline.name, "data": cfg.name})
            found.append(replace(baseline, name=place) if len(configs) > 1 else baseline)
    return found
