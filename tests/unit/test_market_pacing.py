"""How often the clearing thread looks: at once when nothing competes, a part of the time only while bids do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from suanli_market.clearing import rounds as module
from suanli_market.clearing.matching import CheapestFirst, Clearing
from suanli_market.clearing.rounds import REST, TICK_S, Rounds
from suanli_market.store import Store
from suanli_market.tables import MatchRow
from suanli_protocol import wire
from support.builders import NOW, a_need, a_seat, market
from support.market_desk import Desk, a_bid_paper, an_offer_paper

ROUND_S = 0.5
LOOK_S = 0.02  # what a look costs here


class Time:
    """The module's clocks: only looking and sleeping take time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cpu = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Moved by sleep and work."""
        return self.now

    def thread_time(self) -> float:
        """Moved by work."""
        return self.cpu

    def sleep(self, seconds: float) -> None:
        """Noted."""
        self.slept.append(seconds)
        self.now += seconds

    def work(self, seconds: float) -> None:
        """The thread computes."""
        self.cpu += seconds
        self.now += seconds


class Restless:
    """A book that changes all the time: whoever waits for a change has one at once."""

    def __init__(self, before_each: Callable[[], None]) -> None:
        self.waits: list[float] = []
        self._before_each = before_each

    def wait(self, timeout: float) -> bool:
        """Never waits."""
        self.waits.append(timeout)
        self._before_each()
        return True

    def clear(self) -> None:
        """There is a change again at once."""

    def set(self) -> None:
        """There is one anyway."""


class Laborious(CheapestFirst):
    """A policy whose every look costs LOOK_S."""

    def __init__(self, time: Time) -> None:
        self.time, self.looks = time, 0

    def clear(self, bids: Any, offers: Any, facts: Any) -> Clearing:
        """Clears, and it takes its time."""
        self.looks += 1
        self.time.work(LOOK_S)
        return super().clear(bids, offers, facts)


class Scene:
    """A clearing thread whose clocks stand in a test's hand; `run` gives it so many looks at a book that changes."""

    def __init__(self, store: Store, time: Time) -> None:
        self.desk, self.time, self.policy = Desk(store), time, Laborious(time)
        self.matched_at: list[float] = []
        self.rounds = Rounds(
            store,
            self.desk.keeper,
            self.policy,
            market=market().address,
            round_ms=int(ROUND_S * 1000),
            decimals=6,
            symbol="DEVC",
            on_match=lambda: self.matched_at.append(time.now),
        )

    def run(self, *, until: Callable[[], bool], looks_max: int = 200) -> Restless:
        """Runs the thread's loop here."""

        def look() -> None:
            if until() or len(book.waits) > looks_max:
                self.rounds._stopping = True

        book = Restless(look)
        self.desk.keeper.changed = book  # type: ignore[assignment]
        self.rounds._stopping = False
        self.rounds._run()
        return book

    def matched(self) -> list[str]:
        """The bids that rounds matched."""
        with self.desk.store.read() as session:
            return list(session.exec(select(MatchRow.bid)))


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr("suanli_market.clearing.keeper.time.time", lambda: float(NOW))
    time = Time()
    monkeypatch.setattr(module, "time", time)
    store = Store(tmp_path)
    store.migrate()
    made = Scene(store, time)
    yield made
    made.desk.admission.stop()
    store.close()


def competing() -> tuple[Any, Any]:
    """Two bids for what one machine has once, the second of them dearer."""
    need = a_need(cpu_milli=3000).pack()
    return a_bid_paper(need=need, max_rate=150_000), a_bid_paper(need=need, max_rate=250_000, seat=a_seat(1))


def test_a_bid_that_competes_with_nobody_is_served_at_the_first_look(scene: Scene) -> None:
    scene.desk.submit(an_offer_paper(), bid := a_bid_paper())
    book = scene.run(until=lambda: bool(scene.matched()))
    assert scene.matched() == [wire.to_hex(bid.id)]
    assert (scene.policy.looks, scene.time.slept) == (1, [])
    assert set(book.waits) == {TICK_S}


def test_while_bids_compete_most_of_the_time_is_rest(scene: Scene) -> None:
    scene.desk.submit(an_offer_paper(), *(bids := competing()))
    began = scene.time.now
    scene.run(until=lambda: bool(scene.matched()))
    assert scene.matched() == [wire.to_hex(bids[1].id)]
    assert scene.matched_at == [pytest.approx(began + ROUND_S + LOOK_S, abs=LOOK_S)], "the round is not longer for it"
    assert scene.policy.looks <= 8, "without a rest there were 26"
    assert max(scene.time.slept) == pytest.approx(REST * LOOK_S)


def test_nobody_rests_beyond_the_end_of_the_round(scene: Scene) -> None:
    scene.desk.submit(an_offer_paper(), *competing())
    scene.rounds.step()
    scene.time.now += ROUND_S - 0.03
    scene.rounds._rest(took_s=1.0)
    assert scene.time.slept == [pytest.approx(0.03 - LOOK_S, abs=LOOK_S)]
    assert scene.rounds._patience() == TICK_S, "the time is over: the next look decides, or else the next change"


def test_the_thread_waits_for_a_change_no_longer_than_for_the_end_of_the_round(scene: Scene) -> None:
    scene.desk.submit(an_offer_paper(), *competing())
    book = scene.run(until=lambda: bool(scene.matched()))
    assert book.waits[0] == TICK_S
    assert all(wait <= ROUND_S for wait in book.waits[2:-1])
