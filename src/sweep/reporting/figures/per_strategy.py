"""Draw figures of single strategies: confusions, F1 per class, layer maps, and costs as bars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweep.reporting.figures import svg
from sweep.reporting.figures.layer_map import ADAPTED, FROZEN, TRAINED, LayerMap
from sweep.reporting.figures.svg import WIDTH, Scale

MOST_CLASSES = 20
"""Classes that fit on a phone; of more, those with the most errors are shown."""
Pairs = Counter[tuple[str, str]]
"""Number of texts per label and prediction."""


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix; `rest` is the number of classes that share its last row and column."""

    names: list[str]
    counts: list[list[int]]
    rest: int


def confusion(pairs: Pairs, classes: Sequence[str], other: str) -> Confusion:
    """Count the pairs of the classes with the most errors; all others share one name."""
    shown = list(classes)
    if len(shown) > MOST_CLASSES:
        errors: Counter[str] = Counter()
        for (label, prediction), count in pairs.items():
            if label != prediction:
                errors[label] += count
                errors[prediction] += count
        most = sorted(classes, key=lambda name: -errors[name])[: MOST_CLASSES - 1]
        shown = [name for name in classes if name in set(most)]
    positions = {name: i for i, name in enumerate(shown)}
    rest = len(classes) - len(shown)
    size = len(shown) + bool(rest)
    counts = [[0] * size for _ in range(size)]
    for (label, prediction), count in pairs.items():
        counts[positions.get(label, size - 1)][positions.get(prediction, size - 1)] += count
    return Confusion([*shown, *([other] if rest else [])], counts, rest)


def confusion_figure(matrix: Confusion, titles: tuple[str, str]) -> str:
    """Draw a confusion matrix: rows are labels; the shade of a cell is its share of the row."""
    size, left, top = len(matrix.names), 96, 84
    cell = min((WIDTH - left - 6) / size, 52)
    slant, size_class = (-48, "tick") if cell >= 16 else (-65, "small")
    content = [
        svg.text(left, 12, titles[1], "faint"),
        svg.text(left - 8, top - 6, titles[0], "faint", "end"),
    ]
    for i, name in enumerate(matrix.names):
        middle = top + cell * (i + 0.5)
        x = left + cell * (i + 0.5)
        short = svg.shorten(name, 13)
        slanted = svg.tag(
            "text",
            svg.title(name),
            svg.escape(svg.shorten(name, 10)),
            transform=f"translate({x:.1f} {top - 8}) rotate({slant})",
            class_=size_class,
        )
        content += [svg.text(left - 8, middle + 4, short, "tick", "end"), slanted]
        total = sum(matrix.counts[i])
        for j, count in enumerate(matrix.counts[i]):
            content.append(_cell(left + cell * j, top + cell * i, cell, (count, total)))
    return svg.drawing(top + cell * size + 6, *content)


def _cell(x: float, y: float, size: float, counted: tuple[int, int]) -> str:
    count, total = counted
    share = count / total if total else 0.0
    shade = svg.tag(
        "rect",
        x=x,
        y=y,
        width=size - 1,
        height=size - 1,
        fill_opacity=max(share, 0.04),
        class_="heat",
    )
    if size < 24 or not count:
        return shade
    class_ = "count over" if share > 0.5 else "count"
    return shade + svg.text(x + size / 2, y + size / 2 + 4, svg.compact(count), class_, "middle")


def f1_scores(pairs: Pairs, classes: Sequence[str]) -> dict[str, float | None]:
    """Return the F1 of each class; None for one that is neither a label nor predicted."""
    labels: Counter[str] = Counter()
    predictions: Counter[str] = Counter()
    for (label, prediction), count in pairs.items():
        labels[label] += count
        predictions[prediction] += count
    both = {name: labels[name] + predictions[name] for name in classes}
    return {n: 2 * pairs[n, n] / both[n] if both[n] else None for n in classes}


@dataclass(frozen=True)
class Pair:
    """The F1 of one class by two predictors."""

    name: str
    one: float
    other: float


def f1_figure(pairs: Sequence[Pair], indices: tuple[int, int | None], title: str) -> str:
    """Draw one row per class with both F1; an index of None draws a baseline's mark."""
    bottom = 8 + 34 * len(pairs)
    values = [v * 100 for pair in pairs for v in (pair.one, pair.other)]
    low, high = svg.spread(values)
    x = Scale(max(low, 0), min(high, 100), 12, WIDTH - 12)
    content = []
    for row, pair in enumerate(pairs):
        y = 26 + 34 * row
        content += [
            svg.text(12, y - 9, svg.shorten(pair.name, 44), "tick"),
            svg.line(12, y, WIDTH - 12, y, "grid"),
            svg.line(x(pair.other * 100), y, x(pair.one * 100), y, "link"),
            _predictor(indices[1], x(pair.other * 100), y, f"{pair.name}: {pair.other * 100:.1f}"),
            _predictor(indices[0], x(pair.one * 100), y, f"{pair.name}: {pair.one * 100:.1f}"),
        ]
    for tick in x.ticks(5):
        content.append(svg.text(x(tick), bottom + 16, svg.compact(tick), "tick", "middle"))
    content.append(svg.line(12, bottom, WIDTH - 12, bottom, "axis"))
    return svg.drawing(bottom + 38, *content, svg.text(WIDTH / 2, bottom + 33, title, "", "middle"))


def _predictor(index: int | None, x: float, y: float, about: str) -> str:
    if index is not None:
        return svg.mark(index, x, y, about)
    return svg.tag("circle", svg.title(about), cx=x, cy=y, r=4.5, class_="plain")


def map_figure(layer_map: LayerMap, names: Mapping[str, str]) -> str:
    """Draw one row per layer, the head on top; filled cells train, dotted ones have an adapter.

    Args:
        layer_map: The map of one strategy.
        names: The words for `head`, `embeddings` and the groups of a layer.
    """
    left, top, width = 72, 18, 240
    most = max((len(states) for _, states in layer_map.rows), default=1)
    step = min((width - left - 4) / most, 12)
    row_height = 12 if len(layer_map.rows) <= 16 else 7
    content, x = [], float(left)
    for group, count in layer_map.groups:
        word = names.get(group, group)
        if svg.text_width(word) * 0.8 <= step * count:
            content.append(svg.text(x, 12, word, "small"))
        x += step * count
    paths = {state: "" for state in (FROZEN, TRAINED, ADAPTED)}
    for row, (name, states) in enumerate(layer_map.rows):
        y = top + row_height * row
        if not name.isdigit() or row_height > 10 or int(name) % 4 == 0:
            label = svg.shorten(names.get(name, name), 12)
            content.append(svg.text(left - 6, y + row_height / 2 + 3, label, "small", "end"))
        for column, state in enumerate(states):
            x, side = left + step * column, min(step, row_height) - 1.5
            paths[state] += f"M{x:.1f} {y:.1f}h{step - 1.5:.1f}v{side:.1f}h-{step - 1.5:.1f}z"
    content += [svg.tag("path", d=d, class_=f"tensor {state}") for state, d in paths.items() if d]
    return svg.drawing(top + row_height * len(layer_map.rows) + 4, *content, width=width)


@dataclass(frozen=True)
class Bar:
    """A strategy's total cost and, by name, its known parts."""

    name: str
    index: int
    total: float
    amount: str
    """The total with its unit."""
    parts: Mapping[str, float]


def bars(costs: Sequence[Bar], title: str) -> str:
    """Draw one bar per strategy; its known parts are shades, in the given order."""
    bottom = 8 + 36 * len(costs)
    x = Scale(0, max(cost.total for cost in costs) * 1.15 or 1.0, 12, WIDTH - 12)
    content = []
    for row, cost in enumerate(costs):
        y, at = 12 + 36 * row, 0.0
        content.append(svg.text(12, y + 8, f"{svg.shorten(cost.name, 30)}: {cost.amount}", "tick"))
        parts = dict(cost.parts) or {"": cost.total}
        for shade, (name, value) in enumerate(parts.items()):
            rect = svg.tag(
                "rect",
                svg.title(f"{cost.name}, {name}: {svg.compact(value)}" if name else cost.name),
                x=x(at),
                y=y + 12,
                width=max(x(at + value) - x(at), 0.5),
                height=10,
                class_=f"mark {svg.series(cost.index)}",
                fill_opacity=1 - 0.24 * shade if name else None,
            )
            content.append(rect)
            at += value
    for tick in x.ticks(5):
        content.append(svg.text(x(tick), bottom + 16, svg.compact(tick), "tick", "middle"))
    content.append(svg.line(12, bottom, WIDTH - 12, bottom, "axis"))
    return svg.drawing(bottom + 38, *content, svg.text(WIDTH / 2, bottom + 33, title, "", "middle"))


def stack(parts: Sequence[tuple[str, int, int | None]]) -> str:
    """Draw one bar of counts with their names below; the first, if it is grey, is filled."""
    total = sum(count for _, count, _ in parts) or 1
    x, at, content = Scale(0, total, 6, WIDTH - 6), 0, []
    for row, (name, count, index) in enumerate(parts):
        grey = "rest" if row == 0 else "rest empty"
        class_ = grey if index is None else f"mark {svg.series(index)}"
        width = max(x(at + count) - x(at) - 1, 0)
        content.append(
            svg.tag(
                "rect",
                svg.title(f"{name}: {count}"),
                x=x(at),
                y=6,
                width=width,
                height=22,
                class_=class_,
            )
        )
        y = 48 + 20 * row
        content += [
            svg.tag("rect", x=6, y=y - 10, width=11, height=11, class_=class_),
            svg.text(24, y, svg.shorten(name, 36), "tick"),
            svg.text(WIDTH - 6, y, f"{count:,} ({count / total:.0%})", "tick", "end"),
        ]
        at += count
    return svg.drawing(48 + 20 * len(parts), *content)
