"""A street for measurements: devnet, market and one node as processes, all warm."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.builders import CREDIT
from support.devnet import start_anvil
from support.market import MarketProcess, Party, World, a_world, market_key, serve_command, start_market
from support.node import NodeHome, NodeProcess, a_node_home, start_node

CPUS = "2"
MONEY = 100_000 * CREDIT


@dataclass(frozen=True)
class Street:
    """What runs, and where the node lives."""

    world: World
    market: MarketProcess
    home: NodeHome
    node: NodeProcess

    def party(self) -> Party:
        """A consumer with more money than it needs."""
        return self.world.party(MONEY)


@contextmanager
def a_market(*options: str) -> Iterator[tuple[World, MarketProcess]]:
    """A devnet and a market."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, start_anvil() as anvil:
        folder, world = Path(name), a_world(anvil)
        key, password, _ = market_key(world, folder / "key")
        with start_market(serve_command(world, key, password, folder / "data", *options)) as market:
            yield world, market


@contextmanager
def a_street() -> Iterator[Street]:
    """Devnet, market, one node of two cores."""
    os.environ.pop("SUANLI_HOME", None)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        world, market = stack.enter_context(a_market("--rate-per-key", "0"))
        home = a_node_home(world, folder / "node", money=MONEY)
        stack.callback(home.ask, "down", "--state", str(home.state))
        node = stack.enter_context(start_node(home.command(market.url, "--cpus", CPUS, "--memory", "4GiB")))
        yield Street(world, market, home, node)
