"""Write report/index.html, which needs no other file, and its figures as SVG files."""

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
    """Write index.html and the figures, and return the path of the page.

    Args:
        folder: Folder of the report; created if missing, and old figures in it are deleted.
        material: The sweep's comparison, records and plan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context, paths = _context(material), ReportPaths(folder)
    for old in paths.figures():
        old.unlink()
    for figure in _figures(context):
        paths.figure(figure.name).write_text(_standalone(figure), "utf-8")
    paths.page.write_text(_render(material, context), "utf-8")
    return paths.page


def _context(material: Material) -> dict[str, Any]:
    """Return the variables of the template."""
    say, comparison = material.say, material.comparison
    missing = material.plan.missing(material.records)
    context = {
        "name": material.plan.name,
        "started": material.plan.started[:16].replace("T", " "),
        "finished": sum(r.status == "FINISHED" for r in material.records),
        "planned": max(len(material.plan.runs), len(material.records) + len(missing)),
        "verdict": sentences.verdict(comparison, say, len(missing)),
        "facts": _facts(material),
        "warnings": [*sentences.cautions(comparison), *comparison.warnings],
        "rules": _rules(material),
        "strategies": strategy_sections.strategy_table(material),
        "configurations": strategy_sections.configuration_table(material),
        "costs": strategy_sections.cost_figures(material),
        "differences": strategy_sections.difference_figures(material),
        "pairs": strategy_sections.pair_table(material),
        "margin": say.tell(recommend.points(comparison.margin)),
        "confidence": sentences.percent_word(comparison),
        "learning": strategy_sections.learning_figures(material),
        "classes": detail_sections.class_figures(material),
        "class_names": detail_sections.class_names(material),
        "disagreement": detail_sections.disagreement(material),
        "no_texts": detail_sections.missing_texts_reason(material),
        "maps": detail_sections.map_figures(material),
        "trains": material.trains,
        "spent": strategy_sections.spent_figures(material),
        "spent_table": strategy_sections.spent_table(material),
        "when": strategy_sections.when_table(material),
        "failed": detail_sections.failed_table(material),
        "failures": detail_sections.failures(material),
        "world": detail_sections.world_table(material),
        "notes": detail_sections.notes(material),
    }
    ids = [i for i in IDS if i != "costs" or context["costs"]]
    titles = {"strategies": "table"}
    context["contents"] = [(i, say(f"{titles.get(i, i)}.title")) for i in (*ids, *LATER_IDS)]
    return context


def _facts(material: Material) -> list[tuple[str, Cell]]:
    """Return the key numbers of the recommended strategy; empty for several groups."""
    ranked = material.ranked_rows
    if not ranked or len(sentences.groups(material.comparison)) != 1:
        return []
    row = sentences.recommended_row(material.comparison, ranked[0].group)
    if row is None:
        return []
    metrics, say = row.metrics, material.say
    known = [
        (say("verdict.recommended"), material.name(row)),
        (material.metric + ", %", number(metrics.get(material.comparison.metric), ".1f", 100)),
        (say("table.time"), number(metrics.get("train_runtime_s"), ",.1f")),
        (say("table.memory"), number(metrics.get("peak_memory_mib"), ",.0f")),
        (
            say("verdict.share"),
            number(metrics.get("trainable_fraction"), ".2f", 100, brackets=False),
        ),
    ]
    return [fact for fact in known if fact[1].text != "–"]


def _rules(material: Material) -> list[str]:
    """Return the sentences on the rule of the recommendation and the tuning."""
    comparison = material.comparison
    known = [*comparison.recommendations.values(), comparison.recommendation]
    rules = [material.say.tell(text) for text in (*(r.rule for r in known if r), comparison.choice)]
    if set(comparison.budgets.values()) - {1}:
        budgets = ", ".join(f"{name} {count}" for name, count in comparison.budgets.items())
        rules.append(material.say("verdict.budgets", list=budgets))
    return [text for text in dict.fromkeys(rules) if text]


def _figures(context: dict[str, Any]) -> list[Figure]:
    keys = ("costs", "differences", "learning", "classes", "maps", "spent")
    figures = [figure for key in keys for figure in context[key]]
    disagreement = context["disagreement"]
    return [*figures, *([disagreement.figure] if disagreement else [])]


def _render(material: Material, context: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"say": material.say, "mark": _mark, "show": _inline}
    style, script = _style(), (TEMPLATES / "page.js").read_text("utf-8")
    return environment.get_template("index.html.j2").render(
        **context,
        order=material.order,
        style=Markup(style),
        script=Markup(script),
        policy=Markup(_policy(style, script)),
        version=_version(),
    )


def _policy(style: str, script: str) -> str:
    """Return a content policy that forbids fetching and allows only the given style and script."""
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
    """Return the drawing for the page, with an equivalent text for screen readers."""
    name = svg.escape(f"{figure.title}. {figure.about}")
    return Markup(figure.drawing.replace("<svg", f'<svg role="img" aria-label="{name}"', 1))


def _standalone(figure: Figure) -> str:
    """Return the drawing as a complete SVG file on white."""
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
