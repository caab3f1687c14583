"""Figures as files; the only module that imports matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sklearn.metrics import confusion_matrix as count_pairs

MOST_NAMES = 60
"""With more classes than this the axes of a confusion matrix show numbers."""


def confusion_matrix(
    labels: Iterable[str],
    predictions: Iterable[str],
    label_names: Sequence[str],
    folder: Path,
    split: str,
) -> None:
    """Write confusion_matrix.png: rows are labels, columns predictions, shades shares of a row."""
    from matplotlib.figure import Figure

    counts = count_pairs(list(labels), list(predictions), labels=list(label_names))
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    # At most 3,000 pixels a side: a thousand classes would take more memory than the training.
    size = min(2.5 + 0.5 * len(label_names), 25)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # A `$` would start a formula.
    names = [str(name).replace("$", r"\$")[:20] for name in label_names]
    ticks = range(len(names))
    if len(names) <= MOST_NAMES:
        axes.set_xticks(ticks, names, rotation=45, ha="right")
        axes.set_yticks(ticks, names)
    axes.set(xlabel="prediction", ylabel="label", title=f"{split} split")
    if len(names) <= 20:
        for i in ticks:
            for j in ticks:
                shade = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=shade)
    figure.savefig(folder / "confusion_matrix.png", dpi=120)
