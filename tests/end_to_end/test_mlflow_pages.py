"""What MLflow's interface shows of a sweep, opened in a browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from support.report import make_sweep, store_sweep

from sweep.commands import report
from sweep.tracking.store import Store

pytestmark = pytest.mark.browser


@dataclass
class Served:
    """A sweep, and the interface that shows it."""

    store: Store
    sweep_id: str
    run_ids: list[str]
    base: str

    def url(self, printed: str) -> str:
        """The address as it is printed, at this server's port."""
        return printed.replace("http://127.0.0.1:5000", self.base)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A small sweep with its report in a store, behind `mlflow ui`."""
    root = tmp_path_factory.mktemp("served") / "mlruns"
    root.mkdir()
    folder = root / "sweeps" / "a_sweep"
    records = make_sweep(folder, seeds=2)
    store, sweep_id = store_sweep(records, "a_sweep", root)
    store.client.set_tag(records[0].run_id, "sweep.id", "of the sweep that it was taken over from")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root.parent)
        assert report.main([str(folder)]) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", str(store.uri)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    world = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(command, env=world, start_new_session=True, **quiet)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        run_ids = [record.run_id for record in records]
        yield Served(store, sweep_id, run_ids, f"http://127.0.0.1:{port}")
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the server has workers of its own
        process.wait(timeout=30)


def _wait_for(url: str) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"{url} does not answer")


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty page, wide enough for the interface's side bars."""
    context = browser.new_context(viewport={"width": 1800, "height": 1000})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


def test_the_run_list_shows_scores_and_costs_best_first(served: Served, page: Any) -> None:
    page.goto(served.url(served.store.runs_url(served.sweep_id)))
    page.get_by_text("6 matching runs").wait_for()
    for metric in ("test_accuracy", "test_f1", "peak_memory_mib"):
        page.get_by_role("columnheader", name=metric).first.wait_for()
    names = page.get_by_role("link", name="seed=").all_inner_texts()
    assert names[0].split()[0] in ("none", "attention")
    assert [name.split()[0] for name in names[-2:]] == ["full", "full"]


def test_the_chart_page_shows_curves_of_the_runs(served: Served, page: Any) -> None:
    page.goto(served.url(served.store.runs_url(served.sweep_id)) + "&compareRunsMode=CHART")
    page.get_by_text("eval_accuracy").first.wait_for()
    # Sections of the summary run's metrics, one per strategy, would be empty and come first.
    assert page.get_by_text(re.compile(r"^(none|full|attention) \(\d+\)$")).count() == 0


def test_the_compare_page_shows_every_run(served: Served, page: Any) -> None:
    page.goto(served.url(served.store.compare_url(served.run_ids)))
    page.get_by_text("Comparing 6 Runs").wait_for()
    page.get_by_text("attention seed=0").first.wait_for()


def test_the_summary_run_says_the_verdict(served: Served, page: Any) -> None:
    page.goto(f"{served.base}/#/experiments/{served.store.experiment_id}/runs/{served.sweep_id}")
    page.get_by_text("which has the highest mean test accuracy").first.wait_for()
    page.get_by_text("none/test_accuracy_mean").first.wait_for()


def test_the_report_opens_among_the_artifacts(served: Served, page: Any) -> None:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    run = f"{served.base}/#/experiments/{served.store.experiment_id}/runs/{served.sweep_id}"
    page.goto(f"{run}/artifacts/report/index.html")
    frame = page.frame_locator("iframe")
    frame.locator("#verdict p.lead").wait_for()
    frame.locator("#strategies th button").first.click()  # scripts of the page run in there
    assert frame.locator("#strategies th").first.get_attribute("aria-sort") == "ascending"
    assert complaints == []


def test_a_run_says_what_it_trains_and_how_it_did(served: Served, page: Any) -> None:
    run_id = served.run_ids[0]
    page.goto(f"{served.base}/#/experiments/{served.store.experiment_id}/runs/{run_id}")
    page.get_by_text("trains what none trains").first.wait_for()
