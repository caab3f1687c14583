"""Compute baselines, what is reached without fine-tuning, to show whether fine-tuning pays."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
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
    # Parts of words say more where words are inflected, compounded or not separated, as in Korean.
    "characters": ("char_wb", (1, 4)),
}
STRENGTHS = (0.3, 1.0, 3.0, 10.0)
"""Values of C; validation chooses among them."""
MOST_FEATURES = 50_000
EARLY_CHARACTERS = 500_000
"""Size of the training texts up to which `prepare` computes baselines: it takes less time than
loading the libraries, which goes on meanwhile."""
MAJORITY = Remark("baseline.majority")
VERSION = 1
"""To be raised whenever baselines come out differently, so that none are taken from the cache."""
CHOICE_TEXTS = 4_000
"""Number of training texts to choose grams and C with; the chosen model then learns from all."""


def of_sweep(records: Sequence[Record], folder: Path | None) -> tuple[list[Baseline], list[Remark]]:
    """Return the baselines of a sweep, or no baselines and why there are none.

    Args:
        records: The runs of the sweep.
        folder: Folder of the sweep, where baselines are stored; None computes none.
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
    """Return the baselines of every data set that finished runs used, computed once per sweep.

    Args:
        records: The runs of the sweep; their folders hold the configuration.
        file: JSON with the baselines that an earlier call computed from the same data; written if
            there is none. A report can be rebuilt from it when the data is gone.

    Raises:
        ConfigError: The data cannot be read any more.
    """
    configs = _distinct(_settings_of_data(records))
    # The file may be missing or damaged.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(file.read_text("utf-8"))
        if all(any(_is_of(name, cfg) for name in stored["of"]) for cfg in configs):
            return _from_json(stored["baselines"])
    computed = _of_each(configs)
    content = {"of": [repr(cfg) for cfg in configs], "baselines": _to_json(computed)}
    write_atomically(file, json.dumps(content))
    return computed


def _is_of(name: str, cfg: DataConfig) -> bool:
    """Whether stored baselines are of this data; keys that came later have to be as they were."""
    known = [field for field in fields(cfg) if f"{field.name}=" in name]
    values = ", ".join(f"{field.name}={getattr(cfg, field.name)!r}" for field in known)
    later = [field for field in fields(cfg) if field not in known]
    unset = all(getattr(cfg, field.name) == field.default for field in later)
    return unset and name == f"{type(cfg).__name__}({values})"


def prepare(configs: Sequence[DataConfig]) -> None:
    """Compute baselines into the cache while this process has nothing else to do.

    Large data, and data that raises an error here, is left to the end of the sweep.
    """
    with contextlib.suppress(Exception):
        for cfg in _distinct(configs):
            splits = load_splits(cfg)
            if sum(map(len, splits.train.texts)) <= EARLY_CHARACTERS:
                _cached(splits)


def compute(splits: Splits) -> list[Baseline]:
    """Score the majority class, and TF-IDF with logistic regression where it can be trained."""
    name = "test" if len(splits.test) else "validation"
    started = time.perf_counter()
    majority = int(np.bincount(splits.train.labels).argmax())
    constant = {part: np.full(len(getattr(splits, part)), majority) for part in _parts(name)}
    baselines = [_baseline(MAJORITY, splits, constant, name, started)]
    started = time.perf_counter()
    fitted = _best_linear(splits)
    if fitted is not None:
        title, model = fitted
        predicted = {part: model.predict(getattr(splits, part).texts) for part in _parts(name)}
        baselines.append(_baseline(title, splits, predicted, name, started))
    return baselines


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
    """Return the model that validation prefers, with its name; None if none can be trained.

    That is so with fewer than two classes, or when no gram comes twice.
    """
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
    """Return a fixed random part of the training texts if there are many, else all of them."""
    if len(train) <= CHOICE_TEXTS:
        return train
    rows = np.sort(np.random.default_rng(0).permutation(len(train))[:CHOICE_TEXTS])
    return Split([train.texts[i] for i in rows], train.labels[rows], train.ids[rows])


def _vectorizer(grams: str, train: Split) -> Any:
    """Return TF-IDF fitted to texts; None when no gram comes twice."""
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
    """Return a logistic regression per class, with a solver a hundred times faster than lbfgs."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    return OneVsRestClassifier(
        LogisticRegression(
            C=strength, solver="liblinear", dual=True, tol=1e-2, max_iter=1000, random_state=0
        )
    )


def _cached(splits: Splits) -> list[Baseline]:
    """Return the baselines of a data set from the cache of `mlruns`; computed if there is none."""

    def make(_: cache.Draft) -> dict[str, Any]:
        return {"baselines": _to_json(compute(splits))}

    key = cache.key_of(VERSION, splits.fingerprint, version("scikit-learn"))
    if cache.ROOT.parent.is_dir():
        with contextlib.suppress(cache.CacheError):
            return _from_json(cache.get_or_make("baselines", key, make).info["baselines"])
    return compute(splits)


def _to_json(baselines: Sequence[Baseline]) -> list[dict[str, Any]]:
    return [{**asdict(baseline), "name": to_json(baseline.name)} for baseline in baselines]


def _from_json(stored: Sequence[dict[str, Any]]) -> list[Baseline]:
    return [Baseline(_name(b["name"]), b["metrics"], tuple(b["predictions"])) for b in stored]


def _name(stored: object) -> Text:
    """Return the name of a baseline; versions up to 0.1.0 stored one of these few in English."""
    text = from_json(stored)
    titles = [_title(grams, strength) for grams in GRAMS for strength in STRENGTHS]
    return next((title for title in (MAJORITY, *titles) if title == text), text)


def _title(grams: str, strength: float) -> Remark:
    return Remark(f"baseline.{grams}", {"strength": f"{strength:g}"})


def _settings_of_data(records: Sequence[Record]) -> list[DataConfig]:
    saved = [read_outputs.settings(record) for record in records if record.status == "FINISHED"]
    return [cfg.data for cfg in saved if cfg is not None]


def _distinct(configs: Sequence[DataConfig]) -> list[DataConfig]:
    """Return each data set once, whatever part of a text models see of it."""
    # These keys decide what a model sees of a text; all others decide which texts there are.
    of_models = decides.values(DataConfig(), Decides.RESULT)
    alike = [replace(cfg, **of_models) for cfg in configs]
    return list({repr(cfg): cfg for cfg in alike}.values())


def _of_each(configs: Sequence[DataConfig]) -> list[Baseline]:
    """Return the baselines of each data set, named with it if there are several."""
    baselines = []
    for cfg in configs:
        for baseline in _cached(load_splits(cfg)):
            title = Remark("baseline.on", {"name": baseline.name, "data": cfg.name})
            baselines.append(replace(baseline, name=title) if len(configs) > 1 else baseline)
    return baselines
