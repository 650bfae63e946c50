"""Worlds of a deep run, side by side: a process each, with seeds of its own, kept while its rounds hold."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from deep.rounds import Tally, play
from deep.world import a_deep_world, discard

ROUNDS_A_WORLD = 15


@dataclass(frozen=True)
class Plan:
    """What is run: from which seed on, how many worlds at once, and each round's seconds of dying."""

    seed: int
    worlds: int
    round_s: float
    confirmations: int
    without: frozenset[str]


def side_by_side(plan: Plan, ends: float) -> tuple[Tally, int]:
    """What happened in all worlds, and the first seed that none of them had."""
    tally, seed = Tally(), plan.seed
    running: set[Future[Tally]] = set()
    with ProcessPoolExecutor(plan.worlds, mp_context=multiprocessing.get_context("spawn")) as pool:
        while True:
            while len(running) < plan.worlds and time.monotonic() < ends:
                running.add(pool.submit(_world, plan, seed, ends - time.monotonic(), tally))
                seed += ROUNDS_A_WORLD
            if not running:
                return tally, seed
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for world in done:
                tally.add(world.result())


def _world(plan: Plan, first: int, seconds: float, before: Tally) -> Tally:
    """The rounds of one world, until one does not hold. A fault of the run itself is a failure of its round."""
    tally, ends, seed = Tally(), time.monotonic() + seconds, first
    folder = Path(tempfile.mkdtemp(prefix="suanli-deep-"))
    try:
        with a_deep_world(folder, confirmations=plan.confirmations) as deep:
            while not tally.failures and seed < first + ROUNDS_A_WORLD and time.monotonic() < ends:
                began, seen = time.monotonic(), Tally()
                seen.add(before)
                seen.add(tally)
                earlier = list(range(first, seed))
                found = play(deep, seed, seconds=plan.round_s, seen=seen, earlier=earlier, without=plan.without)
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
