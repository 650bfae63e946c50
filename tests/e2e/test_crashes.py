"""Processes die at named points, the chain is reorganised and goes back to its last dump: nothing is lost or doubled.

The fast slice of `python -m deep`; its last test breaks market and node on purpose, and the same checks must notice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest

from deep.checks import findings, wait_quiet
from deep.world import Deep, a_deep_world, break_memory
from support.meddler import start_meddler

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
STRIKES = (
    "client.bid.posted",
    "client.receipt.signed",
    "market.open.sent",
    "market.settle.sent",
    "market.blocks.committed",
    "node.lease.started",
    "node.receipt.signed",
    "agent.run.submitted",
    "worker.run.running",
)
STRIKE_S, FINISH_S, BROKEN_S = 90.0, 150.0, 15.0


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deep]:
    """A chain that mines each second, a market that waits for two blocks more, a node, two consumers."""
    with a_deep_world(tmp_path_factory.mktemp("deep"), confirmations=2, consumers=2) as deep:
        deep.chance = random.Random(1)
        yield deep


def play(deep: Deep, seed: int, act: Callable[[], None], *, finish: float = FINISH_S, quiet: float = 75.0) -> list[str]:
    """A round with these acts in it, and everything that is wrong after it."""
    deep.begin(seed)
    act()
    wrong = deep.finish(finish) or wait_quiet(deep, quiet)
    return [*wrong, *deep.ends(), *findings(deep, list(range(1, seed + 1)))]


def strike(deep: Deep, wanted: tuple[str, ...]) -> set[str]:
    """Arms the points, until all have struck or the time is over; those that have not."""
    for point in wanted:
        deep.arm(point)
    deadline = time.monotonic() + STRIKE_S
    while any((deep.strikes / point).exists() for point in wanted) and time.monotonic() < deadline:
        deep.revive()
        time.sleep(0.02)
    return {point for point in wanted if deep.disarm(point)}


def test_processes_die_at_their_points(deep: Deep) -> None:
    missed: set[str] = set()
    assert play(deep, 1, lambda: missed.update(strike(deep, STRIKES))) == []
    assert missed == set()


def test_the_chain_is_reorganised_and_goes_back_to_its_last_dump(deep: Deep) -> None:
    def blows() -> None:
        time.sleep(4)
        depth, _ = deep.devnet.reorganise(2, forget=frozenset({deep.market_address.lower()}))
        assert depth == 2
        time.sleep(2)
        deep.devnet.kill()
        deep.devnet.start()
        time.sleep(2)

    assert play(deep, 2, blows) == []


def test_what_starts_anew_waits_for_what_is_away(deep: Deep) -> None:
    """Market and node begin while the chain is down, and the new engine loses agent and worker in its self-test."""
    early = ("agent.run.recorded", "worker.child.started")

    def blows() -> None:
        time.sleep(3)
        deep.devnet.kill()
        assert deep.kill_engine()
        deep.market.kill()
        deep.node.kill()
        assert strike(deep, early) == set()
        deadline = time.monotonic() + STRIKE_S
        while "waits for it" not in deep.market.log.read_text() and time.monotonic() < deadline:
            deep.revive()
            time.sleep(0.1)
        deep.devnet.start()

    assert play(deep, 3, blows) == []


def test_a_node_that_hears_of_no_event_does_all_in_its_own_time(deep: Deep) -> None:
    """The way to the market carries everything but events: leases are found, run and forgotten by comparing alone."""
    at = deep.node.command.index("--market") + 1
    direct = deep.node.command[at]
    with start_meddler(direct) as deaf:
        deep.node.command[at] = deaf.url
        deep.node.kill()
        assert play(deep, 4, lambda: time.sleep(1)) == []
    deep.node.command[at] = direct
    deep.node.kill()


def test_the_checks_notice_a_market_that_forgets_its_intents(deep: Deep) -> None:
    break_memory(deep.market, "market")
    wrong = play(deep, 5, lambda: strike(deep, ("market.open.intended",)) and None, finish=BROKEN_S, quiet=1)
    assert any("rows of match wait" in found for found in wait_quiet(deep, 0)), wrong
    assert any("still" in found for found in wrong)
