"""Gas of a lease's life on Anvil under Osaka rules, printed, and held under the first ceilings (gas is exact)."""

from __future__ import annotations

import pytest

from support.devnet import Anvil
from support.gas import lives
from support.solidity import Ledger

SINGLE_CEILING = 210_000
BATCH_CEILING = 100_000


def test_single_and_batches(anvil: Anvil, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger.on(anvil.url, anvil.accounts[0].address)
    measured = list(lives(ledger, anvil))
    with capsys.disabled():
        for life in measured:
            who = "all distinct" if life.is_distinct else "one pair"
            each = f"open {life.opened:,} + settle {life.settled:,} = {life.total:,} gas a lease"
            print(f"\n  {life.size}, {who}: {each}", end="")
        print(f"\n  code: {len(ledger.web3.eth.get_code(ledger.escrow.address)):,} bytes")
    assert [life.size for life in measured] == [1, 10, 10, 100, 100]
    assert measured[0].total <= SINGLE_CEILING
    assert all(life.total <= BATCH_CEILING for life in measured if life.size == 100)
