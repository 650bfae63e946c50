"""Papers and requests at a real market: what is admitted, logged, acknowledged; what is refused, and why."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from suanli_market.admission.refusals import BURST
from suanli_protocol import wire
from suanli_protocol.capacity import GUARD
from suanli_protocol.errors import (
    FundsError,
    IntegrityError,
    NotFoundError,
    ProtocolError,
    SignatureError,
)
from suanli_protocol.events import Opened, RoundCommitted
from suanli_protocol.log import GENESIS_HEAD, EntryKind, leaf, merkle_root, next_head, verify_acknowledgement
from suanli_protocol.market_client import MarketClient, signed_headers
from suanli_protocol.messages import ZERO32, Bid, Entry, Head, Match, Offer, Round
from suanli_protocol.signing import Domain, keccak256, struct_hash, verify
from support.builders import (
    CREDIT,
    a_capacity,
    a_need,
    some_prices,
)
from support.market import (
    Party,
    bid_id,
    offer_id,
    with_member,
)
from support.market_scene import (
    WAIT_S,
    Market,
    a_pair,
    opened_lease,
    raw_problem,
)

pytestmark = pytest.mark.e2e


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
        pytest.param({"attempts": 0}, ProtocolError, "attempts", id="attempts"),
        pytest.param({"gang": True}, ProtocolError, "unsupported", id="gang"),
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
