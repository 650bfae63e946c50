"""The deep run as a command: rounds from a seed on, for so many minutes, in worlds that are kept while they hold.

Several worlds may run side by side, a process each; every world has seeds of its own. A run is taken up again by
`--seed` with a number above those that it named.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from deep.points import POINTS
from deep.report import append, section
from deep.rounds import BLOWS
from deep.worlds import Plan, side_by_side


def main() -> int:
    """0 if every round held."""
    options = _options()
    began = time.monotonic()
    plan = Plan(options.seed, options.worlds, options.round, options.confirmations, frozenset(options.without))
    tally, behind = side_by_side(plan, began + options.minutes * 60)
    words = section(
        tally, command=_command(options), seconds=time.monotonic() - began, seeds=range(options.seed, behind)
    )  # fmt: skip
    print(words)
    if options.out is not None:
        append(options.out, words)
    return 1 if tally.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deep", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worlds", type=int, default=1, help="side by side")
    parser.add_argument("--round", type=float, default=60, help="seconds of each round in which things die")
    parser.add_argument("--confirmations", type=int, default=3)
    parser.add_argument("--without", action="append", default=[], choices=[*POINTS, *BLOWS], help="leave out")
    parser.add_argument("--out", type=Path, help="Markdown file with a line <!-- runs -->")
    return parser.parse_args()


def _command(options: argparse.Namespace) -> str:
    left_out = "".join(f" --without {what}" for what in options.without)
    return (
        f"python -m deep --minutes {options.minutes:g} --seed {options.seed} --worlds {options.worlds} "
        f"--round {options.round:g} --confirmations {options.confirmations}{left_out}"
    )


if __name__ == "__main__":
    sys.exit(main())
