"""Gas of a lease's life on a devnet, exact: what one lease, and what each of a batch, costs to open and to settle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from eth_account import Account
from eth_account.signers.local import LocalAccount

from support.devnet import Anvil
from support.solidity import DISCARD, Deal, Ledger, a_bid, an_offer, lanes

ROOMY = lanes(1_000_000, 4_000_000, 0, 10_000_000)
FUNDS, PAIR_FUNDS = 1_000_000_000, 10_000_000
SEATS = count(1)
Pair = tuple[LocalAccount, LocalAccount]


@dataclass(frozen=True)
class LifeGas:
    """Gas per lease of a batch, all accounts' words being warm but those of fresh pairs."""

    size: int
    is_distinct: bool  # as many consumers and providers as leases; else one of each
    opened: int
    settled: int

    @property
    def total(self) -> int:
        """Open and settle together."""
        return self.opened + self.settled


def lives(ledger: Ledger, anvil: Anvil, sizes: tuple[int, ...] = (1, 10, 100)) -> Iterator[LifeGas]:
    """Measures each size, with one pair of parties and (above 1) with distinct ones."""
    consumer, provider, market = anvil.accounts[:3]
    for party in (consumer, provider, market):
        ledger.fund(party.address, FUNDS)
    gas_of_life(ledger, anvil, [(consumer, provider)])  # words are warm from now on
    for size in sizes:
        yield gas_of_life(ledger, anvil, [(consumer, provider)] * size)
        if size > 1:
            yield gas_of_life(ledger, anvil, distinct_pairs(ledger, anvil, size))


def gas_of_life(ledger: Ledger, anvil: Anvil, pairs: list[Pair]) -> LifeGas:
    """Opens and settles one lease a pair, all in one call each; asserts that every entry went through."""
    escrow, market, batch = ledger.escrow, anvil.accounts[2].address, deals(ledger, anvil, pairs)
    opened = ledger.send(market, escrow.functions.open(b"\x09" * 32, [deal.opening() for deal in batch]))
    assert len(escrow.events.Opened().process_receipt(opened, errors=DISCARD)) == len(batch)
    for deal in batch:
        deal.opened_at = ledger.time()
    entries = [deal.settlement(deal.price // 2) for deal in batch]
    settled = ledger.send(market, escrow.functions.settle(entries))
    assert len(escrow.events.Settled().process_receipt(settled, errors=DISCARD)) == len(batch)
    size, is_distinct = len(batch), len({pair[0].address for pair in pairs}) == len(batch) > 1
    return LifeGas(size, is_distinct, opened["gasUsed"] // size, settled["gasUsed"] // size)


def deals(ledger: Ledger, anvil: Anvil, pairs: list[Pair]) -> list[Deal]:
    """One deal a pair, with fee to the third account's market."""
    market = anvil.accounts[2].address
    return [
        Deal(ledger, consumer, provider, a_bid(consumer.address, market, next(SEATS).to_bytes(32, "big")),
             an_offer(provider.address, capacity=ROOMY))
        for consumer, provider in pairs
    ]  # fmt: skip


def distinct_pairs(ledger: Ledger, anvil: Anvil, size: int) -> list[Pair]:
    """Fresh, funded consumers and providers."""
    payer = anvil.accounts[3].address
    pairs = [(Account.create(), Account.create()) for _ in range(size)]
    total = size * 2 * PAIR_FUNDS
    ledger.send(payer, ledger.token.functions.faucet(payer, total))
    ledger.send(payer, ledger.token.functions.approve(ledger.escrow.address, total))
    for pair in pairs:
        for party in pair:
            ledger.send(payer, ledger.escrow.functions.deposit(party.address, PAIR_FUNDS))
    return pairs


@dataclass(frozen=True)
class WayGas:
    """Gas of one call on one open lease, by the function's name."""

    change: str
    gas: int


def ways_out(ledger: Ledger, anvil: Anvil) -> Iterator[WayGas]:
    """Measures release, claim, dispute, resolve (sent by the arbiter), finalize and reclaim.

    Run it last: it moves the chain's time on.
    """
    consumer, provider, market, arbiter = (account.address for account in anvil.accounts[:4])
    ledger.fund(arbiter, FUNDS)  # so that its word is warm
    calls = ledger.escrow.functions

    def sent(name: str, deal: Deal, caller: str, *rest: object) -> WayGas:
        call = getattr(calls, name)(deal.lease, deal.clauses, deal.progress, *rest)
        return WayGas(name, int(ledger.send(caller, call)["gasUsed"]))

    yield sent("release", an_open_deal(ledger, anvil), provider)
    disputed = an_open_deal(ledger, anvil)
    amount, evidence = disputed.rate * disputed.offer["minSeconds"] // 3600, b"\x03" * 32
    yield sent("claim", disputed, provider, amount, 1, evidence)
    disputed.progress = _progress(ledger, amount, phase=2)
    yield sent("dispute", disputed, consumer)
    disputed.progress = _progress(ledger, amount, phase=3)
    nobody = (bytes(32), bytes(32))
    yield sent("resolve", disputed, arbiter, amount // 2, 1000, evidence, nobody)
    claimed, silent = an_open_deal(ledger, anvil), an_open_deal(ledger, anvil)
    sent("claim", claimed, provider, amount, 1, evidence)
    claimed.progress = _progress(ledger, amount, phase=2)
    anvil.rpc("evm_increaseTime", silent.seconds + silent.bid["window"])
    anvil.rpc("evm_mine")
    yield sent("finalize", claimed, market)
    yield sent("reclaim", silent, market)


def an_open_deal(ledger: Ledger, anvil: Anvil) -> Deal:
    """A lease of the first two accounts, through the third, judged by the fourth."""
    consumer, provider, market, arbiter = anvil.accounts[:4]
    bid = a_bid(consumer.address, market.address, next(SEATS).to_bytes(32, "big"), arbiter=arbiter.address)
    deal = Deal(ledger, consumer, provider, bid, an_offer(provider.address, capacity=ROOMY, arbiter=arbiter.address))
    opened = ledger.send(market.address, ledger.escrow.functions.open(b"\x09" * 32, [deal.opening()]))
    assert ledger.escrow.events.Opened().process_receipt(opened, errors=DISCARD)
    deal.opened_at = ledger.time_of(opened)
    return deal


def _progress(ledger: Ledger, claimed: int, phase: int) -> int:
    """The word of a lease that was claimed as done, or disputed, in the newest block."""
    return claimed << 64 | ledger.time() << 24 | phase << 16 | 1 << 9
