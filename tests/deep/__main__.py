"""The deep run as a command: rounds from a seed on, for so many minutes, in worlds that are kept while they hold.

Several worlds may run side by side, a process each; every world has seeds of its own. A run is taken up again by
`--seed` with a number above those that it named.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from deep.points import POINTS
from deep.report import append, section
from deep.rounds import BLOWS, Tally, play
from deep.world import a_deep_world, discard

ROUNDS_A_WORLD = 15


def main() -> int:
    """0 if every round held."""
    options = _options()
    began = time.monotonic()
    tally, behind = _side_by_side(options, began + options.minutes * 60)
    words = section(
        tally, command=_command(options), seconds=time.monotonic() - began, seeds=range(options.seed, behind)
    )  # fmt: skip
    print(words)
    if options.out is not None:
        append(options.out, words)
    return 1 if tally.failures else 0


def _side_by_side(options: argparse.Namespace, ends: float) -> tuple[Tally, int]:
    """What happened in all worlds, and the first seed that none of them had."""
    tally, seed = Tally(), options.seed
    running: set[Future[Tally]] = set()
    with ProcessPoolExecutor(options.worlds, mp_context=multiprocessing.get_context("spawn")) as pool:
        while True:
            while len(running) < options.worlds and time.monotonic() < ends:
                running.add(pool.submit(_world, options, seed, ends - time.monotonic(), tally))
                seed += ROUNDS_A_WORLD
            if not running:
                return tally, seed
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for world in done:
                tally.add(world.result())


def _world(options: argparse.Namespace, first: int, seconds: float, before: Tally) -> Tally:
    """The rounds of one world, until one does not hold. A fault of the run itself is a failure of its round."""
    tally, ends, seed = Tally(), time.monotonic() + seconds, first
    folder = Path(tempfile.mkdtemp(prefix="suanli-deep-"))
    try:
        with a_deep_world(folder, confirmations=options.confirmations) as deep:
            while not tally.failures and seed < first + ROUNDS_A_WORLD and time.monotonic() < ends:
                began, seen = time.monotonic(), Tally()
                seen.add(before)
                seen.add(tally)
                without, earlier = frozenset(options.without), list(range(first, seed))
                found = play(deep, seed, seconds=options.round, seen=seen, earlier=earlier, without=without)
                tally.add(found)
                _tell(seed, found, time.monotonic() - began)
                seed += 1
    except Exception:
        tally.failures.setdefault(seed, []).append(f"the run itself failed: {traceback.format_exc()}")
        _tell(seed, tally, 0)
    if tally.failures:
        print(f"the world of seeds {first}–{seed - 1} is kept in {folder}", flush=True)
    else:
        discard(folder)
    return tally


def _tell(seed: int, found: Tally, seconds: float) -> None:
    print(
        f"seed {seed}: {found.kills.total()} kills, {found.reorganisations.total()} reorganisations, "
        f"{found.jobs.total()} jobs, {seconds:.0f} s; "
        + ("holds" if not found.failures else "\n  ".join(["FAILS", *found.failures[seed]])),
        flush=True,
    )


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
