"""The compiled contracts in an in-process virtual machine, deployed once; each example takes its effects back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.evm import Evm, LocalEscrow, Probe


@pytest.fixture(scope="session")
def evm() -> Evm:
    from support.evm import Evm  # only here: without its machine the tests are skipped, not this file

    return Evm()


@pytest.fixture(scope="session")
def probe(evm: Evm) -> Probe:
    from support.evm import Probe

    return Probe(evm)


@pytest.fixture(scope="session")
def local_escrow(evm: Evm) -> LocalEscrow:
    from support.evm import LocalEscrow

    return LocalEscrow(evm)
