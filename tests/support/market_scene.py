"""A running market in its world, and what tests do with it: pairs that meet, leases, receipts."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from suanli_protocol import wire
from suanli_protocol.documents import Evidence, LogSummary, hex32, sha256
from suanli_protocol.lease import Clauses, Kind, Lease, Progress, terms
from suanli_protocol.market_client import MarketClient, signed_headers
from suanli_protocol.messages import Bid, Offer, Receipt
from support.builders import (
    some_attributes,
    some_constraints,
    some_usage,
)
from support.market import (
    MarketProcess,
    Party,
    World,
    signed_bid,
    signed_offer,
)

WAIT_S = 30.0


@dataclass
class Market:
    """A running market in its world."""

    world: World
    process: MarketProcess
    data: Path

    def client(self, party: Party | None = None) -> MarketClient:
        """A connection, signed by the party if one is given."""
        return self.process.client(party.signer if party else None)

    def bid(self, party: Party, **fields: Any) -> wire.SignedBid:
        """A bid of the party's for this market."""
        named = fields.pop("market", self.process.address)
        return signed_bid(self.world, party.signer, named, **fields)

    def offer(self, party: Party, **fields: Any) -> wire.SignedOffer:
        """An offer of the party's, for this market alone, so that tests do not meet in one book."""
        return signed_offer(self.world, party.signer, **{"market": self.process.address, **fields})


def events_until(client: MarketClient, kind: str, *, after: int = 0) -> list[wire.Event]:
    """The client's events up to the first of the kind; fails after WAIT_S."""
    seen: list[wire.Event] = []
    done = threading.Event()

    def read() -> None:
        for event in client.events(after):
            seen.append(event)
            if event.kind == kind:
                done.set()
                return

    threading.Thread(target=read, daemon=True).start()
    assert done.wait(WAIT_S), f"no {kind} among {[event.kind for event in seen]}"
    return seen


def eventually(condition: Callable[[], Any]) -> Any:
    """What the condition gives once it is true; fails after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come true in time")


def unique_region() -> str:
    """A region that only one test's offers and bids name, so that each test has a book of its own."""
    return (
        f"{''.join(secrets.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ') for _ in range(2))}-{secrets.token_hex(2).upper()[:3]}"
    )


def a_pair(
    market: Market, provider: Party, consumer: Party, **bid_fields: Any
) -> tuple[wire.SignedOffer, wire.SignedBid]:
    """An offer and a bid that find each other and nobody else."""

    region = unique_region()
    offer = market.offer(provider, attributes=some_attributes(region=region))
    bid = market.bid(consumer, constraints=some_constraints(regions=(region,)), **bid_fields)
    return offer, bid


def opened_lease(market: Market, provider: Party, consumer: Party, **bid_fields: Any) -> wire.LeaseView:
    """A lease of the two, open on the chain."""
    offer, bid = a_pair(market, provider, consumer, **bid_fields)
    market.client(provider).post_offer(offer)
    client = market.client(consumer)
    client.post_bid(bid)
    events = events_until(client, "lease.opened")
    assert events[-1].lease is not None
    return client.lease(wire.from_hex(events[-1].lease))


def leased(client: MarketClient, bid: bytes, *, but: str = "") -> wire.LeaseView:
    """The bid's lease, once it has one (another than `but`)."""

    def look() -> wire.LeaseView | None:
        lease = client.bid(bid).lease
        return client.lease(wire.from_hex(lease)) if lease and lease != but else None

    found: wire.LeaseView = eventually(look)
    return found


def later(world: World, seconds: int) -> None:
    """The chain's next block is that much later."""
    world.chain.rpc("evm_increaseTime", seconds)
    world.chain.rpc("evm_mine")


def terms_of(view: wire.LeaseView) -> tuple[Lease, Clauses]:
    """What its papers say."""
    return terms(
        wire.paper_from_json(Bid, view.bid),
        wire.paper_from_json(Offer, view.offer),
        rate=int(view.rate),
        attempt=view.attempt,
        spent=int(view.spent),
        opened_at=view.opened_at,
    )


def progress_of(view: wire.LeaseView) -> Progress:
    """How far it is, by the escrow's word."""
    return Progress.unpack(int(view.progress))


def claim(world: World, provider: Party, view: wire.LeaseView, amount: int) -> None:
    """The provider's claim of a job that is done."""
    world.escrow.claim(provider.signer, *terms_of(view), progress_of(view), amount, Kind.DONE, b"\x05" * 32)


def evidence_for(lease: wire.LeaseView, amount: int) -> Evidence:
    """What a run of ten seconds leaves."""
    return Evidence(
        lease=lease.id,
        sequence=1,
        billing="capacity",
        billed_seconds=10,
        amount=str(amount),
        usage=some_usage(),
        exit_code=0,
        reason="ok",
        ended_at=int(time.time()),
        log=LogSummary(sha256=hex32(sha256(b"")), size=0, chunks=0),
    )


def signed_receipt(market: Market, provider: Party, lease: wire.LeaseView, amount: int = 100) -> wire.SignedReceipt:
    """The provider's final receipt."""
    evidence = evidence_for(lease, amount)
    receipt = Receipt(wire.from_hex(lease.id), amount, 1, evidence.digest())
    signature = provider.signer.sign(market.world.escrow.domain, receipt)
    return wire.SignedReceipt(
        receipt=wire.paper_to_json(receipt), signature=wire.to_hex(signature), evidence=evidence.to_json()
    )


def countersigned(market: Market, consumer: Party, receipt: wire.Json) -> wire.Countersignature:
    """The consumer's signature over a receipt."""
    paper = wire.paper_from_json(Receipt, receipt)
    signature = consumer.signer.sign(market.world.escrow.domain, paper)
    return wire.Countersignature(receipt=receipt, signature=wire.to_hex(signature))


def raw_problem(market: Market, path: str, body: wire.Body) -> wire.Json:
    """The whole problem document of a refused write."""
    answer = httpx.post(market.process.url + path, json=body.to_json())
    assert answer.headers["content-type"] == "application/problem+json"
    problem: wire.Json = answer.json()
    return problem


def put_raw(market: Market, party: Party, path: str, query: str, body: bytes, method: str = "PUT") -> httpx.Response:
    """One signed request as it stands."""
    client = market.client(party)
    target = f"{path}?{query}"
    headers = signed_headers(party.signer, client.domain, client.info().address, method, target, body)
    return httpx.request(method, market.process.url + target, content=body, headers=headers)
