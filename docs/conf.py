"""How Sphinx builds docs/ into a site: `make docs`; offline, and every warning is an error.

The pages are plain Markdown that reads on GitHub too, so nothing of Sphinx stands in them: the
navigation is made of the lists of links in index.md.
"""

from __future__ import annotations

import re
from typing import Any

project = "sweep"
html_title = "sweep"
html_theme = "furo"
html_show_copyright = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
extensions = ["myst_parser"]
myst_heading_anchors = 3  # the anchors that GitHub gives headings
exclude_patterns = ["_build"]
pygments_style = "friendly"
pygments_dark_style = "monokai"


def setup(app: Any) -> None:
    """Add the navigation to the index when Sphinx reads it."""
    app.connect("source-read", _add_navigation)


def _add_navigation(_: Any, page: str, source: list[str]) -> None:
    if page != "index":
        return
    for section in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]:
        caption = section.partition("\n")[0]
        links = re.findall(r"^- \[.*\]\((.+)\.md\)$", section, flags=re.MULTILINE)
        tree = [f":caption: {caption}", ":hidden:", "", *links]
        source[0] += "\n".join(["\n```{toctree}", *tree, "```\n"])
