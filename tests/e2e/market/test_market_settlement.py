"""A lease at the market: phases, logs and blobs on their way, receipts, settlement."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx
import pytest

from suanli_protocol import wire
from suanli_protocol.documents import hex32, sha256
from suanli_protocol.errors import (
    IntegrityError,
    MarketError,
    NotFoundError,
    ProtocolError,
    SignatureError,
)
from suanli_protocol.lease import Progress, terms
from suanli_protocol.log import EntryKind, verify_acknowledgement
from suanli_protocol.market_client import signed_headers
from suanli_protocol.messages import Bid, Delivered, Offer, Receipt
from suanli_protocol.signing import struct_hash, verify
from support.market import (
    Party,
    with_member,
)
from support.market_scene import WAIT_S, Market, countersigned, events_until, opened_lease, put_raw, signed_receipt

pytestmark = pytest.mark.e2e


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
