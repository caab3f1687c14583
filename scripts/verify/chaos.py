"""Kill a sweep again and again, and check that nothing is lost.

    python scripts/verify/chaos.py [--kills 50] [--seed 0] [--jobs 1] [--folder DIR]

One sweep of tiny runs is left alone. Another one is started with the same command again and
again, and each time the sweep, its runs, or both get SIGKILL, SIGTERM or SIGINT after a random
time. The same command then has to end with every key FINISHED once, nothing RUNNING, and the
metrics and curves of the sweep that was left alone. Prints the kills and the faults; exit status 1
if there is any fault.
"""

from __future__ import annotations

import argparse
import csv
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

WORDS = {"good": ("great", "lovely", "bright"), "bad": ("awful", "cold", "sad")}
FILLER = ("the", "a", "this", "is", "was", "very")
TIMED = ("_s", "per_second", "_mib")
"""Endings of metrics that differ from run to run."""


def main() -> int:
    """Run both sweeps and compare them; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    root = options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    command = make_command(root / "inputs", options.jobs, max(3, options.kills // 4))
    calm, stormy = root / "calm", root / "stormy"
    for folder in (calm, stormy):
        folder.mkdir(parents=True)
    run_to_end(command, calm)
    print(*disturb(command, stormy, options.kills, random.Random(options.seed)), sep="\n")
    run_to_end(command, stormy)
    faults = [*find_faults(calm, stormy)]
    print(*faults or ["nothing was lost, and nothing is there twice"], sep="\n")
    return 1 if faults else 0


def make_command(folder: Path, jobs: int, seeds: int) -> list[str]:
    """Make a small model and a table, and return the command of a sweep of short runs on them."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", *FILLER, *(w for group in WORDS.values() for w in group)]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder / "model")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = transformers.BertConfig(vocab_size=len(words), num_attention_heads=2, **sizes)
    transformers.set_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder / "model")
    draw = random.Random(0)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for label, group in WORDS.items():
            for _ in range(200):
                text = " ".join([*draw.choices(FILLER, k=7), *draw.choices(group, k=2)])
                writer.writerow([text, label])
    return [
        *(sys.executable, "-m", "sweep", "freeze=none,lora", f"jobs={jobs}"),
        f"seed=range({seeds})",
        *("data=csv", f"data.path={folder / 'rows.csv'}", "data.max_length=16"),
        *("data.deduplicate=false", "model=hub", f"model.name_or_path={folder / 'model'}"),
        *("trainer.num_train_epochs=40", "trainer.per_device_train_batch_size=16"),
        *("trainer.eval_steps=50", "trainer.save_steps=25", "trainer.num_threads=1"),
    ]


def run_to_end(command: list[str], folder: Path) -> None:
    """Run the sweep undisturbed, and print its output if it fails."""
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if process.returncode:
        print(process.stdout, process.stderr)


def disturb(command: list[str], folder: Path, kills: int, draw: random.Random) -> Iterator[str]:
    """Start the sweep over and over, and kill it; yield how often each kill was done.

    Once all runs have finished, the remaining kills meet a sweep that has nothing to do.
    """
    done: Counter[str] = Counter()
    process = None
    while sum(done.values()) < kills:
        if process is None or process.poll() is not None:
            process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            if draw.random() >= 0.2:  # or it is struck while it starts
                next((line for line in process.stdout if "started" in line), None)
        time.sleep(draw.uniform(0, 6))
        what = strike(process, draw)
        done[what] += 1
        if what != "SIGKILL to runs":  # after which the sweep goes on
            process.communicate()
    if process is not None and process.poll() is None:  # its runs were struck last
        process.communicate()
    yield from (f"{count} x {what}" for what, count in sorted(done.items()))


def strike(process: subprocess.Popen[str], draw: random.Random) -> str:
    """Kill or stop the sweep, its runs, or both; return which signal was sent to which."""
    if process.poll() is not None:
        return "no run left to disturb"
    parent = psutil.Process(process.pid)
    kind = draw.choice(["SIGKILL", "SIGKILL", "SIGTERM", "SIGINT"])
    whom = draw.choice(["sweep", "runs", "both"]) if kind == "SIGKILL" else "sweep"
    targets = [parent] if whom in ("sweep", "both") else []
    if whom in ("runs", "both"):
        targets += parent.children(recursive=True)
    for target in targets:
        try:
            target.send_signal(signal.Signals[kind])
        except psutil.NoSuchProcess:
            continue
    return f"{kind} to {whom}"


def find_faults(calm: Path, stormy: Path) -> Iterator[str]:
    """Yield what the disturbed sweep lacks, has twice, or has with other numbers."""
    expected, actual = history(calm), history(stormy)
    statuses = Counter(status for runs in actual.values() for status, _, _ in runs)
    print("runs in the store:", dict(statuses), "of", len(actual), "keys")
    if statuses["RUNNING"]:
        yield f"{statuses['RUNNING']} runs are RUNNING"
    for key, ((_, metrics, curves),) in expected.items():
        finished = [run for run in actual.get(key, []) if run[0] == "FINISHED"]
        if len(finished) != 1:
            yield f"{key[:8]}: FINISHED {len(finished)} times"
            continue
        _, other_metrics, other_curves = finished[0]
        if metrics != other_metrics:
            yield f"{key[:8]}: other metrics: {metrics} and {other_metrics}"
        if curves != other_curves:
            yield f"{key[:8]}: other curves: {len(curves)} and {len(other_curves)} points"


def history(folder: Path) -> dict[str, list[tuple[str, dict[str, float], list[Any]]]]:
    """Return all runs in the store by key: status, metrics and points of the curves."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    by_key: dict[str, list[Any]] = {}
    for run in client.search_runs([experiment.experiment_id], max_results=10_000):
        if run.data.tags.get("sweep.kind") != "run":
            if run.info.status == "RUNNING":
                by_key.setdefault("sweep", []).append(("RUNNING", {}, []))
            continue
        metrics = {k: v for k, v in run.data.metrics.items() if not k.endswith(TIMED)}
        curves = [
            (point.step, point.value)
            for name in ("train_loss", "eval_loss")
            for point in sorted(
                client.get_metric_history(run.info.run_id, name), key=lambda p: p.step
            )
        ]
        key = run.data.tags["sweep.key"]
        by_key.setdefault(key, []).append((run.info.status, metrics, curves))
    return by_key


if __name__ == "__main__":
    sys.exit(main())
