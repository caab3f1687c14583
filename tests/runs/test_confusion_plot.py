"""Figures are files of a sensible size, whatever the labels are."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import pytest

from sweep.runs import confusion_plot


def draw(names: list[str], folder: Path) -> tuple[int, ...]:
    """Shape of the confusion matrix of one right text per class."""
    confusion_plot.confusion_matrix(names, names, names, folder, "test")
    return matplotlib.image.imread(folder / "confusion_matrix.png").shape


@pytest.mark.parametrize("classes", [2, 6, 21, 200])
def test_the_figure_grows_with_the_classes_up_to_a_limit(classes: int, tmp_path: Path) -> None:
    height, width, _ = draw([f"class {i}" for i in range(classes)], tmp_path)
    assert height == width
    assert height == pytest.approx(min(120 * (2.5 + 0.5 * classes), 3000), abs=1)


LABELS = {
    "formula": "$a$ $b",
    "escapes": "a_b^c\\d",
    "markup": "<b>",
    "long": "x" * 500,
    "empty": "",
}


@pytest.mark.parametrize("name", LABELS.values(), ids=LABELS)
def test_any_label_can_be_drawn(name: str, tmp_path: Path) -> None:
    assert draw([name, "other"], tmp_path)[0] == 420


def test_a_class_without_texts_is_drawn_empty(tmp_path: Path) -> None:
    confusion_plot.confusion_matrix(["a", "a"], ["a", "b"], ["a", "b", "never"], tmp_path, "test")
    assert (tmp_path / "confusion_matrix.png").is_file()


def test_names_that_no_font_can_draw_are_told_apart_by_number() -> None:
    assert confusion_plot._fonts("good bad") != []
    assert confusion_plot._fonts("\U00012000") == []  # cuneiform


def test_korean_names_draw_without_missing_glyphs(tmp_path: Path) -> None:
    draw(["기쁨", "슬픔", "분노"], tmp_path)  # a warning about a missing glyph is an error here
