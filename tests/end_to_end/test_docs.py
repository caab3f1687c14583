"""Documentation is executed: commands run, links lead somewhere, examples are what they claim."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.models import make_rows

import sweep.__main__
import sweep.plan
from sweep.config.compose import compose_jobs, options

PROJECT = Path(__file__).parents[2]
READMES = (PROJECT / "README.md", PROJECT / "README.ko.md")
PAGES = {
    str(path.relative_to(PROJECT)): path.read_text("utf-8")
    for path in sorted([*READMES, PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").rglob("*.md")])
}
README = PAGES["README.md"]
TARGETS = set(
    re.findall(r"^([a-z]+):.*##", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)
)
ROOTS = (PROJECT, PROJECT / "src" / "sweep")
"""What paths in backticks start from."""


def blocks(text: str, kind: str) -> list[str]:
    """Fenced blocks of one language, without their fences."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Words of every `python -m sweep...` line, from the module's name on."""
    return [
        shlex.split(line, comments=True)[2:]
        for block in blocks(text, "bash")
        for line in block.splitlines()
        if line.startswith("python -m sweep")
    ]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {
        "".join(
            letter
            for letter in heading.lower().replace(" ", "-")
            if letter in "-_" or unicodedata.category(letter)[0] in "LN"
        )
        for heading in headings
    }


ALL_COMMANDS = sorted(
    {shlex.join(command): page for page in reversed(PAGES) for command in commands(PAGES[page])}
)
EXAMPLES = [(page, block) for page in PAGES for block in blocks(PAGES[page], "python")]
STRATEGY_TABLES = [page for page in PAGES if "| `lora`, `qlora` |" in PAGES[page]]


def test_the_documentation_has_pages_commands_and_examples() -> None:
    assert len(PAGES) >= 20
    assert len(ALL_COMMANDS) >= 20
    assert len(EXAMPLES) >= 8
    assert len(commands(README)) >= 6
    assert sum("`src/" in PAGES[page] for page in PAGES) >= 2
    assert STRATEGY_TABLES == ["README.ko.md", "README.md", "docs/reference/strategies.md"]


@pytest.mark.parametrize("command", commands(README), ids=" ".join)
def test_a_readme_command_runs(
    command: list[str],
    saved_model: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = make_rows(120)
    (tmp_path / "reviews.tsv").write_text(
        "review\tstars\n" + "".join(f"{text}\t{label}\n" for text, label in rows), "utf-8"
    )
    codes = {"good": ("E18", "E60"), "bad": ("E31", "E55"), "plain": ("E29", "E40")}
    (tmp_path / "train.csv").write_text(
        "HS01,label\n"
        + "".join(f"{text},{codes[label][i % 2]}\n" for i, (text, label) in enumerate(rows)),
        "utf-8",
    )
    shutil.copytree(saved_model("bert"), tmp_path / "my-encoder")
    small = ["trainer.max_steps=2", "trainer.device=cpu"]
    if not any(word.startswith("data") for word in command):
        small += ["data.train_size=24", "data.validation_size=12", "data.test_size=12"]
    if not any(word.startswith("model=") for word in command):
        small += ["model=hub", f"model.name_or_path={tmp_path / 'my-encoder'}"]
    if not any("max_length" in word or "notebook" in word for word in command):
        small += ["data.max_length=32"]
    main = {"sweep": sweep.__main__.main, "sweep.plan": sweep.plan.main}[command[0]]
    assert main([*command[1:], *([] if "--help" in command else small)]) == 0


def test_the_korean_readme_has_the_commands_and_numbers_of_the_english_one() -> None:
    korean = PAGES["README.ko.md"]
    assert commands(korean) == commands(README)
    assert blocks(korean, "text")[0] == blocks(README, "text")[0]
    numbers = re.compile(r"^\| `\w+` \|(( [\d.,-]+ \|)+)$", re.MULTILINE)
    assert numbers.findall(korean) == numbers.findall(README) != []


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_a_documented_command_composes(command: str, tmp_path: Path) -> None:
    module, *arguments = shlex.split(command)
    if module == "sweep.predict":
        assert sum(not word.startswith("--") for word in arguments) >= 2
        return
    write_examples(tmp_path)
    config_dir = None
    if "--config-dir" in arguments:
        at = arguments.index("--config-dir")
        assert arguments[at + 1] == "mine"
        config_dir = str(tmp_path)
        del arguments[at : at + 2]
    overrides = [word for word in arguments if word not in ("--help", "--keys", "--measure")]
    assert module in ("sweep", "sweep.plan", "sweep.report")
    assert compose_jobs(overrides, config_dir)


def write_examples(folder: Path) -> list[str]:
    """Write the YAML files that the how-tos show, as a folder for --config-dir."""
    examples = {
        "freeze": blocks(PAGES["docs/how-to/own-strategy.md"], "yaml"),
        "model": blocks(PAGES["docs/how-to/own-model.md"], "yaml"),
    }
    for group, texts in examples.items():
        (folder / group).mkdir()
        for text in texts:
            assert len(text.splitlines()) < 10
            (folder / group / f"{yaml.safe_load(text)['name']}.yaml").write_text(text, "utf-8")
    return [
        f"{group}/{yaml.safe_load(text)['name']}" for group in examples for text in examples[group]
    ]


def test_example_files_compose(tmp_path: Path) -> None:
    assert write_examples(tmp_path) == [
        "freeze/attention_bias",
        "freeze/upper_attention",
        "freeze/small_lora",
        "model/my_encoder",
    ]
    jobs = compose_jobs(
        ["freeze=attention_bias,upper_attention,small_lora", "model=my_encoder"], str(tmp_path)
    )
    assert [job.cfg.freeze.parts for job in jobs] == [["attention", "pooler", "bias"], [], []]
    assert all(job.cfg.model.parts for job in jobs)


def test_patterns_of_an_example_cover_the_default_model(tmp_path: Path) -> None:
    from sweep.models.pretrained import build_empty
    from sweep.strategies.freeze import apply

    write_examples(tmp_path)
    (job,) = compose_jobs(["freeze=upper_attention"], str(tmp_path))
    model, parts = build_empty(job.cfg, num_labels=3)
    _, report = apply(model, parts, job.cfg.freeze)
    trained = {tensor.name for tensor in report.tensors if tensor.trainable}
    layers = {match[1] for name in trained if (match := re.search(r"layer\.(\d)\.attention", name))}
    assert layers == {"3", "4", "5"}
    assert {name for name in trained if "attention" not in name} == {
        "classifier.weight",
        "classifier.bias",
    }


@pytest.fixture(scope="module")
def finished_sweep(
    saved_model: Callable[[str], Path],
    csv_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with mlruns/ of one small sweep whose models were kept."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["freeze=none,full", "data=csv", f"data.path={csv_file}", "model=hub"]
        words += [f"model.name_or_path={saved_model('bert')}", "data.max_length=32"]
        words += ["trainer.max_steps=2", "trainer.device=cpu", "trainer.save_model=true"]
        assert sweep.__main__.main(words) == 0
    return folder


@pytest.mark.parametrize(
    "example",
    [block for _, block in EXAMPLES],
    ids=[f"{page}-{i}" for i, (page, _) in enumerate(EXAMPLES)],
)
def test_a_python_example_runs(
    example: str, finished_sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished_sweep)
    (name,) = [path.name for path in (finished_sweep / "mlruns" / "sweeps").iterdir()]
    script = tmp_path / "example.py"
    script.write_text(example.replace("<sweep>", name), "utf-8")
    runpy.run_path(str(script))


def make_targets(text: str) -> set[str]:
    """Targets of make that a page names, in backticks or in blocks of commands."""
    shown = "\n".join([*re.findall(r"`([^`\n]+)`", text), *blocks(text, "bash")])
    return set(re.findall(r"(?:^|\s)make ([a-z]+)", shown))


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page: str) -> None:
    assert make_targets(PAGES[page]) <= TARGETS


def test_every_make_target_is_documented() -> None:
    assert {target for page in PAGES for target in make_targets(PAGES[page])} == TARGETS


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    folder = (PROJECT / page).parent
    broken = []
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", prose(PAGES[page])):
        target, _, anchor = link.partition("#")
        path = (folder / target).resolve() if target else PROJECT / page
        known = str(path.relative_to(PROJECT))
        if not path.exists() or (anchor and anchor not in anchors(PAGES[known])):
            broken.append(link)
    assert broken == []


def test_anchors_are_githubs() -> None:
    page = "# The rooms\n## Goals, non-goals, limits\n```bash\n# no heading\n```\n### 한국어 `x_1`"
    assert anchors(page) == {"the-rooms", "goals-non-goals-limits", "한국어-x_1"}


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    """Paths of the repository in backticks; a name in capitals stands for any."""
    named = re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|yaml|toml|md))`", PAGES[page])
    ours = [path for path in named if not re.match(r"mine/|report/|.*(NAME|MODULE)", path)]
    assert [path for path in ours if not any((root / path).exists() for root in ROOTS)] == []


def test_every_page_is_in_the_navigation() -> None:
    linked = set(re.findall(r"^- \[.*\]\((.+)\)$", PAGES["docs/index.md"], re.MULTILINE))
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert linked == pages - {"index.md"}


def test_the_readme_is_short() -> None:
    for path in READMES:
        assert 110 <= len(path.read_text("utf-8").splitlines()) <= 140


def test_the_reference_of_the_keys_is_up_to_date() -> None:
    written = runpy.run_path(str(PROJECT / "scripts" / "write_keys.py"))["page"]()
    assert PAGES["docs/reference/keys.md"] == written, "run: make docs"


@pytest.mark.parametrize("page", STRATEGY_TABLES)
def test_shares_in_a_strategy_table_are_measured(page: str) -> None:
    from sweep.models.pretrained import build_empty
    from sweep.strategies.freeze import apply

    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| .* \| ([\d.]+) % \|$", PAGES[page], re.MULTILINE)
    shares = {name: share for names, share in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(shares) == set(options()["freeze"])
    for name, share in shares.items():
        (job,) = compose_jobs([f"freeze={name}"])
        model, parts = build_empty(job.cfg, num_labels=3)
        _, report = apply(model, parts, job.cfg.freeze)
        digits = len(share.partition(".")[2])
        assert f"{report.trainable_fraction * 100:.{digits}f}" == share, name
