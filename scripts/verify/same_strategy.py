"""A strategy against itself on real runs: does the verdict call a difference that is not there?

python scripts/verify/same_strategy.py [KEY=VALUE ...]     # trains `none` with ten seeds first
python scripts/verify/same_strategy.py --sweep NAME        # takes the runs of a finished sweep

The same name with the same seeds gives the same numbers to the last bit, so the halves have
different seeds: the first five seeds are called `none`, the others `none_again`. Then every other
way to halve them follows, of which at most 5 % may be called a difference; the halves overlap, so
that share is one draw and no average.
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
    """Scores of all runs of the strategy that comes first."""
    strategy = runs[0].strategy
    own = [run for run in runs if run.strategy == strategy and run.status == "FINISHED"]
    warnings: list[Text] = []
    (found,) = pairwise.score({strategy: own}, warnings)
    print(*warnings, sep="\n", end="\n" if warnings else "")
    if len(found.seeds) < 4:
        raise SystemExit(f"{strategy} has {len(found.seeds)} seeds. At least 4 are needed.")
    return found


def part(whole: Scored, label: str, seeds: Sequence[int]) -> Scored:
    """Some of the seeds under another name."""
    return Scored(label, tuple(seeds), {m: whole.pick(m, seeds) for m in whole.scores})


def halves(whole: Scored) -> Iterator[list[Difference]]:
    """The differences between both halves, for every way to halve; the first is by order."""
    first = whole.seeds[0]
    for chosen in combinations(whole.seeds, len(whole.seeds) // 2):
        if first in chosen:
            rest = [seed for seed in whole.seeds if seed not in chosen]
            both = [part(whole, whole.label, chosen), part(whole, f"{whole.label}_again", rest)]
            yield pairwise.differences(both, "test", CompareConfig())


def main(arguments: Sequence[str]) -> None:
    """Train if need be, and print what is found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sweep")
    options, overrides = parser.parse_known_args(arguments)
    if options.sweep is None:
        command = [sys.executable, "-m", "sweep", "freeze=none", f"seed={SEEDS}", *overrides]
        subprocess.run(command, check=True)
    found = list(halves(scored_seeds(read_records.load(options.sweep))))
    for d in found[0]:
        print(
            f"{d.a} against {d.b}, {d.seeds} seeds, {d.metric}: {d.estimate:+.4f}"
            f" ({d.low:+.4f} to {d.high:+.4f}), p={d.p_value:.3f}: {d.verdict}"
        )
    for metric in (d.metric for d in found[0]):
        verdicts = Counter(d.verdict for half in found for d in half if d.metric == metric)
        called = verdicts["better"] + verdicts["worse"]
        print(
            f"{metric}, {len(found)} ways to halve: {called} called a difference; {dict(verdicts)}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
