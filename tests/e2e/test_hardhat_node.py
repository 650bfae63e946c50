"""One lease's life, from the command line to the audit, on Hardhat's own node instead of Anvil."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.consumer import a_consumer
from support.devnet import start_hardhat_node
from support.market import a_world, market_key, serve_command, start_market
from support.node import a_node_home, start_node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_lease_lives_on_hardhat_node(tmp_path: Path) -> None:
    with start_hardhat_node(tmp_path) as devnet:
        world = a_world(devnet)
        key, password, _ = market_key(world, tmp_path / "market")
        node = a_node_home(world, tmp_path / "node")
        # Hardhat dates each block a second after the one before at the least, so its clock runs ahead of ours when many
        # come at once; a client allows that a tenth of the window.
        with start_market(serve_command(world, key, password, tmp_path / "data", "--min-window", "600")) as market:
            try:
                with start_node(node.command(market.url)):
                    ann = a_consumer(world, market.url, tmp_path / "ann")
                    ran = ann("run", "--yes", "--", "python", "-c", "print(6*7)")
                    assert (ran.status, ran.out.strip()) == (0, "42"), ran.err
                    audited = ann("audit", "lease", "1")
                    assert audited.status == 0, audited.out + audited.err
            finally:
                node.down()
