"""Typed schema of all that a user can set, and the checks that need neither a file nor torch.

First in the flow: `compose` fills these dataclasses from `conf/` and the command line, every
later module reads them. Field names follow `TrainingArguments` where it has the same thing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

Size = int | float | None


class ConfigError(Exception):
    """What the user has to change, one message per mistake; shown without a traceback."""

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = tuple(dict.fromkeys(messages))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, ...]]:
        return type(self), self.messages


@dataclass
class DataConfig:
    """Where the labelled texts come from and how they are split."""

    name: str = MISSING
    """Name in tables."""
    path: str | None = None
    """One file, or the training file; `pkg://package/file` finds a file inside a package."""
    validation_path: str | None = None
    test_path: str | None = None
    sha256: str | None = None
    """Refuse `path` when its content has another checksum."""
    dataset: str | None = None
    """Name or folder for the `datasets` library; used in place of `path`."""
    configuration: str | None = None
    revision: str | None = None
    train_split: str = "train"
    validation_split: str | None = None
    test_split: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    label_pattern: str | None = None
    """Regular expression over the whole raw label; its group 1 is the label."""
    label_names: list[str] | None = None
    """Order of the classes; default: sorted."""
    separator: str | None = None
    """Default by suffix: comma for .csv, tab for .tsv."""
    encoding: str = "utf-8-sig"
    encoding_errors: str = "strict"
    split_column: str | None = None
    """Column that says train, validation or test."""
    split_method: str = "stratified"
    split_seed: int = 0
    train_size: Size = None
    """Rows, or a fraction of all rows; null takes what the other splits leave over."""
    validation_size: Size = 0.1
    test_size: Size = 0.2
    deduplicate: bool = True
    """Drop repeated texts, and texts that carry two labels."""
    max_length: int = 128
    """Tokens per text; longer texts are cut."""


@dataclass
class ModelConfig:
    """A pretrained encoder."""

    name: str = MISSING
    name_or_path: str = MISSING
    """Hub name, folder, or `pkg://package/folder`."""
    revision: str | None = None
    weights_sha256: str | None = None
    """Refuse `model.safetensors` when its content has another checksum."""
    trust_remote_code: bool = False
    """Run Python that comes with a model. Only for authors you would give your account to."""
    parts: dict[str, str | None] | None = None
    """Names of the parts; default: those of the model's family in conf/families.yaml."""


@dataclass
class FreezeConfig:
    """A strategy: which parts of the pretrained model train beside the head."""

    name: str = MISSING
    parts: list[str] = field(default_factory=list)
    """Parts that train; `everything` is the whole model, an empty list the head alone."""
    count: int | None = None
    """How many layers of the part `layers` train, from the top; null is all."""
    frozen_dropout: bool = False
    """Keep dropout on in modules whose weights are all frozen."""
    learning_rate: float | None = None
    """Measured default of this strategy with AdamW; `optimizer.learning_rate` overrides it."""


@dataclass
class OptimizerConfig:
    """Optimizer and schedule, in the words of `TrainingArguments`."""

    optim: str = MISSING
    optim_args: str | None = None
    learning_rate: float | None = None
    """null takes the strategy's own, measured rate."""
    weight_decay: float = 0.01
    lr_scheduler_type: str = "linear"
    warmup_steps: float = 0.1
    """Steps, or a fraction of all steps when below 1."""
    max_grad_norm: float = 1.0


@dataclass
class TrainerConfig:
    """One training, in the words of `TrainingArguments`."""

    num_train_epochs: float = 2.0
    max_steps: int = -1
    """Optimizer steps; -1 leaves it to `num_train_epochs`."""
    per_device_train_batch_size: int = 32
    per_device_eval_batch_size: int = 64
    gradient_accumulation_steps: int = 1
    activation_checkpointing: bool = False
    train_sampling_strategy: str = "group_by_length"
    padding: str = "longest"
    """`longest` pads to the longest text of a batch, `max_length` to data.max_length."""
    precision: str = "auto"
    device: str = "auto"
    num_threads: int | None = None
    """CPU threads; null takes all cores. Results are reproducible only for the same number."""
    torch_compile: bool = False
    logging_steps: int = 10
    eval_steps: int | None = None
    """Optimizer steps between evaluations; null evaluates after each epoch."""
    load_best_model_at_end: bool = False
    save_model: bool = False
    """Keep the trained weights as an artifact of the run."""


@dataclass
class TrackingConfig:
    """Where runs are recorded."""

    enabled: bool = True
    uri: str | None = MISSING
    """MLflow tracking URI; null is SQLite at mlruns/mlflow.db."""
    experiment_name: str = "sweep"
    nested: bool = False
    """Nest runs under the sweep's summary run; MLflow's list and charts then hide them."""


@dataclass
class Config:
    """One run: every choice resolved."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    families: dict[str, dict[str, str | None]] = field(default_factory=dict)
    seed: int = 0
    """Seed of head, data order and dropout. Runs that differ only in it are replicates."""

    @property
    def learning_rate(self) -> float:
        """The rate this run trains with."""
        rate = self.optimizer.learning_rate
        return self.freeze.learning_rate if rate is None else rate  # type: ignore[return-value]


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
    "trainer.padding": ("longest", "max_length"),
    "trainer.precision": ("auto", "bf16", "fp16", "fp32"),
    "trainer.device": ("auto", "cpu", "cuda", "mps"),
    "trainer.train_sampling_strategy": ("group_by_length", "random", "sequential"),
}

_POSITIVE = (lambda value: value > 0, "a number above 0")
_AT_LEAST_1 = (lambda value: value >= 1, "an integer of 1 or more")
_NOT_NEGATIVE = (lambda value: value >= 0, "a number of 0 or more")
_SIZE = (
    lambda value: 0 <= value < 1 or float(value).is_integer(),
    "a count of rows, or a fraction below 1",
)
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda value: 0 <= value < 2**32, "an integer from 0 to 4294967295"),
    "data.split_seed": (lambda value: 0 <= value < 2**32, "an integer from 0 to 4294967295"),
    "data.train_size": (lambda value: value > 0 and _SIZE[0](value), _SIZE[1]),
    "data.validation_size": (lambda value: value > 0 and _SIZE[0](value), _SIZE[1]),
    "data.test_size": _SIZE,
    "data.max_length": (lambda value: value >= 3, "an integer of 3 or more"),
    "freeze.count": _AT_LEAST_1,
    "freeze.learning_rate": _POSITIVE,
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "optimizer.warmup_steps": _NOT_NEGATIVE,
    "optimizer.max_grad_norm": _NOT_NEGATIVE,
    "trainer.num_train_epochs": _POSITIVE,
    "trainer.max_steps": (lambda value: value == -1 or value >= 1, "-1 or an integer above 0"),
    "trainer.per_device_train_batch_size": _AT_LEAST_1,
    "trainer.per_device_eval_batch_size": _AT_LEAST_1,
    "trainer.gradient_accumulation_steps": _AT_LEAST_1,
    "trainer.num_threads": _AT_LEAST_1,
    "trainer.logging_steps": _AT_LEAST_1,
    "trainer.eval_steps": _AT_LEAST_1,
}


def check(cfg: Config) -> list[str]:
    """Return one message per value that is out of range or contradicts another."""
    return [*_check_choices(cfg), *_check_ranges(cfg), *_check_combinations(cfg)]


def value_at(cfg: Config, key: str) -> Any:
    """The value of a dotted key such as `trainer.precision`."""
    node: Any = cfg
    for name in key.split("."):
        node = getattr(node, name)
    return node


def keys(node: type, prefix: str = "") -> list[str]:
    """All dotted keys of the schema, groups included."""
    found = []
    for item in dataclasses.fields(node):
        key = prefix + item.name
        found.append(key)
        if isinstance(item.default_factory, type) and dataclasses.is_dataclass(
            item.default_factory
        ):
            found += keys(item.default_factory, key + ".")
    return found


def _check_choices(cfg: Config) -> list[str]:
    return [
        f"{key}={value_at(cfg, key)!r} is not known. Choose one of {', '.join(allowed)}."
        for key, allowed in CHOICES.items()
        if value_at(cfg, key) not in allowed
    ]


def _check_ranges(cfg: Config) -> list[str]:
    # `not ok(value)` and not a comparison of its own, so that NaN fails every check.
    return [
        f"{key}={value!r} is out of range. It has to be {allowed}."
        for key, (ok, allowed) in RANGES.items()
        if (value := value_at(cfg, key)) is not None and not ok(value)
    ]


def _check_combinations(cfg: Config) -> list[str]:
    data, errors = cfg.data, []
    if (data.path is None) == (data.dataset is None):
        errors.append("data needs either data.path=FILE or data.dataset=NAME, not both or none.")
    if data.split_column and (data.validation_path or data.test_path):
        errors.append(
            f"data.split_column={data.split_column!r} and data.validation_path / data.test_path"
            " both say which rows go where. Set one of them."
        )
    if data.split_method == "random_split" and data.test_size:
        errors.append(
            "data.split_method='random_split' makes two splits, as the notebook does."
            " Set data.test_size=0, or data.split_method=stratified."
        )
    if cfg.optimizer.learning_rate is None and cfg.freeze.learning_rate is None:
        errors.append(
            f"optimizer.learning_rate is not set and the strategy {cfg.freeze.name!r} has no"
            " default. Set optimizer.learning_rate, or learning_rate in the strategy's YAML."
        )
    if cfg.freeze.count is not None and "layers" not in cfg.freeze.parts:
        errors.append(
            f"freeze.count={cfg.freeze.count} counts layers, but the strategy"
            f" {cfg.freeze.name!r} does not train the part 'layers'. Use freeze=top_layers."
        )
    return errors + _check_pattern("data.label_pattern", data.label_pattern, groups=1)


def _check_pattern(key: str, pattern: str | None, groups: int) -> list[str]:
    if pattern is None:
        return []
    try:
        found = re.compile(pattern).groups
    except re.error as error:
        return [f"{key}={pattern!r} is no regular expression: {error}."]
    if found != groups:
        return [f"{key}={pattern!r} has {found} groups in (). It needs {groups}."]
    return []


def _by_strategy(name: str, table: Mapping[str, Any]) -> Any:
    """Resolver `${by_strategy:${freeze.name},{none:1,attention:2}}`: one value per strategy."""
    if name not in table:
        raise ConfigError(
            f"freeze={name!r} has no value in a table of the experiment, which covers"
            f" {', '.join(sorted(table))}. Set that key on the command line."
        )
    return table[name]


def register() -> None:
    """Make the schema and the resolver known to Hydra; harmless when called again."""
    OmegaConf.register_new_resolver("by_strategy", _by_strategy, replace=True)
    ConfigStore.instance().store(group="schema", name="config", node=Config, package="_global_")
