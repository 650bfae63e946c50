"""The life of a lease on real chains: Anvil, and Hardhat's own node. Signed by eth_account, not by our own code."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from web3.exceptions import ContractCustomError
from web3.types import TxReceipt

from support.devnet import Anvil, start_anvil, start_hardhat_node
from support.solidity import (
    DISCARD,
    LINK_FIELDS,
    NO_SIGNATURE,
    PERMIT_FIELDS,
    RATE,
    Deal,
    Ledger,
    a_bid,
    an_offer,
    sign_for,
)

FUNDS = 50_000_000
UNKNOWN_LEASE = 26
SEAT_TAKEN = 8
SEATS = count(1)


@pytest.fixture(scope="module", params=["anvil", "hardhat node"])
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    if request.param == "anvil":
        yield request.getfixturevalue("anvil")
    else:
        with start_hardhat_node(tmp_path_factory.mktemp("hardhat")) as node:
            yield node


@pytest.fixture
def ledger(chain: Anvil) -> Ledger:
    """A fresh escrow each time; consumer, provider and market are the first three accounts."""
    ledger = Ledger.on(chain.url, chain.accounts[0].address)
    for account in chain.accounts[:2]:
        ledger.fund(account.address, FUNDS)
    return ledger


@pytest.fixture
def parties(chain: Anvil) -> tuple[LocalAccount, LocalAccount, str]:
    return chain.accounts[0], chain.accounts[1], chain.accounts[2].address


def opened(ledger: Ledger, parties: tuple[LocalAccount, LocalAccount, str], **changes: Any) -> Deal:
    """An open lease between the parties."""
    consumer, provider, market = parties
    seat = changes.pop("seat", next(SEATS).to_bytes(32, "big"))
    bid = a_bid(consumer.address, market, seat, **changes)
    deal = Deal(ledger, consumer, provider, bid, an_offer(provider.address))
    receipt = ledger.send(market, ledger.escrow.functions.open(b"\x07" * 32, [deal.opening()]))
    deal.opened_at = ledger.time_of(receipt)
    event = only(ledger.escrow.events.Opened().process_receipt(receipt, errors=DISCARD))
    assert event["leaseId"] == deal.lease_id, "the chain and this file agree on every term"
    assert event["bidHash"] == deal.clauses[0]
    assert event["offerHash"] == deal.clauses[1]
    assert event["terms"] == RATE << 160 | 1
    return deal


def only(events: Any) -> Any:
    """The arguments of the one event."""
    (event,) = events
    return event["args"]


def outcome(ledger: Ledger, receipt: TxReceipt, name: str) -> Any:
    return only(getattr(ledger.escrow.events, name)().process_receipt(receipt, errors=DISCARD))


def test_from_faucet_to_withdrawal(ledger: Ledger, parties: tuple[LocalAccount, LocalAccount, str]) -> None:
    consumer, provider, market = parties
    escrow = ledger.escrow.functions
    deal = opened(ledger, parties)
    assert ledger.free(consumer.address) == FUNDS - deal.deposit
    assert ledger.free(provider.address) == FUNDS - deal.bond
    assert ledger.used(provider.address) == deal.bid["need"]

    interim = ledger.send(market, escrow.settle([deal.settlement(10_000, kind=0)]))
    assert outcome(ledger, interim, "Settled")["fee"] == 50
    deal.progress = 10_000 << 160
    assert ledger.free(provider.address) == FUNDS - deal.bond + 10_000

    stop = ledger.send(consumer.address, escrow.stop(deal.lease, deal.clauses, deal.progress))
    stopped = outcome(ledger, stop, "Stopped")
    assert stopped["clock"] == ledger.time_of(stop)
    assert stopped["byConsumerSide"] is True
    deal.progress |= stopped["clock"] << 24 | 1 << 16 | 1 << 8

    ledger.send(market, escrow.settle([deal.settlement(60_000, kind=1)]))
    assert ledger.free(provider.address) == FUNDS + 60_000
    assert ledger.free(market) == 300
    assert ledger.free(consumer.address) == FUNDS - 60_300
    assert ledger.used(provider.address) == 0
    assert escrow.seatOf(deal.seat_key).call() == (1).to_bytes(32, "big")

    for party in (consumer.address, provider.address, market):
        before = ledger.token.functions.balanceOf(party).call()
        free = ledger.free(party)
        ledger.send(party, escrow.withdraw(party, free))
        assert ledger.token.functions.balanceOf(party).call() == before + free
    assert ledger.token.functions.balanceOf(ledger.escrow.address).call() == 0, "the escrow is empty"


def test_released_by_the_provider(ledger: Ledger, parties: tuple[LocalAccount, LocalAccount, str]) -> None:
    consumer, provider, _ = parties
    deal = opened(ledger, parties)
    call = ledger.escrow.functions.release(deal.lease, deal.clauses, deal.progress)
    penalty = RATE * deal.offer["minSeconds"] // 3600
    released = outcome(ledger, ledger.send(provider.address, call), "Released")
    assert released["penalty"] == penalty
    assert ledger.free(consumer.address) == FUNDS + penalty
    assert ledger.free(provider.address) == FUNDS - penalty


def test_deposit_by_permit(ledger: Ledger, chain: Anvil) -> None:
    payer = chain.accounts[3]
    ledger.send(payer.address, ledger.token.functions.faucet(payer.address, 777))
    domain = {
        "name": "Suanli Dev Credit",
        "version": "1",
        "chainId": ledger.web3.eth.chain_id,
        "verifyingContract": ledger.token.address,
    }
    permit = {
        "owner": payer.address,
        "spender": ledger.escrow.address,
        "value": 777,
        "nonce": ledger.token.functions.nonces(payer.address).call(),
        "deadline": 2**40,
    }
    signed = sign_for(domain, payer, "Permit", PERMIT_FIELDS, permit)
    r, s = signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")
    deposit = ledger.escrow.functions.depositWithPermit(payer.address, 777, 2**40, signed.v, r, s)
    ledger.send(payer.address, deposit)
    assert ledger.free(payer.address) == 777


def test_link_by_signature(ledger: Ledger, chain: Anvil) -> None:
    hot, cold, relay = chain.accounts[4:7]
    message = {"account": hot.address, "owner": cold.address}
    signature = ledger.sign(hot, "Link", LINK_FIELDS, message)
    ledger.send(relay.address, ledger.escrow.functions.link(hot.address, cold.address, signature))
    assert ledger.escrow.functions.ownerOf(hot.address).call() == cold.address
    with pytest.raises(ContractCustomError):
        ledger.escrow.functions.link(hot.address, relay.address, NO_SIGNATURE).call({"from": hot.address})


def test_tampered_receipt_pays_nothing(ledger: Ledger, parties: tuple[LocalAccount, LocalAccount, str]) -> None:
    deal = opened(ledger, parties)
    lease, progress, amount, kind, evidence, by_provider, by_consumer = deal.settlement(1_000)
    forged = (lease, progress, amount + 1, kind, evidence, by_provider, by_consumer)
    receipt = ledger.send(parties[2], ledger.escrow.functions.settle([forged]))
    assert outcome(ledger, receipt, "SettlementRefused")["leaseId"] == deal.lease_id
    assert ledger.free(parties[1].address) == FUNDS - deal.bond


def test_replays_are_refused(ledger: Ledger, parties: tuple[LocalAccount, LocalAccount, str]) -> None:
    deal = opened(ledger, parties)
    again = ledger.send(parties[2], ledger.escrow.functions.open(b"\0" * 32, [deal.opening()]))
    assert outcome(ledger, again, "Refused")["code"] == SEAT_TAKEN
    entry = deal.settlement(1_000)
    ledger.send(parties[2], ledger.escrow.functions.settle([entry]))
    again = ledger.send(parties[2], ledger.escrow.functions.settle([entry]))
    assert outcome(ledger, again, "SettlementRefused")["code"] == UNKNOWN_LEASE


def test_receipt_dies_with_a_reorganised_open() -> None:
    with start_anvil() as chain:
        ledger = Ledger.on(chain.url, chain.accounts[0].address)
        parties = chain.accounts[0], chain.accounts[1], chain.accounts[2].address
        for account in parties[:2]:
            ledger.fund(account.address, FUNDS)
        snapshot = chain.rpc("evm_snapshot")
        before = opened(ledger, parties, seat=b"\x5e" * 32)
        receipt = before.settlement(1_000)
        chain.rpc("evm_revert", snapshot)
        chain.rpc("evm_increaseTime", 30)
        after = opened(ledger, parties, seat=b"\x5e" * 32)
        assert after.lease_id != before.lease_id
        old = ledger.send(parties[2], ledger.escrow.functions.settle([receipt]))
        assert outcome(ledger, old, "SettlementRefused")["code"] == UNKNOWN_LEASE
