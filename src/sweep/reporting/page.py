"""Sections -> report/index.html, one file that needs no other, and its figures as files."""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sweep.base.characters import visible
from sweep.base.layout import ReportPaths
from sweep.comparison import recommend
from sweep.reporting import detail_sections, sentences, strategy_sections
from sweep.reporting.figures import svg
from sweep.reporting.material import Cell, Figure, Material, number

TEMPLATES = Path(__file__).parent / "templates"
IDS = ("strategies", "costs", "differences", "learning", "classes", "disagreements", "maps")
LATER_IDS = ("spent", "when", "failed", "world")


def build(folder: Path, material: Material) -> Path:
    """Write index.html and the figures; returns the page's path.

    Args:
        folder: Of the report; made if it is not there.
        material: What is known of the sweep.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context, paths = _context(material), ReportPaths(folder)
    for old in paths.figures():
        old.unlink()
    for figure in _figures(context):
        paths.figure(figure.name).write_text(_standalone(figure), "utf-8")
    paths.page.write_text(_render(material, context), "utf-8")
    return paths.page


def _context(m: Material) -> dict[str, Any]:
    """What the template shows."""
    say, found = m.say, m.comparison
    missing = m.plan.missing(m.records)
    forests, pairs = strategy_sections.difference_figures(m), strategy_sections.pair_table(m)
    context = {
        "name": m.plan.name,
        "started": m.plan.started[:16].replace("T", " "),
        "finished": sum(r.status == "FINISHED" for r in m.records),
        "planned": max(len(m.plan.runs), len(m.records) + len(missing)),
        "verdict": sentences.verdict(found, say, len(missing)),
        "facts": _facts(m),
        "warnings": found.warnings,
        "rules": _rules(m),
        "strategies": strategy_sections.strategy_table(m),
        "configurations": strategy_sections.configuration_table(m),
        "costs": strategy_sections.cost_figures(m),
        "differences": forests,
        "pairs": pairs,
        "margin": say.tell(recommend.points(found.margin)),
        "confidence": sentences.percent_word(found),
        "learning": strategy_sections.learning_figures(m),
        "classes": detail_sections.class_figures(m),
        "class_names": detail_sections.class_names(m),
        "disagreement": detail_sections.disagreement(m),
        "no_texts": detail_sections.why_no_texts(m),
        "maps": detail_sections.map_figures(m),
        "trains": m.trains,
        "spent": strategy_sections.spent_figures(m),
        "spent_table": strategy_sections.spent_table(m),
        "when": strategy_sections.when_table(m),
        "failed": detail_sections.failed_table(m),
        "failures": detail_sections.failures(m),
        "world": detail_sections.world_table(m),
        "notes": detail_sections.notes(m),
    }
    ids = [i for i in IDS if i != "costs" or context["costs"]]
    titles = {"strategies": "table"}
    context["contents"] = [(i, say(f"{titles.get(i, i)}.title")) for i in (*ids, *LATER_IDS)]
    return context


def _facts(m: Material) -> list[tuple[str, Cell]]:
    """Numbers of what is recommended, to be seen at a glance."""
    if len(sentences.groups(m.comparison)) != 1:
        return []
    row = sentences.recommended(m.comparison, m.ranked[0].group) if m.ranked else None
    if row is None:
        return []
    metrics, say = row.metrics, m.say
    known = [
        (say("verdict.recommended"), m.name(row)),
        (m.metric + ", %", number(metrics.get(m.comparison.metric), ".1f", 100)),
        (say("table.time"), number(metrics.get("train_runtime_s"), ",.1f")),
        (say("table.memory"), number(metrics.get("peak_memory_mib"), ",.0f")),
        (
            say("verdict.share"),
            number(metrics.get("trainable_fraction"), ".2f", 100, brackets=False),
        ),
    ]
    return [fact for fact in known if fact[1].text != "–"]


def _rules(m: Material) -> list[str]:
    """The rule of the recommendation and the tuning behind it."""
    found = m.comparison
    known = [*found.recommendations.values(), found.recommendation]
    rules = [m.say.tell(text) for text in (*(r.rule for r in known if r), found.choice)]
    budgets = ", ".join(f"{name} {count}" for name, count in found.budgets.items())
    tuned = m.say("verdict.budgets", list=budgets) if set(found.budgets.values()) - {1} else ""
    return [text for text in (*dict.fromkeys(rules), tuned) if text]


def _figures(context: dict[str, Any]) -> list[Figure]:
    keys = ("costs", "differences", "learning", "classes", "maps", "spent")
    found = [figure for key in keys for figure in context[key]]
    disagreement = context["disagreement"]
    return [*found, *([disagreement.figure] if disagreement else [])]


def _render(m: Material, context: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"say": m.say, "mark": _mark, "show": _inline}
    style, script = _style(), (TEMPLATES / "page.js").read_text("utf-8")
    return environment.get_template("index.html.j2").render(
        **context,
        order=m.order,
        style=Markup(style),
        script=Markup(script),
        policy=Markup(_policy(style, script)),
        version=_version(),
    )


def _policy(style: str, script: str) -> str:
    """Nothing may be fetched, and no script or style runs but the two that are part of the page."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def _style() -> str:
    light, dark, figure, page = (
        (TEMPLATES / f"{name}.css").read_text("utf-8")
        for name in ("light", "dark", "figure", "page")
    )
    night = f"@media screen and (prefers-color-scheme: dark) {{ :root{{{dark}}} }}"
    return f":root{{{light}}}\n{night}\n{figure}\n{page}"


def _mark(index: int) -> Markup:
    return Markup(svg.mark(index, 0, 0, size=5.5))


def _inline(figure: Figure) -> Markup:
    """The drawing for the page, with a text that says the same for those who cannot see it."""
    name = svg.escape(f"{figure.title}. {figure.about}")
    return Markup(figure.drawing.replace("<svg", f'<svg role="img" aria-label="{name}"', 1))


def _standalone(figure: Figure) -> str:
    """The drawing as a file of its own, on white."""
    light, style = ((TEMPLATES / f"{name}.css").read_text("utf-8") for name in ("light", "figure"))
    head = f"<title>{svg.escape(figure.title)}</title><desc>{svg.escape(figure.about)}</desc>"
    paper = '<rect width="100%" height="100%" fill="#fff"/>'
    inner = f"{head}<style>svg{{{light}}}\n{style}</style>{paper}"
    start = figure.drawing.index(">") + 1
    return figure.drawing[:start] + inner + figure.drawing[start:]


def _version() -> str:
    try:
        return version("sweep")
    except PackageNotFoundError:  # a checkout that was never installed
        return ""
