"""Fixtures that every folder of tests shares. This file also puts tests/ on the path of imports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.devnet import Anvil, start_anvil
from support.schedule import Shares, seconds


@pytest.fixture(scope="session")
def anvil() -> Iterator[Anvil]:
    """One devnet for the whole test session (one a worker under xdist); deploy your own contracts on it."""
    with start_anvil() as devnet:
        yield devnet


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several workers the longest files come first, so that no worker ends long after the others."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: -seconds(item.nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shares:
    """Deals the tests out to workers (`-n`)."""
    config.option.loadscopereorder = False
    return Shares(config, log)
