"""Gas of a lease's life on Anvil under Osaka rules, printed, and held under the first ceilings (gas is exact)."""

from __future__ import annotations

import pytest

from support.devnet import Anvil, start_anvil
from support.gas import FUNDS, lives, ways_out
from support.solidity import Ledger

SINGLE_CEILING = 210_000
BATCH_CEILING = 100_000
WAY_CEILING = 120_000


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


def test_ways_out(capsys: pytest.CaptureFixture[str]) -> None:
    with start_anvil() as anvil:  # of its own: time passes there
        ledger = Ledger.on(anvil.url, anvil.accounts[0].address)
        for account in anvil.accounts[:3]:
            ledger.fund(account.address, FUNDS)
        measured = list(ways_out(ledger, anvil))
    with capsys.disabled():
        print("\n  " + ", ".join(f"{way.change} {way.gas:,}" for way in measured) + " gas")
    assert [way.change for way in measured] == ["release", "claim", "dispute", "resolve", "finalize", "reclaim"]
    assert all(way.gas < WAY_CEILING for way in measured)
