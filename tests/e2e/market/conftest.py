"""A market for each file of this folder, and two parties for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.devnet import Anvil
from support.market import (
    Party,
    World,
    a_world,
    market_key,
    serve_command,
    start_market,
)
from support.market_scene import (
    Market,
)


@pytest.fixture(scope="module")
def world(anvil: Anvil) -> World:
    return a_world(anvil)


@pytest.fixture(scope="module")
def market(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    folder = tmp_path_factory.mktemp("market")
    key, password, _ = market_key(world, folder / "key")
    with start_market(serve_command(world, key, password, folder / "data")) as process:
        yield Market(world, process, folder / "data")
        assert process.process.poll() is None, "".join(process.log)
        assert not [line for line in process.log if "Traceback" in line], "".join(process.log)


@pytest.fixture
def provider(world: World) -> Party:
    return world.party()


@pytest.fixture
def consumer(world: World) -> Party:
    return world.party()
