"""What a node offers, and that exactly one offer of it stands on the book, whatever happens to the process."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from suanli_node.supply.offers import SignedOffer, Terms, bond_needed_up, sign_offer, traits_of
from suanli_node.supply.publisher import EXPIRED_S, Publisher, check_acknowledgement
from suanli_protocol import wire
from suanli_protocol.capacity import Lanes
from suanli_protocol.documents import Attributes
from suanli_protocol.errors import (
    IntegrityError,
    MarketError,
    NotFoundError,
    SignatureError,
    SuanliError,
    UnreachableError,
)
from suanli_protocol.lease import bond_down, price_up
from suanli_protocol.log import EntryKind, ReasonCode, leaf, merkle_root, next_head
from suanli_protocol.messages import Entry, Head, Offer
from suanli_protocol.signing import struct_hash, verify
from suanli_protocol.traits import Trait
from support import builders
from support.node import eventually

TERMS = Terms(builders.some_prices(), min_seconds=1, max_seconds=86_400, bond_bps=1000, max_window=86_400)


def acknowledged(
    paper: bytes, *, reason: int = 0, kind: EntryKind = EntryKind.OFFER, signer: int = 3
) -> wire.Acknowledgement:
    """A market's proof that it logged this."""
    entry = Entry(7, kind, paper, reason, 1_000)
    head = Head(builders.market().address, 7, 7, next_head(bytes(32), merkle_root([leaf(entry)])), 1_001)
    return wire.Acknowledgement(
        entry=wire.paper_to_json(entry),
        path=[],
        index=0,
        previous="0x" + "00" * 32,
        head=wire.paper_to_json(head),
        signature=wire.to_hex(builders.a_signer(signer).sign(builders.a_domain(), head)),
        paper=wire.to_hex(paper),
    )


@dataclass
class FakeMarket:
    """A book of offers."""

    book: dict[str, wire.SignedOffer] = field(default_factory=dict)
    reason: int = 0
    unreachable: bool = False
    dies: bool = False
    refusal: SuanliError | None = None  # of withdrawals

    def info(self) -> Any:
        """As far as it is asked."""
        return type("Info", (), {"address": builders.market().address})

    def post_offer(self, signed: wire.SignedOffer) -> wire.Acknowledgement:
        """Takes it."""
        self._check()
        offer = struct_hash(wire.paper_from_json(Offer, signed.offer))
        if not self.reason:
            self.book[wire.to_hex(offer)] = signed
        if self.dies:
            raise KeyboardInterrupt
        return acknowledged(offer, reason=self.reason)

    def withdraw_offer(self, offer: bytes) -> None:
        """Takes it off."""
        self._check()
        if self.refusal is not None:
            raise self.refusal
        if self.book.pop(wire.to_hex(offer), None) is None:
            raise NotFoundError("no such offer")

    def _check(self) -> None:
        if self.unreachable:
            raise UnreachableError("gone")


def a_publisher(
    market: FakeMarket, folder: Path, *, counters: list[int] | None = None, valid_s: int = 600
) -> Publisher:
    held = counters if counters is not None else [0]
    return Publisher(
        builders.provider(),
        builders.a_domain(),
        market,  # type: ignore[arg-type]
        lambda: held[0],
        capacity=builders.a_capacity(),
        terms=TERMS,
        attributes=builders.some_attributes(),
        valid_s=valid_s,
        ledger=folder / "offers.json",
    )


def an_offer() -> SignedOffer:
    offer = replace(builders.an_offer(), market=builders.market().address)
    return sign_offer(builders.provider(), builders.a_domain(), offer, builders.some_attributes())


def test_an_offer_is_signed_and_names_its_attributes(tmp_path: Path) -> None:
    market = FakeMarket()
    signed = a_publisher(market, tmp_path, counters=[4]).publish()
    body = market.book[wire.to_hex(signed.id)]
    offer = wire.paper_from_json(Offer, body.offer)
    verify(builders.a_domain(), offer, wire.from_hex(body.signature), builders.provider().address)
    assert Attributes.parse(body.attributes).digest() == offer.attributes
    assert Lanes.unpack(offer.capacity) == builders.a_capacity()
    assert (offer.counter, offer.market, offer.bond_bps) == (4, builders.market().address, 1000)
    assert 590 <= offer.valid_until - time.time() <= 600


def test_traits_say_what_the_machine_has() -> None:
    assert traits_of("B", (), environments=False) == Trait.SANDBOX_B | Trait.SANDBOX_C
    assert traits_of("B", ("3.11",), environments=True) & (Trait.PYTHON | Trait.ENVIRONMENTS) == (
        Trait.PYTHON | Trait.ENVIRONMENTS
    )


def test_the_bond_suffices_for_all_capacity_for_the_longest_time() -> None:
    capacity = builders.a_capacity()
    price = price_up(TERMS.prices.ask_up(capacity), TERMS.max_seconds)
    assert bond_needed_up(capacity, TERMS) - bond_down(price, TERMS.bond_bps) in (0, 1)


def test_a_fresh_offer_replaces_the_last_one(tmp_path: Path) -> None:
    market = FakeMarket()
    publisher = a_publisher(market, tmp_path)
    first = publisher.publish()
    publisher._valid_s = 601
    second = publisher.publish()
    assert first.id != second.id
    assert list(market.book) == [wire.to_hex(second.id)]


def test_offers_of_a_killed_process_are_taken_off(tmp_path: Path) -> None:
    market = FakeMarket(dies=True)
    with pytest.raises(KeyboardInterrupt):
        a_publisher(market, tmp_path).publish()  # posted, and never heard of the answer
    market.dies = False
    publisher = a_publisher(market, tmp_path, valid_s=700)
    signed = publisher.publish()
    assert list(market.book) == [wire.to_hex(signed.id)]
    publisher.withdraw()
    assert market.book == {}


def test_what_cannot_be_withdrawn_is_remembered(tmp_path: Path) -> None:
    market = FakeMarket()
    publisher = a_publisher(market, tmp_path)
    publisher.publish()
    market.unreachable = True
    publisher.withdraw()
    market.unreachable = False
    later = a_publisher(market, tmp_path, valid_s=700).publish()
    assert list(market.book) == [wire.to_hex(later.id)]


def test_an_offer_is_due_at_half_of_its_time_and_when_the_counter_moves(tmp_path: Path) -> None:
    counters = [0]
    publisher = a_publisher(FakeMarket(), tmp_path, counters=counters)
    assert publisher._is_due()
    publisher.publish()
    assert not publisher._is_due()
    counters[0] = 1
    assert publisher._is_due()
    counters[0] = 0
    publisher._valid_s = 1300  # more than half of it is over
    assert publisher._is_due()


def test_an_offer_that_the_market_took_off_is_signed_anew_at_once(tmp_path: Path) -> None:
    """As after a reclaim: what the lease had taken is free, and only a fresh offer sells it."""
    market = FakeMarket()
    publisher = a_publisher(market, tmp_path)
    first = wire.to_hex(publisher.publish().id)
    keeper = threading.Thread(target=publisher.keep, daemon=True)
    keeper.start()
    market.book.clear()
    publisher.lost("0x" + "11" * 32)
    publisher.lost(first)
    eventually(lambda: market.book, "the fresh offer", timeout=10)
    assert list(market.book) != [first]
    assert not publisher._is_due(), "one is enough, however often it was said"
    publisher.withdraw()
    keeper.join(10)
    assert (keeper.is_alive(), market.book) == (False, {})


def test_two_offers_of_the_same_second_are_two(tmp_path: Path) -> None:
    publisher = a_publisher(FakeMarket(), tmp_path)
    assert publisher.publish().id != publisher.publish().id


def ledger_of(folder: Path) -> dict[str, int]:
    return dict(json.loads((folder / "offers.json").read_bytes())["offers"])


def test_a_market_that_refuses_leaves_nothing_to_remember(tmp_path: Path) -> None:
    market = FakeMarket()
    publisher = a_publisher(market, tmp_path)
    standing = publisher.publish()
    market.reason = ReasonCode.VALIDITY_TOO_LONG
    for valid_s in range(700, 705):
        publisher._valid_s = valid_s
        with pytest.raises(MarketError):
            publisher.publish()
    assert list(ledger_of(tmp_path)) == [wire.to_hex(standing.id)]


def test_an_offer_is_remembered_until_it_is_known_to_be_off_or_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the market does not take the withdrawal, for whatever reason, does not take the offer off its book."""
    market = FakeMarket()
    publisher = a_publisher(market, tmp_path)
    first = publisher.publish()
    market.refusal = SignatureError("the request is too old: look at your clock")
    publisher.withdraw()
    assert not publisher.off
    assert list(ledger_of(tmp_path)) == [wire.to_hex(first.id)]
    market.refusal = MarketError("the offer is filled already", code="too_late")
    publisher.withdraw()
    assert publisher.off
    market.refusal = SignatureError("no")
    other = a_publisher(market, tmp_path, valid_s=900)
    other.publish()
    other.withdraw()
    assert not other.off
    later = time.time() + 900 + EXPIRED_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert other.off, "nothing can be leased from it any more"


def test_offers_that_an_earlier_version_wrote_down_are_taken_off(tmp_path: Path) -> None:
    market = FakeMarket()
    old = an_offer()
    market.book[wire.to_hex(old.id)] = old.body()
    (tmp_path / "offers.json").write_text(json.dumps({"offers": [wire.to_hex(old.id)]}))
    signed = a_publisher(market, tmp_path, valid_s=700).publish()
    assert list(market.book) == [wire.to_hex(signed.id)]


def test_a_refusal_is_told_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(MarketError, match="validity_too_long"):
        a_publisher(FakeMarket(reason=ReasonCode.VALIDITY_TOO_LONG), tmp_path).publish()


def test_an_acknowledgement_must_prove_that_this_offer_was_admitted() -> None:
    signed, domain, market = an_offer(), builders.a_domain(), builders.market().address
    check_acknowledgement(acknowledged(signed.id), domain, market, signed)
    with pytest.raises(MarketError, match="not the offer"):
        check_acknowledgement(acknowledged(bytes(32)), domain, market, signed)
    with pytest.raises(MarketError, match="refused"):
        check_acknowledgement(acknowledged(signed.id, kind=EntryKind.REFUSE), domain, market, signed)
    with pytest.raises(SignatureError):
        check_acknowledgement(acknowledged(signed.id, signer=9), domain, market, signed)
    with pytest.raises(IntegrityError):
        check_acknowledgement(acknowledged(signed.id), domain, builders.a_signer(9).address, signed)
