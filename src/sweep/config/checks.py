"""Check the range of values and contradictions between them; needs neither a file nor torch."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any

from sweep.config import optimizer_checks, strategy_checks
from sweep.config.schema import Composed, Config, DataConfig, SweepSettings, TrainerConfig

CHOICES: dict[str, tuple[str, ...]] = {
    "data.split_method": ("random_split", "stratified"),
    "data.encoding_errors": ("ignore", "replace", "strict"),
    "optimizer.optim": ("adafactor", "adamw_torch", "adamw_torch_fused", "sgd"),
    "optimizer.lr_scheduler_type": (
        "constant",
        "constant_with_warmup",
        "cosine",
        "linear",
        "polynomial",
    ),
    "rates.source": ("guessed", "measured", "typed", "unknown"),
    "freeze.probe": ("adamw", "auto", "lbfgs"),
    "trainer.padding": ("longest", "max_length"),
    "trainer.metric_for_best_model": ("accuracy", "compared", "f1", "loss"),
    "trainer.precision": ("auto", "bf16", "fp16", "fp32"),
    "trainer.feature_dtype": ("bf16", "fp32"),
    "trainer.device": ("auto", "cpu", "cuda", "mps"),
    "on_failure": ("continue", "stop"),
    "trainer.train_sampling_strategy": ("group_by_length", "random", "sequential"),
    "compare.metric": ("accuracy", "f1"),
    "compare.cost": ("checkpoint", "memory", "parameters", "time"),
    "report.language": ("en", "ko"),
}
NULLABLE = ("trainer.metric_for_best_model",)
"""Keys with choices that can be left open."""


def _is_size(value: float) -> bool:
    # 1.0 could mean one row or all of them.
    return 0 <= value < 1 or (float(value).is_integer() and repr(value) != "1.0")


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_weights(values: Any) -> bool:
    return isinstance(values, list) and all(
        _is_number(value) and 0 < value < float("inf") for value in values
    )


def _is_encoding(name: str) -> bool:
    try:
        "".encode(name)  # refuses codecs that are not for text, which codecs.lookup does not
        codecs.lookup(name)  # the empty text alone is encoded without one
    except (LookupError, ValueError):
        return False
    return True


Check = tuple[Callable[[Any], bool], str]
_POSITIVE: Check = (lambda value: 0 < value < float("inf"), "a number above 0")
_NOT_NEGATIVE: Check = (lambda value: 0 <= value < float("inf"), "a number of 0 or more")
# More than a C integer holds fails only where libraries count with it.
_AT_LEAST_1: Check = (lambda value: 1 <= value < 2**31, "an integer of 1 or more, below 2147483648")
_SEED: Check = (lambda value: 0 <= value < 2**32, "an integer from 0 to 4294967295")
_SIZE = "a count of rows, or a fraction below 1"
_SOME_ROWS: Check = (lambda value: value > 0 and _is_size(value), f"{_SIZE} and above 0")
_FILLED: Check = (lambda value: value.strip() != "", "a text that is not empty")
_SHA256: Check = (
    lambda value: bool(re.fullmatch("[0-9a-f]{64}", value)),
    "64 hexadecimal digits, as sha256sum prints them",
)
# Names become names of folders and of MLflow metrics.
_NAME: Check = (
    lambda value: bool(re.fullmatch(r"\w([\w .-]{0,58}\w)?", value)),
    "up to 60 letters, digits, and _ . - or spaces between them",
)
_URI = r"(https?|sqlite|postgresql|mysql|mssql|databricks)(\+\w+)?://|databricks$|file:"
RANGES: dict[str, Check] = {
    "seed": _SEED,
    "data.name": _NAME,
    "data.path": _FILLED,
    "data.validation_path": _FILLED,
    "data.test_path": _FILLED,
    "data.sha256": _SHA256,
    "data.dataset": _FILLED,
    "data.train_split": _FILLED,
    "data.separator": (
        lambda value: value == r"\t" or (len(value) == 1 and value not in '"\r\n'),
        r"one character, or \t for a tab",
    ),
    "data.quoting": (
        lambda value: value in ("backslash", "minimal", "none"),
        "backslash, minimal or none, or null for minimal with a check",
    ),
    "data.encoding": (
        _is_encoding,
        "an encoding that Python knows, such as utf-8, utf-16, cp949, euc-kr or latin-1",
    ),
    "data.label_names": (
        lambda value: _are_texts(value) and len(set(value)) == len(value) >= 2,
        "two or more names, each once",
    ),
    "data.split_seed": _SEED,
    "data.train_size": _SOME_ROWS,
    "data.validation_size": _SOME_ROWS,
    "data.test_size": (_is_size, f"{_SIZE}, or 0 for no test split"),
    "data.max_length": (lambda value: value >= 3, "an integer of 3 or more"),
    "model.name": _NAME,
    "model.name_or_path": _FILLED,
    "model.weights_sha256": _SHA256,
    "model.pooling": (
        lambda value: value in ("auto", "cls", "last", "mean", "pooler"),
        "auto, cls, last, mean or pooler, or null for the architecture's own way",
    ),
    "freeze.name": _NAME,
    "freeze.parts": (_are_texts, "a list of names of parts"),
    "freeze.count": _AT_LEAST_1,
    "freeze.train": (_are_texts, "a list of regular expressions"),
    "freeze.targets": (_are_texts, "a list of names of parts"),
    "freeze.rank": _AT_LEAST_1,
    "freeze.alpha": _POSITIVE,
    "freeze.dropout": (lambda value: 0 <= value < 1, "a number of 0 or more and below 1"),
    "freeze.stages": (lambda value: value >= 2, "an integer of 2 or more"),
    "freeze.rate_ratio": _POSITIVE,
    "freeze.learning_rate": _POSITIVE,
    "model.base_rate": _POSITIVE,
    "rates.base_rate": _POSITIVE,
    "rates.factor": _POSITIVE,
    "optimizer.optim_args": (
        lambda value: bool(re.fullmatch(r"\w+=[^=,]+(, *\w+=[^=,]+)*", value)),
        "of the form key=value,key=value",
    ),
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "optimizer.warmup_steps": (
        lambda value: 0 <= value < 1 or value.is_integer(),
        "a count of steps, or a fraction below 1",
    ),
    "optimizer.max_grad_norm": _NOT_NEGATIVE,
    "optimizer.layer_decay": (lambda value: 0 < value <= 1, "a number above 0, up to 1"),
    "trainer.num_train_epochs": (
        lambda value: value == "auto" or (_is_number(value) and 0 < value <= 1_000_000),
        "auto, or a number above 0, up to 1000000",
    ),
    "trainer.max_steps": (
        lambda value: value == -1 or 1 <= value < 2**31,
        "-1 or an integer above 0 and below 2147483648",
    ),
    "trainer.per_device_train_batch_size": _AT_LEAST_1,
    "trainer.per_device_eval_batch_size": _AT_LEAST_1,
    "trainer.gradient_accumulation_steps": _AT_LEAST_1,
    "trainer.num_threads": (lambda value: 1 <= value <= 1024, "an integer from 1 to 1024"),
    "trainer.logging_steps": _AT_LEAST_1,
    "trainer.eval_steps": _AT_LEAST_1,
    "trainer.save_steps": _AT_LEAST_1,
    "trainer.early_stopping_patience": _AT_LEAST_1,
    "trainer.class_weight": (
        lambda value: value == "balanced" or _are_weights(value),
        "balanced, a list with a number above 0 for each class, or null",
    ),
    "trainer.label_smoothing_factor": (
        lambda value: 0 <= value < 1,
        "a number of 0 or more and below 1",
    ),
    "trainer.timeout_min": _POSITIVE,
    "jobs": (lambda value: 1 <= value <= 1024, "an integer from 1 to 1024"),
    "max_failures": _AT_LEAST_1,
    "max_runs": _AT_LEAST_1,
    "trainer.cache_features": (lambda value: value in (True, False, "auto"), "auto, true or false"),
    "trainer.cache_limit_mib": (lambda value: value >= 0, "an integer of 0 or more"),
    "tracking.uri": (
        lambda value: bool(re.match(_URI, value)),
        "an address such as http://HOST:PORT, sqlite:///FILE or postgresql://..., or null for"
        " mlruns/mlflow.db",
    ),
    "tracking.experiment_name": _FILLED,
    "compare.margin": (lambda value: 0 < value < 1, "a number above 0 and below 1, as 0.01"),
    "compare.confidence": (
        lambda value: 0.5 <= value < 1,
        "a number from 0.5 to below 1, as 0.95",
    ),
    "report.examples": (lambda value: value >= 0, "an integer of 0 or more"),
    "compare.max_memory_mib": _POSITIVE,
    "compare.max_time_s": _POSITIVE,
}
ONLY_WITH = {
    "data.path": ("validation_path", "test_path", "sha256", "separator", "quoting"),
    "data.dataset": ("configuration", "revision", "validation_split", "test_split"),
}
"""Keys of `data` that say something about one kind of source, and nothing about the other."""


def check(cfg: Composed) -> list[str]:
    """Return one message per value that is out of range or contradicts another."""
    return [
        *check_values(cfg),
        *_check_data(cfg.data),
        *_check_strategy(cfg),
        *_check_trainer(cfg.trainer),
        *_check_features(cfg),
        *_check_parts(cfg),
        *strategy_checks.check(cfg),
    ]


def check_values(cfg: Composed, prefix: str = "") -> list[str]:
    """Return one message per value, under keys with this prefix, that is wrong by itself."""
    return [*_check_choices(cfg, prefix), *_check_ranges(cfg, prefix)]


def value_at(cfg: Config | SweepSettings, key: str) -> Any:
    """Return the value of a dotted key such as `trainer.precision`."""
    node: Any = cfg
    for name in key.split("."):
        node = getattr(node, name)
    return node


def _check_choices(cfg: Composed, prefix: str) -> list[str]:
    return [
        f"{key}={value!r} is not known. Choose one of {', '.join(allowed)}."
        for key, allowed in CHOICES.items()
        if key.startswith(prefix) and (value := value_at(cfg, key)) not in allowed
        if value is not None or key not in NULLABLE
    ]


def _check_ranges(cfg: Composed, prefix: str) -> list[str]:
    # `not ok(value)` and not a comparison of its own, so that NaN fails every check.
    return [
        f"{key}={value!r} is not allowed. It has to be {allowed}."
        for key, (ok, allowed) in RANGES.items()
        if key.startswith(prefix) and (value := value_at(cfg, key)) is not None and not ok(value)
    ]


def _check_data(data: DataConfig) -> list[str]:
    errors = []
    if (data.path is None) == (data.dataset is None):
        errors.append("data needs either data.path=FILE or data.dataset=NAME, not both or none.")
    else:
        kind = "data.path" if data.dataset is None else "data.dataset"
        errors += [
            f"data.{key}={getattr(data, key)!r} has no effect with {kind}; it belongs to {other}."
            f" Set data.{key}=null."
            for other, names in ONLY_WITH.items()
            for key in names
            if other != kind and getattr(data, key) is not None
        ]
    if data.text_column == data.label_column:
        errors.append(
            f"data.text_column={data.text_column!r} is data.label_column too, so the text would"
            " hold the answer. Set them to two columns."
        )
    errors += _check_split(data)
    return errors + _check_pattern("data.label_pattern", data.label_pattern, groups=1)


def _check_split(data: DataConfig) -> list[str]:
    held_out = ("validation_path", "test_path", "validation_split", "test_split")
    declared = [
        f"data.{key}={value!r}" for key in held_out if (value := getattr(data, key)) is not None
    ]
    errors = []
    if data.split_column is not None and declared:
        errors.append(
            f"data.split_column={data.split_column!r} and {', '.join(declared)} both say which rows"
            " go where. Set one of them."
        )
    if data.split_method == "random_split" and (declared or data.split_column is not None):
        errors.append(
            "data.split_method='random_split' has no effect on splits that the data declares."
            " Set data.split_method=stratified, or use one file without data.split_column."
        )
    if data.split_method == "random_split" and data.test_size:
        errors.append(
            "data.split_method='random_split' makes two splits, as the notebook does."
            " Set data.test_size=0, or data.split_method=stratified."
        )
    return errors


def _check_strategy(cfg: Config) -> list[str]:
    errors = []
    own = cfg.freeze.rate_ratio, cfg.freeze.learning_rate
    if cfg.optimizer.learning_rate is None and own == (None, None):
        errors.append(
            f"optimizer.learning_rate is not set and the strategy {cfg.freeze.name!r} has no"
            " default. Set optimizer.learning_rate, or rate_ratio in the strategy's YAML."
        )
    if cfg.optimizer.learning_rate is not None and (typed := _typed_rates(cfg)):
        errors.append(
            f"{typed} and optimizer.learning_rate={cfg.optimizer.learning_rate:g} exclude each"
            " other: the one gives every strategy the same rate, the other each its own. Leave one"
            " of them out."
        )
    if cfg.freeze.count is not None and "layers" not in cfg.freeze.parts:
        errors.append(
            f"freeze.count={cfg.freeze.count} counts layers, but the strategy"
            f" {cfg.freeze.name!r} does not train the part 'layers'. Use freeze=top_layers."
        )
    return errors + optimizer_checks.check(cfg.optimizer)


def _typed_rates(cfg: Config) -> str:
    """Return a setting of `rates` that a rate for all strategies leaves without effect."""
    if cfg.rates.factor != 1:
        return f"rates.factor={cfg.rates.factor:g}"
    return "" if cfg.rates.base_rate is None else f"rates.base_rate={cfg.rates.base_rate:g}"


def _check_trainer(trainer: TrainerConfig) -> list[str]:
    errors = _check_early_stopping(trainer)
    if trainer.save_steps is None or not trainer.load_best_model_at_end:
        return errors
    return [
        *errors,
        f"trainer.save_steps={trainer.save_steps} has no effect with"
        " trainer.load_best_model_at_end=true, which writes a checkpoint at each evaluation. Set"
        " trainer.save_steps=null; trainer.eval_steps says how often it evaluates.",
    ]


def _check_early_stopping(trainer: TrainerConfig) -> list[str]:
    """Complain about settings that would never have an effect."""
    patience, every = trainer.early_stopping_patience, trainer.eval_steps
    if patience is None:
        if trainer.metric_for_best_model is None or trainer.load_best_model_at_end:
            return []
        return [
            f"trainer.metric_for_best_model={trainer.metric_for_best_model!r} chooses nothing. Set"
            " trainer.load_best_model_at_end=true or trainer.early_stopping_patience=3, or leave it"
            " out."
        ]
    if every is None or trainer.max_steps < 1 or trainer.max_steps > patience * every:
        return []
    return [
        f"trainer.early_stopping_patience={patience} has no effect: {trainer.max_steps} steps with"
        f" an evaluation after every {every} (trainer.eval_steps) are no more than"
        f" {patience} evaluations. Lower one of them, or set trainer.early_stopping_patience=null."
    ]


def _check_features(cfg: Config) -> list[str]:
    if cfg.trainer.cache_features is not True:
        return []
    others = {
        "freeze.frozen_dropout": "dropout makes another output of the frozen part in every epoch",
        "trainer.torch_compile": "a compiled model cannot be cut",
    }
    return [
        f"trainer.cache_features=true and {key}=true exclude each other: {why}. Set one of them to"
        " false."
        for key, why in others.items()
        if value_at(cfg, key)
    ]


def _check_parts(cfg: Config) -> list[str]:
    """Complain about patterns that do not compile, and about one of layers without its index."""
    tables = {f"families.{name}": parts for name, parts in cfg.families.items()}
    return [
        message
        for where, parts in {"model.parts": cfg.model.parts or {}, **tables}.items()
        for part, pattern in parts.items()
        for message in _check_pattern(
            f"{where}.{part}", pattern, groups=1 if part == "layers" else None
        )
    ]


def _check_pattern(key: str, pattern: str | None, groups: int | None) -> list[str]:
    if pattern is None:
        return []
    try:
        group_count = re.compile(pattern).groups
    except re.error as error:
        return [f"{key}={pattern!r} is no regular expression: {error}. Correct it."]
    if groups is not None and group_count != groups:
        return [f"{key}={pattern!r} has {group_count} groups in (). It needs exactly {groups}."]
    return []
