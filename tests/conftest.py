"""Fixtures that every folder of tests shares. This file also puts tests/ on the path of imports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.devnet import Anvil, start_anvil


@pytest.fixture(scope="session")
def anvil() -> Iterator[Anvil]:
    """One devnet for the whole test session (one a worker under xdist); deploy your own contracts on it."""
    with start_anvil() as devnet:
        yield devnet
