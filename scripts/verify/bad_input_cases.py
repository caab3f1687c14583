"""Bad inputs of a stranger: what is typed, what lies in the folder, and what has to be said of it.

None of them is in the tests, which were written together with the code.
"""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

ROWS = [(f"this is text {i}, a {word} one", word) for i in range(20) for word in ("good", "bad")]
TABLE = pd.DataFrame(ROWS, columns=["text", "label"])
CSV = TABLE.to_csv(index=False)
HTML = "<!DOCTYPE html>\n<html><body>Please log in, or accept cookies</body></html>\n"
Make = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One bad input."""

    kind: str
    says: str
    """Words that the sentence about it has to have."""
    typed: tuple[str, ...]
    make: Make = lambda folder: None
    """Puts files into the folder that the command is started from."""
    command: str = "sweep"
    """Or `plan` or `report`."""


def all_cases(model: Callable[[Path], Path]) -> list[Case]:
    """Return every case.

    Args:
        model: Puts a small model into a folder, and returns its place.
    """
    return [*_typed(), *_values(), *_files(), *_tables(), *_models(model), *_options(), *_places()]


def _typed() -> Iterator[Case]:
    for typed, says in {
        "freeze=none,": "freeze",
        "freeze=": "freeze",
        "--freeze=none": "--freeze=none",
        "--config-dir": "--config-dir",
        "freeze=[none,full]": "freeze",
        "freeze=None": "Did you mean none?",
        "Freeze=none": "Did you mean freeze?",
        "freeze.none": "freeze",
        "optimizer=adam": "adam",
        "trainer=debgu": "Did you mean debug?",
        "model=bert-base-uncased": "model",
        "hydra/launcher=slrum": "slrum",
        "seed=range(0,1000000000)": "max_runs",
        "seed=0..5": "seed=0..5",
        "trainer.max_steps=10,000": "trainer.max_steps=0",
        "optimizer.learning_rate=2e-5;1e-4": "optimizer.learning_rate",
        "optimizer.learning_rate=1e-4x": "optimizer.learning_rate",
        "optimizer.learning_rate=[1e-4,1e-5]": "optimizer.learning_rate",
        "data.path": "data.path",
    }.items():
        yield Case("typed", says, tuple(typed.split(" ")))


def _values() -> Iterator[Case]:
    for typed, says in {
        "trainer.precision=BF16": "bf16",
        "trainer.precision=int8": "trainer.precision",
        "trainer.device=cuda:0": "trainer.device",
        "report.language=english": "report.language",
        "compare.metric=precision": "compare.metric",
        "compare.confidence=95": "compare.confidence=95",
        "compare.margin=1%": "compare.margin",
        "compare.margin=-0.01": "compare.margin",
        "compare.max_time_s=0": "compare.max_time_s",
        "optimizer.warmup_steps=10%": "optimizer.warmup_steps",
        "optimizer.warmup_steps=1.5": "optimizer.warmup_steps",
        "optimizer.lr_scheduler_type=cosine_with_restarts": "optimizer.lr_scheduler_type",
        "trainer.num_train_epochs=nan": "trainer.num_train_epochs",
        "trainer.num_train_epochs=-3": "trainer.num_train_epochs",
        "trainer.per_device_train_batch_size=0": "trainer.per_device_train_batch_size",
        "trainer.logging_steps=0": "trainer.logging_steps",
        "trainer.timeout_min=-5": "trainer.timeout_min",
        "jobs=0": "jobs=0",
        "jobs=auto": "jobs=auto",
        "max_runs=0": "max_runs=0",
        "data.train_size=1.5": "data.train_size=1.5",
        "data.test_size=-0.1": "data.test_size=-0.1",
        "data.validation_size=0": "data.validation_size=0",
        "data.label_names=[good,good]": "data.label_names",
        "tracking.uri=localhost:5000": "tracking.uri",
        "freeze=lora freeze.rank=-1": "freeze.rank=-1",
        "freeze=lora freeze.targets=[attentoin]": "attentoin",
        "freeze=lora freeze.targets=attention": "freeze.targets",
        "freeze=lora freeze.dropout=1": "freeze.dropout",
        "freeze=lora freeze.quantization=int4": "int4",
        "freeze=none freeze.rank=4": "freeze.rank=4",
        "freeze=top_layers freeze.count=99": "freeze.count=99",
        "freeze=attention freeze.parts=[atention]": "atention",
        "freeze=attention freeze.train=[classifier.*,nothing,!.*] freeze.parts=[]": "nothing",
        "optimizer=sgd optimizer.optim_args=momentum:0.9": "optimizer.optim_args",
        "optimizer=sgd optimizer.optim_args=momentun=0.9": "momentun",
        "data=csv data.path=rows.csv data.text_column=label": "data.text_column",
    }.items():
        yield Case("value", says, tuple(typed.split(" ")), _good_file)


def _files() -> Iterator[Case]:
    files: dict[str, tuple[str, Make]] = {
        "page.csv": ("page.csv", text(HTML)),
        "book.pdf.csv": ("book.pdf.csv", content(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj")),
        "lfs.csv": ("lfs.csv", text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")),
        "utf16.csv": ("data.encoding", content(CSV.encode("utf-16"))),
        "nul.csv": ("nul.csv", content(b"\0" * 4096)),
        "wide.csv": ("wide.csv", text("text,label\n" + "a,b,c\n" * 9)),
        "twice.csv": ("text", text(CSV.replace("text,label", "text,text"))),
        "same.csv": ("text", text("text,label,text\n" + "a,good,b\nc,bad,d\n" * 9)),
        "rows.xls": (".xls", content(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 9)),
        "rows.csv.xlsx": (".xlsx", zipped({"[Content_Types].xml": "", "xl/workbook.xml": ""})),
        "rows.db": (".db", lambda path: sqlite3.connect(path).execute("CREATE TABLE a (b)")),
        "rows.csv.gz": ("gz", content(gzip.compress(CSV.encode())[:-20])),
        "two.zip": ("2 files", zipped({"a.csv": CSV, "b.csv": CSV})),
        "cut.parquet": ("parquet", lambda path: path.write_bytes(_parquet(path)[:-9])),
        "cut.jsonl": ("line 40", text(_lines()[:-9])),
        "columns.json": ("columns.json", text(TABLE.to_json())),
        "nested.json": ("nested.json", text(json.dumps({"data": TABLE.to_dict("records")}))),
        "arrays.jsonl": ("object", text("\n".join(json.dumps(row) for row in ROWS))),
        "numbers.json": ("numbers.json", text("[1, 2, 3]")),
        "pipe.csv": ("pipe.csv", lambda path: os.mkfifo(path)),
        "loop.csv": ("loop.csv", lambda path: path.symlink_to(path)),
        "blank.csv": ("blank.csv", text("\n\n\n")),
    }
    for name, (says, make) in files.items():
        yield Case("file", says, ("data=csv", f"data.path={name}"), _below(name, make))
    for name in (
        "/dev/zero",
        "https://example.com/rows.csv",
        "s3://bucket/rows.csv",
        "-",
        "~/no.csv",
    ):
        yield Case("file", name, ("data=csv", f"data.path={name}"))


def _tables() -> Iterator[Case]:
    few, part = TABLE.head(12), ("data.split_column=part",)
    tables: dict[str, tuple[pd.DataFrame, str, tuple[str, ...]]] = {
        "scores": (few.assign(label=[i / 7 for i in range(12)]), "decimal", ()),
        "ids": (TABLE.assign(label=range(40)), "distinct", ()),
        "one class": (TABLE.assign(label="good"), "one class", ()),
        "no texts": (TABLE.assign(text=" "), "empty in every row", ()),
        "no labels": (TABLE.assign(label=None), "empty in every row", ()),
        "one text": (TABLE.assign(text="the same"), "two labels", ()),
        "rare class": (pd.concat([TABLE, few.head(1).assign(text="x", label="odd")]), "odd", ()),
        "part typo": (TABLE.assign(part=["traning", "test"] * 20), "traning", part),
        "part lacks": (TABLE, "part", part),
        "part empty": (TABLE.assign(part=None), "part", part),
        "pattern": (TABLE, "data.label_pattern", ("data.label_pattern=(x.*)",)),
        "names": (TABLE, "data.label_names", ("data.label_names=[good,evil]",)),
        "too many": (TABLE, "data.train_size", ("data.train_size=4000",)),
        "checksum": (TABLE, "data.sha256", (f"data.sha256={'0' * 64}",)),
        "separator": (TABLE, "data.separator", (r"data.separator='\t'",)),
        "encoding": (TABLE, "data.encoding", ("data.encoding=utf-99",)),
        "no such file": (TABLE, "data.test_path", ("data.test_path=no.csv",)),
        "same names": (TABLE.rename(columns={"label": "Label"}), "Label", ()),
    }  # fmt: skip
    for frame, says, typed in tables.values():
        save = _below("rows.csv", partial(frame.to_csv, index=False))
        yield Case("table", says, ("data=csv", "data.path=rows.csv", *typed), save)


def _models(model: Callable[[Path], Path]) -> Iterator[Case]:
    def damaged(change: Make) -> Make:
        def make(folder: Path) -> None:
            _good_file(folder)
            change(model(folder))

        return make

    changes: dict[str, tuple[str, Make]] = {
        "heads": ("attention heads", config(num_attention_heads=3)),
        "text for a size": ("hidden_size", config(hidden_size="eight")),
        "layers as text": ("num_hidden_layers", config(num_hidden_layers="two")),
        "activation": ("hidden_act", config(hidden_act="gelou")),
        "dropout": ("dropout", config(hidden_dropout_prob=2.0)),
        "type is a list": ("model_type", config(model_type=["bert"])),
        "labels": ("id2label", config(id2label=["a", "b"])),
        "precision": ("float33", config(dtype="float33", torch_dtype="float33")),
        "epsilon": ("layer_norm_eps", config(layer_norm_eps="small")),
        "positions": ("positions", config(max_position_embeddings=0)),
        "padding": ("Padding_idx", config(pad_token_id=4000)),
        "weights are a page": ("model.safetensors", write("model.safetensors", HTML)),
        "weights are empty": ("model.safetensors", write("model.safetensors", "")),
        "tokenizer is cut": ("tokenizer", write("tokenizer.json", '{"version": "1.0", "mod')),
        "tokenizer is a page": ("tokenizer", write("tokenizer.json", HTML)),
        "tokenizer class": ("tokenizer", write("tokenizer_config.json", "[1]")),
    }
    typed = ("data=csv", "data.path=rows.csv", "model=hub", "model.name_or_path=encoder")
    for says, change in changes.values():
        yield Case("model", says, (*typed, "data.max_length=16"), damaged(change))
    for name in ("encoder/model.safetensors", "other/", "./encoder/config.json", "bert base"):
        place = f"model.name_or_path={name}"
        yield Case("model", name, (*typed[:3], place), damaged(lambda _: None))


def _options() -> Iterator[Case]:
    options = {
        "freeze/own.yaml": {
            "name: own\n\tparts: [attention]\n": "own",
            "- attention\n- bias\n": "own",
            "name: own\npart: [attention]\n": "part",
            "name: own\nparts: [attention]\nparts: [bias]\n": "parts",
            "name: own\nparts: [attention]\nlearning_rate: fast\n": "learning_rate",
            "name: own\nparts: [attention]\n": "learning_rate",
            "parts: [attention]\nlearning_rate: 1e-3\n": "name",
            "name: own/er\nparts: [attention]\nlearning_rate: 1e-3\n": "own/er",
            "name: own\nparts: [attention\nlearning_rate: 1e-3\n": "own",
            "name: !!python/name:os.system\nparts: [bias]\n": "own",
            "": "name",
        },
        "trainer/own.yaml": {"max_steps: soon\n": "max_steps", "epochs: 3\n": "epochs"},
        "optimizer/own.yaml": {"defaults: [adamww]\n": "adamww", "optim: lion\n": "lion"},
    }
    for name, contents in options.items():
        for content_, says in contents.items():
            choice = f"{name.partition('/')[0]}=own"
            yield Case(
                "option", says, ("--config-dir", "own", choice), write(f"own/{name}", content_)
            )
    yield Case("option", "own.yaml", ("--config-dir", "own.yaml"), write("own.yaml", "a: 1"))
    latin = content("name: größe\nparts: [bias]\nlearning_rate: 1e-3\n".encode("latin-1"))
    typed = ("--config-dir", "own", "freeze=own")
    yield Case("option", "own", typed, _below("own/freeze/own.yaml", latin))


def _places() -> Iterator[Case]:
    broken: dict[str, Make] = {
        "mlflow.db": write("mlruns/mlflow.db", "no database at all\n" * 99),
        "mlruns": lambda folder: (folder / "mlruns/mlflow.db").mkdir(parents=True),
        "cannot be written": write("mlruns/sweeps", "a file"),
    }
    for says, make in broken.items():
        yield Case("place", says, ("trainer=debug",), make)
    yield Case("place", "nowhere", ("tracking.uri=sqlite:///nowhere/x.db",))
    reports = {
        "nowhere": "nowhere",
        "report.language=xx": "report.language",
        "compare.margin=2": "compare.margin",
        "compare.metric=recall": "compare.metric",
        "freeze=none": "freeze",
        "--bogus": "--bogus",
        "report.examples=some": "report.examples",
        "": "no sweep",
    }
    for typed, says in reports.items():
        yield Case("report", says, tuple(typed.split()), command="report")
    yield Case("plan", "freeze", ("freeze=nothing",), command="plan")
    yield Case("plan", "--measured", ("--measured",), command="plan")
    yield Case("plan", "data.path='no.csv'", ("data=csv", "data.path=no.csv"), command="plan")


def _good_file(folder: Path) -> None:
    (folder / "rows.csv").write_text(CSV, "utf-8")


def _below(name: str, make: Make) -> Make:
    """Do something to a path below the folder."""

    def make_below(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        make(folder / name)

    return make_below


def text(content_: str) -> Make:
    """Write a text to the path."""
    return lambda path: path.write_text(content_, "utf-8")


def content(content_: bytes) -> Make:
    """Write bytes to the path."""
    return lambda path: path.write_bytes(content_)


def write(name: str, content_: str) -> Make:
    """Write a file below the folder."""

    return _below(name, text(content_))


def config(**changes: Any) -> Make:
    """Change config.json of a model's folder."""

    def make(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps(values | changes), "utf-8")

    return make


def zipped(members: dict[str, str]) -> Make:
    """Write an archive to the path."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, member in members.items():
                archive.writestr(name, member)

    return make


def _parquet(path: Path) -> bytes:
    TABLE.to_parquet(path)
    return path.read_bytes()


def _lines() -> str:
    return TABLE.to_json(orient="records", lines=True).strip()
