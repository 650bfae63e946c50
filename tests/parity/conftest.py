"""The compiled contracts in an in-process virtual machine, deployed once; each example takes its effects back."""

from __future__ import annotations

import pytest

from support.evm import Evm, LocalEscrow, Probe


@pytest.fixture(scope="session")
def evm() -> Evm:
    return Evm()


@pytest.fixture(scope="session")
def probe(evm: Evm) -> Probe:
    return Probe(evm)


@pytest.fixture(scope="session")
def local_escrow(evm: Evm) -> LocalEscrow:
    return LocalEscrow(evm)
