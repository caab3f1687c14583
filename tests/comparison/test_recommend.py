"""The recommendation, its limits and its fallbacks; why and when; what must be flagged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.runs import some_right, told, write_run, write_sweep

from sweep.comparison import compare
from sweep.comparison.results import Comparison
from sweep.config.schema import CompareConfig
from sweep.reporting import tables
from sweep.runs.record import Record

RULE = (
    "The cheapest strategy by training time that is not worse than the best in test accuracy by"
    " more than 1 point at 95% confidence."
)


def three(tmp_path: Path, seeds: int = 5) -> list[Record]:
    """`none` and the cheaper `lora` reach the same, the cheapest `full` much less."""
    right = some_right(0.8)
    runs = []
    for seed in range(seeds):
        runs += [
            write_run(tmp_path, "none", seed, right, metrics={"train_runtime_s": 100.0}),
            write_run(tmp_path, "lora", seed, right, metrics={"train_runtime_s": 60.0}),
            write_run(
                tmp_path,
                "full",
                seed,
                some_right(0.6, seed=seed),
                metrics={"train_runtime_s": 10.0, "peak_memory_mib": 50.0, "checkpoint_mib": 1.0},
            ),
        ]
    return runs


def compared(runs: list[Record], **options: Any) -> Comparison:
    return compare.compare(runs, CompareConfig(**options))


def test_the_cheapest_that_is_as_good_is_recommended(tmp_path: Path) -> None:
    found = compared(three(tmp_path)).recommendation
    assert found is not None
    assert (found.strategy, found.cost, found.provisional) == ("lora", "time", False)
    assert found.candidates == ("lora", "none")
    assert str(found.rule) == RULE
    assert str(found.reason) == (
        "lora reached test accuracy 0.787 for 60.0 s (training time); none, the best, reached 0.787"
        " for 100.0 s, and lora is at most 0.2 points behind."
    )


def test_a_level_that_is_no_whole_percentage_is_not_rounded(tmp_path: Path) -> None:
    comparison = compared(three(tmp_path), confidence=0.975)
    assert comparison.recommendation is not None
    assert str(comparison.recommendation.rule) == RULE.replace("95%", "97.5%")
    assert " ± is the 97.5% interval. " in tables.legend(comparison)


def test_the_best_is_recommended_when_no_cheaper_one_comes_close(tmp_path: Path) -> None:
    runs = [run for run in three(tmp_path) if run.strategy != "lora"]
    found = compared(runs).recommendation
    assert found is not None
    assert str(found.reason) == (
        "none has the best mean test accuracy, 0.787, for 100.0 s (training time), and no cheaper"
        " one was shown to be as good."
    )


def test_a_strategy_that_may_be_worse_is_no_candidate(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.8})
    for run in runs[3:]:
        run.metrics["train_runtime_s"] = 1.0
    assert compared(runs, margin=0.0001).recommendation.candidates == ("none",)  # type: ignore[union-attr]
    assert compared(runs, margin=0.2).recommendation.strategy == "full"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("cost", "metric"),
    [
        ("memory", "peak_memory_mib"),
        ("parameters", "trainable_params"),
        ("checkpoint", "checkpoint_mib"),
    ],
)
def test_other_costs_can_be_made_small(cost: str, metric: str, tmp_path: Path) -> None:
    runs = three(tmp_path)
    for run in runs:
        run.metrics[metric] = {"none": 1.0, "lora": 2.0, "full": 3.0}[run.strategy]
    found = compared(runs, cost=cost).recommendation
    assert found is not None
    assert (found.strategy, found.cost) == ("none", cost)


def test_limits_leave_out_what_exceeds_them(tmp_path: Path) -> None:
    found = compared(three(tmp_path), max_memory_mib=99, max_time_s=50).recommendation
    assert found is not None
    assert found.strategy == "full"
    assert told(found.excluded) == [
        "none: 100 MiB, above compare.max_memory_mib=99",
        "lora: 100 MiB, above compare.max_memory_mib=99",
    ]
    assert str(found.rule).endswith(
        ", among those that take at most 99 MiB of memory and at most 50 s of training."
    )


def test_limits_that_nothing_keeps_leave_no_recommendation(tmp_path: Path) -> None:
    found = compared(three(tmp_path), max_time_s=1)
    assert found.recommendation is None
    assert told(found.warnings) == [
        "no recommendation: every strategy is ruled out (none 100.0 s, above"
        " compare.max_time_s=1; lora 60.0 s, above compare.max_time_s=1; full 10.0 s, above"
        " compare.max_time_s=1)"
    ]


def test_with_one_seed_the_recommendation_is_provisional(tmp_path: Path) -> None:
    found = compared(three(tmp_path, seeds=1)).recommendation
    assert found is not None
    assert found.provisional
    assert "Provisional: fewer than three seeds" in str(found.reason)


def test_one_strategy_alone_is_not_recommended(tmp_path: Path) -> None:
    found = compared(write_sweep(tmp_path, {"none": 0.8}))
    assert found.recommendation is None
    assert told(found.warnings) == ["no recommendation: only one strategy has results to compare"]


# Times that cannot be ranked.


@pytest.mark.parametrize(
    ("tag", "value", "problem"),
    [
        ("timing_contended", "true", "1 of 15 runs shared cores or a device with others"),
        ("sweep.host", "two", "runs had different machines (two, one)"),
        (
            "sweep.features",
            "shared",
            "some runs of none trained on stored features and others did not",
        ),
        ("sweep.device", "gpu", "runs had different devices (gpu, cpu)"),
        ("sweep.num_threads", "8", "runs had different numbers of CPU threads (8, 2)"),
        ("sweep.version.torch", "1", "runs had different versions of torch (1, 2.13.0)"),
    ],
)
def test_times_that_mean_something_else_are_not_ranked(
    tag: str, value: str, problem: str, tmp_path: Path
) -> None:
    runs = three(tmp_path)
    runs[0].tags[tag] = value
    for run in runs:
        run.metrics["train_flops"] = 1.0 if run.strategy == "none" else 2.0
    found = compared(runs)
    assert found.recommendation is not None
    assert (found.recommendation.strategy, found.recommendation.cost) == ("none", "flops")
    assert str(found.recommendation.rule).startswith(
        "The cheapest strategy by arithmetic of training"
    )
    assert told(found.warnings) == [
        f"training times are shown but not ranked: {problem}",
        "the recommendation ranks by the arithmetic of training (train_flops) and not by time:"
        f" {problem}",
    ]
    assert not any("of the time" in reason for reason in told(found.reasons.values()))


def test_memory_of_different_devices_is_not_ranked(tmp_path: Path) -> None:
    runs = three(tmp_path)
    runs[0].tags["sweep.device"] = "gpu"
    found = compared(runs, cost="memory")
    assert found.recommendation is not None
    assert found.recommendation.cost == "parameters"
    assert any("not by memory" in warning for warning in told(found.warnings))


# What else is flagged.


def test_unequal_training_is_flagged(tmp_path: Path) -> None:
    runs = three(tmp_path)
    for run in runs[::3]:
        run.params["num_train_epochs"] = 4.0
    assert told(compared(runs).warnings) == [
        "training budgets differ, in texts seen: none 400, lora 200, full 200"
    ]


def test_steps_count_as_a_budget_too(tmp_path: Path) -> None:
    runs = three(tmp_path)
    for run in runs[::3]:
        run.params["max_steps"] = 10
    assert told(compared(runs).warnings) == [
        "training budgets differ, in texts seen: none 80, lora 200, full 200"
    ]


def test_other_training_texts_are_flagged(tmp_path: Path) -> None:
    runs = three(tmp_path)
    runs[0].tags["sweep.data_fingerprint"] = "other"
    assert told(compared(runs).warnings) == [
        "the runs were trained on different texts, which may be the difference"
    ]


def test_fewer_seeds_are_flagged(tmp_path: Path) -> None:
    assert told(compared(three(tmp_path)[:-1]).warnings) == [
        "finished seeds differ: none 5, lora 5, full 4. Pairs use the seeds that both have."
    ]


def test_fair_terms_are_not_flagged(tmp_path: Path) -> None:
    assert compared(three(tmp_path)).warnings == []


# Why and when.


@pytest.mark.parametrize(
    ("depth", "share", "expected"),
    [
        ("0", 1.0, "back-propagates through all 6 layers down to the embeddings"),
        (
            "1",
            0.16,
            "trains only 16.0% of the parameters but still back-propagates through all 6 layers",
        ),
        ("5", 0.3, "back-propagates through the top 2 of 6 layers"),
        ("7", 0.01, "back-propagates through none of the 6 layers: they only run forward"),
    ],
)
def test_why_is_what_the_backward_pass_still_does(
    depth: str, share: float, expected: str, tmp_path: Path
) -> None:
    tags = {"sweep.lowest_trained_depth": depth}
    runs = [
        write_run(tmp_path, n, 0, tags=tags, metrics={"trainable_fraction": share})
        for n in ("none", "other")
    ]
    runs[1].metrics |= {"train_flops": 0.5e9, "train_runtime_s": 4.0}
    reasons = compared(runs).reasons
    assert str(reasons["none"]) == expected
    assert str(reasons["other"]) == f"{expected}; 50% of the arithmetic and 40% of the time of none"


def test_a_run_that_did_not_record_its_depth_has_no_reason(tmp_path: Path) -> None:
    found = compared(write_sweep(tmp_path, {"none": 0.8, "full": 0.7}))
    assert str(found.reasons["none"]) == "how far it back-propagates was not recorded"


def test_when_to_use_which_follows_from_what_was_measured(tmp_path: Path) -> None:
    uses = compared(three(tmp_path)).uses
    assert dict(zip(uses, told(uses.values()), strict=True)) == {
        "none": "when quality counts most",
        "lora": "when quality counts most",
        "full": "when time to train is short; or memory is short; or many tasks share one backbone,"
        " or checkpoints travel",
    }
