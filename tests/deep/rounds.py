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
# Between two deaths of a role, at most: where agent and workers die all the time no job gets far enough for the others.
PAUSE_S = {"client": 3.0, "market": 3.0, "node": 3.0, "agent": 20.0, "worker": 12.0}
BLOW_S = 5.0  # between two blows to chain or engine, at most
BLOWS = {"reorganise": 8, "anvil": 3, "engine": 1}


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


@dataclass
class Round:
    """The time of one round in which things die: each role at one point after the other, the chain in between."""

    deep: Deep
    tally: Tally
    seen: Tally
    without: frozenset[str]
    armed: dict[str, tuple[str, float]] = field(default_factory=dict)  # by role: the point, and since when
    rests: dict[str, float] = field(default_factory=dict)  # by role: until when it is left alone

    def run(self, seconds: float) -> None:
        """Until the time is over; nothing is armed any more then."""
        chance, began = self.deep.chance, time.monotonic()
        roles = [role for role in POINTS if role not in self.without]
        blows = {what: weight for what, weight in BLOWS.items() if what not in self.without}
        self.rests = {role: began + chance.uniform(0, PAUSE_S[role]) for role in roles}
        next_blow = began + chance.uniform(1, BLOW_S)
        while (now := time.monotonic()) < began + seconds and not self.deep.hopeless:
            self.deep.revive()
            for role in roles:
                self._attend(role, now)
            if blows and now >= next_blow:
                self._blow(*chance.choices(list(blows), list(blows.values())))
                next_blow = now + chance.uniform(1, BLOW_S)
            time.sleep(0.02)
        for role in list(self.armed):
            self._judge(role)

    def _attend(self, role: str, now: float) -> None:
        """Arms a point of the role that rests no more; looks whether one has struck, or never will."""
        if role in self.armed:
            point, since = self.armed[role]
            if now - since > STRIKE_S or not (self.deep.strikes / point).exists():
                self._judge(role)
        elif now >= self.rests[role]:
            tried = self.seen.kills + self.seen.missed + self.tally.kills + self.tally.missed
            point = min(POINTS[role], key=lambda name: (tried[name], self.deep.chance.random()))
            self.armed[role] = point, now
            self.deep.arm(point)

    def _judge(self, role: str) -> None:
        point, _ = self.armed.pop(role)
        struck = not self.deep.disarm(point)
        (self.tally.kills if struck else self.tally.missed)[point] += 1
        self.rests[role] = time.monotonic() + self.deep.chance.uniform(0, PAUSE_S[role])

    def _blow(self, what: str) -> None:
        deep, chance = self.deep, self.deep.chance
        match what:
            case "anvil":
                deep.devnet.kill()
                self.tally.kills["anvil"] += 1
                time.sleep(chance.uniform(0, 1.0))
                deep.devnet.start()
            case "engine":
                self.tally.kills["ray host"] += deep.kill_engine()
            case _:
                depth = chance.randint(1, max(1, deep.confirmations))
                forgotten = frozenset({deep.market_address.lower()}) if chance.random() < 0.5 else frozenset[str]()
                depth, taken = deep.devnet.reorganise(depth, forget=forgotten)
                self.tally.transactions_taken += taken
                self.tally.reorganisations.update([depth] if depth else [])


def play(deep: Deep, seed: int, *, seconds: float, seen: Tally, earlier: list[int], without: frozenset[str]) -> Tally:
    """One round in a world that has seen `earlier` ones; points that were tried least come first."""
    deep.chance = random.Random(seed)
    tally = Tally(rounds=1)
    deep.begin(seed)
    Round(deep, tally, seen, without).run(seconds)
    wrong = deep.finish(FINISH_S) or wait_quiet(deep)
    wrong += deep.ends()
    wrong += findings(deep, [*earlier, seed])
    for person in deep.people:
        ended = [record for record in person.records if f"-{seed}-" in record.idempotency_key]
        tally.jobs.update(record.reason or record.phase for record in ended)
    if wrong:
        tally.failures[seed] = wrong
    return tally
