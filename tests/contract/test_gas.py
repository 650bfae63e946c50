"""Gas of a lease's life on Anvil under Osaka rules, printed, and held under the first ceilings (gas is exact)."""

from __future__ import annotations

from itertools import count

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from support.devnet import Anvil
from support.solidity import DISCARD, Deal, Ledger, a_bid, an_offer, lanes

SINGLE_CEILING = 210_000
BATCH_CEILING = 100_000
ROOMY = lanes(1_000_000, 4_000_000, 0, 10_000_000)
SEATS = count(1)


@pytest.fixture(scope="module")
def ledger(anvil: Anvil) -> Ledger:
    return Ledger.on(anvil.url, anvil.accounts[0].address)


def deals(ledger: Ledger, anvil: Anvil, parties: list[tuple[LocalAccount, LocalAccount]]) -> list[Deal]:
    """One deal a pair, with fee to the third account's market."""
    market = anvil.accounts[2].address
    return [
        Deal(ledger, consumer, provider, a_bid(consumer.address, market, next(SEATS).to_bytes(32, "big")),
             an_offer(provider.address, capacity=ROOMY))
        for consumer, provider in parties
    ]  # fmt: skip


def gas_of_life(ledger: Ledger, market: str, batch: list[Deal]) -> tuple[int, int]:
    """Opens and settles all in one call each; asserts that every entry went through."""
    escrow = ledger.escrow
    opened = ledger.send(market, escrow.functions.open(b"\x09" * 32, [deal.opening() for deal in batch]))
    assert len(escrow.events.Opened().process_receipt(opened, errors=DISCARD)) == len(batch)
    for deal in batch:
        deal.opened_at = ledger.time()
    entries = [deal.settlement(deal.price // 2) for deal in batch]
    settled = ledger.send(market, escrow.functions.settle(entries))
    assert len(escrow.events.Settled().process_receipt(settled, errors=DISCARD)) == len(batch)
    return opened["gasUsed"], settled["gasUsed"]


def test_single_and_batches(ledger: Ledger, anvil: Anvil, capsys: pytest.CaptureFixture[str]) -> None:
    consumer, provider, market = anvil.accounts[:3]
    for party in (consumer, provider, market):
        ledger.fund(party.address, 1_000_000_000)
    gas_of_life(ledger, market.address, deals(ledger, anvil, [(consumer, provider)]))  # words are warm from now on

    opened, settled = gas_of_life(ledger, market.address, deals(ledger, anvil, [(consumer, provider)]))
    report = [f"single: open {opened:,} + settle {settled:,} = {opened + settled:,} gas"]
    single = opened + settled

    per_lease = 0
    for size in (10, 100):
        pairs = distinct_pairs(ledger, anvil, size)
        for name, chosen in (("one pair", [(consumer, provider)] * size), ("all distinct", pairs)):
            opened, settled = gas_of_life(ledger, market.address, deals(ledger, anvil, chosen))
            per_lease = (opened + settled) // size
            each = f"open {opened // size:,} + settle {settled // size:,} = {per_lease:,} gas a lease"
            report.append(f"batch of {size}, {name}: {each}")
    with capsys.disabled():
        print("", *report, f"code: {len(ledger.web3.eth.get_code(ledger.escrow.address)):,} bytes", sep="\n  ")
    assert single <= SINGLE_CEILING
    assert per_lease <= BATCH_CEILING


def distinct_pairs(ledger: Ledger, anvil: Anvil, size: int) -> list[tuple[LocalAccount, LocalAccount]]:
    """Fresh, funded consumers and providers."""
    payer = anvil.accounts[3].address
    pairs = [(Account.create(), Account.create()) for _ in range(size)]
    total = size * 2 * 10_000_000
    ledger.send(payer, ledger.token.functions.faucet(payer, total))
    ledger.send(payer, ledger.token.functions.approve(ledger.escrow.address, total))
    for pair in pairs:
        for party in pair:
            ledger.send(payer, ledger.escrow.functions.deposit(party.address, 10_000_000))
    return pairs
