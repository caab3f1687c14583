"""Try bad inputs, and check that each is told in one sentence before anything is trained.

    python scripts/verify/bad_inputs.py [--only WORD] [--all]

Each command runs in this process, in an empty folder of its own, up to where training would begin.
It has to end with status 2, and to print nothing but `error: ` and sentences that name what is
wrong. Prints what falls short, and a table by kind; exit status 1 if anything does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from bad_input_cases import CSV, Case, all_cases

LIMIT_S = 60
"""A command that says nothing for longer hangs."""


class _AcceptedError(Exception):
    """A command got as far as training."""


class _HangsError(BaseException):
    """A command takes too long; no handler of errors may catch it."""


def main() -> int:
    """Try all cases; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases that are typed with this word")
    parser.add_argument("--all", action="store_true", help="show what is said of every case")
    options = parser.parse_args()
    tried, short = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="bad-") as name:
        model = small_model(Path(name) / "model")
        cases = [
            case
            for case in all_cases(lambda folder: Path(shutil.copytree(model, folder / "encoder")))
            if options.only in " ".join(case.typed)
        ]
        for number, case in enumerate(cases):
            problem, said = attempt(case, Path(name) / str(number))
            tried[case.kind] += 1
            short[case.kind] += bool(problem)
            if problem or options.all:
                print(f"{case.kind}: {' '.join(case.typed)}: {problem or 'told'}\n  {said}")
    print(f"\n{'kind':<8}{'tried':>6}{'short':>6}")
    for kind in tried:
        print(f"{kind:<8}{tried[kind]:>6}{short[kind]:>6}")
    print(f"{'all':<8}{tried.total():>6}{short.total():>6}")
    return int(short.total() > 0)


def attempt(case: Case, folder: Path) -> tuple[str, str]:
    """Return what falls short, empty if nothing does, and what was printed."""
    folder.mkdir()
    case.make(folder)
    out, err = io.StringIO(), io.StringIO()
    status: int | str = ""
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with _limited(), _command(case) as command:
                status = command(list(case.typed))
        except SystemExit as error:
            status = f"SystemExit({error.code})"
        except (_AcceptedError, _HangsError) as error:
            status = "training" if isinstance(error, _AcceptedError) else f"nothing in {LIMIT_S} s"
        except Exception:
            traceback.print_exc()
            status = "traceback"
    said = err.getvalue().strip()
    lines = said.splitlines()
    if status != 2:
        return f"ended with {status}", said + out.getvalue()
    if not lines or any(not line.startswith("error: ") for line in lines):
        return "not told as an error", said
    if len(lines) > 1:
        return f"told in {len(lines)} sentences", said
    if case.says not in said:
        return f"does not say {case.says!r}", said
    return "", said


@contextlib.contextmanager
def _command(case: Case) -> Iterator[Any]:
    """Give the function of a command, which raises where training would begin."""
    from sweep.commands import plan, report, session, sweep
    from sweep.tracking import connect, store

    main = {"sweep": sweep, "plan": plan, "report": report}[case.command].main
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(session, "open_session", _accept))
        if case.kind != "place":  # making the tables takes seconds
            none = mock.patch.object(connect, "open_store", return_value=store.Store(None))
            stack.enter_context(none)
        yield main


def _accept(*_: object) -> NoReturn:
    raise _AcceptedError


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """End the block when it takes too long."""

    def end(*_: object) -> NoReturn:
        raise _HangsError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def small_model(folder: Path) -> Path:
    """Make a BERT of width 8 that knows the words of the good file."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", *dict.fromkeys(CSV.replace(",", " ").split())]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]"
    )
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings = transformers.BertConfig(
        vocab_size=len(words), intermediate_size=16, max_position_embeddings=32, **sizes
    )
    transformers.BertForSequenceClassification(settings).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
