"""Figures as files; the only module that imports matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix as count_pairs

from sweep.base.layout import RunPaths

MOST_NAMES = 60
"""With more classes than this the axes of a confusion matrix show numbers."""
CJK_FONTS = (
    *("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo"),
    *("AppleGothic", "UnDotum", "Noto Sans CJK JP", "Microsoft YaHei", "Arial Unicode MS"),
)
"""Fonts for Hangul, Kana and Chinese that systems and their users have; matplotlib brings none."""


def confusion_matrix(
    labels: Iterable[str],
    predictions: Iterable[str],
    label_names: Sequence[str],
    folder: Path,
    split: str,
) -> None:
    """Write confusion_matrix.png: rows are labels, columns predictions, shades shares of a row.

    Classes whose names no installed font can draw are shown by their number, from 0.
    """
    counts = count_pairs(list(labels), list(predictions), labels=list(label_names))
    fonts = _fonts("".join(map(str, label_names)))
    # A `$` would start a formula.
    names = [str(name).replace("$", r"\$")[:20] for name in label_names]
    # A text takes its font when it is made.
    with matplotlib.rc_context({"font.family": fonts or ["DejaVu Sans"]}):
        figure = _draw(counts, names if len(names) <= MOST_NAMES and fonts else None, split)
        figure.savefig(RunPaths(folder).confusion_matrix, dpi=120)


def _draw(counts: np.ndarray, names: list[str] | None, split: str) -> Figure:
    """Draw the figure; without names, classes are numbered."""
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    # At most 3,000 pixels a side: a thousand classes would take more memory than the training.
    size = min(2.5 + 0.5 * len(counts), 25)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(counts))
    if names is not None:
        axes.set_xticks(ticks, names, rotation=45, ha="right")
        axes.set_yticks(ticks, names)
    axes.set(xlabel="prediction", ylabel="label", title=f"{split} split")
    if len(counts) <= 20:
        for i in ticks:
            for j in ticks:
                shade = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=shade)
    return figure


def _fonts(text: str) -> list[str]:
    """Return installed fonts that draw every character of a text between them, or none."""
    installed = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    missing, font_names = {ord(c) for c in text if c.isprintable() and not c.isspace()}, []
    for name in ("DejaVu Sans", *CJK_FONTS):
        if name in installed:
            missing -= set(font_manager.get_font(installed[name]).get_charmap())
            font_names.append(name)
    return [] if missing else font_names
