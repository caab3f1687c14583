"""No password of an address is shown, and the real address is found again where it is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from sweep.config import address
from sweep.config.compose import compose_sweep


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@host:8443/ml", "https://me:***@host:8443/ml"),
        ("https://token@host", "https://***@host"),
        ("http://me:p@ss:w/rd@host", "http://me:***@host"),
        ("http://me:1234@host", "http://me:***@host"),
        ("postgresql+psycopg://me:secret@/db", "postgresql+psycopg://me:***@/db"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("mysql://host/db?ssl_token=secret", "mysql://host/db?ssl_token=***"),
        ("request to http://me:secret@host/api failed", "request to http://me:***@host/api failed"),
        ("tracking.uri='http://me:secret@host'", "tracking.uri='http://me:***@host'"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////data/me@work/x.db", "sqlite:////data/me@work/x.db"),
        ("mail me@host: see http://host", "mail me@host: see http://host"),
    ],
)  # fmt: skip
def test_passwords_and_tokens_are_masked(text: str, shown: str) -> None:
    assert address.masked(text) == shown
    assert address.masked(shown) == shown


def test_the_real_address_is_found_by_the_masked_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(address.VARIABLE, "")
    assert address.hide("http://me:secret@host") == "http://me:***@host"
    assert address.real("http://me:***@host") == "http://me:secret@host"
    assert address.real("http://me:***@other") == "http://me:***@other"
    assert address.hide("http://other") == "http://other"
    assert address.real("http://other") == "http://other"


def test_an_address_without_credentials_can_be_asked() -> None:
    assert address.without_credentials("https://me:secret@host/ml") == "https://host/ml"


@pytest.mark.parametrize("name", ["plain", "my%20project", "what?", "a#b", "100%", "a@b:c", "자료"])
def test_a_file_has_an_address_whatever_its_name_is(name: str, tmp_path: Path) -> None:
    file = tmp_path / name / "mlflow.db"
    uri = address.of_file(file)
    assert make_url(uri).database == str(file)
    assert address.file_of(uri) == file


def test_what_names_no_file() -> None:
    for uri in ("sqlite://", "sqlite:///:memory:", "http://host", "postgresql://host/db"):
        assert address.file_of(uri) is None
    assert address.file_of("sqlite+pysqlite:///x.db?mode=ro") == Path("x.db")


def test_what_comes_from_mlflows_variables_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert address.from_environment(None, "sweep") == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    settings = compose_sweep(["freeze=none"]).settings.tracking
    assert (settings.uri, settings.experiment_name) == ("http://me:***@host", "mine")
    assert address.from_environment(settings.uri, settings.experiment_name) == [
        "tracking.uri=http://me:***@host, from MLFLOW_TRACKING_URI",
        "tracking.experiment_name=mine, from MLFLOW_EXPERIMENT_NAME",
    ]
    typed = ["freeze=none", "tracking.uri=sqlite:///x.db", "tracking.experiment_name=typed"]
    settings = compose_sweep(typed).settings.tracking
    assert (settings.uri, settings.experiment_name) == ("sqlite:///x.db", "typed")
    assert address.from_environment(settings.uri, settings.experiment_name) == []
