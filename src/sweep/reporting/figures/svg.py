"""Write marks, scales and axes as SVG; colours come from style classes, so the page sets them.

Every text and attribute is escaped in this module. Figures are `WIDTH` units wide, about the width
of a phone, so that their letters stay readable there.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from sweep.base.characters import visible

WIDTH = 340
"""Width of every figure; its units are pixels on a phone."""
COLOURS = 8
"""Number of colours; strategies from the ninth on repeat them with other marks and dashes."""
DASHES = ("", "6 3", "2 2", "8 3 2 3")


def tag(name: str, *children: str, **attributes: object) -> str:
    """Return an element; children must be SVG, and attributes that are None are left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(children)}</{name}>"


def escape(content: str) -> str:
    """Escape a text or attribute; control characters, which XML forbids, become visible signs."""
    return html.escape(visible(content))


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> str:
    """Return a text element; the content is escaped."""
    return tag("text", escape(content), x=x, y=y, class_=class_ or None, text_anchor=anchor)


def title(content: str) -> str:
    """Return a title element, which browsers show as a tooltip."""
    return tag("title", escape(content))


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str, dash: str = "") -> str:
    steps = " ".join(f"{_plain(x)},{_plain(y)}" for x, y in points)
    return tag("polyline", points=steps, class_=class_, stroke_dasharray=dash or None)


def area(points: Sequence[tuple[float, float]], class_: str) -> str:
    return tag(
        "polygon", points=" ".join(f"{_plain(x)},{_plain(y)}" for x, y in points), class_=class_
    )


def mark(index: int, x: float, y: float, about: str = "", size: float = 5) -> str:
    """Return the mark of a strategy; its colour and its shape each identify the strategy."""
    shapes: tuple[list[tuple[float, float]], ...] = (
        [],
        [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        [(0, -1.25), (1.15, 0.85), (-1.15, 0.85)],
        [(0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)],
        [(0, 1.25), (1.15, -0.85), (-1.15, -0.85)],
    )
    shape, note = shapes[index % len(shapes)], title(about) if about else ""
    class_ = f"mark {series(index)}"
    if not shape:
        return tag("circle", note, cx=x, cy=y, r=size, class_=class_)
    corners = " ".join(f"{_plain(x + a * size)},{_plain(y + b * size)}" for a, b in shape)
    return tag("polygon", note, points=corners, class_=class_)


def series(index: int) -> str:
    """Return the style class that gives a strategy its colour."""
    return f"s{index % COLOURS}"


def dash(index: int) -> str:
    """Return the dashes of a strategy's line; empty (solid) for the first eight."""
    return DASHES[index // COLOURS % len(DASHES)]


def drawing(height: float, *content: str, width: float = WIDTH) -> str:
    """Return the whole figure, without a fixed size; the caller adds an accessible name."""
    return tag(
        "svg",
        *content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
    )


@dataclass(frozen=True)
class Scale:
    """Map values to positions; values outside are clamped to the ends."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log10(v) if self.log else v for v in (self.low, self.high))
        position = math.log10(max(value, self.low)) if self.log else value
        share = (position - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return about `count` round values within the scale."""
        if self.log:
            ticks = _log_ticks(self.low, self.high, count)
            if len(ticks) > 2:
                return ticks
        step = _nice((self.high - self.low) / max(count - 1, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def spread(values: Sequence[float], log: bool = False, room: float = 0.08) -> tuple[float, float]:
    """Return the ends of an axis that holds all values with some room on both sides."""
    low, high = min(values), max(values)
    if log:
        factor = max((high / low) ** room, 1.15)
        return low / factor, high * factor
    rest = (high - low) * room or abs(high) * 0.05 or 1.0
    return low - rest, high + rest


def compact(value: float) -> str:
    """Format a number in few characters: 950, 3.7k, 22.7M."""
    for limit, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def shorten(content: str, width: int) -> str:
    """Cut a text to a width in Latin letters; wide letters count twice, combining marks zero."""
    content, used = " ".join(content.split()), 0
    for position, letter in enumerate(content):
        used += _letter_width(letter)
        if used > width:
            return content[: max(position - 1, 1)].rstrip("\u200d\ufe0f ") + "…"
    return content


def text_width(content: str) -> float:
    """Estimate the width of a text in units, at the size of labels."""
    return 6.3 * sum(_letter_width(letter) for letter in content)


def _letter_width(letter: str) -> int:
    if unicodedata.combining(letter) or letter in "\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]
        if len(ticks) <= count:
            break
    return ticks[:: max(1, math.ceil(len(ticks) / count))]


def _nice(step: float) -> float:
    size = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= step * 0.999)


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
