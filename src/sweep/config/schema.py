"""Typed schema of all that a user can set.

First in the flow: `compose` fills these dataclasses from `conf/` and the command line, every
later module reads them. Field names follow `TrainingArguments` where it has the same thing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from sweep.config.address import masked
from sweep.config.decides import (
    ADDS,
    Decides,
    group,
    later,
    name_only,
    no_effect_on_result,
    setting,
)

Count = int | float
"""A count of rows, or a fraction of all rows when below 1."""
Size = Count | None
Switch = bool | str
_ALL = Decides.RESULT | Decides.CONFIGURATION | Decides.FROZEN_STATES | Decides.FIT | Decides.COST
_NO_RATE = Decides.FROZEN_STATES | Decides.FIT | Decides.COST
"""What does not hang on how fast a run learns."""


GUESSES = (2e-5, 2e-4)
"""Least and largest base rate that is guessed."""


class ConfigError(Exception):
    """Mistakes for the user to correct, one message each; shown without a traceback."""

    def __init__(self, *messages: str) -> None:
        self.messages = tuple(dict.fromkeys(masked(message) for message in messages))
        super().__init__("\n".join(self.messages))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, ...]]:
        return type(self), self.messages


@dataclass
class DataConfig:
    """The source of the labelled texts, and the way they are split."""

    name: str = name_only(MISSING)
    """Name in tables."""
    path: str | None = name_only(None)
    """One file, or the training file; `pkg://package/file` finds a file inside a package."""
    validation_path: str | None = None
    """File of the validation split; null takes it out of `path`."""
    test_path: str | None = None
    """File of the test split; null takes it out of `path`."""
    sha256: str | None = name_only(None)
    """Refuse `path` when its content has another checksum."""
    dataset: str | None = None
    """Name or folder for the `datasets` library; used in place of `path`."""
    configuration: str | None = None
    """Configuration of `dataset`, its `name` in `datasets.load_dataset`."""
    revision: str | None = None
    """Branch, tag or commit of `dataset`; null is its main branch."""
    train_split: str = "train"
    """Split of `dataset` to train on, and to take the missing ones out of."""
    validation_split: str | None = None
    """Split of `dataset` to validate on; null takes it out of `train_split`."""
    test_split: str | None = None
    """Split of `dataset` to test on; null takes it out of `train_split`."""
    text_column: str = "text"
    """Column that holds the texts."""
    label_column: str = "label"
    """Column that holds the classes."""
    label_pattern: str | None = None
    """Regular expression over the whole raw label; its group 1 is the label."""
    label_names: list[str] | None = None
    """Order of the classes; default: sorted."""
    separator: str | None = None
    """One character; default: the one that makes the columns of the header, else by suffix comma
    for .csv, tab for .tsv and .txt."""
    quoting: str | None = None
    """What quotes are in CSV: `minimal` goes by the rules of CSV, `none` takes them for letters,
    `backslash` is for `\\"` within quotes; null goes by the rules and refuses a file that breaks
    them."""
    encoding: str = "utf-8-sig"
    """Encoding of text files; the default is UTF-8 with or without a mark at its start."""
    encoding_errors: str = "strict"
    """What becomes of bytes that are not in the encoding."""
    split_column: str | None = None
    """Column that says train, validation or test."""
    split_method: str = "stratified"
    """`stratified` keeps the shares of the classes; `random_split` is PyTorch's,
    as in the notebook."""
    split_seed: int = 0
    """Seed of the split, which stays the same for all seeds of training."""
    train_size: Size = None
    """Rows, or a fraction of all rows; null takes what the other splits leave over."""
    validation_size: Count = 0.1
    """Rows, or a fraction of all rows."""
    test_size: Size = 0.2
    """0 or null makes no test split."""
    deduplicate: bool = True
    """Drop repeated texts, and texts that carry two labels."""
    # The one key here that is no part of the content, which the key of a run knows by a hash.
    max_length: int = setting(128, adds=Decides.RESULT | Decides.FIT)
    """Tokens per text; longer texts are cut."""


@dataclass
class ModelConfig:
    """A pretrained encoder."""

    name: str = MISSING
    """Name in tables."""
    name_or_path: str = MISSING
    """Hub name, folder, or `pkg://package/folder`."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; null is its main branch."""
    weights_sha256: str | None = None
    """Refuse `model.safetensors` when its content has another checksum."""
    trust_remote_code: bool = False
    """Run Python that comes with a model. Only for authors you would give your account to."""
    # Enters the key of a run as what `auto` stands for, where that is not the model's own way.
    pooling: str | None = "auto"
    """What of the last layer the head reads: `mean` of the tokens, `cls` (the first), `last`, or
    `pooler` (pretrained, over the first); null is the architecture's own way. `auto` is that, but
    `mean` in place of a pooler that the checkpoint lacks, and for a head that is solved what a
    sentence encoder says of itself."""
    # As the rate of a strategy, it enters the key of a run as the rate that it trains with.
    base_rate: float | None = setting(None, lacks=_NO_RATE)
    """Learning rate of full fine-tuning with AdamW, measured on this model; null is a guess from
    the model's width, and is said."""
    parts: dict[str, str | None] | None = setting(
        None, adds=Decides.RESULT, lacks=Decides.CONFIGURATION
    )
    """Names of the parts; default: those of the model's family in conf/families.yaml."""


@dataclass
class FreezeConfig:
    """A strategy: which parts of the pretrained model train beside the head."""

    name: str = name_only(MISSING)
    """Name in tables, of folders and of metrics."""
    parts: list[str] = field(default_factory=list)
    """Parts that train; `everything` is the whole model, an empty list the head alone."""
    count: int | None = None
    """How many layers of the part `layers` train, from the top; null is all."""
    frozen_dropout: bool = False
    """Keep dropout on in modules whose weights are all frozen."""
    train: list[str] | None = None
    """In place of `parts`: regular expressions over whole parameter names; the first that matches
    decides, a leading `!` freezes, and every parameter has to be covered."""
    adapter: str | None = None
    """`lora`, `dora`, `ia3` or `miss`: small new tensors train in place of pretrained ones."""
    targets: list[str] = field(default_factory=list)
    """Parts whose linear layers get an adapter."""
    rank: int | None = None
    """Width of the adapter's bottleneck; not for ia3."""
    alpha: float | None = None
    """LoRA and DoRA scale their output by alpha / rank; null is twice the rank."""
    dropout: float = 0.0
    """Dropout in front of the adapter, a probability; not for ia3."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank), which keeps large ranks learning."""
    quantization: str | None = None
    """`nf4` packs the backbone's linear layers into 4 bits, under an adapter."""
    stages: int | None = None
    """Gradual unfreezing: the top 1/stages of the layers train first, in the last stage all."""
    # Enters the key of a run where it is solved.
    probe: str = setting("auto", lacks=Decides.RESULT | Decides.FROZEN_STATES)
    """How a head that trains alone is fitted: `lbfgs` solves it as a logistic regression on stored
    features, `adamw` trains it step by step; `auto` solves where it can and no rate is typed."""
    # Enters the key of a run as the rate that it trains with.
    rate_ratio: float | None = setting(None, lacks=_NO_RATE | Decides.RESULT)
    """Rate of this strategy over that of full fine-tuning, measured with AdamW."""
    learning_rate: float | None = setting(None, lacks=_NO_RATE | Decides.RESULT)
    """In place of `rate_ratio`: the rate itself, whatever the model."""

    @property
    def trains_head_alone(self) -> bool:
        """Whether every pretrained weight is frozen, and nothing new is put between them."""
        return not self.parts and self.train is None and self.adapter is None and not self.stages


@dataclass
class OptimizerConfig:
    """Optimizer and schedule, in the words of `TrainingArguments`."""

    optim: str = MISSING
    """Optimizer; set by the options of `optimizer`."""
    optim_args: str | None = None
    """Arguments of the optimizer as key=value,key=value, such as momentum=0.9; for sgd."""
    learning_rate: float | None = setting(None, lacks=_NO_RATE)
    """The rate of every strategy; null gives each its own, see `rates`."""
    weight_decay: float = 0.01
    """Pulls weights, but neither biases nor normalisations, towards 0."""
    lr_scheduler_type: str = "linear"
    """How the rate goes on after the warm-up; linear falls to 0."""
    warmup_steps: float = 0.1
    """Steps, or a fraction of all steps when below 1."""
    max_grad_norm: float = 1.0
    """Longer gradients are cut to this length; 0 cuts none."""
    layer_decay: float | None = setting(None, adds=Decides.FIT)
    """Discriminative rates: each layer below the head learns with the rate of the one above it
    times this; the embeddings learn slowest."""


@dataclass
class RatesConfig:
    """The learning rates of the strategies, where `optimizer.learning_rate` is not typed."""

    base_rate: float | None = None
    """Rate of full fine-tuning, which the ratios of the strategies are multiplied with; null takes
    `model.base_rate`, or guesses."""
    factor: float = 1.0
    """Multiplies the rate of every strategy: `rates.factor=0.33,1,3` tries three around its own."""
    source: str = name_only("unknown")
    """Filled in: `typed`, `measured` or `guessed`."""


@dataclass
class TrainerConfig:
    """One training, in the words of `TrainingArguments`."""

    num_train_epochs: int | float | str = "auto"
    """Passes over the training split; `auto` makes 200 optimizer steps, or 2 passes where those are
    more."""
    max_steps: int = -1
    """Optimizer steps; -1 leaves it to `num_train_epochs`."""
    per_device_train_batch_size: int = 32
    """Texts per forward pass; a run uses one device."""
    per_device_eval_batch_size: int = 64
    """Texts per forward pass of evaluation; changes no result but in its last bits."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimizer step."""
    activation_checkpointing: bool = False
    """Compute activations anew in the backward pass: less memory, more time."""
    train_sampling_strategy: str = "group_by_length"
    """Order of the training texts; `group_by_length` puts texts of one length into a batch."""
    padding: str = "longest"
    """`longest` pads to the longest text of a batch, `max_length` to data.max_length."""
    precision: str = setting("auto", adds=Decides.FROZEN_STATES)
    """`auto` takes bf16 or fp16 where the device computes it natively, else fp32."""
    device: str = setting("auto", adds=Decides.FROZEN_STATES)
    """`auto` takes the GPU, if there is one."""
    num_threads: int | None = None
    """CPU threads; null takes every core this process may use. Results are reproducible only for
    the same number."""
    torch_compile: bool = False
    """Compile the model first. Takes minutes, and steps get slower on a CPU; see docs, Speed."""
    logging_steps: int = 10
    """Optimizer steps between points of the training curve."""
    eval_steps: int | None = None
    """Optimizer steps between evaluations; null evaluates after each epoch."""
    load_best_model_at_end: bool = False
    """End with the weights that were best in `metric_for_best_model`, not with the last ones."""
    metric_for_best_model: str | None = later(None)
    """What validation judges weights by: `loss`, `accuracy`, `f1`, or `compared` for
    compare.metric; null is `compared` with `early_stopping_patience`, else `loss`."""
    early_stopping_patience: int | None = later(None)
    """End a training after this many evaluations in a row without a better one; null never does."""
    class_weight: Any = later(None)
    """Weight of each class in the training loss: a list in the order of the classes, or `balanced`
    for the inverse of their frequency; null weighs all alike."""
    label_smoothing_factor: float = later(0.0)
    """Share of each label that the training loss spreads over all classes."""
    # Exact, so that runs are the same with and without; those without share none.
    cache_features: Switch = setting(
        "auto", adds=Decides.FROZEN_STATES, lacks=Decides.RESULT | Decides.CONFIGURATION
    )
    """Compute the frozen lower part once for all runs that share it: `auto` if that saves time."""
    feature_dtype: str = setting("fp32", adds=Decides.FROZEN_STATES)
    """What is kept of it: `fp32` is exact, `bf16` takes half the space."""
    cache_limit_mib: int = no_effect_on_result(8192)
    """What mlruns/cache may take, MiB; entries used longest ago are removed first."""
    save_model: bool = no_effect_on_result(False)
    """Keep the trained weights as an artifact of the run."""
    save_steps: int | None = no_effect_on_result(None)
    """Optimizer steps between checkpoints to go on from; null writes one only when stopped."""
    timeout_min: float | None = no_effect_on_result(None)
    """Minutes after which a run is ended as FAILED; null waits for ever."""


@dataclass
class TrackingConfig:
    """The store that runs are recorded in."""

    enabled: bool = True
    """Record runs in MLflow; tracking=none switches it off."""
    uri: str | None = MISSING
    """MLflow tracking URI; null is SQLite at mlruns/mlflow.db."""
    experiment_name: str = "sweep"
    """MLflow experiment; made if there is none."""
    nested: bool = False
    """Nest runs under the sweep's summary run; MLflow's list and charts then hide them."""


@dataclass
class CompareConfig:
    """The rules for judging finished runs; one for the whole sweep, and no part of a run."""

    metric: str = "accuracy"
    """What is compared first, and what the recommendation looks at: accuracy or f1."""
    margin: float = 0.01
    """Differences up to this do not matter; 0.01 is one point of accuracy."""
    confidence: float = 0.95
    """Of intervals and verdicts."""
    cost: str = "time"
    """What the recommendation makes small: time, memory, parameters or checkpoint."""
    max_memory_mib: float | None = None
    """Recommend nothing that took more memory than this."""
    max_time_s: float | None = None
    """Recommend nothing that trained longer than this."""


@dataclass
class ReportConfig:
    """The look of the report; one for the whole sweep, and no part of a run."""

    language: str = "en"
    """`en` or `ko`."""
    examples: int = 8
    """Texts shown of each kind where strategies disagree; 0 keeps all texts out of the report."""


@dataclass
class SweepSettings:
    """Settings for running, judging and showing a sweep: one value per sweep, no part of a run."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    jobs: int = 1
    """Runs at the same time on this machine, which share its cores or GPUs; other launchers than
    hydra/launcher=local have keys of their own for it."""
    resume: bool = True
    """Take over runs that have finished before and go on with stopped ones; false trains anew."""
    on_failure: str = "continue"
    """What a failed run means for the rest of the sweep: `continue` or `stop`."""
    max_failures: int | None = None
    """Start no further run after this many failures; null never gives up."""
    max_runs: int = 10_000
    """Most runs that one sweep may stand for, against a range that was not meant."""


@dataclass
class Config:
    """One run: every choice that decides what it does, resolved."""

    # Data and weights enter the key of a run by what is in them, not by where and how it is read.
    data: DataConfig = group(DataConfig, _ALL & ~(Decides.RESULT | Decides.FIT))
    model: ModelConfig = group(ModelConfig, _ALL & ~Decides.RESULT)
    freeze: FreezeConfig = group(FreezeConfig, _ALL)
    optimizer: OptimizerConfig = group(
        OptimizerConfig, _ALL & ~(Decides.FROZEN_STATES | Decides.FIT)
    )
    # Enter the key of a run as the rate that they give.
    rates: RatesConfig = group(RatesConfig, Decides.CONFIGURATION)
    trainer: TrainerConfig = group(TrainerConfig, _ALL & ~Decides.FROZEN_STATES)
    families: dict[str, dict[str, str | None]] = field(
        default_factory=dict, metadata={ADDS: Decides.RESULT | Decides.FIT | Decides.COST}
    )
    """Per family of models the names of its parts, from conf/families.yaml."""
    seed: int = setting(0, adds=Decides.RESULT)
    """Seed of head, data order and dropout. Runs that differ only in it are replicates."""

    @property
    def solves_probe(self) -> bool:
        """Whether the head is to be solved, and not trained step by step."""
        if self.freeze.probe != "auto":
            return self.freeze.probe == "lbfgs"
        return (
            self.freeze.trains_head_alone
            and self.optimizer.learning_rate is None
            and not self.freeze.frozen_dropout
            and self.trainer.cache_features is not False
            and not self.trainer.torch_compile
            and self.trainer.class_weight is None
            and not self.trainer.label_smoothing_factor
        )

    @property
    def learning_rate(self) -> float:
        """The rate this run trains with.

        Until the model's folder has been read, a base rate that is not stated counts as the largest
        that is guessed; see `rates.with_base_rate`.
        """
        if self.optimizer.learning_rate is not None:
            return self.optimizer.learning_rate
        rate = self.freeze.learning_rate
        if rate is None:
            base = self.rates.base_rate or self.model.base_rate or GUESSES[1]
            rate = base * (self.freeze.rate_ratio or 1.0)
        # Without the last bits, which a product has and a typed rate has not.
        return float(f"{rate * self.rates.factor:.6g}")


@dataclass
class Composed(SweepSettings, Config):
    """All that can be typed: a run, and the sweep that it is part of."""

    def run(self) -> Config:
        """Return what is the run's own, with the compared metric where it asks for that."""
        run = Config(**{each.name: getattr(self, each.name) for each in fields(Config)})
        t = run.trainer
        epochs, metric = t.num_train_epochs, t.metric_for_best_model
        if metric is None and t.early_stopping_patience is not None:
            metric = "compared"
        run.trainer = dataclasses.replace(
            t,
            # 2 and 2.0 are the same run.
            num_train_epochs=epochs if isinstance(epochs, str) else float(epochs),
            metric_for_best_model=self.compare.metric if metric == "compared" else metric,
        )
        return run

    def sweep(self) -> SweepSettings:
        """Return what holds for the whole sweep."""
        settings = {each.name: getattr(self, each.name) for each in fields(SweepSettings)}
        return SweepSettings(**settings)


@functools.cache
def keys(node: type = Composed, prefix: str = "") -> Mapping[str, Any]:
    """Return all dotted keys of the schema, groups included, with their types."""
    key_types: dict[str, Any] = {}
    for name, kind in get_type_hints(node).items():
        key_types[prefix + name] = kind
        if dataclasses.is_dataclass(kind):
            key_types |= keys(cast(type, kind), f"{prefix}{name}.")
    return key_types


def _by_strategy(name: str, table: Mapping[str, Any]) -> Any:
    """Resolve `${by_strategy:${freeze.name},{none:1,attention:2}}` to the strategy's value."""
    if name not in table:
        raise ConfigError(
            f"the experiment has one for {', '.join(sorted(table))}, but not for freeze={name!r}"
        )
    return table[name]


def register() -> None:
    """Make the schema and the resolver known to Hydra; harmless when called again."""
    OmegaConf.register_new_resolver("by_strategy", _by_strategy, replace=True)
    ConfigStore.instance().store(group="schema", name="config", node=Composed, package="_global_")
