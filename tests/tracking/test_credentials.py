"""MLflow's own ways of authentication, and no secret in what is shown or written down."""

from __future__ import annotations

import base64
import json
import os
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sweep.config import address
from sweep.config.compose import compose_sweep
from sweep.config.schema import ConfigError, TrackingConfig
from sweep.execution import processes
from sweep.tracking import connect
from sweep.tracking.outbox import Outbox

BASIC = "Basic " + base64.b64encode(b"me:se/c@ret").decode()
VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
EXPERIMENT = {"experiment_id": "7", "name": "sweep", "lifecycle_stage": "active"}


class Guarded(BaseHTTPRequestHandler):
    """An MLflow server with one experiment, for who has the password or the token."""

    status, refusal = 401, b""

    def do_GET(self) -> None:
        allowed = self.headers.get("Authorization") in (BASIC, "Bearer token-1")
        self.send_response(200 if allowed else self.status)
        self.end_headers()
        content = {"experiment": EXPERIMENT} if "experiments" in self.path else {}
        self.wfile.write(json.dumps(content).encode() if allowed else self.refusal)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Host and port of such a server; nothing is set that would open it."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(address.VARIABLE, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def opened(uri: str, root: Path) -> str:
    cfg = TrackingConfig(uri=uri)
    connect.check(cfg)
    return connect.open_store(cfg, root).experiment_id


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(("me", "se/c@ret", None), id="password"),
        pytest.param((None, None, "token-1"), id="token"),
    ],
)
def test_credentials_of_the_environment_are_used(
    values: tuple[str | None, ...], server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(VARIABLES, values, strict=True):
        if value:
            monkeypatch.setenv(name, value)
    assert opened(f"http://{server}", tmp_path) == "7"


def test_credentials_of_mlflows_file_are_used(server: str, tmp_path: Path) -> None:
    file = tmp_path / ".mlflow" / "credentials"
    file.parent.mkdir()
    text = "[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = se/c@ret\n"
    file.write_text(text, "utf-8")
    assert opened(f"http://{server}", tmp_path) == "7"


def test_credentials_of_the_address_are_used_and_not_kept(server: str, tmp_path: Path) -> None:
    uri = f"http://me:se%2Fc%40ret@{server}"
    settings = compose_sweep(["freeze=none", "tracking=server", f"tracking.uri={uri}"]).settings
    shown = f"http://me:***@{server}"
    assert settings.tracking.uri == shown
    assert opened(shown, tmp_path) == "7"
    store = connect.open_store(settings.tracking, tmp_path)
    assert store.uri == shown
    assert b"ret" not in pickle.dumps(store)
    Outbox(tmp_path, store).create("run", {})
    written = "".join(path.read_text("utf-8") for path in tmp_path.glob("store.*"))
    assert shown in written
    assert "c%40ret" not in written


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        pytest.param(401, b"", id="nothing-said"),
        pytest.param(403, b"<html>no</html>", id="proxy"),
        pytest.param(403, b'{"message": "Forbidden"}', id="gateway"),
        pytest.param(401, b'{"error_code": "UNAUTHENTICATED", "message": ""}', id="mlflow"),
    ],
)
def test_a_server_that_lets_nobody_in_names_the_variables(
    status: int, refusal: bytes, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guarded, "status", status)
    monkeypatch.setattr(Guarded, "refusal", refusal)
    with pytest.raises(ConfigError) as caught:
        opened(f"http://{server}", tmp_path)
    assert caught.value.messages == (
        f"tracking.uri='http://{server}' cannot be used: it does not let you in. Set"
        " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to what"
        " the server takes.",
    )


def test_errors_show_no_password() -> None:
    uri = "nonsense://me:secret@host"
    with pytest.raises(ConfigError) as caught:
        compose_sweep(["freeze=none", f"tracking.uri={uri}"])
    assert "secret" not in str(caught.value)
    assert "'nonsense://me:***@host' is not allowed" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        connect.open_store(TrackingConfig(uri=uri), Path())
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"http://me:\*\*\*@127\.0\.0\.1:9' does not answer"):
        connect.check(TrackingConfig(uri="http://me:secret@127.0.0.1:9"))


def test_a_process_of_a_run_knows_the_real_address(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "http://me:secret@host"
    monkeypatch.setenv(address.VARIABLE, "")
    seen: list[str] = []
    processes._in_world(os.getcwd(), uri, lambda shown: seen.append(address.real(shown)),
                        "http://me:***@host")  # fmt: skip
    assert seen == [uri]


def test_the_default_is_no_secret() -> None:
    assert compose_sweep(["freeze=none"]).settings.tracking.uri is None
