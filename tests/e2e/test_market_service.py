"""The market as a process over a real chain: what it admits and refuses, opens, relays, settles, survives."""

from __future__ import annotations

import json
import re
import resource
import secrets
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from suanli_market.admission.refusals import BURST
from suanli_protocol import wire
from suanli_protocol.capacity import GUARD
from suanli_protocol.documents import Evidence, LogSummary, hex32, sha256
from suanli_protocol.errors import (
    FundsError,
    IntegrityError,
    MarketError,
    NotFoundError,
    ProtocolError,
    SignatureError,
    UnreachableError,
)
from suanli_protocol.events import Opened, RoundCommitted
from suanli_protocol.lease import Progress, seat_word, terms
from suanli_protocol.log import GENESIS_HEAD, EntryKind, leaf, merkle_root, next_head, verify_acknowledgement
from suanli_protocol.market_client import MarketClient, signed_headers
from suanli_protocol.messages import ZERO32, Bid, Delivered, Entry, Head, Match, Offer, Receipt, Round
from suanli_protocol.openings import Fill, Opening, Settlement, encode_open, encode_settle
from suanli_protocol.signing import Domain, keccak256, struct_hash, verify
from support.builders import (
    CREDIT,
    a_capacity,
    a_need,
    some_attributes,
    some_constraints,
    some_prices,
    some_usage,
)
from support.devnet import Anvil, free_port, start_anvil
from support.market import (
    MarketProcess,
    Party,
    World,
    a_world,
    bid_id,
    market_key,
    offer_id,
    serve_command,
    signed_bid,
    signed_offer,
    start_market,
    with_member,
)

pytestmark = pytest.mark.e2e
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


@pytest.fixture(scope="module")
def world(anvil: Anvil) -> World:
    return a_world(anvil)


@pytest.fixture(scope="module")
def market(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    folder = tmp_path_factory.mktemp("market")
    key, password, _ = market_key(world, folder / "key")
    with start_market(serve_command(world, key, password, folder / "data")) as process:
        yield Market(world, process, folder / "data")
        assert process.process.poll() is None, "".join(process.log)
        assert not [line for line in process.log if "Traceback" in line], "".join(process.log)


@pytest.fixture
def provider(world: World) -> Party:
    return world.party()


@pytest.fixture
def consumer(world: World) -> Party:
    return world.party()


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


# Admission


def test_it_says_who_it_is(market: Market) -> None:
    info = market.client().info()
    assert info.address == market.process.address
    assert info.escrow == market.world.escrow.address
    assert info.genesis == wire.to_hex(market.world.chain.genesis())
    assert info.code_hash == wire.to_hex(market.world.chain.code_hash(info.escrow))
    assert abs(info.time / 1000 - time.time()) < 60


def test_an_admitted_offer_is_acknowledged_once_and_listed(market: Market, provider: Party) -> None:
    client, offer = market.client(provider), market.offer(provider)
    ack = client.post_offer(offer)
    entry = verify_acknowledgement(ack, client.domain, client.info().address)
    assert (entry.kind, entry.reason, entry.paper) == (EntryKind.OFFER, 0, offer_id(offer))
    assert client.post_offer(offer) == ack
    (view,) = [view for view in client.offers() if view.id == wire.to_hex(offer_id(offer))]
    assert view.offer == offer.offer
    assert view.free == {"cpuMilli": 4000, "memoryMib": 8192, "acceleratorMilli": 0, "diskMib": 20_480}


def test_a_flood_of_one_paper_is_logged_once(market: Market, provider: Party) -> None:
    offer = market.offer(provider)
    acks: list[wire.Acknowledgement] = []
    threads = [
        threading.Thread(target=lambda: acks.append(market.client(provider).post_offer(offer))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(acks) == 8
    assert all(ack == acks[0] for ack in acks)


def whole_log(client: MarketClient) -> tuple[list[Entry], list[Head]]:
    """All entries and heads, as a stranger pages through them; every head's signature is checked."""
    heads: list[Head] = []
    while page := client.heads(heads[-1].last_seq if heads else 0):
        for item in page:
            heads.append(wire.paper_from_json(Head, item["head"]))
            verify(client.domain, heads[-1], wire.from_hex(item["signature"]), client.info().address)
    entries: list[Entry] = []
    while len(entries) < heads[-1].last_seq:
        found = client.log(len(entries) + 1, heads[-1].last_seq)
        assert found, "the log has a gap"
        entries += [wire.paper_from_json(Entry, item) for item in found]
    return entries, heads


def test_a_stranger_verifies_the_whole_log_over_http(market: Market, provider: Party, consumer: Party) -> None:
    """No entry is missing, each head follows from the one before and its entries, and holds every acknowledgement."""
    offer, bid = market.offer(provider), market.bid(consumer, max_rate=1)
    acks = [market.client(provider).post_offer(offer), market.client(consumer).post_bid(bid)]
    refused = raw_problem(market, "/v1/bids", with_member(bid, "bid", budget="7"))["acknowledgement"]
    acks += [wire.Acknowledgement.model_validate(refused), market.client(provider).withdraw_offer(offer_id(offer))]

    stranger = market.client()
    entries, heads = whole_log(stranger)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    before, start = GENESIS_HEAD, 1
    for head in heads:
        assert head.first_seq == start
        leaves = [leaf(entry) for entry in entries[head.first_seq - 1 : head.last_seq]]
        assert head.head == next_head(before, merkle_root(leaves))
        before, start = head.head, head.last_seq + 1
    kinds = []
    for ack in acks:
        entry = verify_acknowledgement(ack, stranger.domain, market.process.address)
        assert entries[entry.seq - 1] == entry
        assert wire.paper_from_json(Head, ack.head) in heads
        kinds.append(entry.kind)
    assert kinds == [EntryKind.OFFER, EntryKind.BID, EntryKind.REFUSE, EntryKind.WITHDRAW]


def whole_rounds(client: MarketClient) -> list[tuple[Round, bytes, list[wire.Json]]]:
    """Each round with its stated hash and its matches."""
    found: list[tuple[Round, bytes, list[wire.Json]]] = []
    while True:
        try:
            content = client.round(len(found) + 1)
        except NotFoundError:
            return found
        message = wire.paper_from_json(Round, content["round"])
        found.append((message, wire.from_hex(content["hash"]), content["matches"]))


def the_match(item: wire.Json) -> Match:
    """A match as a round lists it."""
    return Match(wire.from_hex(item["bid"]), wire.from_hex(item["offer"]), int(item["rate"]), item["index"])


def test_a_stranger_recomputes_every_round_and_finds_it_on_the_chain(
    market: Market, provider: Party, consumer: Party
) -> None:
    """Rounds are chained, their seeds follow from the log, and every opening on the chain stands in one of them."""
    opened_lease(market, provider, consumer)
    chain, escrow = market.world.chain, market.world.escrow
    rounds, (_, heads) = whole_rounds(market.client()), whole_log(market.client())
    at_seq = {head.last_seq: head.head for head in heads}
    previous, start = ZERO32, 1
    for number, (message, hash_, matches) in enumerate(rounds, 1):
        assert (message.number, message.market, message.previous) == (number, market.process.address, previous)
        assert struct_hash(message) == hash_
        assert message.first_seq == start
        assert message.matches_root == merkle_root([keccak256(struct_hash(the_match(item))) for item in matches])
        assert message.seed == keccak256(previous + at_seq[message.last_seq])
        assert chain.block(message.block_number).hash == message.block_hash
        previous, start = hash_, message.last_seq + 1

    known = {hash_: number for number, (_, hash_, _) in enumerate(rounds, 1)}
    matched = {the_match(item): number for number, (_, _, matches) in enumerate(rounds, 1) for item in matches}
    events = escrow.events(0, chain.block("latest").number)
    committed = {
        event.transaction: known[event.head]
        for event in events
        if isinstance(event, RoundCommitted) and event.market == market.process.address
    }
    opened = [event for event in events if isinstance(event, Opened) and event.transaction in committed]
    assert opened
    for event in opened:
        of_round = matched[Match(event.bid_hash, event.offer_hash, event.rate, event.index)]
        assert of_round <= committed[event.transaction], "it was opened before its round was committed"


def offer_cases() -> list[Any]:
    past = 1_700_000_000
    return [
        pytest.param({"valid_until": past}, ProtocolError, "offer_expired", id="expired"),
        pytest.param({"counter": 3}, ProtocolError, "offer_counter", id="wrong counter"),
        pytest.param({"capacity": a_capacity().pack() | GUARD}, ProtocolError, "lanes", id="guard bit"),
        pytest.param({"bond_bps": 999}, ProtocolError, "bond", id="bond"),
        pytest.param({"max_window": 9}, ProtocolError, "window_too_short", id="window"),
        pytest.param({"market": "0x" + "11" * 20}, ProtocolError, "other_market", id="other market"),
        pytest.param({"arbiter": "0x" + "11" * 20}, ProtocolError, "arbiter", id="arbiter"),
        pytest.param({"min_seconds": 9, "max_seconds": 8}, ProtocolError, "seconds", id="seconds"),
        pytest.param({"attributes": b"\x07" * 32}, IntegrityError, "attributes", id="attributes"),
        pytest.param({"valid_until": 2**39}, ProtocolError, "validity_too_long", id="validity"),
    ]


@pytest.mark.parametrize(("fields", "kind", "reason"), offer_cases())
def test_an_offer_is_refused_with_its_reason(
    market: Market, provider: Party, fields: wire.Json, kind: type[Exception], reason: str
) -> None:
    offer = market.offer(provider)
    paper = replace(wire.paper_from_json(Offer, offer.offer), **fields)
    signature = provider.signer.sign(market.world.escrow.domain, paper)
    altered = offer.model_copy(update={"offer": wire.paper_to_json(paper), "signature": wire.to_hex(signature)})
    with pytest.raises(kind):
        market.client(provider).post_offer(altered)
    problem = raw_problem(market, "/v1/offers", altered)
    assert problem["reason"] == reason
    ack = wire.Acknowledgement.model_validate(problem["acknowledgement"])
    entry = verify_acknowledgement(ack, market.world.escrow.domain, market.process.address)
    assert (entry.kind, entry.paper) == (EntryKind.REFUSE, struct_hash(paper))
    assert entry.reason != 0
    assert altered.offer not in [view.offer for view in market.client().offers()]


def test_a_tampered_offer_is_refused(market: Market, provider: Party) -> None:
    dear = with_member(market.offer(provider), "offer", prices=str(some_prices(core=1).pack()))
    with pytest.raises(SignatureError):
        market.client(provider).post_offer(dear)
    assert raw_problem(market, "/v1/offers", dear)["reason"] == "signature"


@pytest.mark.parametrize("elsewhere", [{"chain_id": 1}, {"escrow": "0x" + "22" * 20}])
def test_a_paper_for_another_domain_is_refused(
    market: Market, provider: Party, consumer: Party, elsewhere: dict[str, Any]
) -> None:
    here = market.world.escrow.domain
    domain = Domain(elsewhere.get("chain_id", here.chain_id), elsewhere.get("escrow", here.escrow))
    offer = market.offer(provider)
    foreign = provider.signer.sign(domain, wire.paper_from_json(Offer, offer.offer))
    with pytest.raises(SignatureError):
        market.client(provider).post_offer(offer.model_copy(update={"signature": wire.to_hex(foreign)}))
    bid = market.bid(consumer)
    foreign = consumer.signer.sign(domain, wire.paper_from_json(Bid, bid.bid))
    with pytest.raises(SignatureError):
        market.client(consumer).post_bid(bid.model_copy(update={"signature": wire.to_hex(foreign)}))


def bid_cases() -> list[Any]:
    return [
        pytest.param({"valid_until": 1_700_000_000}, ProtocolError, "bid_expired", id="expired"),
        pytest.param({"counter": 1}, ProtocolError, "bid_counter", id="wrong counter"),
        pytest.param({"need": a_need().pack() | GUARD}, ProtocolError, "lanes", id="guard bit"),
        pytest.param({"need": 0}, ProtocolError, "lanes", id="needs nothing"),
        pytest.param({"fee_bps": 49}, ProtocolError, "fee_rate", id="wrong fee"),
        pytest.param({"window": 9}, ProtocolError, "window_too_short", id="window"),
        pytest.param({"count": 2}, ProtocolError, "unsupported", id="count"),
        pytest.param({"attempts": 2}, ProtocolError, "unsupported", id="attempts"),
        pytest.param({"gang": True}, ProtocolError, "unsupported", id="gang"),
        pytest.param({"arbiter": "0x" + "11" * 20}, ProtocolError, "arbiter", id="arbiter"),
        pytest.param({"market": "0x" + "11" * 20}, ProtocolError, "not_the_market", id="other market"),
        pytest.param({"documents": b"\x01" * 32}, IntegrityError, "constraints", id="documents"),
    ]


@pytest.mark.parametrize(("fields", "kind", "reason"), bid_cases())
def test_a_bid_is_refused_with_its_reason(
    market: Market, consumer: Party, fields: wire.Json, kind: type[Exception], reason: str
) -> None:
    bid = market.bid(consumer, **fields)
    with pytest.raises(kind):
        market.client(consumer).post_bid(bid)
    assert raw_problem(market, "/v1/bids", bid)["reason"] == reason
    with pytest.raises(NotFoundError):
        market.client(consumer).bid(bid_id(bid))


def test_a_tampered_bid_is_refused(market: Market, consumer: Party) -> None:
    with pytest.raises(SignatureError):
        market.client(consumer).post_bid(with_member(market.bid(consumer), "bid", budget=str(10**9)))


def test_unfunded_accounts_are_refused_and_a_deposit_helps_at_once(market: Market) -> None:
    poor = market.world.party(money=0)
    with pytest.raises(FundsError, match="no free money"):
        market.client(poor).post_bid(market.bid(poor))
    offer = market.offer(poor)
    with pytest.raises(FundsError, match="bonds"):
        market.client(poor).post_offer(offer)
    market.world.escrow.faucet(market.world.deployer, poor.address, CREDIT)
    market.world.escrow.deposit(poor.signer, poor.address, CREDIT)
    assert market.client(poor).post_offer(offer).entry["reason"] == 0


def test_a_bid_that_every_offer_outprices_for_lack_of_funds_is_refused(market: Market, provider: Party) -> None:
    poor = market.world.party(money=100)
    offer, bid = a_pair(market, provider, poor)
    market.client(provider).post_offer(offer)
    with pytest.raises(FundsError, match="locks 38785"):
        market.client(poor).post_bid(bid)


def test_a_flood_of_badly_signed_papers_does_not_fill_the_log(market: Market, provider: Party) -> None:
    good = market.offer(provider)
    url, sender = market.process.url, {"X-Forwarded-For": "192.0.2.7"}
    with httpx.Client(base_url=url, headers=sender) as client:
        answers = [
            client.post("/v1/offers", json=with_member(good, "offer", maxSeconds=100 + n).to_json())
            for n in range(BURST + 30)
        ]
        assert [answer.status_code for answer in answers[:BURST]] == [401] * BURST
        (last,) = {answer.status_code for answer in answers[-3:]}
        assert (last, answers[-1].headers["Retry-After"]) == (429, "1")
        problem = answers[-1].json()
        assert (problem["code"], problem["retryable"]) == ("too_many_refused", True)
        assert "acknowledgement" not in problem
        assert client.post("/v1/offers", json=good.to_json()).status_code == 200
    assert raw_problem(market, "/v1/offers", with_member(good, "offer", maxSeconds=99))["reason"] == "signature"


def test_malformed_bodies_are_problems(market: Market, consumer: Party) -> None:
    url = market.process.url
    good = market.bid(consumer).to_json()
    cases: list[tuple[bytes, int]] = [
        (b"{", 422),
        (b"[" * 100_000, 422),
        (json.dumps({**good, "unknown": 1}).encode(), 422),
        (json.dumps({**good, "bid": {**good["bid"], "budget": 1.5}}).encode(), 422),
        (json.dumps({**good, "bid": {**good["bid"], "budget": str(2**96)}}).encode(), 422),
        (json.dumps({**good, "bid": {**good["bid"], "maxSeconds": 10**30}}).encode(), 422),
        (json.dumps({**good, "constraints": {**good["constraints"], "arch": "\ud800"}}).encode(), 422),
        (json.dumps({**good, "signature": "0x00"}).encode(), 422),
        (b'{"bid": ' + b"9" * 5000 + b"}", 422),
        (b" " * 600_000, 413),
    ]
    for body, status in cases:
        answer = httpx.post(f"{url}/v1/bids", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (status, 400), (body[:80], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) >= {"code", "title", "detail", "hint", "retryable", "status"}


def test_unknown_routes_and_ids_are_problems(market: Market, consumer: Party) -> None:
    url = market.process.url
    for method, path, status in [
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/offers", 405),
        ("GET", "/v1/rounds/999999", 404),
        ("GET", f"/v1/rounds/{2**63}", 422),
        ("GET", "/v1/log?first=-1&last=3", 422),
        ("GET", f"/v1/heads?after={2**70}", 422),
        ("GET", "/v1/bids/0x12", 401),
        ("POST", "/v1/bids", 422),
    ]:
        answer = httpx.request(method, url + path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), path
    with pytest.raises(NotFoundError):
        market.client(consumer).lease(b"\x01" * 32)


def test_clients_that_vanish_leave_no_trace(market: Market) -> None:
    """In the middle of a body, of a head, of an answer: the market goes on and its log stays empty."""
    address = httpx.URL(market.process.url).host, httpx.URL(market.process.url).port or 0
    before = len(market.process.log)
    heads = [
        b"POST /v1/bids HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n\r\n{",
        b"PUT /v1/leases/0x%064x/blobs/job?offset=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\nx" % 1,
        b"POST /v1/quotes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
        b"GET /v1/offers HTTP/1.1\r\nHo",
        b"NONSENSE\x00\xff / HTTP/9\r\n\r\n",
        b"GET /v1/offers HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
    ]
    for head in heads:
        with socket.create_connection(address) as gone:
            gone.sendall(head)
            time.sleep(0.05)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert market.client().info().address == market.process.address
    time.sleep(0.2)
    assert market.process.log[before:] == []


# Signed requests


def test_a_request_is_signed_for_itself_now_and_once(market: Market, consumer: Party) -> None:
    client = market.client(consumer)
    info, domain = client.info(), client.domain
    url = market.process.url

    def get(target: str, headers: dict[str, str]) -> httpx.Response:
        return httpx.get(url + target, headers=headers)

    headers = signed_headers(consumer.signer, domain, info.address, "GET", "/v1/leases", b"")
    assert get("/v1/leases", headers).status_code == 200
    assert "sent before" in get("/v1/leases", headers).json()["detail"]

    def fresh() -> dict[str, str]:
        return signed_headers(consumer.signer, domain, info.address, "GET", "/v1/leases", b"")

    assert get("/v1/leases?state=open", fresh()).status_code == 401
    assert get("/v1/leases", {}).status_code == 401
    assert get("/v1/leases", {**fresh(), "Suanli-At": "1000"}).status_code == 401
    stolen = {**fresh(), "Suanli-Signer": market.world.deployer.address}
    assert get("/v1/leases", stolen).json()["code"] == "signature"
    late = time.time() - 61
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("suanli_protocol.market_client.time.time", lambda: late)
        old = fresh()
    assert "ago" in get("/v1/leases", old).json()["detail"]


# Matching and opening


def test_a_bid_becomes_a_lease_on_the_chain(market: Market, provider: Party, consumer: Party) -> None:
    offer, bid = a_pair(market, provider, consumer)
    market.client(provider).post_offer(offer)
    client = market.client(consumer)
    client.post_bid(bid)
    events = events_until(client, "lease.opened")
    assert [event.kind for event in events] == ["bid.queued", "bid.matched", "lease.opened"]
    lease = client.lease(wire.from_hex(events[-1].lease or ""))
    assert (lease.offer, lease.bid, lease.state, lease.phase) == (offer.offer, bid.bid, "open", "leased")
    papers = wire.paper_from_json(Bid, lease.bid), wire.paper_from_json(Offer, lease.offer)
    held, _ = terms(*papers, rate=int(lease.rate), opened_at=lease.opened_at)
    word = market.world.escrow.seat(held.seat_key)
    assert word == seat_word(wire.from_hex(lease.id), Progress())
    assert client.bid(bid_id(bid)).lease == lease.id
    assert client.bid(bid_id(bid)).state == "leased"
    assert events_until(market.client(provider), "lease.opened")[-1].lease == lease.id
    assert [view.id for view in market.client(provider).leases(state="open")] == [lease.id]
    used = market.world.escrow.account(provider.address).used
    assert used == a_need()


def test_the_round_of_an_opening_is_committed_on_the_chain(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer)
    client = market.client(consumer)
    (matched,) = [event for event in client_events(client) if event.kind == "bid.matched"]
    found = client.round(int(matched.data["round"]))
    message = wire.paper_from_json(Round, found["round"])
    assert wire.to_hex(struct_hash(message)) == found["hash"]
    if message.number > 1:
        assert message.previous == wire.from_hex(client.round(message.number - 1)["hash"])
    calldata = market.world.chain.transaction(wire.from_hex(lease.transaction)).data
    opening = market.world.escrow.decode_open(calldata)
    assert wire.to_hex(opening.head) == found["hash"]
    assert found["matches"][0]["bid"] == wire.to_hex(struct_hash(opening.openings[0].bid))


def client_events(client: MarketClient) -> list[wire.Event]:
    """What the client's stream holds up to its lease."""
    return events_until(client, "lease.opened")


def test_an_unmatched_bid_is_told_why_and_matched_when_an_offer_comes(
    market: Market, provider: Party, consumer: Party
) -> None:
    offer, bid = a_pair(market, provider, consumer, max_rate=1000)
    cheap, _ = a_pair(market, provider, consumer)
    client = market.client(consumer)
    market.client(provider).post_offer(offer)
    client.post_bid(bid)
    unmatched = events_until(client, "bid.unmatched")[-1]
    conditions = {item["condition"]: item for item in unmatched.data["rejections"]}
    assert conditions["rate"]["hint"] == "raise max_price to 0.0351 DEVC per hour"
    assert client.bid(bid_id(bid)).rejections

    attributes = some_attributes(region=str(bid.constraints["regions"][0]))
    market.client(provider).post_offer(
        market.offer(provider, attributes=attributes, prices=some_prices(core=100, memory_gib=0).pack())
    )
    events_until(client, "lease.opened")
    assert cheap.offer["provider"] == provider.address


def test_a_quote_names_price_and_reasons(market: Market, provider: Party, consumer: Party) -> None:
    offer, bid = a_pair(market, provider, consumer)
    market.client(provider).post_offer(offer)
    client = market.client()
    quote = client.quote(wire.QuoteRequest(bid=bid.bid, constraints=bid.constraints))
    (best,) = quote.offers
    assert (best.rate, best.price, best.fee, best.stake, best.seconds) == ("35100", "35100", "175", "3510", 3600)
    assert best.offer.id == wire.to_hex(offer_id(offer))
    assert quote.considered == 1 + sum(rejection.offers for rejection in quote.rejections)
    tight = {**bid.bid, "maxRate": "1"}
    refused = client.quote(wire.QuoteRequest(bid=tight, constraints=bid.constraints))
    assert refused.offers == []
    assert "rate" in [rejection.condition for rejection in refused.rejections]


def test_contested_bids_wait_for_the_round_and_the_dearer_wins(market: Market, provider: Party) -> None:
    low, high = market.world.party(), market.world.party()
    need = a_need(cpu_milli=3000).pack()
    offer, first = a_pair(market, provider, low, need=need, max_rate=100_000)

    regions = tuple(first.constraints["regions"])
    second = market.bid(high, constraints=some_constraints(regions=regions), need=need, max_rate=200_000)
    market.client(low).post_bid(first)
    market.client(high).post_bid(second)
    market.client(provider).post_offer(offer)
    events_until(market.client(high), "lease.opened")
    assert market.client(low).bid(bid_id(first)).state == "queued"


def test_a_burst_of_bids_opens_in_batches(market: Market) -> None:
    region, bids = unique_region(), 24
    for _ in range(6):
        party = market.world.party()
        market.client(party).post_offer(market.offer(party, attributes=some_attributes(region=region)))
    consumer = market.world.party()
    client = market.client(consumer)
    for _ in range(bids):
        client.post_bid(market.bid(consumer, constraints=some_constraints(regions=(region,))))
    leases = eventually(lambda: client.leases() if len(client.leases()) == bids else None)
    assert len({lease.number for lease in leases}) == bids
    assert len({lease.id for lease in leases}) == bids
    assert sorted(Counter(str(lease.offer["provider"]) for lease in leases).values()) == [4] * 6


def test_an_expired_bid_leaves_with_the_reasons(market: Market, provider: Party, consumer: Party) -> None:
    offer, bid = a_pair(market, provider, consumer, max_rate=1, valid_until=int(time.time()) + 3)
    market.client(provider).post_offer(offer)
    client = market.client(consumer)
    client.post_bid(bid)
    expired = events_until(client, "bid.expired")[-1]
    assert expired.data["reason"] == "queue_timeout"
    assert "rate" in [item["condition"] for item in expired.data["rejections"]]
    assert client.bid(bid_id(bid)).state == "expired"


def test_papers_can_be_withdrawn_by_their_signer_alone(market: Market, provider: Party, consumer: Party) -> None:
    offer, bid = a_pair(market, provider, consumer, max_rate=1)
    market.client(provider).post_offer(offer)
    client = market.client(consumer)
    client.post_bid(bid)
    with pytest.raises(NotFoundError):
        market.client(provider).withdraw_bid(bid_id(bid))
    ack = client.withdraw_bid(bid_id(bid))
    entry = verify_acknowledgement(ack, client.domain, market.process.address)
    assert (entry.kind, entry.paper) == (EntryKind.WITHDRAW, bid_id(bid))
    assert client.withdraw_bid(bid_id(bid)) == ack
    assert client.bid(bid_id(bid)).state == "withdrawn"
    market.client(provider).withdraw_offer(offer_id(offer))
    assert wire.to_hex(offer_id(offer)) not in [view.id for view in client.offers()]


def test_a_leased_bid_cannot_be_withdrawn(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer)
    bid = struct_hash(wire.paper_from_json(Bid, lease.bid))
    with pytest.raises(MarketError, match="leased already"):
        market.client(consumer).withdraw_bid(bid)


def test_a_bump_on_the_chain_kills_older_papers(market: Market, provider: Party, consumer: Party) -> None:
    offer, bid = a_pair(market, provider, consumer, max_rate=1)
    market.client(provider).post_offer(offer)
    client = market.client(consumer)
    client.post_bid(bid)
    market.world.escrow.bump(provider.signer, provider.address)
    market.world.escrow.bump(consumer.signer, consumer.address)
    assert events_until(client, "bid.refused")[-1].data["reason"] == "counter_raised"
    eventually(lambda: wire.to_hex(offer_id(offer)) not in [view.id for view in client.offers()])


def test_what_the_chain_refuses_comes_back_with_its_reason(market: Market, provider: Party, consumer: Party) -> None:
    """The seat is used on the chain behind the market's back: the match is refused there, the bid leaves."""
    offer, bid = a_pair(market, provider, consumer)
    client = market.client(consumer)
    client.post_bid(bid)
    market.world.escrow.cancel(consumer.signer, consumer.address, wire.from_hex(str(bid.bid["seat"])))
    market.client(provider).post_offer(offer)
    refused = events_until(client, "bid.refused")[-1]
    assert refused.data["reason"] in ("seat_closed", "seat_taken")
    assert client.bid(bid_id(bid)).state == "refused"


# Events


def test_events_resume_where_the_reader_left(market: Market, provider: Party, consumer: Party) -> None:
    opened_lease(market, provider, consumer)
    client = market.client(consumer)
    whole = events_until(client, "lease.opened")
    rest = events_until(client, "lease.opened", after=whole[0].seq)
    assert rest == whole[1:]


def test_a_stream_shows_only_the_signers_events(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer)
    stranger = market.world.party()
    own = market.bid(stranger, max_rate=1)
    market.client(stranger).post_bid(own)
    seen = events_until(market.client(stranger), "bid.queued")
    assert [event.bid for event in seen] == [wire.to_hex(bid_id(own))]
    with pytest.raises(NotFoundError):
        market.client(stranger).lease(wire.from_hex(lease.id))


# The run


def test_phases_go_forward_by_the_providers_word(market: Market, provider: Party, consumer: Party) -> None:
    lease = wire.from_hex(opened_lease(market, provider, consumer).id)
    node, client = market.client(provider), market.client(consumer)
    node.report(lease, wire.Report(phase="running"))
    node.report(lease, wire.Report(phase="starting"))
    assert client.lease(lease).phase == "running"
    with pytest.raises(MarketError, match="only the provider"):
        client.report(lease, wire.Report(phase="succeeded"))
    with pytest.raises(ProtocolError, match="no phase"):
        node.report(lease, wire.Report(phase="settled"))
    node.report(lease, wire.Report(phase="failed", reason="exit_nonzero"))
    view = client.lease(lease)
    assert (view.phase, view.reason) == ("failed", "exit_nonzero")


def test_logs_are_relayed_in_order_and_waited_for(market: Market, provider: Party, consumer: Party) -> None:
    lease = wire.from_hex(opened_lease(market, provider, consumer).id)
    node, client = market.client(provider), market.client(consumer)
    assert client.logs(lease) == wire.LogPage(chunks=[], complete=False)
    pages: list[wire.LogPage] = []
    reader = threading.Thread(target=lambda: pages.append(client.logs(lease, wait_s=20)))
    reader.start()
    chunk = wire.LogChunk(seq=0, data="0xabcd")
    node.post_logs(lease, wire.LogPage(chunks=[chunk]))
    reader.join(WAIT_S)
    assert pages == [wire.LogPage(chunks=[chunk])]
    node.post_logs(lease, wire.LogPage(chunks=[wire.LogChunk(seq=2, data="0x02")]))
    assert client.logs(lease, after=0).chunks == []
    node.post_logs(lease, wire.LogPage(chunks=[chunk, wire.LogChunk(seq=1, data="0x01")], complete=True))
    page = client.logs(lease)
    assert ([c.data for c in page.chunks], page.complete) == (["0xabcd", "0x01", "0x02"], True)
    with pytest.raises(MarketError, match="complete"):
        node.post_logs(lease, wire.LogPage(chunks=[wire.LogChunk(seq=3, data="0x03")]))
    with pytest.raises(MarketError, match="only the provider"):
        client.post_logs(lease, wire.LogPage(chunks=[chunk]))


def test_blobs_resume_and_are_acknowledged(market: Market, provider: Party, consumer: Party) -> None:
    lease = wire.from_hex(opened_lease(market, provider, consumer).id)
    client, node = market.client(consumer), market.client(provider)
    data = secrets.token_bytes(5 * 1024 * 1024)
    target = f"/v1/leases/{wire.to_hex(lease)}/blobs/inputs"
    put_raw(market, consumer, target, f"size={len(data)}", b"", method="POST")
    answer = put_raw(market, consumer, target, "offset=0", data[:1000])
    assert answer.json()["received"] == 1000
    assert put_raw(market, consumer, target, "offset=999", b"x").json()["code"] == "offset"
    with pytest.raises(NotFoundError):
        list(node.get_blob(lease, "inputs"))
    view = client.put_blob(lease, "inputs", BytesIO(data), len(data))
    delivered = wire.paper_from_json(Delivered, view.delivered)
    assert (delivered.digest, delivered.size, delivered.slot) == (sha256(data), len(data), "inputs")
    verify(client.domain, delivered, wire.from_hex(view.signature or ""), market.process.address)
    assert b"".join(node.get_blob(lease, "inputs")) == data
    assert client.put_blob(lease, "inputs", BytesIO(data), len(data)) == view
    event = events_until(node, "lease.delivered")[-1]
    assert event.data == {"slot": "inputs", "size": len(data), "digest": hex32(sha256(data))}


def put_raw(market: Market, party: Party, path: str, query: str, body: bytes, method: str = "PUT") -> httpx.Response:
    """One signed request as it stands."""
    client = market.client(party)
    target = f"{path}?{query}"
    headers = signed_headers(party.signer, client.domain, client.info().address, method, target, body)
    return httpx.request(method, market.process.url + target, content=body, headers=headers)


def test_blobs_have_senders_slots_and_limits(market: Market, provider: Party, consumer: Party) -> None:
    lease = wire.from_hex(opened_lease(market, provider, consumer).id)
    client, node, stranger = market.client(consumer), market.client(provider), market.world.party()
    with pytest.raises(MarketError, match="only the consumer"):
        node.put_blob(lease, "inputs", BytesIO(b"x"), 1)
    with pytest.raises(MarketError, match="only the provider"):
        client.put_blob(lease, "outputs", BytesIO(b"x"), 1)
    with pytest.raises(ProtocolError, match="no slot"):
        client.put_blob(lease, "secrets", BytesIO(b"x"), 1)
    with pytest.raises(NotFoundError):
        market.client(stranger).put_blob(lease, "inputs", BytesIO(b"x"), 1)
    with pytest.raises(MarketError, match="at most"):
        client.put_blob(lease, "inputs", BytesIO(b"x"), 2**30 + 1)
    target = f"/v1/leases/{wire.to_hex(lease)}/blobs/job"
    put_raw(market, consumer, target, "size=3", b"", method="POST")
    assert put_raw(market, consumer, target, "offset=0", b"four").json()["code"] == "too_large"
    too_much = put_raw(market, consumer, target, "offset=0", b"x" * (4 * 1024 * 1024 + 1))
    assert (too_much.status_code, too_much.json()["code"]) == (413, "too_large")
    empty = client.put_blob(lease, "inputs", BytesIO(b""), 0)
    assert empty.delivered is not None
    assert list(node.get_blob(lease, "inputs")) in ([], [b""])


def test_a_blob_that_is_not_the_announced_one_is_refused(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer).id
    target = f"/v1/leases/{lease}/blobs/job"
    digest = hex32(sha256(b"good"))
    put_raw(market, consumer, target, f"size=4&digest={digest}", b"", method="POST")
    refused = put_raw(market, consumer, target, "offset=0", b"evil")
    assert refused.json()["code"] == "integrity"
    again = put_raw(market, consumer, target, "offset=0", b"good")
    assert again.json()["delivered"]["digest"] == digest


# Receipts and settlement


def test_a_countersigned_receipt_is_settled(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer)
    id_ = wire.from_hex(lease.id)
    node, client = market.client(provider), market.client(consumer)
    free = {party.address: market.world.escrow.account(party.address).free for party in (provider, consumer)}
    signed = signed_receipt(market, provider, lease, amount=20_000)
    with pytest.raises(NotFoundError):
        client.receipt(id_)
    node.post_receipt(id_, signed)
    node.post_receipt(id_, signed)
    assert events_until(client, "lease.receipt")[-1].lease == lease.id
    assert client.receipt(id_) == signed
    client.countersign(id_, countersigned(market, consumer, signed.receipt))
    settled = events_until(client, "lease.settled")[-1]
    assert (settled.data["paid"], settled.data["fee"]) == ("20000", "100")
    view = node.lease(id_)
    assert (view.state, view.phase, view.paid, view.fee) == ("settled", "settled", "20000", "100")
    assert view.settled_transaction == settled.data["transaction"]
    after = {party.address: market.world.escrow.account(party.address) for party in (provider, consumer)}
    assert after[provider.address].free == free[provider.address] + 3510 + 20_000
    assert after[consumer.address].free == free[consumer.address] + 38_785 - 20_100
    assert after[provider.address].used.pack() == 0
    assert events_until(node, "lease.settled")[-1].lease == lease.id


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (lambda s: with_member(s, "receipt", amount="21000"), "provider_signature"),
        (lambda s: with_member(s, "evidence", billedSeconds=11), "attributes"),
        (lambda s: s.model_copy(update={"signature": "0x" + "11" * 64}), "provider_signature"),
    ],
)
def test_a_tampered_receipt_is_refused_and_logged(
    market: Market, provider: Party, consumer: Party, tamper: Callable[[Any], Any], reason: str
) -> None:
    lease = opened_lease(market, provider, consumer)
    id_ = wire.from_hex(lease.id)
    signed = tamper(signed_receipt(market, provider, lease))
    with pytest.raises((SignatureError, IntegrityError, ProtocolError)):
        market.client(provider).post_receipt(id_, signed)
    path = f"/v1/leases/{lease.id}/receipt"
    body = json.dumps(signed.to_json()).encode()
    headers = signed_headers(provider.signer, market.world.escrow.domain, market.process.address, "POST", path, body)
    problem = httpx.post(
        market.process.url + path, content=body, headers={**headers, "Content-Type": "application/json"}
    ).json()
    assert problem["reason"] == reason
    ack = wire.Acknowledgement.model_validate(problem["acknowledgement"])
    entry = verify_acknowledgement(ack, market.world.escrow.domain, market.process.address)
    assert entry.kind == EntryKind.REFUSE
    assert entry.paper == struct_hash(wire.paper_from_json(Receipt, signed.receipt))
    with pytest.raises(NotFoundError):
        market.client(consumer).receipt(id_)


def test_a_receipt_beyond_the_price_is_refused(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer)
    with pytest.raises(ProtocolError, match="does not fit"):
        market.client(provider).post_receipt(
            wire.from_hex(lease.id), signed_receipt(market, provider, lease, amount=35_101)
        )


def test_a_countersignature_over_another_receipt_is_refused(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer)
    id_ = wire.from_hex(lease.id)
    signed = signed_receipt(market, provider, lease, amount=20_000)
    market.client(provider).post_receipt(id_, signed)
    lower = {**signed.receipt, "amount": "1"}
    client = market.client(consumer)
    with pytest.raises(ProtocolError, match="not the provider's"):
        client.countersign(id_, countersigned(market, consumer, lower))
    forged = countersigned(market, provider, signed.receipt)
    with pytest.raises((SignatureError, ProtocolError)):
        client.countersign(id_, forged)
    assert client.lease(id_).countersignature is None


def test_a_lease_that_was_stopped_on_the_chain_settles_with_its_progress(
    market: Market, provider: Party, consumer: Party
) -> None:
    lease = opened_lease(market, provider, consumer)
    id_ = wire.from_hex(lease.id)
    held, clauses = terms(
        wire.paper_from_json(Bid, lease.bid),
        wire.paper_from_json(Offer, lease.offer),
        rate=int(lease.rate),
        opened_at=lease.opened_at,
    )
    market.world.escrow.stop(consumer.signer, held, clauses, Progress())
    client = market.client(consumer)
    stopped = events_until(client, "lease.stopped")[-1]
    assert client.lease(id_).state == "stopped"
    assert client.lease(id_).stopped_at == stopped.data["clock"]
    signed = signed_receipt(market, provider, lease, amount=0)
    market.client(provider).post_receipt(id_, signed)
    client.countersign(id_, countersigned(market, consumer, signed.receipt))
    events_until(client, "lease.settled")


def test_a_released_lease_closes(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer)
    held, clauses = terms(
        wire.paper_from_json(Bid, lease.bid),
        wire.paper_from_json(Offer, lease.offer),
        rate=int(lease.rate),
        opened_at=lease.opened_at,
    )
    market.world.escrow.release(provider.signer, held, clauses, Progress())
    client = market.client(consumer)
    events_until(client, "lease.released")
    view = client.lease(wire.from_hex(lease.id))
    assert (view.state, view.phase, view.reason) == ("released", "failed", "released")
    with pytest.raises(MarketError, match="released"):
        client.put_blob(wire.from_hex(lease.id), "job", BytesIO(b"x"), 1)


# The service itself


def test_a_full_disk_is_named_and_nothing_is_lost(market: Market, provider: Party, consumer: Party) -> None:
    """No file of the market can grow for a while: writes are refused, reads go on, and then all goes on."""
    lease = opened_lease(market, provider, consumer)
    id_ = wire.from_hex(lease.id)
    client, node = market.client(consumer), market.client(provider)
    chunk = wire.LogPage(chunks=[wire.LogChunk(seq=0, data="0x" + "ab" * 1000)])
    target = f"/v1/leases/{lease.id}/blobs/inputs"
    put_raw(market, consumer, target, "size=8", b"", method="POST")
    offer, bid = a_pair(market, provider, consumer)
    limits = resource.prlimit(market.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        refused = put_raw(market, consumer, target, "offset=0", b"half")
        assert (refused.status_code, refused.json()["code"], refused.json()["retryable"]) == (507, "storage", True)
        problem = raw_problem(market, "/v1/bids", bid)
        assert (problem["code"], problem["hint"]) == ("storage", "free some disk space")
        with pytest.raises(MarketError, match="refused"):
            node.post_logs(id_, chunk)
        market.world.escrow.bump(market.world.deployer, market.world.deployer.address)  # an event to be indexed
        eventually(lambda: any("a step along the chain failed" in line for line in market.process.log))
        assert client.lease(id_).id == lease.id
        assert [lease.id for lease in node.leases()] == [lease.id]
    finally:
        resource.prlimit(market.process.pid, resource.RLIMIT_FSIZE, limits)
    client.post_bid(bid)
    node.post_logs(id_, chunk)
    assert client.logs(id_).chunks == chunk.chunks
    assert client.put_blob(id_, "inputs", BytesIO(b"halfrest"), 8).delivered is not None
    node.post_offer(offer)
    eventually(lambda: len(client.leases()) == 2)


def test_a_restart_goes_on_where_it_was(world: World, tmp_path: Path) -> None:
    key, password, _ = market_key(world, tmp_path / "key")
    provider, consumer = world.party(), world.party()
    command = serve_command(world, key, password, tmp_path / "data")
    with start_market(command) as process:
        market = Market(world, process, tmp_path / "data")
        lease = opened_lease(market, provider, consumer)
        id_ = wire.from_hex(lease.id)
        offer, bid = a_pair(market, provider, consumer)
        ack = market.client(consumer).post_bid(bid)
        seen = events_until(market.client(consumer), "bid.unmatched")
        target = f"/v1/leases/{lease.id}/blobs/inputs"
        put_raw(market, consumer, target, "size=8", b"", method="POST")
        put_raw(market, consumer, target, "offset=0", b"half")
        process.process.kill()
        process.process.wait(10)
    signed = signed_receipt(market, provider, lease, amount=5)
    world.escrow.faucet(world.deployer, provider.address, 1)  # the chain goes on meanwhile
    with start_market(command) as process:
        market = Market(world, process, tmp_path / "data")
        client = market.client(consumer)
        assert client.post_bid(bid) == ack
        view = client.put_blob(id_, "inputs", BytesIO(b"halfrest"), 8)
        assert wire.paper_from_json(Delivered, view.delivered).digest == sha256(b"halfrest")
        market.client(provider).post_offer(offer)
        rest = events_until(client, "lease.opened", after=seen[-1].seq)
        assert [event.kind for event in rest] == ["bid.matched", "lease.opened"]
        market.client(provider).post_receipt(id_, signed)
        client.countersign(id_, countersigned(market, consumer, signed.receipt))
        events_until(client, "lease.settled", after=seen[-1].seq)
        numbers = [lease.number for lease in client.leases()]
        assert numbers == sorted(numbers, reverse=True)
        assert len(numbers) == 2


def test_a_match_that_was_written_but_not_sent_is_sent_after_a_restart(tmp_path: Path) -> None:
    """The chain is away when the match is made, and the market is killed: the intent lies in the database."""
    with start_anvil() as anvil:
        world = a_world(anvil)
        key, password, signer = market_key(world, tmp_path / "key")
        provider, consumer = world.party(), world.party()
        command = serve_command(world, key, password, tmp_path / "data")
        with start_market(command) as process:
            market = Market(world, process, tmp_path / "data")
            offer, bid = a_pair(market, provider, consumer)
            market.client(provider).post_offer(offer)
            anvil.rpc("anvil_setBalance", signer.address, "0x0")  # nothing can be sent
            market.client(consumer).post_bid(bid)
            events_until(market.client(consumer), "bid.matched")
            eventually(lambda: any("no coin for gas" in line for line in process.log))
            process.process.kill()
            process.process.wait(10)
        anvil.rpc("anvil_setBalance", signer.address, hex(10**18))
        with start_market(command) as process:
            client = Market(world, process, tmp_path / "data").client(consumer)
            events_until(client, "lease.opened")
            assert len(client.leases()) == 1


FORWARDER = bytes.fromhex("6019600c60003960196000f3602036038060206000376000600082600060006000355af100")


def test_a_match_that_was_sent_but_not_mined_opens_once_whatever_strangers_send(
    world: World, anvil: Anvil, tmp_path: Path
) -> None:
    """The market is killed while its opening waits to be mined; strangers bring the same papers first, and nonsense."""
    key, password, signer = market_key(world, tmp_path / "key")
    provider, consumer, stranger = world.party(), world.party(), world.party(money=0)
    escrow, chain = world.escrow, world.chain
    forwarder = chain.wait(chain.send(stranger.signer, FORWARDER, to=None)).contract
    command = serve_command(world, key, password, tmp_path / "data")

    def send(data: bytes) -> None:
        target = bytes(12) + bytes.fromhex(escrow.address[2:])
        escrow.send(stranger.signer, data, gas=2_000_000)
        escrow.send(stranger.signer, target + data, to=forwarder, gas=2_000_000)

    def is_sent(count: int) -> bool:
        return chain.nonce(signer.address) == count

    anvil.rpc("evm_setAutomine", False)
    try:
        with start_market(command) as process:
            market = Market(world, process, tmp_path / "data")
            offer, bid = a_pair(market, provider, consumer)
            market.client(provider).post_offer(offer)
            market.client(consumer).post_bid(bid)
            eventually(lambda: is_sent(1))
            process.process.kill()
            process.process.wait(10)
        fill = Fill(wire.paper_from_json(Offer, offer.offer), wire.from_hex(offer.signature), 35_100)
        send(encode_open(bytes(32), [Opening(wire.paper_from_json(Bid, bid.bid), bytes(64), (fill,))]))
        anvil.rpc("evm_mine")
        with start_market(command) as process:
            market = Market(world, process, tmp_path / "data")
            client, node = market.client(consumer), market.client(provider)
            anvil.rpc("evm_setAutomine", True)
            anvil.rpc("evm_mine")
            kinds = [event.kind for event in events_until(client, "lease.opened")]
            assert kinds == ["bid.queued", "bid.matched", "lease.opened"]
            (lease,) = client.leases()
            id_ = wire.from_hex(lease.id)
            signed = signed_receipt(market, provider, lease, amount=5)
            node.post_receipt(id_, signed)
            held, _ = terms(
                wire.paper_from_json(Bid, lease.bid), fill.offer, rate=int(lease.rate), opened_at=lease.opened_at
            )
            paper = wire.paper_from_json(Receipt, signed.receipt)
            for kind, signature in ((1, bytes(64)), (255, b"\x11" * 64)):
                junk = Settlement(held, Progress(), 5, kind, paper.evidence, signature, signature)
                send(encode_settle([junk, junk]))
            word = Progress(paid=7, clock=9).pack().to_bytes(32, "big")
            data = encode_settle([Settlement(held, Progress(7, 0, 9), 5, 1, paper.evidence, bytes(64), bytes(64))])
            assert data.count(word) == 1
            send(data.replace(word, b"\xff" * 32))
            send(escrow.encode_settle([])[:4] + secrets.token_bytes(200))
            client.countersign(id_, countersigned(market, consumer, signed.receipt))
            events_until(client, "lease.settled")
            assert len(client.leases()) == 1
            assert not [line for line in process.log if "Traceback" in line or "step along" in line]
    finally:
        anvil.rpc("evm_setAutomine", True)


def test_a_devnet_that_was_reset_is_noticed(tmp_path: Path) -> None:
    port = free_port()
    with start_anvil(port=port) as anvil:
        world = a_world(anvil)
        key, password, _ = market_key(world, tmp_path / "key")
        command = serve_command(world, key, password, tmp_path / "data")
        with start_market(command) as process:
            consumer = world.party()
            client = Market(world, process, tmp_path / "data").client(consumer)
            client.info()
            told: list[list[wire.Event]] = []
            reader = threading.Thread(target=lambda: told.append(events_until(client, "chain.reset")))
            reader.start()
            time.sleep(0.3)
            anvil.rpc("anvil_reset")
            answer = eventually(lambda: refused(process.url))
            assert (answer["code"], answer["retryable"]) == ("chain_reset", False)
            assert "--data" in answer["hint"]
            assert process.process.poll() is None
            reader.join(WAIT_S)
            assert told[0][-1].kind == "chain.reset"
    with start_anvil(port=port):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr


def refused(url: str) -> wire.Json | None:
    """The problem of a market that answers 503."""
    answer = httpx.get(f"{url}/v1/offers")
    return answer.json() if answer.status_code == 503 else None


def test_a_market_that_is_away_is_unreachable(consumer: Party) -> None:
    with pytest.raises(UnreachableError):
        MarketClient(f"http://127.0.0.1:{free_port()}", signer=consumer.signer).info()


def test_a_stream_breaks_when_the_market_ends(world: World, consumer: Party, tmp_path: Path) -> None:
    key, password, _ = market_key(world, tmp_path / "key")
    with start_market(serve_command(world, key, password, tmp_path / "data")) as process:
        client = process.client(consumer.signer)
        stream = client.events()
        ended: list[Exception] = []

        def read() -> None:
            try:
                list(stream)
            except UnreachableError as error:
                ended.append(error)

        client.info()
        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.3)
        process.process.terminate()
        assert process.process.wait(10) == 0
        reader.join(WAIT_S)
        assert len(ended) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--escrow": "0x" + "12" * 20}, "no contract"),
        ({"--escrow": "token"}, "not the escrow of this version"),
        ({"--escrow": "0x12"}, "--escrow"),
        ({"--chain": "dead"}, "cannot be used"),
        ({"--keystore": "/nonexistent"}, "does not exist"),
        ({"--port": "taken"}, "cannot be listened on"),
        ({"--data": "file"}, "cannot be used"),
    ],
)
def test_a_wrong_setting_is_named(world: World, tmp_path: Path, change: dict[str, str], message: str) -> None:
    key, password, _ = market_key(world, tmp_path / "key")
    command = serve_command(world, key, password, tmp_path / "data")
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {
            "token": world.escrow.token.address,
            "dead": f"http://127.0.0.1:{free_port()}",
            "taken": str(taken.getsockname()[1]),
            "file": str(tmp_path / "file"),
        }
        for option, value in change.items():
            command[command.index(option) + 1] = values.get(value, value)
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_market_without_gas_money_says_so(world: World, tmp_path: Path) -> None:
    key, password, signer = market_key(world, tmp_path / "key")
    world.chain.rpc("anvil_setBalance", signer.address, "0x0")
    command = serve_command(world, key, password, tmp_path / "data")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert re.search(r"holds 0 wei", ended.stderr)
