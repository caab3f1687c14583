"""Types of everything that is said of a sweep: made by `compare`, shown by the report."""

from __future__ import annotations

from dataclasses import dataclass, field

from sweep.base.words import Remark, Text
from sweep.runs.record import Record

MIN_SEEDS = 3
"""Nothing is claimed of fewer. Two seeds estimate their spread from one number; where that is small
by chance, the test takes the noise of training for a difference: among four equal strategies some
pair was called different in 11 % of simulated sweeps instead of 5 %."""


@dataclass(frozen=True)
class Interval:
    """A mean over replicates; of three or more with its interval, at `Comparison.confidence`."""

    mean: float
    n: int
    low: float | None = None
    high: float | None = None
    sd: float | None = field(default=None, compare=False)
    """Sample standard deviation over replicates."""
    values: tuple[float, ...] = field(default=(), compare=False)
    """The values of two replicates: an interval over one degree of freedom would say less."""


@dataclass(frozen=True)
class Row:
    """One configuration: its replicates differ in nothing but the seed."""

    name: str
    strategy: str
    trains: str
    finished: int
    failures: tuple[str, ...]
    metrics: dict[str, Interval]
    records: tuple[Record, ...] = field(default=(), compare=False, repr=False)
    """The replicates, finished or not."""
    group: str = ""
    """Model and data, where a sweep has several: strategies are compared within a group only."""

    @property
    def label(self) -> str:
        """The strategy, and its group if there are several; what `Difference` calls a and b."""
        return f"{self.strategy} {self.group}".strip()


@dataclass(frozen=True)
class Difference:
    """The difference of two strategies in one metric, `a` minus `b`, and what can be claimed."""

    metric: str
    a: str
    b: str
    estimate: float
    low: float
    high: float
    """Interval of this pair alone, at `Comparison.confidence`."""
    p_value: float
    p_adjusted: float
    """Holm's correction over the pairs of the same metric."""
    verdict: str
    """`better`, `worse`, `equivalent` or `undecided`, of a compared with b.

    Always `undecided` with fewer than three seeds each.
    """
    method: str
    """`t over seeds and texts`; with one seed each `exact McNemar`, or `z over texts` for F1."""
    more_seeds: int | None = None
    """How many more seeds each would probably decide it; None when it is decided, out of reach, or
    unknown because there is only one seed."""
    more_texts: int | None = None
    """How many more test texts would probably decide it, where no number of seeds would; None in
    all other cases, and where that is out of reach, too."""
    seeds: int = 1
    """Number of seeds of each side, the smaller one if they differ."""
    texts: int = 0
    """Number of test texts."""
    note: Text = ""
    """Why it is undecided although the interval leaves out 0; empty in all other cases."""

    @property
    def is_evidence(self) -> bool:
        """True when the p-value is about strategies, and not only about a few trained models."""
        return self.seeds >= MIN_SEEDS


@dataclass(frozen=True)
class Baseline:
    """The scores of a classifier without fine-tuning, on the same split."""

    name: Text
    metrics: dict[str, float]
    """test_accuracy, test_f1, or eval_* where there is no test split; runtime_s."""
    predictions: tuple[str, ...] = ()
    """Class name per row of the reported split, in its order."""


@dataclass(frozen=True)
class BaselineTest:
    """The best strategy compared with the best baseline, on the same texts."""

    baseline: Baseline
    strategy: str
    """Label of the strategy with the highest mean."""
    score: float
    """Score of the baseline, in the metric compared."""
    estimate: float
    low: float
    high: float
    """Strategy minus baseline, with its interval at `Comparison.confidence`."""
    is_beaten: bool
    """True when the strategy is shown to be better, after Holm's correction over all strategies."""


@dataclass(frozen=True)
class Recommendation:
    """The strategy to take, and why."""

    strategy: str
    configuration: str
    cost: str
    """The cost that was made small: time, memory, parameters, checkpoint or flops."""
    margin: float
    reason: Text
    """One sentence with the numbers."""
    rule: Text
    """One sentence with the rule."""
    candidates: tuple[str, ...] = ()
    """Strategies that are not worse than the best by more than the margin, the cheapest first."""
    provisional: bool = False
    """True with fewer seeds than `MIN_SEEDS`: it may not hold for the next trained models."""
    excluded: tuple[Text, ...] = ()
    """Strategies that exceed a limit or learnt nothing, each with the reason."""
    unbeaten: Text = ""
    """The baseline that no strategy is shown to beat, to be shown first; empty if there is none."""
    rival: str = ""
    """The runner-up when there is no clear winner: the strategy has the best mean, but is
    neither shown to be better than the runner-up nor equivalent to it."""


@dataclass(frozen=True)
class Comparison:
    """All that is said of a sweep; made by `compare`, shown by the report."""

    rows: list[Row]
    """Every configuration, in the order they were run."""
    chosen: list[Row]
    """One per strategy: the configuration that validation prefers."""
    split: str
    """`test`, or `eval` where there is no test split: the prefix of the metrics compared."""
    differences: list[Difference]
    """Every pair of chosen strategies, for accuracy and for macro-F1."""
    baselines: list[Baseline]
    warnings: list[Text]
    """What must not be compared, and why: budgets, hardware, contention, one seed. `str` of each
    remark, here and below, is an English sentence."""
    recommendation: Recommendation | None
    """None when nothing finished, when nothing stays within the limits, or with several groups."""
    recommendations: dict[str, Recommendation] = field(default_factory=dict)
    """Per group of model and data; its name is empty when there is one group."""
    metric: str = "test_accuracy"
    """The metric that the recommendation is about."""
    margin: float = 0.01
    confidence: float = 0.95
    budgets: dict[str, int] = field(default_factory=dict)
    """Per strategy label, how many configurations validation had to choose from."""
    choice: Text = ""
    """One sentence on how each strategy's configuration was chosen; empty without a choice."""
    reasons: dict[str, Remark] = field(default_factory=dict)
    """Per strategy label, one line on why it is faster or slower than the others."""
    uses: dict[str, Remark] = field(default_factory=dict)
    """Per strategy label, when to take it, as far as this sweep shows."""
    against_baselines: dict[str, BaselineTest] = field(default_factory=dict)
    """Per group, the best strategy against the best baseline; missing where not tested."""
    learnt_nothing: dict[str, Remark] = field(default_factory=dict)
    """Per strategy label, what shows that at least half of its runs learnt nothing."""
    failed_to_learn: dict[str, Remark] = field(default_factory=dict)
    """Per name of a run, what shows that it learnt nothing."""
    signals: dict[str, tuple[Remark, ...]] = field(default_factory=dict)
    """Per strategy label, the signs that it could do better than it was seen to; see `signals`."""
    unbeaten: dict[str, Text] = field(default_factory=dict)
    """Per group, the sentence on a baseline that no strategy is shown to beat."""
