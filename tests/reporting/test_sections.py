"""Words, scales and layer maps, against what can be worked out by hand."""

from __future__ import annotations

import pytest
from support.report import tensors

from sweep.base import words
from sweep.base.words import Remark
from sweep.comparison.results import Baseline, Comparison, Difference, Interval, Recommendation, Row
from sweep.config import checks
from sweep.reporting import sentences
from sweep.reporting.figures import across_strategies, per_strategy, svg
from sweep.reporting.figures.across_strategies import Point
from sweep.reporting.figures.layer_map import ADAPTED, FROZEN, TRAINED, layer_map
from sweep.reporting.figures.svg import Scale
from sweep.reporting.material import majority
from sweep.runs.read_outputs import Predictions


def test_every_language_can_be_chosen() -> None:
    assert checks.CHOICES["report.language"] == words.LANGUAGES


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.5, 0.0), (1, 0.0), (10, 50.0), (100, 100.0), (1000, 100.0)],
)
def test_a_logarithmic_scale_ends_at_its_edges(value: float, expected: float) -> None:
    assert Scale(1, 100, 0, 100, log=True)(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (Scale(0, 1, 0, 1), [0, 0.25, 0.5, 0.75, 1.0]),
        (Scale(61, 74, 0, 1), [65, 70]),
        (Scale(1, 900, 0, 1, log=True), [1, 10, 100]),
        (Scale(800, 1400, 0, 1, log=True), [800, 1000, 1200, 1400]),
        (Scale(5, 5, 0, 1), [5]),
    ],
)
def test_ticks_are_round_numbers(scale: Scale, expected: list[float]) -> None:
    assert scale.ticks() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (950, "950"), (1155, "1.16k"), (22_714_371, "22.7M"), (5.2e11, "520G")],
)
def test_large_numbers_are_short(value: float, expected: str) -> None:
    assert svg.compact(value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("short", "short"), ("a long name", "a lon…"), ("기쁨과 슬픔", "기쁨…"), ("a\nb", "a b")],
)
def test_a_text_is_cut_by_its_width(text: str, expected: str) -> None:
    assert svg.shorten(text, 6) == expected


def test_texts_and_attributes_are_escaped() -> None:
    element = svg.text(0, 0, "<b>&", class_='"x')
    assert element == '<text x="0" y="0" class="&quot;x" text-anchor="start">&lt;b&gt;&amp;</text>'


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    costs = {"cheap": (1, 0.5), "worse": (2, 0.4), "middle": (3, 0.6), "dear": (9, 0.6)}
    points = [
        Point(name, 0, Interval(cost, 1), Interval(score, 1))
        for name, (cost, score) in costs.items()
    ]
    assert [point.name for point in across_strategies.front(points)] == ["cheap", "middle"]


def test_f1_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    labels, guesses = list("aabbcc"), list("abbbca")
    pairs = Predictions(list("123456"), labels, guesses).pairs
    expected = f1_score(labels, guesses, average=None, labels=list("abc"))
    scores = per_strategy.f1_scores(pairs, ["a", "b", "c", "never"])
    assert list(scores.values())[:3] == pytest.approx(list(expected))
    assert scores["never"] is None


def test_the_classes_with_the_fewest_errors_are_put_together() -> None:
    names = [f"c{i}" for i in range(30)]
    pairs = Predictions(["1"] * 31, [*names, "c7"], [*names, "c9"]).pairs
    matrix = per_strategy.confusion(pairs, names, "others")
    assert (len(matrix.names), matrix.names[-1], matrix.rest) == (20, "others", 11)
    assert sum(map(sum, matrix.counts)) == 31
    assert matrix.counts[matrix.names.index("c7")][matrix.names.index("c9")] == 1


def test_most_seeds_decide_what_a_strategy_says() -> None:
    runs = [Predictions(["1"], ["a"], [guess]) for guess in ("a", "b", "a")]
    assert majority(runs) == {"1": ("a", "a")}


@pytest.mark.parametrize(("strategy", "passed"), [("none", 2), ("attention", 2), ("full", 0)])
def test_a_map_counts_the_layers_that_gradients_pass(strategy: str, passed: int) -> None:
    layers = layer_map(tensors(strategy))
    assert [name for name, _ in layers.rows] == ["head", "pooler", "2", "1", "embeddings"]
    assert (layers.layers, layers.passed) == (2, passed)


def test_a_map_shows_every_tensor_of_a_layer() -> None:
    layers = layer_map(tensors("attention"))
    assert layers.groups == (("attention", 4), ("feed-forward", 4))
    assert dict(layers.rows)["1"] == (TRAINED,) * 4 + (FROZEN,) * 4
    assert dict(layers.rows)["head"] == (TRAINED, TRAINED)


def test_an_adapter_is_shown_at_the_tensor_it_adapts() -> None:
    base = "base_model.model.bert.encoder.layer.0.attention.self.query"
    rows = [
        (f"{base}.base_layer.weight", False, "frozen"),
        (f"{base}.base_layer.bias", False, "frozen"),
        (f"{base}.lora_A.default.weight", True, "adapter: lora"),
        (f"{base}.lora_B.default.weight", True, "adapter: lora"),
        ("base_model.model.classifier.original_module.weight", False, "copy, not used"),
        ("base_model.model.classifier.modules_to_save.default.weight", True, "head: classifier"),
    ]
    keys = ("name", "trainable", "decided_by")
    layers = layer_map([dict(zip(keys, values, strict=True)) for values in rows])
    assert layers.rows == (("head", (TRAINED,)), ("1", (ADAPTED, FROZEN)))
    assert layers.passed == 1


def test_where_a_tensor_stands_is_read_and_not_guessed_from_its_name() -> None:
    rows = [
        ("m.words.weight", False, 0, False),
        ("m.norm.embedded.weight", False, 0, False),
        ("m.blocks.first.weight", False, 1, False),
        ("m.blocks.7.weight", True, 2, False),
        ("m.pool.3.weight", True, 3, False),
        ("m.out.weight", True, 3, True),
    ]
    keys = ("name", "trainable", "depth", "head")
    layers = layer_map([dict(zip(keys, values, strict=True)) for values in rows])
    assert layers.rows == (
        ("head", (TRAINED,)),
        ("pool", (TRAINED,)),
        ("2", (TRAINED,)),
        ("1", (FROZEN,)),
        ("embeddings", (FROZEN, FROZEN)),
    )
    assert (layers.layers, layers.passed) == (2, 1)


@pytest.mark.parametrize("strategy", ["none", "attention", "full"])
def test_a_file_that_does_not_say_it_gives_the_same_map(strategy: str) -> None:
    old = tensors(strategy)
    new = []
    for tensor in old:
        name = tensor["name"]
        layer = next((int(step) + 1 for step in name.split(".") if step.isdigit()), 3)
        depth = 0 if "embeddings" in name else layer
        new.append({**tensor, "depth": depth, "head": name.startswith("classifier")})
    assert layer_map(new) == layer_map(old)


def compared(chosen: str, provisional: bool = False) -> Comparison:
    """Two strategies, `none` two points better and four times as slow, and a baseline."""
    rows = [
        Row(name, name, "", 1 if provisional else 3, (), {
            "test_accuracy": Interval(score, 3, score - 0.01, score + 0.01),
            "train_runtime_s": Interval(cost, 3),
        })
        for name, score, cost in (("none", 0.80, 80.0), ("full", 0.78, 20.0))
    ]  # fmt: skip
    names = ("full", "none") if chosen == "full" else ("none",)
    take = Recommendation(chosen, chosen, "time", 0.03, "", "", names, provisional)
    method = "t over seeds and texts"
    pair = Difference("test_accuracy", "none", "full", 0.02, 0.01, 0.03, 0, 0, "better", method)
    baselines = [Baseline(Remark("baseline.majority"), {"test_accuracy": 0.5})]
    return Comparison(rows, rows, "test", [pair], baselines, [], take, {"": take}, margin=0.03)


def test_the_verdict_is_three_sentences() -> None:
    verdict = sentences.verdict(compared("full"), words.load("en"))
    assert [text.replace("\u00a0", " ") for text in verdict] == [
        "Take “full”: it reaches 78.0 % [77.0, 79.0] test accuracy, and of the strategies shown to"
        " be at most 3 points worse than the best it has the smallest training time, 20.0 s.",
        "“none” scores highest with 80.0 % [79.0, 81.0]; “full” against it is worse (−2.0 [−3.0,"
        " −1.0] points) and takes 25 % of its training time.",
        "Without fine-tuning, the majority class reaches 50.0 %, so fine-tuning gains 28.0 points.",
    ]


def test_the_best_alone_is_taken_for_its_score() -> None:
    first, second, _ = sentences.verdict(compared("none"), words.load("en"))
    assert "the highest mean, and no other strategy was shown to be at most 3 points" in first
    assert "“none” against the runner-up, “full”, is better (+2.0 [+1.0, +3.0] points)" in second


def test_one_seed_makes_the_verdict_provisional() -> None:
    verdict = sentences.verdict(compared("none", provisional=True), words.load("en"))
    assert verdict[0].startswith("For now, take “none”")


def test_the_verdict_has_three_sentences_in_korean_too() -> None:
    verdict = sentences.verdict(compared("full"), words.load("ko"))
    assert len(verdict) == 3
    assert verdict[0].startswith("‘full’ 전략을 권합니다.")
