"""Search the default learning rate of each strategy, with about as many rates for each.

    python scripts/measure/search_rates.py [STRATEGY ...] [KEY=VALUE ...]

Trains on the default data with the default trainer, one seed, and lets validation loss choose.
Four rates in steps of 2 to 3 around a first guess; when the best one lies at an end of the grid,
the YAML says so. Results are printed as Markdown and go into conf/freeze/*.yaml by hand.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sweep.base.words import from_json

GRIDS = {
    "none": (5e-5, 1e-4, 2e-4, 4e-4),
    "attention": (2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3),
    "full": (1e-2, 3e-2, 1e-1, 3e-1),
    "top_layers": (2e-4, 5e-4, 1e-3, 2e-3),
    "all_layers": (5e-5, 1e-4, 2e-4, 4e-4),
    "feed_forward": (5e-5, 1e-4, 2e-4, 4e-4),
    "bias": (1e-3, 2e-3, 4e-3, 8e-3),
    "layer_norm": (2.5e-3, 5e-3, 1e-2, 2e-2),
    "gradual": (1e-4, 2e-4, 4e-4, 8e-4),
    "lora": (5e-4, 1e-3, 2e-3, 4e-3),
    "dora": (5e-4, 1e-3, 2e-3, 4e-3),
    "miss": (2.5e-4, 5e-4, 1e-3, 2e-3),
    "ia3": (3e-3, 1e-2, 3e-2, 1e-1),
    "qlora": (5e-4, 1e-3, 2e-3, 4e-3),
}


def search(strategy: str, overrides: list[str]) -> None:
    """Run the grid of one strategy, and print a line per rate."""
    before = set(Path("mlruns/sweeps").glob("*"))
    rates = ",".join(str(rate) for rate in GRIDS[strategy])
    choices = [f"freeze={strategy}", f"optimizer.learning_rate={rates}", *overrides]
    subprocess.run(
        [sys.executable, "-m", "sweep", *choices],
        check=False,  # a diverged rate is a result
        stdout=subprocess.DEVNULL,
    )
    (folder,) = set(Path("mlruns/sweeps").glob("*")) - before
    for path in sorted(folder.glob("*/record.json")):
        record = json.loads(path.read_text("utf-8"))
        scores = record["metrics"] if record["status"] == "FINISHED" else {}
        cells = [f"{scores.get(name, float('nan')):.3f}" for name in ("eval_loss", "eval_accuracy")]
        print(
            f"| {record['name']} | {' | '.join(cells)} | {from_json(record['reason'])} |",
            flush=True,
        )


if __name__ == "__main__":
    print("| run | validation loss | validation accuracy | |\n|---|---|---|---|", flush=True)
    extra = [argument for argument in sys.argv[1:] if "=" in argument]
    for name in [a for a in sys.argv[1:] if a not in extra] or GRIDS:
        search(name, extra)
