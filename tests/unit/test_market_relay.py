"""The relay over a real database and disk: an upload goes on from every cut, and quotas end it with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from suanli_market.leasing import relay as module
from suanli_market.leasing.relay import BlobTooLargeError, Relay
from suanli_market.leasing.retention import KEPT_S, Retention
from suanli_market.store import StorageError, Store
from suanli_market.tables import LeaseRow
from suanli_protocol import wire
from suanli_protocol.documents import sha256
from suanli_protocol.errors import IntegrityError, MarketError, NotFoundError, SuanliError
from suanli_protocol.messages import Delivered
from support.builders import NOW, a_domain, consumer, market, provider

LEASES = [wire.to_hex(bytes([n]) * 32) for n in range(1, 64)]
DATA = bytes(range(48))
SENDER = consumer().address


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    opened.migrate()
    with opened.write() as session:
        for number, lease in enumerate(LEASES, 1):
            session.add(a_lease(lease, number))
    yield opened
    opened.close()


def a_lease(id_: str, number: int) -> LeaseRow:
    nowhere = "0x" + "00" * 32
    return LeaseRow(
        id=id_,
        number=number,
        provider=provider().address,
        consumer=SENDER,
        bid=nowhere,
        offer=nowhere,
        rate="1",
        price="1",
        seat_index=0,
        attempt=1,
        opened_at=NOW,
        block=1,
        block_hash=nowhere,
        transaction=nowhere,
    )


def a_relay(store: Store, **limits: int) -> Relay:
    """A relay as after a restart: what it knows is on the disk."""
    return Relay(store, store.path.parent / "blobs", market(), a_domain(), **limits)


def delivered(view: wire.BlobView) -> bytes:
    assert view.delivered is not None
    return wire.paper_from_json(Delivered, view.delivered).digest


@pytest.mark.parametrize("restarted", [False, True])
def test_an_upload_goes_on_from_every_cut(store: Store, restarted: bool) -> None:
    digest = wire.to_hex(sha256(DATA))
    relay = a_relay(store)
    for cut, lease in zip(range(len(DATA) + 1), LEASES, strict=False):
        relay.begin(lease, "job", SENDER, len(DATA), digest)
        first = relay.append(lease, "job", SENDER, 0, DATA[:cut])
        relay = a_relay(store) if restarted else relay
        view = relay.begin(lease, "job", SENDER, len(DATA), digest)
        assert (view.received, first.received) == (cut, cut)
        if cut < len(DATA):
            with pytest.raises(MarketError, match=f"ends at {cut}"):
                relay.append(lease, "job", SENDER, cut + 1, DATA[cut + 1 :])
        assert delivered(relay.append(lease, "job", SENDER, cut, DATA[cut:])) == sha256(DATA)
        assert relay.path(lease, "job", provider().address).read_bytes() == DATA


def test_a_piece_that_the_disk_took_and_the_answer_did_not_reach_is_not_doubled(store: Store) -> None:
    relay, lease = a_relay(store), LEASES[0]
    relay.begin(lease, "job", SENDER, len(DATA), "")
    relay.append(lease, "job", SENDER, 0, DATA[:20])
    with pytest.raises(MarketError, match="ends at 20"):
        relay.append(lease, "job", SENDER, 0, DATA[:20])
    assert relay.append(lease, "job", SENDER, 20, DATA[20:]).received == len(DATA)


def test_other_bytes_begin_anew_and_wrong_ones_leave_nothing(store: Store) -> None:
    relay, lease = a_relay(store), LEASES[0]
    relay.begin(lease, "job", SENDER, len(DATA), wire.to_hex(sha256(b"other")))
    relay.append(lease, "job", SENDER, 0, DATA[:20])
    assert relay.held_bytes() == 20
    assert relay.begin(lease, "job", SENDER, len(DATA), wire.to_hex(sha256(b"wrong"))).received == 0
    assert relay.held_bytes() == 0
    with pytest.raises(IntegrityError):
        relay.append(lease, "job", SENDER, 0, DATA)
    assert relay.held_bytes() == 0


def test_a_lease_announces_so_much_and_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_BYTES_MAX", 100)
    relay, lease = a_relay(store), LEASES[0]
    relay.begin(lease, "job", SENDER, 60, "")
    with pytest.raises(BlobTooLargeError, match="it has 101") as caught:
        relay.begin(lease, "inputs", SENDER, 41, "")
    assert (caught.value.http_status, bool(caught.value.hint)) == (413, True)
    assert relay.begin(lease, "inputs", SENDER, 40, "").received == 0
    assert relay.begin(lease, "job", SENDER, 50, "").size == 50, "announced anew, it counts once"
    with pytest.raises(BlobTooLargeError):
        relay.begin(LEASES[1], "job", SENDER, module.BLOB_BYTES_MAX + 1, "")


def test_the_relay_holds_so_much_until_retention_makes_room(store: Store, tmp_path: Path) -> None:
    relay = a_relay(store, bytes_max=100)
    for lease in LEASES[:3]:
        relay.begin(lease, "job", SENDER, len(DATA), "")
    relay.append(LEASES[0], "job", SENDER, 0, DATA)
    relay.append(LEASES[1], "job", SENDER, 0, DATA)
    with pytest.raises(StorageError, match="holds 96 bytes of at most 100") as caught:
        relay.append(LEASES[2], "job", SENDER, 0, DATA)
    assert (caught.value.http_status, caught.value.retryable, bool(caught.value.hint)) == (507, True, True)
    assert relay.append(LEASES[2], "job", SENDER, 0, DATA[:4]).received == 4, "what fits is taken"
    assert a_relay(store).held_bytes() == 100, "counted from the disk"
    with store.write() as session:
        row = session.get_one(LeaseRow, LEASES[0])
        row.state, row.closed_at = "settled", NOW - KEPT_S
        session.add(row)
    Retention(store, tmp_path / "blobs", lambda: NOW, on_swept=relay.recount).sweep(NOW)
    assert relay.held_bytes() == 52
    assert relay.append(LEASES[2], "job", SENDER, 4, DATA[4:]).delivered is not None


def test_the_disk_keeps_room_for_the_database(store: Store) -> None:
    relay = a_relay(store, reserve_bytes=2**62)
    relay.begin(LEASES[0], "job", SENDER, len(DATA), "")
    with pytest.raises(StorageError, match="kept for its database") as caught:
        relay.append(LEASES[0], "job", SENDER, 0, DATA)
    assert "reserve-mib" in caught.value.hint


def test_a_blob_whose_file_is_gone_is_said_to_be_lost(store: Store) -> None:
    relay = a_relay(store)
    relay.begin(LEASES[0], "job", SENDER, len(DATA), "")
    relay.append(LEASES[0], "job", SENDER, 0, DATA)
    relay.path(LEASES[0], "job", SENDER).unlink()
    with pytest.raises(NotFoundError, match="was lost"):
        relay.path(LEASES[0], "job", SENDER)


class Crowded(Relay):
    """A relay that another request comes to while the first looks whether it may send."""

    meanwhile: Callable[[], object] | None = None

    def _require_sender(self, *lease_slot_and_party: Any) -> None:
        super()._require_sender(*lease_slot_and_party)
        if (other := self.meanwhile) is not None:
            self.meanwhile = None
            other()


@pytest.mark.parametrize("in_pieces", [False, True])
def test_of_two_uploads_at_once_one_is_delivered(store: Store, in_pieces: bool) -> None:
    relay, lease = Crowded(store, store.path.parent / "blobs", market(), a_domain()), LEASES[0]
    relay.begin(lease, "job", SENDER, len(DATA), "")

    def upload(data: bytes) -> wire.BlobView:
        if in_pieces:
            return relay.append(lease, "job", SENDER, 0, data)
        return relay.store(lease, "job", SENDER, data, "")

    refused: list[MarketError] = []

    def other() -> None:
        try:
            upload(DATA[::-1])
        except MarketError as error:
            refused.append(error)

    relay.meanwhile = other
    assert delivered(upload(DATA)) == sha256(DATA)
    assert len(refused) == 1
    assert relay.path(lease, "job", SENDER).read_bytes() == DATA


def test_nothing_is_announced_anew_under_an_upload(store: Store) -> None:
    relay, lease = Crowded(store, store.path.parent / "blobs", market(), a_domain()), LEASES[0]
    relay.begin(lease, "job", SENDER, len(DATA), "")
    relay.append(lease, "job", SENDER, 0, DATA[:20])

    def anew() -> None:
        with pytest.raises(MarketError, match="under way"):
            relay.begin(lease, "job", SENDER, 20, "")

    relay.meanwhile = anew
    assert delivered(relay.append(lease, "job", SENDER, 20, DATA[20:])) == sha256(DATA)


def test_a_stranger_holds_up_no_upload(store: Store) -> None:
    relay, lease = Crowded(store, store.path.parent / "blobs", market(), a_domain()), LEASES[0]

    def foreign() -> None:
        with pytest.raises(SuanliError):
            relay.store(lease, "job", provider().address, DATA[::-1], "")

    relay.meanwhile = foreign
    assert delivered(relay.store(lease, "job", SENDER, DATA, "")) == sha256(DATA)
