"""Take the pictures of docs/images/ from the report of a sweep.

python scripts/take_pictures.py mlruns/sweeps/NAME/report/index.html

Take them from a real sweep, `python -m sweep freeze=attention,full,none seed=0,1,2`, on a machine
with nothing else to do, and look at them. Texts of the data are on none of them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parents[1] / "docs" / "images"
WIDTH = 1280
PICTURES = {
    "verdict": ("body", ".facts"),
    "report": ("#strategies", "#differences"),
    "differences": ("#differences", "#learning"),
}
"""Name -> the element that a picture begins with, and the one that it ends before."""


def main(page: Path) -> None:
    """Write every picture."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        tab.goto(page.absolute().as_uri())
        for name, (first, end) in PICTURES.items():
            take(tab, FOLDER / f"{name}.png", top(tab, first), top(tab, end))
        browser.close()


def top(tab: Any, selector: str) -> float:
    """Return how far below the top of the page an element begins, in pixels."""
    return float(tab.locator(selector).first.bounding_box()["y"])


def take(tab: Any, file: Path, first: float, end: float) -> None:
    """Write the strip of the page between two heights."""
    clip = {"x": 0, "y": first, "width": WIDTH, "height": end - first}
    tab.screenshot(path=file, full_page=True, clip=clip)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
