"""A round: jobs run while processes die and the chain is reorganised, then everything is checked. One seed each."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field

from deep.checks import findings, wait_quiet
from deep.points import POINTS
from deep.world import Deep

STRIKE_S = 20.0  # a point that no process has come to by then is given up
FINISH_S = 240.0
WEIGHTS = {"client": 6, "market": 7, "node": 7, "agent": 2, "worker": 3, "anvil": 3, "engine": 1, "reorganise": 5}


@dataclass
class Tally:
    """What happened, over any number of rounds."""

    kills: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    reorganisations: Counter[int] = field(default_factory=Counter)
    transactions_taken: int = 0
    jobs: Counter[str] = field(default_factory=Counter)  # by how they ended
    rounds: int = 0
    failures: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Everything of the other too."""
        for name in ("kills", "missed", "reorganisations", "jobs"):
            getattr(self, name).update(getattr(other, name))
        self.transactions_taken += other.transactions_taken
        self.rounds += other.rounds
        self.failures.update(other.failures)


def play(deep: Deep, seed: int, *, acts: int, seen: Tally, earlier: list[int], weights: dict[str, int]) -> Tally:
    """One round in a world that has seen `earlier` ones; points that were struck least come first."""
    chance = deep.chance = random.Random(seed)
    tally = Tally(rounds=1)
    deep.begin(seed)
    for _ in range(acts):
        if deep.hopeless:
            break
        _act(deep, chance, tally, seen, weights)
        _pass_time(deep, chance.uniform(0, 1.5))
    wrong = deep.finish(FINISH_S) or wait_quiet(deep)
    wrong += deep.ends()
    wrong += findings(deep, [*earlier, seed])
    for person in deep.people:
        ended = [record for record in person.records if f"-{seed}-" in record.idempotency_key]
        tally.jobs.update(record.reason or record.phase for record in ended)
    if wrong:
        tally.failures[seed] = wrong
    return tally


def _act(deep: Deep, chance: random.Random, tally: Tally, seen: Tally, weights: dict[str, int]) -> None:
    (what,) = chance.choices(list(weights), list(weights.values()))
    match what:
        case "anvil":
            deep.devnet.kill()
            tally.kills["anvil"] += 1
            _pass_time(deep, chance.uniform(0, 1.0))
            deep.devnet.start()
        case "engine":
            tally.kills["ray host"] += deep.kill_engine()
        case "reorganise":
            depth = chance.randint(1, max(1, deep.confirmations))
            forgotten = frozenset({deep.market_address.lower()}) if chance.random() < 0.5 else frozenset[str]()
            tally.transactions_taken += deep.devnet.reorganise(depth, forget=forgotten)
            tally.reorganisations[depth] += 1
        case _:
            _strike(deep, chance, what, tally, seen)


def _strike(deep: Deep, chance: random.Random, role: str, tally: Tally, seen: Tally) -> None:
    tried = seen.kills + seen.missed + tally.kills + tally.missed
    point = min(POINTS[role], key=lambda name: (tried[name], chance.random()))
    deep.arm(point)
    deadline = time.monotonic() + STRIKE_S
    while (deep.strikes / point).exists() and time.monotonic() < deadline:
        deep.revive()
        time.sleep(0.02)
    struck = not deep.disarm(point)
    (tally.kills if struck else tally.missed)[point] += 1


def _pass_time(deep: Deep, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        deep.revive()
        time.sleep(0.05)
