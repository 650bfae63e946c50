"""The deep run as a command: rounds from a seed on, for so many minutes, in worlds that are kept while they hold.

A run is taken up again by `--seed` with the number after the last round that it named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from deep.points import POINTS
from deep.report import append, section
from deep.rounds import BLOWS, Tally, play
from deep.world import Deep, a_deep_world, discard

ROUNDS_A_WORLD = 15


def main() -> int:
    """0 if every round held."""
    options = _options()
    tally, seed, began = Tally(), options.seed, time.monotonic()
    ends = began + options.minutes * 60
    while time.monotonic() < ends:
        folder = Path(tempfile.mkdtemp(prefix="suanli-deep-"))
        with a_deep_world(folder, confirmations=options.confirmations) as deep:
            first = seed
            while True:
                held = _round(deep, seed, first, tally, options)
                seed += 1
                if not held or seed - first == ROUNDS_A_WORLD or time.monotonic() >= ends:
                    break
        if held:
            discard(folder)
        else:
            print(f"the world of seed {seed - 1} is kept in {folder}", flush=True)
    words = section(
        tally, command=_command(options), seconds=time.monotonic() - began, seeds=range(options.seed, seed)
    )  # fmt: skip
    print(words)
    if options.out is not None:
        append(options.out, words)
    return 1 if tally.failures else 0


def _round(deep: Deep, seed: int, first: int, tally: Tally, options: argparse.Namespace) -> bool:
    began = time.monotonic()
    without, earlier = frozenset(options.without), list(range(first, seed))
    found = play(deep, seed, seconds=options.round, seen=tally, earlier=earlier, without=without)
    tally.add(found)
    print(
        f"seed {seed}: {found.kills.total()} kills, {found.reorganisations.total()} reorganisations, "
        f"{found.jobs.total()} jobs, {time.monotonic() - began:.0f} s; "
        + ("holds" if not found.failures else "\n  ".join(["FAILS", *found.failures[seed]])),
        flush=True,
    )
    return not found.failures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deep", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=float, default=60, help="seconds of each round in which things die")
    parser.add_argument("--confirmations", type=int, default=3)
    parser.add_argument("--without", action="append", default=[], choices=[*POINTS, *BLOWS], help="leave out")
    parser.add_argument("--out", type=Path, help="Markdown file with a line <!-- runs -->")
    return parser.parse_args()


def _command(options: argparse.Namespace) -> str:
    left_out = "".join(f" --without {what}" for what in options.without)
    return (
        f"python -m deep --minutes {options.minutes:g} --seed {options.seed} --round {options.round:g} "
        f"--confirmations {options.confirmations}{left_out}"
    )


if __name__ == "__main__":
    sys.exit(main())
