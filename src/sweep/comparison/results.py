"""What is said of a sweep, as data: made by `compare` and `recommend`, shown by the report."""

from __future__ import annotations

from dataclasses import dataclass, field

from sweep.base.words import Remark, Text
from sweep.runs.record import Record

MIN_SEEDS = 3
"""Fewer claim nothing. Two seeds estimate their spread from one number; where that comes out small
by chance, the test takes noise of training for a difference: among four equal strategies some
pair was called different in 11 % of simulated sweeps, in place of 5."""


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
    """Of two replicates, which say more themselves than an interval over one degree of freedom."""


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
    """What one pair of strategies shows in one metric: `a` minus `b`."""

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
    """`better`, `worse`, `equivalent` or `undecided`, said of a against b.

    With fewer than three seeds each it is always `undecided`.
    """
    method: str
    """`t over seeds and texts`; with one seed each `exact McNemar`, or `z over texts` for F1."""
    more_seeds: int | None = None
    """How many more seeds each would probably decide it; None when decided, beyond reach, or not
    known because there is one seed only."""
    seeds: int = 1
    """Seeds of each side that went in, the smaller number if they differ."""
    texts: int = 0
    """Test texts that went in."""
    note: Text = ""
    """Why it is undecided although the interval leaves out 0; empty elsewhere."""

    @property
    def is_evidence(self) -> bool:
        """Whether the p-value is about strategies, and not about a few trained models."""
        return self.seeds >= MIN_SEEDS


@dataclass(frozen=True)
class Baseline:
    """What is reached without fine-tuning, on the same split."""

    name: Text
    metrics: dict[str, float]
    """test_accuracy, test_f1, or eval_* where there is no test split; runtime_s."""
    predictions: tuple[str, ...] = ()
    """Class name per row of the reported split, in its order."""


@dataclass(frozen=True)
class BaselineTest:
    """The best strategy against the best baseline, on the same texts."""

    baseline: Baseline
    strategy: str
    """Label of the strategy with the highest mean."""
    score: float
    """Of the baseline, in the metric compared."""
    estimate: float
    low: float
    high: float
    """Strategy minus baseline, with its interval at `Comparison.confidence`."""
    is_beaten: bool
    """Whether the strategy is shown to be better, after Holm's correction over all strategies."""


@dataclass(frozen=True)
class Recommendation:
    """Which strategy to take, and why."""

    strategy: str
    configuration: str
    cost: str
    """What was made small: time, memory, parameters or checkpoint."""
    margin: float
    reason: Text
    """One sentence with the numbers."""
    rule: Text
    """One sentence with the rule."""
    candidates: tuple[str, ...] = ()
    """Strategies that are not worse than the best by more than the margin, the cheapest first."""
    provisional: bool = False
    """One seed each: what holds for these trained models, and may not for the next ones."""
    excluded: tuple[Text, ...] = ()
    """Strategies above a limit or that learnt nothing, each with the reason."""
    unbeaten: Text = ""
    """Says, before all else, which baseline no strategy is shown to beat; else empty."""
    rival: str = ""
    """Label of the runner-up, where the strategy has the best mean but is not shown to be better
    than the next nor as good: there is no clear winner then."""


@dataclass(frozen=True)
class Comparison:
    """All that is said of a sweep; made by `compare`, shown by `report`."""

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
    is an English sentence, as of all remarks below."""
    recommendation: Recommendation | None
    """None when nothing finished, when nothing keeps the limits, or with several groups."""
    recommendations: dict[str, Recommendation] = field(default_factory=dict)
    """Per group of model and data; its name is empty when there is one group."""
    metric: str = "test_accuracy"
    """What verdicts in words and the recommendation are about."""
    margin: float = 0.01
    confidence: float = 0.95
    budgets: dict[str, int] = field(default_factory=dict)
    """Per strategy label, how many configurations validation had to choose from."""
    choice: Text = ""
    """One sentence on how each strategy's configuration was chosen; empty without a choice."""
    reasons: dict[str, Remark] = field(default_factory=dict)
    """Per strategy label, one line on why it is faster than the others, or is not."""
    uses: dict[str, Remark] = field(default_factory=dict)
    """Per strategy label, when to take it, as far as this sweep shows."""
    against_baselines: dict[str, BaselineTest] = field(default_factory=dict)
    """Per group, the best strategy against the best baseline; missing where it is not known."""
    learnt_nothing: dict[str, Remark] = field(default_factory=dict)
    """Per strategy label, how it shows that at least half of its runs learnt nothing."""
    failed_to_learn: dict[str, Remark] = field(default_factory=dict)
    """Per name of a run, how it shows that it learnt nothing."""
    unbeaten: dict[str, Text] = field(default_factory=dict)
    """Per group, the sentence on a baseline that no strategy is shown to beat."""
