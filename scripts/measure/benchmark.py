"""Time `sweep` against the notebook's recipe on this machine: `make bench`.

    python scripts/measure/benchmark.py --texts 4096 --epochs 3 --repeats 3 \\
        [--only none,full] [--growth]

Every measurement has its own process, the sides take turns, and each result is written at once, so
that a benchmark that was stopped goes on where it was (same --out and commit). Results:
OUT/results.jsonl, OUT/summary.json, OUT/summary.md, and with --growth OUT/growth.svg.

Ratios compare one machine with itself in one benchmark. Accuracies are on the test split. The time
of nine notebook runs is nine times that of the run of the same repeat.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
BATCH_SIZE = 64
STRATEGIES = ("none", "attention", "full", "top_layers")
RATES = {"none": 1e-4, "attention": 3e-4, "full": 3e-2, "top_layers": 3e-4}
"""Learning rates of both sides."""
GROWTH = {
    "texts": (512, 1024, 2048),
    "epochs": (1, 2, 4),
    "layers": (1, 2, 4),
    "runs": (1, 3, 6),
}
Quantity = tuple[str, str]
"""The names of a measurement and of one of its numbers."""
RATIOS: dict[str, tuple[Quantity, Quantity, float]] = {
    **{
        f"{s}, training alone": ((f"notebook {s}", "train_s"), (f"sweep {s}", "train_s"), 1)
        for s in STRATEGIES
    },
    "full, in the process": (("notebook full", "process_s"), ("sweep full", "process_s"), 1),
    "nine runs of full": (("notebook full", "wall_s"), ("sweep nine", "wall_s"), 9),
    **{
        f"{s}, start to stored metrics": ((f"notebook {s}", "wall_s"), (f"sweep {s}", "wall_s"), 1)
        for s in STRATEGIES
    },
    **{
        f"{s}, training alone, over the Trainer's defaults": (
            (f"trainer {s}", "train_s"),
            (f"sweep {s}", "train_s"),
            1,
        )
        for s in ("none", "attention", "full")
    },
}
"""Per ratio, the dividend, the divisor, and how often the dividend would have to be run."""
BARS = {
    "none, training alone": (3.3, 4.5),
    "attention, training alone": (3.5, 5.0),
    "top_layers, training alone": (5.0, 8.0),
    "full, in the process": (10.0, 15.0),
    "nine runs of full": (40.0, 80.0),
}
"""Per ratio, the least value that is wanted, and the value aimed at."""
Result = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """The settings of one benchmark."""

    out: Path
    texts: int
    epochs: float
    repeats: int
    data: Path
    model: Path
    world: str
    """Commit, machine and versions; results with others are measured again."""

    def key(self, name: str, repeat: int) -> list[Any]:
        """Return what a stored measurement is recognised by."""
        return [name, repeat, self.texts, self.epochs, self.world]


Measure = Callable[[Bench, int], Result]


def recipe(kind: str, strategy: str) -> Measure:
    """Return the measurement of one training by `notebook_recipe.py`.

    Args:
        kind: `notebook` or `trainer`.
        strategy: One of STRATEGIES.
    """

    def measure(bench: Bench, seed: int) -> Result:
        command = [
            *(sys.executable, str(FOLDER / "notebook_recipe.py")),
            *("--recipe", kind, "--strategy", strategy, "--model", str(bench.model)),
            *("--data", str(bench.data), "--epochs", str(bench.epochs)),
            *("--batch-size", str(BATCH_SIZE), "--learning-rate", str(RATES[strategy])),
            *("--seed", str(seed)),
        ]
        with empty_folder(bench) as folder:
            result, _ = timed(command, folder)
        printed: dict[str, Any] = json.loads(result.pop("printed").splitlines()[-1])
        return result | printed

    return measure


def swept(*overrides: str) -> Measure:
    """Return the measurement of one sweep in an empty folder, where nothing is cached."""

    def measure(bench: Bench, seed: int) -> Result:
        with empty_folder(bench) as folder:
            return sweep(bench, folder, [*overrides, f"seed={seed}"])

    return measure


def measure_nine_runs(bench: Bench, seed: int) -> Result:
    """Measure three rates and three seeds of `full` in one sweep."""
    with empty_folder(bench) as folder:
        rates = "optimizer.learning_rate=1e-2,3e-2,1e-1"
        return sweep(bench, folder, ["freeze=full", rates, f"seed={seed},{seed + 1},{seed + 2}"])


def measure_cached_tokens(bench: Bench, seed: int) -> Result:
    """Measure a short sweep whose tokens are cached, for the time to its first step."""
    with empty_folder(bench) as folder:
        options = ["freeze=none", "trainer.max_steps=2", "trainer.logging_steps=1"]
        sweep(bench, folder, [*options, f"seed={seed}"])
        (folder / "mlruns" / "cache").rename(folder / "cache")
        shutil.rmtree(folder / "mlruns")  # or the sweep would take over what is finished
        (folder / "mlruns").mkdir()
        (folder / "cache").rename(folder / "mlruns" / "cache")
        return sweep(bench, folder, [*options, f"seed={seed}"])


def measure_peak(bench: Bench, seed: int) -> Result:
    """Measure the floating-point operations per second of a product of bf16 matrices."""
    code = (
        "import time, torch; a = torch.randn(2048, 2048).bfloat16(); times = []\n"
        "for _ in range(30):\n"
        "    t = time.perf_counter(); a @ a; times.append(time.perf_counter() - t)\n"
        "print(2 * 2048**3 / sorted(times)[15])"
    )
    result, _ = timed([sys.executable, "-c", code], bench.out)
    return {"flop_per_s": float(result["printed"])}


MEASURES: dict[str, Measure] = {
    "peak": measure_peak,
    "notebook none": recipe("notebook", "none"),
    "sweep none": swept("freeze=none"),
    "trainer none": recipe("trainer", "none"),
    "notebook attention": recipe("notebook", "attention"),
    "sweep attention": swept("freeze=attention"),
    "trainer attention": recipe("trainer", "attention"),
    "notebook top_layers": recipe("notebook", "top_layers"),
    "sweep top_layers": swept("freeze=top_layers", "freeze.count=2"),
    "notebook full": recipe("notebook", "full"),
    "sweep full": swept("freeze=full"),
    "trainer full": recipe("trainer", "full"),
    "sweep nine": measure_nine_runs,
    "sweep again": measure_cached_tokens,
}
"""Measurements that are compared follow each other, because the speed of a machine drifts."""


def sweep(bench: Bench, folder: Path, overrides: Sequence[str]) -> Result:
    """Run `python -m sweep` and read its records and the time of its first step."""
    given = {override.partition("=")[0] for override in overrides}
    settings = {
        "data.train_size": bench.texts,
        "trainer.num_train_epochs": bench.epochs,
        "trainer.per_device_train_batch_size": BATCH_SIZE,
    }
    rest = [f"{key}={value}" for key, value in settings.items() if key not in given]
    strategy = next(o.split("=")[1] for o in overrides if o.startswith("freeze="))
    if "optimizer.learning_rate" not in given:
        rest.append(f"optimizer.learning_rate={RATES[strategy]}")
    result, started = timed([sys.executable, "-m", "sweep", *overrides, *rest], folder)
    del result["printed"]
    paths = sorted(folder.glob("mlruns/sweeps/*/*/record.json"))
    records = [json.loads(path.read_text("utf-8")) for path in paths]
    metrics = [record["metrics"] for record in records]
    with contextlib.closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as store:
        query = "select min(timestamp) from metrics where key = 'train_loss'"
        (first_ms,) = store.execute(query).fetchone()
    return result | {
        "first_step_s": first_ms / 1000 - started,
        "train_s": metrics[0]["train_runtime_s"],
        "train_later_s": statistics.mean(m["train_runtime_s"] for m in metrics[1:] or metrics),
        "process_s": metrics[0]["total_runtime_s"],
        "features_s": sum(m["features_runtime_s"] for m in metrics),
        "flops": metrics[0]["train_flops"],
        "accuracy": metrics[0]["test_accuracy"],
        "runs": len(records),
        "machine": records[0]["tags"]["sweep.machine"],
        "precision": records[0]["params"]["precision"],
    }


def timed(command: Sequence[str], folder: Path) -> tuple[Result, float]:
    """Run a command; return its seconds and output, and the time at which it started.

    Raises:
        RuntimeError: The command failed.
    """
    started, clock = time.time(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - clock
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return {"wall_s": wall_s, "printed": done.stdout}, started


@contextlib.contextmanager
def empty_folder(bench: Bench) -> Iterator[Path]:
    """Make a folder for one measurement, and remove it when the block ends."""
    folder = bench.out / "work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def growth_measures() -> dict[str, Measure]:
    """Return measurements of how the cost grows with data, epochs, trained layers and runs."""
    measures: dict[str, Measure] = {}
    for texts in GROWTH["texts"]:
        measures[f"texts {texts}"] = swept("freeze=none", f"data.train_size={texts}")
    for epochs in GROWTH["epochs"]:
        for strategy in ("full", "top_layers"):
            options = ["freeze.count=2"] if strategy == "top_layers" else []
            name = f"epochs {epochs} {strategy}"
            measures[name] = swept(
                f"freeze={strategy}", *options, f"trainer.num_train_epochs={epochs}"
            )
    for layers in GROWTH["layers"]:
        measures[f"layers {layers}"] = swept("freeze=top_layers", f"freeze.count={layers}")
    for runs in GROWTH["runs"]:
        rates = ",".join(str(round(1e-2 * (i + 1), 3)) for i in range(runs))
        measures[f"runs {runs}"] = swept("freeze=full", f"optimizer.learning_rate={rates}")
    return measures


def run(bench: Bench, measures: dict[str, Measure]) -> list[Result]:
    """Measure what is not stored yet, and store each result; return all results."""
    path = bench.out / "results.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    results = [json.loads(line) for line in lines]
    done = [result["key"] for result in results]
    for repeat in range(bench.repeats):
        for name, measure in measures.items():
            key = bench.key(name, repeat)
            if key in done:
                continue
            print(f"{name}, repeat {repeat + 1} of {bench.repeats}: ", end="", flush=True)
            try:
                result = measure(bench, repeat)
            except RuntimeError as error:  # the others go on
                print(f"failed: {error}")
                continue
            results.append({"key": key, "name": name, **result})
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(results[-1]) + "\n")
            print(", ".join(f"{k} {v:.4g}" for k, v in result.items() if isinstance(v, float)))
    return results


def write_summary(bench: Bench, results: Sequence[Result]) -> None:
    """Write medians and ratios as JSON and Markdown."""
    summary = {
        "settings": settings_of(bench),
        "ratios": {name: spread(values) for name in RATIOS if (values := ratios(results, name))},
        "others": {name: spread(values) for name, values in others(results).items() if values},
        "medians": {
            f"{name} {quantity}": spread([r[quantity] for r in results if r["name"] == name])
            for name, quantity in dict.fromkeys(
                (r["name"], k) for r in results for k, v in r.items() if isinstance(v, float)
            )
        },
    }
    (bench.out / "summary.json").write_text(json.dumps(summary, indent=1), "utf-8")
    (bench.out / "summary.md").write_text(markdown(summary), "utf-8")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, lowest, highest and count."""
    middle = statistics.median(values)
    return {"median": middle, "low": min(values), "high": max(values), "n": len(values)}


def by_repeat(results: Sequence[Result], wanted: Quantity) -> dict[int, float]:
    """Return a quantity of one measurement by the number of its repeat."""
    name, quantity = wanted
    matching = [r for r in results if r["name"] == name and quantity in r]
    return {r["key"][1]: r[quantity] for r in matching}


def ratios(results: Sequence[Result], name: str) -> list[float]:
    """Return one of `RATIOS` for each repeat in which both sides were measured."""
    above, below, times = RATIOS[name]
    ours = by_repeat(results, below)
    return [times * v / ours[n] for n, v in by_repeat(results, above).items() if n in ours]


def others(results: Sequence[Result]) -> dict[str, list[float]]:
    """Return the quantities that are not ratios of two sides, per repeat."""
    full = by_repeat(results, ("sweep full", "wall_s"))
    later = by_repeat(results, ("sweep nine", "train_later_s"))
    every = by_repeat(results, ("sweep nine", "wall_s"))
    flops = by_repeat(results, ("sweep none", "flops"))
    seconds = by_repeat(results, ("sweep none", "train_s"))
    top = by_repeat(results, ("peak", "flop_per_s"))
    first = by_repeat(results, ("sweep again", "first_step_s"))
    return {
        # Includes the evaluation of the run, but not its training.
        "overhead per run beyond the first, s": [
            (every[n] - full[n]) / 8 - later[n] for n in every if n in full
        ],
        "from typing to the first step, tokens cached, s": list(first.values()),
        "achieved over measured bf16 matrix product, none": [
            flops[n] / seconds[n] / top[n] for n in flops if n in top
        ],
    }


def settings_of(bench: Bench) -> dict[str, Any]:
    """Return the settings of the benchmark and facts of the machine."""
    import torch

    return {
        "texts": bench.texts,
        "epochs": bench.epochs,
        "repeats": bench.repeats,
        "batch_size": BATCH_SIZE,
        "cpu": torch.cpu.get_capabilities().get("cpu_name", ""),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }


def markdown(summary: dict[str, Any]) -> str:
    """Return the summary as tables."""
    lines = [", ".join(f"{key} {value}" for key, value in summary["settings"].items()), ""]
    lines += [
        "| ratio | median | low | high | n | at least | aim |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, ratio in summary["ratios"].items():
        least, aim = BARS.get(name, ("", ""))
        lines.append(f"| {name} | {_cells(ratio, '.1f')} | {least} | {aim} |")
    for kind, form in (("others", ".2f"), ("medians", ".4g")):
        lines += ["", "| measured | median | low | high | n |", "|---|---|---|---|---|"]
        lines += [f"| {name} | {_cells(v, form)} |" for name, v in summary[kind].items()]
    return "\n".join(lines) + "\n"


def _cells(numbers: dict[str, float], form: str) -> str:
    values = " | ".join(f"{numbers[key]:{form}}" for key in ("median", "low", "high"))
    return f"{values} | {numbers['n']}"


def plot_growth(bench: Bench, results: Sequence[Result]) -> None:
    """Plot one panel per quantity that grows, with all repeats as points."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(GROWTH), figsize=(4 * len(GROWTH), 3.5), layout="constrained"
    )
    for axis, kind in zip(axes, GROWTH, strict=True):
        series: dict[str, list[tuple[float, float]]] = {}
        for result in results:
            words = result["name"].split()
            if words[0] == kind:
                label = " ".join(words[2:])
                series.setdefault(label, []).append((float(words[1]), result["wall_s"]))
        for label, points in series.items():
            axis.plot(*zip(*sorted(points), strict=True), "o-", label=label or None)
        axis.set(xlabel=kind, ylabel="seconds, start to stored metrics", ylim=(0, None))
        if any(series):
            axis.legend()
    figure.savefig(bench.out / "growth.svg")


def prepare(args: argparse.Namespace) -> Bench:
    """Write the rows that both sides read, and return the settings of the benchmark."""
    from sweep.base import environment
    from sweep.base.device import resolve_hardware
    from sweep.config.compose import compose_jobs
    from sweep.data import splits as data
    from sweep.models import model_files

    out = Path(args.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    (job,) = compose_jobs(["freeze=none", f"data.train_size={args.texts}"])
    splits = data.load_splits(job.cfg.data)
    rows: dict[str, Any] = {"label_names": splits.label_names}
    for name in ("train", "test"):
        split = getattr(splits, name)
        rows[name] = list(zip(split.texts, split.labels.tolist(), strict=True))
    path = out / f"rows_{args.texts}.json"
    path.write_text(json.dumps(rows), "utf-8")
    model = model_files.fetch(job.cfg.model).absolute()
    machine = environment.describe(resolve_hardware(job.cfg.trainer).device)
    world = f"{environment.git_state()} {environment.fingerprint(machine, environment.cores())}"
    return Bench(out, args.texts, args.epochs, args.repeats, path, model, world)


def main() -> int:
    """Measure and print the summary; return the exit status, 1 when a measurement failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=4096)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="names, or words of them, with commas between")
    parser.add_argument("--growth", action="store_true", help="how costs grow, and nothing else")
    parser.add_argument("--out", default="mlruns/bench")
    args = parser.parse_args()
    measures = growth_measures() if args.growth else MEASURES
    wanted = [word.strip() for word in args.only.split(",") if word.strip()]
    measures = {n: m for n, m in measures.items() if not wanted or any(w in n for w in wanted)}
    if not measures:
        names = ", ".join([*MEASURES, *growth_measures()])
        print(f"--only {args.only} names nothing that is measured: {names}", file=sys.stderr)
        return 2
    bench = prepare(args)
    results = [r for r in run(bench, measures) if r["key"][2:] == bench.key("", 0)[2:]]
    done = {(r["name"], r["key"][1]) for r in results}
    failed = any((name, n) not in done for name in measures for n in range(bench.repeats))
    if args.growth:
        plot_growth(bench, results)
    write_summary(bench, results)
    print((bench.out / "summary.md").read_text("utf-8"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
