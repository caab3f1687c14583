"""The list of all keys, which is made from the schema."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import is_dataclass

import pytest

from sweep.commands.sweep import main
from sweep.config import key_reference
from sweep.config.schema import keys

ROWS = {key.name: key for key in key_reference.rows()}


def test_every_key_is_listed_with_a_meaning() -> None:
    assert ROWS.keys() == {name for name, kind in keys().items() if not is_dataclass(kind)}
    assert [name for name, key in ROWS.items() if not key.meaning.endswith(".")] == []


@pytest.mark.parametrize(
    ("name", "default", "values", "meaning"),
    [
        ("trainer.save_model", "false", "true or false", "Keep the trained weights as an"),
        ("freeze.name", "???", "a text", "Name in tables"),
        ("freeze.parts", "[]", "a list of texts, [a,b]", "Parts that train; `everything` is"),
        ("data.test_size", "0.2", "an integer or a number or null", "0 or null makes no test"),
        ("trainer.precision", "auto", "one of auto, bf16, fp16, fp32", "`auto` takes"),
    ],
)
def test_a_key_has_its_default_values_and_meaning(
    name: str, default: str, values: str, meaning: str
) -> None:
    key = ROWS[name]
    assert (key.default, key.values) == (default, values)
    assert key.meaning.startswith(meaning)


def test_the_list_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--keys"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "trainer.max_steps=-1   (an integer)" in lines
    listed = {line.partition("=")[0] for line in lines if line.partition("=")[0] in ROWS}
    assert listed == set(ROWS)


def test_the_list_needs_no_heavy_library() -> None:
    script = "import sys; from sweep.__main__ import main; main(['--keys']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.splitlines()[-1].split()
    assert "sweep.config.key_reference" in loaded
    assert {"torch", "transformers", "mlflow", "datasets", "pandas"} & set(loaded) == set()
