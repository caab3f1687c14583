"""Check the settings of a strategy, and contradictions between them.

A part of `checks`, so it needs neither a model nor torch.
"""

from __future__ import annotations

import re
from dataclasses import fields

from sweep.config.schema import Config, FreezeConfig, TrainerConfig

ADAPTERS = {
    "lora": ("targets", "rank", "alpha", "dropout", "use_rslora", "quantization"),
    "dora": ("targets", "rank", "alpha", "dropout", "use_rslora", "quantization"),
    "ia3": ("targets", "quantization"),
    "miss": ("targets", "rank", "dropout", "quantization"),
}
"""Per adapter, the settings that it has."""
REQUIRED = ("targets", "rank")


def check(cfg: Config) -> list[str]:
    """Return one message per setting that is missing, wrong, or without any effect."""
    strategy = cfg.freeze
    if strategy.adapter is not None and strategy.adapter not in ADAPTERS:
        return [f"freeze.adapter={strategy.adapter!r} is not known. {_choose(ADAPTERS)}"]
    errors = _check_adapter(strategy) + _check_patterns(strategy)
    if strategy.quantization not in (None, "nf4"):
        errors.append(f"freeze.quantization={strategy.quantization!r} is not known. Use nf4.")
    return errors + _check_stages(strategy, cfg.trainer) + _check_probe(cfg)


def _choose(names: object) -> str:
    return f"Choose one of {', '.join(sorted(names))}."  # type: ignore[call-overload]


def _given(strategy: FreezeConfig) -> dict[str, object]:
    """Return the settings that differ from what the schema has."""
    empty = FreezeConfig()
    values = {field.name: getattr(strategy, field.name) for field in fields(strategy)}
    return {key: value for key, value in values.items() if value != getattr(empty, key)}


def _check_adapter(strategy: FreezeConfig) -> list[str]:
    given, allowed = _given(strategy), ADAPTERS.get(strategy.adapter or "", ())
    settings = dict.fromkeys(key for keys in ADAPTERS.values() for key in keys)
    if strategy.adapter is None:
        reason = f"the strategy {strategy.name!r} has no adapter. Use a strategy such as lora."
    else:
        reason = f"{strategy.adapter} has no such setting. Leave it out."
    errors = [
        f"freeze.{key}={given[key]!r} has no effect: {reason}"
        for key in settings
        if key in given and key not in allowed
    ]
    errors += [
        f"freeze.{key} is missing: {strategy.adapter} needs it. Set freeze.{key}, for example"
        f" freeze.{key}={example}."
        for key, example in zip(REQUIRED, ("[attention,feed_forward]", "8"), strict=True)
        if key in allowed and key not in given
    ]
    if strategy.adapter is not None:
        errors += [
            f"freeze.{key}={given[key]!r} and freeze.adapter={strategy.adapter!r} exclude each"
            " other: beside an adapter only the head trains. Leave one of them out."
            for key in ("parts", "train", "stages")
            if key in given
        ]
    return errors


def _check_patterns(strategy: FreezeConfig) -> list[str]:
    if strategy.train is None:
        return []
    errors = [
        f"freeze.train: {text!r} is no regular expression: {error}. Correct it."
        for text in strategy.train
        if (error := _syntax_error(text.removeprefix("!")))
    ]
    if not strategy.train:
        errors.append("freeze.train=[] has no pattern. Add some, or set freeze.train=null.")
    if strategy.parts:
        errors.append(
            f"freeze.train={strategy.train} and freeze.parts={strategy.parts} both say what"
            " trains. Leave one of them out."
        )
    return errors


def _syntax_error(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return ""


def _check_stages(strategy: FreezeConfig, trainer: TrainerConfig) -> list[str]:
    if strategy.stages is None:
        return []
    if trainer.early_stopping_patience is not None:
        return [
            f"freeze.stages={strategy.stages} and"
            f" trainer.early_stopping_patience={trainer.early_stopping_patience} exclude each"
            " other: a training that ends early would leave layers frozen that it is to train. Set"
            " one of them to null."
        ]
    limit, key = trainer.num_train_epochs, "trainer.num_train_epochs"
    if trainer.max_steps > 0:
        limit, key = trainer.max_steps, "trainer.max_steps"
    if isinstance(limit, str):  # `auto` makes hundreds of steps
        return []
    if strategy.stages <= limit:
        return []
    return [
        f"freeze.stages={strategy.stages} is more than {key}={limit:g}, so a stage would be shorter"
        f" than one. Lower freeze.stages, or raise {key}."
    ]


def _check_probe(cfg: Config) -> list[str]:
    """Complain about a head that is to be solved, and about what a solution cannot heed."""
    if cfg.freeze.probe != "lbfgs":
        return []
    if not cfg.freeze.trains_head_alone:
        return [
            f"freeze.probe='lbfgs' and the strategy {cfg.freeze.name!r} exclude each other: what is"
            " solved is a head alone, and this strategy trains more. Leave freeze.probe out, or use"
            " freeze=full."
        ]
    excluded = {
        "freeze.frozen_dropout": (
            cfg.freeze.frozen_dropout,
            "features that change in every epoch cannot be solved for",
        ),
        "trainer.cache_features": (
            cfg.trainer.cache_features is False,
            "it is solved on stored features",
        ),
        "trainer.torch_compile": (cfg.trainer.torch_compile, "it is solved on stored features"),
        "optimizer.learning_rate": (
            cfg.optimizer.learning_rate is not None,
            "a solution has no rate",
        ),
        "trainer.class_weight": (
            cfg.trainer.class_weight is not None,
            "what is solved is the loss of the labels as they are",
        ),
        "trainer.label_smoothing_factor": (
            cfg.trainer.label_smoothing_factor > 0,
            "what is solved is the loss of the labels as they are",
        ),
    }
    return [
        f"{key}={_value(cfg, key)} and freeze.probe='lbfgs' exclude each other: {reason}. Leave one"
        " of them out, or set freeze.probe=adamw."
        for key, (is_set, reason) in excluded.items()
        if is_set
    ]


def _value(cfg: Config, key: str) -> str:
    group, name = key.split(".")
    value = getattr(getattr(cfg, group), name)
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
