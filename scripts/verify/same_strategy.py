"""Compare a strategy with itself on real runs, and count the differences that are called.

python scripts/verify/same_strategy.py [KEY=VALUE ...]     # trains `none` with ten seeds first
python scripts/verify/same_strategy.py --sweep NAME        # takes the runs of a finished sweep

The same strategy with the same seed gives the same numbers bit for bit, so the halves have
different seeds: the first five are called `none`, the others `none_again`. Every other way to
halve the seeds follows. At most 5 % of them may be called a difference; the halves overlap, so
that share is a single draw, not an average.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from sweep.base.words import Text
from sweep.comparison import pairwise
from sweep.comparison.pairwise import Scored
from sweep.comparison.results import Difference
from sweep.config.schema import CompareConfig
from sweep.runs import read_records
from sweep.runs.record import Record

SEEDS = "0,1,2,3,4,5,6,7,8,9"


def scored_seeds(runs: Sequence[Record]) -> Scored:
    """Score all finished runs of the first strategy."""
    strategy = runs[0].strategy
    finished = [run for run in runs if run.strategy == strategy and run.status == "FINISHED"]
    warnings: list[Text] = []
    (scored,) = pairwise.score({strategy: finished}, warnings)
    print(*warnings, sep="\n", end="\n" if warnings else "")
    if len(scored.seeds) < 4:
        raise SystemExit(f"{strategy} has {len(scored.seeds)} seeds. At least 4 are needed.")
    return scored


def part(whole: Scored, label: str, seeds: Sequence[int]) -> Scored:
    """Return some of the seeds under another name."""
    return Scored(label, tuple(seeds), {m: whole.pick(m, seeds) for m in whole.scores})


def halves(whole: Scored) -> Iterator[list[Difference]]:
    """Yield the differences of both halves, for every way to halve; the first is by order."""
    first = whole.seeds[0]
    for chosen in combinations(whole.seeds, len(whole.seeds) // 2):
        if first in chosen:
            rest = [seed for seed in whole.seeds if seed not in chosen]
            both = [part(whole, whole.label, chosen), part(whole, f"{whole.label}_again", rest)]
            yield pairwise.differences(both, "test", CompareConfig())


def main(arguments: Sequence[str]) -> None:
    """Train if no sweep is given, compare the halves and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sweep")
    options, overrides = parser.parse_known_args(arguments)
    if options.sweep is None:
        command = [sys.executable, "-m", "sweep", "freeze=none", f"seed={SEEDS}", *overrides]
        subprocess.run(command, check=True)
    halvings = list(halves(scored_seeds(read_records.load(options.sweep))))
    for d in halvings[0]:
        print(
            f"{d.a} against {d.b}, {d.seeds} seeds, {d.metric}: {d.estimate:+.4f}"
            f" ({d.low:+.4f} to {d.high:+.4f}), p={d.p_value:.3f}: {d.verdict}"
        )
    for metric in (d.metric for d in halvings[0]):
        verdicts = Counter(d.verdict for half in halvings for d in half if d.metric == metric)
        called = verdicts["better"] + verdicts["worse"]
        ways = f"{metric}, {len(halvings)} ways to halve"
        print(f"{ways}: {called} called a difference; {dict(verdicts)}")


if __name__ == "__main__":
    main(sys.argv[1:])
