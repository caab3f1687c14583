"""Small real things to test on: tables, tokenizers and models are made here, never downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.models import FAMILIES, SIZES, make_rows, save_tokenizer

from sweep.tracking import database

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
"""The browser of this machine, which playwright drives in place of one of its own."""


SLOW = (
    *("commands", "end_to_end", "features"),
    *("config/test_composed_base.py", "config/test_errors.py", "config/test_options.py"),
    *(
        "execution/test_launcher.py",
        "execution/test_preload.py",
        "strategies/test_adapters.py",
        "strategies/test_gradual.py",
    ),
    *("strategies/test_proof.py", "tracking/test_database.py", "training/test_checkpoint.py"),
    "training/test_train.py",
)
"""Folders and files whose tests start sweeps, train, or compose often: most of the time."""


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow, and leave out what needs a browser where there is none.

    .ci/run makes sure that there is one.
    """
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(SLOW):
            item.add_marker("slow")
    if CHROMIUM is None:
        left_out = [item for item in items if item.get_closest_marker("browser")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the runs of other processes, which would mark those of a test as contended.

    Tests run in several processes at once, and somebody may be training beside them.
    """
    folder = tmp_path_factory.mktemp("runtime")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def csv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 120 rows in three classes, columns text and label."""
    path = tmp_path_factory.mktemp("data") / "rows.csv"
    lines = [f"{text},{label}" for text, label in make_rows(120)]
    path.write_text("\n".join(["text,label", *lines]) + "\n", "utf-8")
    return path


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a random model of a family: 2 layers of width 8, with tokenizer, made once."""
    root = tmp_path_factory.mktemp("models")

    def make(family: str = "bert") -> Path:
        folder = root / family
        if not folder.exists():
            name, extra = FAMILIES[family]
            sizes = {} if family == "distilbert" else SIZES
            config = getattr(transformers, name)(**{"vocab_size": 40, **sizes, **extra})
            transformers.set_seed(0)
            model = transformers.AutoModelForSequenceClassification.from_config(config)
            model.save_pretrained(folder)
            save_tokenizer(folder)
        return folder

    return make


@pytest.fixture
def copy_of(saved_model: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a saved model that a test may damage."""

    def make(family: str = "bert") -> Path:
        return Path(shutil.copytree(saved_model(family), tmp_path / f"copy-{family}"))

    return make


@pytest.fixture(autouse=True)
def no_store_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is typed, these would name the store of whoever runs the tests."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def overrides(
    csv_file: Path, saved_model: Callable[[str], Path], tmp_path: Path, monkeypatch: Any
) -> list[str]:
    """The real configuration made tiny, in an empty current directory."""
    monkeypatch.chdir(tmp_path)
    return [
        "data=csv",
        f"data.path={csv_file}",
        "model=hub",
        f"model.name_or_path={saved_model('bert')}",
        "trainer=debug",
        "trainer.device=cpu",
        "data.max_length=32",
    ]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """More threads only slow down matrices of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A --config-dir with a strategy `diverges`, whose rate no training survives."""
    folder = tmp_path / "own" / "freeze"
    folder.mkdir(parents=True)
    text = "# diverges on purpose\nname: diverges\nparts: [everything]\nlearning_rate: 1e30\n"
    (folder / "diverges.yaml").write_text(text, "utf-8")
    return str(folder.parent)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a store that exists already.

    Its tables are made once for all workers of pytest-xdist, because that takes seconds.
    """
    folder = tmp_path_factory.getbasetemp()
    made = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "tables.db"
    with database.locked(made):
        database.make(made)
    root = tmp_path_factory.mktemp("my runs")  # a name that has to be quoted
    shutil.copy(made, root / "mlflow.db")
    return root
