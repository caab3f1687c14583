"""Figures that compare strategies: accuracy against cost, differences, and learning curves.

Shares from 0 to 1 come in and are shown in percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sweep.comparison.results import Difference, Interval
from sweep.reporting.figures import svg
from sweep.reporting.figures.svg import WIDTH, Scale

SIGNS = {"better": "▲", "worse": "▼", "equivalent": "=", "undecided": "?"}
"""Beside a verdict, so that colour alone says nothing."""


@dataclass(frozen=True)
class Point:
    """A strategy by cost and quality."""

    name: str
    index: int
    x: Interval
    y: Interval


@dataclass(frozen=True)
class Line:
    """A strategy's curve: per step its mean over seeds, and the lowest and the highest."""

    name: str
    index: int
    points: Sequence[tuple[int, float, float, float]]


def front(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats in both: lower cost and higher quality, the cheapest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x.mean, -p.y.mean)):
        if not found or point.y.mean > found[-1].y.mean:
            found.append(point)
    return found


def scatter(points: Sequence[Point], titles: tuple[str, str], levels: Mapping[str, float]) -> str:
    """Quality against a cost on a logarithmic axis, with intervals and the Pareto front.

    Args:
        points: The strategies; every cost is above 0.
        titles: Of the two axes, cost first.
        levels: Baselines by name, drawn as lines across.
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
    differences: Sequence[Difference], margin: float, words: Mapping[str, str], title: str
) -> str:
    """Differences in points with their intervals; the shaded band is the margin around zero.

    Args:
        differences: One row each.
        margin: As a share, 0.01 for one point.
        words: Per verdict, the word for it.
        title: Of the axis.
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
    for row, d in enumerate(differences):
        top = 8 + 42 * row
        low, middle, high = (x(v * 100) for v in (d.low, d.estimate, d.high))
        name = f"{svg.shorten(d.a, 16)} − {svg.shorten(d.b, 16)}"
        verdict = f"{SIGNS.get(d.verdict, '')} {words.get(d.verdict, d.verdict)}"
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


def points_text(d: Difference) -> str:
    """A difference with its interval, in points."""
    return f"{signed(d.estimate)} [{signed(d.low)}, {signed(d.high)}]"


def signed(share: float) -> str:
    """A share in points with its sign."""
    return f"{share * 100:+.1f}".replace("-", "−")


def learning(lines: Sequence[Line], titles: tuple[str, str], percent: bool) -> str:
    """A metric over optimizer steps; bands reach from the lowest to the highest seed.

    Args:
        lines: One per strategy, each with a point or more.
        titles: Of the two axes, steps first.
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
    """Ends of the quality axis: few seeds have intervals too wide to leave room for the means."""
    means = [i.mean for i in intervals]
    reach = max((max(means) - min(means)) * 1.5, 0.03)
    ends = [v for i in intervals for v in (i.low, i.high) if v is not None]
    kept = [v for v in ends if min(means) - reach <= v <= max(means) + reach]
    low, high = svg.spread([*means, *kept, *sorted(levels)[-1:]])  # of baselines, the highest
    if len(kept) < len(ends):
        low, high = min(low, min(means) - reach), max(high, max(means) + reach)
    return max(low, 0.0) * 100, min(high, 1.0) * 100


def _left_axis(y: Scale, x: float) -> list[str]:
    found = []
    for tick in y.ticks(5):
        found += [
            svg.line(x, y(tick), WIDTH - 12, y(tick), "grid"),
            svg.text(x - 6, y(tick) + 4, svg.compact(round(tick, 6)), "tick", "end"),
        ]
    return found


def _bottom_axis(x: Scale, top: float, title: str, signed: bool = False) -> list[str]:
    found = [svg.line(x.start, top, x.end, top, "axis")]
    for tick in x.ticks(5):
        label = svg.compact(round(tick, 9)).replace("-", "−")
        label = f"+{label}" if signed and tick > 0 else label
        found += [
            svg.line(x(tick), top, x(tick), top + 4, "axis"),
            svg.text(x(tick), top + 16, label, "tick", "middle"),
        ]
    return [*found, svg.text((x.start + x.end) / 2, top + 33, title, "", "middle")]


def _steps(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A staircase: what can be had for a cost stays until something better can be had."""
    found = list(corners[:1])
    for (_, before), (x, y) in zip(corners, corners[1:], strict=False):
        found += [(x, before), (x, y)]
    return found


def _whiskers(p: Point, x: Scale, y: Scale) -> list[str]:
    class_, found = f"whisker {svg.series(p.index)}", []
    if p.y.low is not None and p.y.high is not None:
        at = x(p.x.mean)
        found.append(svg.line(at, y(p.y.low * 100), at, y(p.y.high * 100), class_))
    if p.x.low is not None and p.x.high is not None and p.x.high > p.x.low:
        at = y(p.y.mean * 100)
        found.append(svg.line(x(p.x.low), at, x(p.x.high), at, class_))
    return found


def _marked(p: Point, x: Scale, y: Scale) -> str:
    about = f"{p.name}: {p.y.mean * 100:.1f} %, {svg.compact(p.x.mean)}"
    return svg.mark(p.index, x(p.x.mean), y(p.y.mean * 100), about)


def _labels(
    levels: Mapping[str, float], places: Sequence[tuple[str, float, float]], bottom: float
) -> list[str]:
    """Names beside lines and marks, where there is room; the legend names the others."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for _, x, y in places]
    found = []
    for name, at in levels.items():
        short = svg.shorten(name, 32)
        width = svg.room(short)
        for left, base in ((WIDTH - 12 - width, at - 4), (44, at - 4), (44, at + 12)):
            box = (left, base - 10, left + width, base + 3)
            if box[3] <= bottom and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                found.append(svg.text(left, base, short, "halo faint"))
                break
    for name, x, y in places:
        short = svg.shorten(name, 18)
        width = svg.room(short)
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
                found.append(svg.text(at, base, short, "halo", anchor))
                break
    return found


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
