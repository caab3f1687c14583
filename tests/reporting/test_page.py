"""The report as people see it: opened in a browser, with harmless and with hostile content."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from support.report import make_run, make_sweep, write_record

from sweep.base import words
from sweep.base.words import Remark
from sweep.comparison import compare
from sweep.comparison.results import Baseline, Comparison
from sweep.reporting import page as pages
from sweep.reporting.material import Material
from sweep.runs import read_outputs
from sweep.runs.record import Record

pytestmark = pytest.mark.browser

HOSTILE = (
    *("<script>window.broken = 1</script>", "</script><img src=x onerror='window.broken=1'>"),
    *("=cmd|'/c calc'!A1", "**bold** [link](http://example.com) | `x`", "مرحبا بالعالم"),
    *("👩‍👩‍👧‍👦🏳️‍🌈 e\u0301", "x" * 300, "a long name of several words " * 8, "기쁨 " * 20),
)
FIGURES = (
    *("cost_time", "cost_memory", "cost_parameters", "differences_0", "curve_train_loss"),
    *("curve_eval_loss", "curve_eval_accuracy", "confusion_best", "confusion_baseline", "f1"),
    *("disagreements", "map_0", "map_1", "map_2", "spent_time", "spent_memory"),
)


def compared(records: list[Record]) -> Comparison:
    """What is said of runs, with baselines as good as a coin."""
    comparison = compare.compare(records)
    truth = next((p for r in records if (p := read_outputs.predictions(r)).ids), None)
    if truth is not None:
        constant = (truth.labels[0],) * len(truth.labels)
        metrics = {"test_accuracy": 0.4, "test_f1": 0.2, "eval_accuracy": 0.4, "runtime_s": 0.1}
        comparison.baselines.append(Baseline(Remark("baseline.majority"), metrics, constant))
    return comparison


def build(folder: Path, records: list[Record], language: str = "en", **more: Any) -> Path:
    """The page of some runs."""
    plan = read_outputs.Plan("a sweep", command="python -m sweep freeze=none,full")
    texts = {str(i): HOSTILE[i % len(HOSTILE)] for i in range(120)}
    material = Material(compared(records), records, plan, words.load(language), texts, **more)
    return pages.build(folder, material)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three strategies with three seeds."""
    folder = tmp_path_factory.mktemp("plain")
    return build(folder / "report", make_sweep(folder / "runs"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of runs whose every text is an attack, a script, or far too long."""
    folder = tmp_path_factory.mktemp("hostile")
    classes = [*HOSTILE, *(f"class {i} {'long ' * 20}" for i in range(150 - len(HOSTILE)))]
    records = make_sweep(folder / "runs", ("none", "full", "감정_분석"), 2, classes, texts=450)
    broken = make_run(folder / "runs" / "broken", "lora", 7, classes)
    broken.status, broken.reason, broken.name = "FAILED", HOSTILE[0] * 3, f"lora {HOSTILE[1]}"
    broken.swept["optimizer.optim_args"] = HOSTILE[1]
    broken.metrics = {"test_accuracy": float("nan")}
    (folder / "runs" / "broken" / "run.log").write_text(f"\x1b[31m{HOSTILE[1]}\x1b[0m\n" * 30)
    write_record(broken)
    for record in records:
        record.notes.append(HOSTILE[0])
        record.tags["sweep.trains"] = HOSTILE[3]
        record.tags["sweep.device"] = HOSTILE[1]
    return build(folder / "report", [*records, broken])


@pytest.fixture(scope="module")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page in Korean."""
    folder = tmp_path_factory.mktemp("korean")
    records = make_sweep(folder / "runs", classes=("기쁨", "슬픔", "분노"))
    return build(folder / "report", records, "ko")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a sweep of which no run finished."""
    folder = tmp_path_factory.mktemp("empty")
    records = make_sweep(folder / "runs", ("none", "full"), 1)
    for record in records:
        record.status, record.reason, record.metrics = "FAILED", "out of memory", {}
    return build(folder / "report", records)


PAGES = ("plain", "hostile", "korean", "empty")


Opener = Callable[..., "Opened"]


@dataclass
class Opened:
    """A page in the browser, with all that it asked for and complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Opens a file in a context of its own, which ends with the test."""
    contexts = []

    def open_page(path: Path, **options: Any) -> Opened:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        tab = Opened(page)
        page.on("request", lambda request: tab.requests.append(request.url))
        page.on("console", lambda message: tab.complaints.append(message.text))
        page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        page.goto(path.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
def test_it_opens_without_complaints_and_asks_nobody(
    name: str, opened: Opener, request: Any
) -> None:
    path = request.getfixturevalue(name)
    tab = opened(path)
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith("data:")] == [path.as_uri()]
    assert tab.page.evaluate("window.broken") is None
    assert path.stat().st_size < 4 * 2**20


def test_every_figure_is_there_with_its_text_and_as_a_file(plain: Path, opened: Opener) -> None:
    page = opened(plain).page
    ids = [figure.get_attribute("id") for figure in page.locator("figure").all()]
    assert sorted(ids) == sorted(f"figure-{name}" for name in FIGURES)
    for figure in page.locator("figure").all():
        drawing = figure.locator("svg[role=img]")
        assert drawing.bounding_box()["height"] > 50  # type: ignore[index]
        assert len(drawing.get_attribute("aria-label") or "") > 20
    files = {path.stem.removeprefix("figure_") for path in plain.parent.glob("figure_*.svg")}
    assert files == set(FIGURES)


def test_a_figure_alone_is_a_picture(plain: Path, opened: Opener) -> None:
    tab = opened(plain.parent / "figure_cost_time.svg")
    assert tab.complaints == []
    assert tab.page.locator("svg > desc").count() == 1
    assert tab.page.locator(".mark").count() == 3


@pytest.mark.parametrize(
    ("name", "mode"),
    [("plain", "light"), ("plain", "dark"), ("hostile", "dark"), ("korean", "light")],
)
def test_axe_finds_no_serious_fault(name: str, mode: str, opened: Opener, request: Any) -> None:
    path = request.getfixturevalue(name)
    page = opened(path, color_scheme=mode).page
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    violations = Axe().run(page).response["violations"]
    serious = [(v["id"], v["nodes"][0]["html"]) for v in violations if v["impact"] != "minor"]
    assert serious == []


@pytest.mark.parametrize(
    ("name", "width"),
    [("plain", 360), ("plain", 1280), ("hostile", 360), ("hostile", 1280), ("korean", 360)],
)
def test_no_page_scrolls_sideways(name: str, width: int, opened: Opener, request: Any) -> None:
    size = {"width": width, "height": 800}
    page = opened(request.getfixturevalue(name), viewport=size).page
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def column(page: Page, number: int) -> list[str]:
    """Texts of a column of the strategy table, baselines left out."""
    cells = page.locator(
        f"#strategies table >> nth=0 >> tbody:not(.feet) tr > *:nth-child({number})"
    )
    return cells.all_inner_texts()


def test_a_table_sorts_by_click_and_says_so(plain: Path, opened: Opener) -> None:
    page = opened(plain).page
    heading = page.locator("#strategies th", has_text="training, s").first
    number = 1 + [h.strip() for h in page.locator("#strategies thead th").all_inner_texts()].index(
        heading.inner_text().strip()
    )
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    seconds = [float(text) for text in column(page, number)]
    assert seconds == sorted(seconds, reverse=True)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [float(text) for text in column(page, number)] == seconds[::-1]
    assert "majority" in page.locator("#strategies tbody.feet").inner_text()


def test_a_table_sorts_by_keyboard(plain: Path, opened: Opener) -> None:
    page = opened(plain).page
    button = page.locator("#strategies thead th").first.get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    assert column(page, 1) == ["attention", "full", "none"]
    page.keyboard.press("Space")
    assert column(page, 1) == ["none", "full", "attention"]


def test_the_keyboard_reaches_everything_that_can_be_used(plain: Path, opened: Opener) -> None:
    page = opened(plain).page
    usable = page.locator("a, button, summary, [tabindex='0']")
    visible = [index for index in range(usable.count()) if usable.nth(index).is_visible()]
    page.evaluate(
        "window.reached = new Set(); addEventListener('focusin', (e) => reached.add(e.target))"
    )
    for _ in range(len(visible) + 5):
        page.keyboard.press("Tab")
    assert page.evaluate("reached.size") >= len(visible)
    page.keyboard.press("Home")


def test_the_first_key_offers_to_skip_to_the_verdict(plain: Path, opened: Opener) -> None:
    page = opened(plain).page
    page.keyboard.press("Tab")
    skip = page.locator("a.skip")
    assert skip.bounding_box()["x"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.url.endswith("#verdict")


def test_everything_can_be_read_without_scripts(plain: Path, opened: Opener) -> None:
    page = opened(plain, java_script_enabled=False).page
    assert column(page, 1)[0] in ("none", "attention")
    assert page.locator("button").count() == 0


def test_headings_follow_one_another(plain: Path, opened: Opener) -> None:
    page = opened(plain).page
    levels = [
        int(tag[1])
        for tag in page.eval_on_selector_all("h1,h2,h3", "all => all.map(e => e.tagName)")
    ]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_hostile_texts_are_shown_and_not_obeyed(hostile: Path, opened: Opener) -> None:
    page = opened(hostile).page
    shown = page.locator("#disagreements").inner_text()
    assert sum(text in shown for text in HOSTILE[:6]) >= 3
    assert HOSTILE[0] in page.locator("#failed").inner_text()
    log = page.locator("#failed pre").first.text_content() or ""
    assert log.count("<img") == 15
    assert "\x1b" not in log
    assert page.locator("main img, main script, main a").count() == 0


def test_many_classes_leave_a_matrix_that_can_be_read(hostile: Path, opened: Opener) -> None:
    page = opened(hostile).page
    cells = page.locator("#figure-confusion_best .heat").count()
    assert cells == 20 * 20
    assert "131 other classes" in (page.locator("#figure-confusion_best svg").text_content() or "")
    assert page.locator("#figure-f1 details tbody tr").count() == 150


def test_the_korean_page_is_korean(korean: Path, opened: Opener) -> None:
    page = opened(korean).page
    assert page.locator("html").get_attribute("lang") == "ko"
    headings = page.locator("h2").all_inner_texts()
    assert headings[0] == "결론"
    assert [text for text in headings if not re.search("[가-힣]", text)] == []


def test_a_sweep_without_results_says_why(empty: Path, opened: Opener) -> None:
    page = opened(empty).page
    verdict = page.locator("#verdict").inner_text()
    assert "No run has finished" in verdict
    assert "2 runs failed" in verdict
    assert page.locator("#failed td", has_text="out of memory").count() == 2


def test_texts_stay_out_of_the_report_when_asked(tmp_path: Path, opened: Opener) -> None:
    records = make_sweep(tmp_path / "runs")
    plan, say = read_outputs.Plan("a sweep"), words.load("en")
    page = pages.build(tmp_path / "report", Material(compared(records), records, plan, say, {}, 0))
    shown = opened(page).page.locator("#disagreements").inner_text()
    assert "The texts are not shown: report.examples=0 keeps them out." in shown


def test_control_characters_reach_neither_page_nor_figures(tmp_path: Path) -> None:
    classes = ("red\x1b[31m", "bell\x07", "back\x08\x9b\u202e")
    build(tmp_path / "report", make_sweep(tmp_path / "runs", seeds=2, classes=classes))
    files = sorted((tmp_path / "report").glob("*.html")) + sorted(tmp_path.glob("report/*.svg"))
    assert len(files) > 5
    for path in files:
        text = path.read_text("utf-8")
        assert not set(text) & set("\x07\x08\x1b\x9b\u202e"), path.name
        if path.suffix == ".svg":
            ET.fromstring(text)
