"""Draw figures that compare strategies: accuracy against cost, differences, and learning curves.

Qualities are given as shares from 0 to 1 and shown in percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sweep.comparison.results import Difference, Interval
from sweep.reporting.figures import svg
from sweep.reporting.figures.svg import WIDTH, Scale

SIGNS = {"better": "▲", "worse": "▼", "equivalent": "=", "undecided": "?"}
"""Sign beside each verdict, so that no verdict is shown by colour alone."""


@dataclass(frozen=True)
class Point:
    """A strategy by cost and quality."""

    name: str
    index: int
    x: Interval
    y: Interval


@dataclass(frozen=True)
class Line:
    """A strategy's curve."""

    name: str
    index: int
    points: Sequence[tuple[int, float, float, float]]
    """Step, and the mean, the lowest and the highest value over seeds."""


def front(points: Sequence[Point]) -> list[Point]:
    """Return the Pareto front, the cheapest first: no other point is cheaper and better."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x.mean, -p.y.mean)):
        if not best or point.y.mean > best[-1].y.mean:
            best.append(point)
    return best


def scatter(points: Sequence[Point], titles: tuple[str, str], levels: Mapping[str, float]) -> str:
    """Draw quality against a cost on a logarithmic axis, with intervals and the Pareto front.

    Args:
        points: The strategies; every cost is above 0.
        titles: Titles of the two axes, cost first.
        levels: Quality of each baseline by name, drawn as horizontal lines.
    """
    height, bottom = 270, 228
    low, high = _focus([p.y for p in points], levels.values())
    x = Scale(*svg.spread([p.x.mean for p in points], log=True), 42, WIDTH - 12, log=True)
    y = Scale(low, high, bottom, 14)
    content = [*_left_axis(y, 42), *_bottom_axis(x, bottom, titles[0]), svg.text(4, 10, titles[1])]
    shown = {n: y(v * 100) for n, v in levels.items() if low <= v * 100 <= high}
    content += [svg.line(42, at, WIDTH - 12, at, "level") for at in shown.values()]
    steps = _steps([(x(p.x.mean), y(p.y.mean * 100)) for p in front(points)])
    content.append(svg.path(steps, "front"))
    content += [mark for p in points for mark in _whiskers(p, x, y)]
    content += [_marked(p, x, y) for p in points]
    content += _labels(shown, [(p.name, x(p.x.mean), y(p.y.mean * 100)) for p in points], bottom)
    return svg.drawing(height, *content)


def forest(
    differences: Sequence[Difference], margin: float, words: Sequence[str], title: str
) -> str:
    """Draw a forest plot of differences; the shaded band is the margin around zero.

    Args:
        differences: Differences of two strategies, one row each; shown in percentage points.
        margin: The margin as a share: 0.01 for one point.
        words: The verdict of each difference.
        title: Title of the axis.
    """
    bottom = 10 + 42 * len(differences)
    reach = max([margin, *(abs(v) for d in differences for v in (d.low, d.high))]) * 100
    x = Scale(-reach * 1.08, reach * 1.08, 12, WIDTH - 12)
    band = [
        (x(-margin * 100), 6),
        (x(margin * 100), 6),
        (x(margin * 100), bottom),
        (x(-margin * 100), bottom),
    ]
    content = [svg.area(band, "band"), svg.line(x(0), 6, x(0), bottom, "zero")]
    for row, (d, word) in enumerate(zip(differences, words, strict=True)):
        top = 8 + 42 * row
        low, middle, high = (x(v * 100) for v in (d.low, d.estimate, d.high))
        name = f"{svg.shorten(d.a, 16)} − {svg.shorten(d.b, 16)}"
        verdict = f"{SIGNS.get(d.verdict, '')} {word}"
        note = svg.title(f"{d.a} − {d.b}: {points_text(d)}")
        content += [
            svg.text(12, top + 12, name, "strong"),
            svg.text(WIDTH - 12, top + 12, verdict, f"verdict {d.verdict}", "end"),
            svg.line(low, top + 26, high, top + 26, f"bar {d.verdict}"),
            svg.line(low, top + 22, low, top + 30, f"bar {d.verdict}"),
            svg.line(high, top + 22, high, top + 30, f"bar {d.verdict}"),
            svg.tag("circle", note, cx=middle, cy=top + 26, r=5, class_=f"dot {d.verdict}"),
        ]
    content += _bottom_axis(x, bottom, title, signed=True)
    return svg.drawing(bottom + 38, *content)


def points_text(difference: Difference) -> str:
    """Format a difference with its interval, in percentage points."""
    return f"{signed(difference.estimate)} [{signed(difference.low)}, {signed(difference.high)}]"


def signed(share: float) -> str:
    """Format a share in percentage points with its sign."""
    return f"{share * 100:+.1f}".replace("-", "−")


def learning(lines: Sequence[Line], titles: tuple[str, str], percent: bool) -> str:
    """Draw a metric over optimizer steps; bands reach from the lowest to the highest seed.

    Args:
        lines: One line per strategy, each with at least one point.
        titles: Titles of the two axes, steps first.
        percent: Show values times 100.
    """
    height, bottom, factor = 240, 198, 100 if percent else 1
    every = [p for line in lines for p in line.points]
    values = [v * factor for p in every for v in p[2:]]
    x = Scale(min(0, *(p[0] for p in every)), max(1, *(p[0] for p in every)), 42, WIDTH - 12)
    y = Scale(*svg.spread(values), bottom, 18)
    content = [*_left_axis(y, 42), *_bottom_axis(x, bottom, titles[0])]
    content.append(svg.text(4, 10, titles[1], "repeated"))  # the page has it as a caption
    for line in lines:
        upper = [(x(step), y(high * factor)) for step, _, _, high in line.points]
        lower = [(x(step), y(low * factor)) for step, _, low, _ in line.points]
        content.append(svg.area([*upper, *reversed(lower)], f"spread {svg.series(line.index)}"))
    for line in lines:
        middle = [(x(step), y(mean * factor)) for step, mean, _, _ in line.points]
        class_ = f"curve {svg.series(line.index)}"
        content.append(svg.path(middle, class_, svg.dash(line.index)))
        last = line.points[-1]
        about = f"{line.name}: {last[1] * factor:.3g}"
        content.append(svg.mark(line.index, *middle[-1], about, size=3.5))
    return svg.drawing(height, *content)


def _focus(intervals: Sequence[Interval], levels: Iterable[float]) -> tuple[float, float]:
    """Return the ends of the quality axis, without the far ends of the intervals of few seeds."""
    means = [i.mean for i in intervals]
    reach = max((max(means) - min(means)) * 1.5, 0.03)
    ends = [v for i in intervals for v in (i.low, i.high) if v is not None]
    near = [v for v in ends if min(means) - reach <= v <= max(means) + reach]
    low, high = svg.spread([*means, *near, *sorted(levels)[-1:]])  # of baselines, the highest
    if len(near) < len(ends):
        low, high = min(low, min(means) - reach), max(high, max(means) + reach)
    return max(low, 0.0) * 100, min(high, 1.0) * 100


def _left_axis(y: Scale, x: float) -> list[str]:
    content = []
    for tick in y.ticks(5):
        content += [
            svg.line(x, y(tick), WIDTH - 12, y(tick), "grid"),
            svg.text(x - 6, y(tick) + 4, svg.compact(round(tick, 6)), "tick", "end"),
        ]
    return content


def _bottom_axis(x: Scale, top: float, title: str, signed: bool = False) -> list[str]:
    content = [svg.line(x.start, top, x.end, top, "axis")]
    for tick in x.ticks(5):
        label = svg.compact(round(tick, 9)).replace("-", "−")
        label = f"+{label}" if signed and tick > 0 else label
        content += [
            svg.line(x(tick), top, x(tick), top + 4, "axis"),
            svg.text(x(tick), top + 16, label, "tick", "middle"),
        ]
    return [*content, svg.text((x.start + x.end) / 2, top + 33, title, "", "middle")]


def _steps(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of a staircase: a quality holds until a higher cost buys a better one."""
    stairs = list(corners[:1])
    for (_, before), (x, y) in zip(corners, corners[1:], strict=False):
        stairs += [(x, before), (x, y)]
    return stairs


def _whiskers(point: Point, x: Scale, y: Scale) -> list[str]:
    class_, lines = f"whisker {svg.series(point.index)}", []
    if point.y.low is not None and point.y.high is not None:
        at = x(point.x.mean)
        lines.append(svg.line(at, y(point.y.low * 100), at, y(point.y.high * 100), class_))
    if point.x.low is not None and point.x.high is not None and point.x.high > point.x.low:
        at = y(point.y.mean * 100)
        lines.append(svg.line(x(point.x.low), at, x(point.x.high), at, class_))
    return lines


def _marked(point: Point, x: Scale, y: Scale) -> str:
    about = f"{point.name}: {point.y.mean * 100:.1f} %, {svg.compact(point.x.mean)}"
    return svg.mark(point.index, x(point.x.mean), y(point.y.mean * 100), about)


def _labels(
    levels: Mapping[str, float], marks: Sequence[tuple[str, float, float]], bottom: float
) -> list[str]:
    """Draw names beside lines and marks where they fit; the legend names the others."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for _, x, y in marks]
    labels = []
    for name, at in levels.items():
        short = svg.shorten(name, 32)
        width = svg.text_width(short)
        for left, base in ((WIDTH - 12 - width, at - 4), (44, at - 4), (44, at + 12)):
            box = (left, base - 10, left + width, base + 3)
            if box[3] <= bottom and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                labels.append(svg.text(left, base, short, "halo faint"))
                break
    for name, x, y in marks:
        short = svg.shorten(name, 18)
        width = svg.text_width(short)
        for left, base, anchor in (
            (x + 9, y + 4, "start"),
            (x - 9 - width, y + 4, "end"),
            (x - width / 2, y - 10, "middle"),
            (x - width / 2, y + 18, "middle"),
        ):
            box = (left, base - 10, left + width, base + 3)
            inside = left >= 42 and box[2] <= WIDTH - 2 and box[1] >= 12 and box[3] <= bottom
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                at = {"start": left, "middle": x, "end": x - 9}[anchor]
                labels.append(svg.text(at, base, short, "halo", anchor))
                break
    return labels


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
