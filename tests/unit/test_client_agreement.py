"""What a lease must be before anything is sealed for it: each untrue thing that a market could say is named."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from suanli.session.agreement import (
    NEVER_USED,
    NotYetOnChainError,
    check_bid,
    check_terms,
    is_within,
    read_agreement,
    runs_on_chain,
)
from suanli_protocol import wire
from suanli_protocol.documents import documents_digest, hex32
from suanli_protocol.errors import IntegrityError, ProtocolError, SignatureError, SuanliError
from suanli_protocol.lease import CLOSED_WORD, Progress, ask_up, lease_id, terms
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.signing import Signer
from support import builders
from support.leases import Opened, an_opened_lease

DOMAIN, CONSUMER = builders.a_domain(), builders.consumer()


def _constant(word: bytes, _: bytes) -> bytes:
    return word


def read(view: wire.LeaseView) -> Any:
    return read_agreement(view, DOMAIN, CONSUMER.address)


def signed_view(
    opened: Opened,
    *,
    offer: Offer | None = None,
    bid: Bid | None = None,
    rate: int | None = None,
    by: Signer | None = None,
    **told: Any,
) -> wire.LeaseView:
    """A view that is consistent and signed by its parties, whatever its terms."""
    offer, bid = offer or opened.offer, bid or opened.bid
    rate = ask_up(bid, offer) if rate is None else rate
    lease, _ = terms(bid, offer, rate=rate, opened_at=opened.clauses.opened_at)
    return opened.told(
        id=hex32(lease_id(lease)),
        offer=wire.paper_to_json(offer),
        offer_signature=wire.to_hex((by or builders.provider()).sign(DOMAIN, offer)),
        bid=wire.paper_to_json(bid),
        bid_signature=wire.to_hex(CONSUMER.sign(DOMAIN, bid)),
        rate=str(rate),
        **told,
    )


def test_a_true_lease_passes() -> None:
    opened = an_opened_lease()
    agreement = read(opened.view)
    assert (agreement.lease, agreement.clauses, agreement.id) == (opened.lease, opened.clauses, opened.id)
    assert agreement.encryption_key == builders.provider().encryption_public
    check_bid(agreement, opened.bid)
    check_terms(agreement)
    assert runs_on_chain(agreement, lambda _: opened.word())


UNTRUE = [
    ("offer_signature", lambda o: o.told(offer_signature=o.view.bid_signature), SignatureError, "Offer"),
    ("offer", lambda o: o.told(offer=wire.paper_to_json(replace(o.offer, prices=1))), SignatureError, "Offer"),
    ("bid_signature", lambda o: o.told(bid_signature=o.view.offer_signature), SignatureError, "Bid"),
    ("bid", lambda o: o.told(bid=wire.paper_to_json(replace(o.bid, budget=1))), SignatureError, "Bid"),
    ("rate", lambda o: o.told(rate=str(o.clauses.rate - 1)), IntegrityError, "id"),
    ("opened_at", lambda o: o.told(opened_at=o.view.opened_at + 1), IntegrityError, "id"),
    ("id", lambda o: o.told(id="0x" + "00" * 32), IntegrityError, "id"),
    ("attempt", lambda o: o.told(attempt=2), IntegrityError, "id"),
    ("huge", lambda o: o.told(rate=str(2**200)), ProtocolError, "fit"),
    ("attributes", lambda o: o.told(attributes={**o.view.attributes, "name": "x"}), IntegrityError, "attributes"),
    ("extra", lambda o: o.told(attributes={**o.view.attributes, "x": 1}), ProtocolError, "Attributes"),
    ("job_digest", lambda o: o.told(job_digest="0x" + "00" * 32), IntegrityError, "documents"),
    ("constraints", lambda o: o.told(constraints={**o.view.constraints, "arch": "x"}), IntegrityError, "documents"),
]


@pytest.mark.parametrize(("lie", "kind", "named"), [u[1:] for u in UNTRUE], ids=[u[0] for u in UNTRUE])
def test_an_untrue_view_is_named(lie: Any, kind: type[SuanliError], named: str) -> None:
    with pytest.raises(kind) as caught:
        read(lie(an_opened_lease()))
    assert named in caught.value.detail


def test_another_consumers_lease_is_not_mine() -> None:
    with pytest.raises(IntegrityError, match="bid"):
        read_agreement(an_opened_lease().view, DOMAIN, builders.a_signer(9).address)


def with_constraints(**wishes: Any) -> Any:
    """A consistent agreement whose constraints are other than the machine."""
    opened = an_opened_lease()
    constraints = builders.some_constraints(**wishes)
    bid = replace(opened.bid, documents=documents_digest(opened.job.digest(), constraints.digest()))
    view = signed_view(opened, bid=bid, constraints=constraints.to_json())
    return read(view)


@pytest.mark.parametrize(
    ("wishes", "named"),
    [
        ({"regions": ("DE",)}, "region"),
        ({"regions": ("CN-G",)}, "region"),
        ({"arch": "arm64"}, "arch"),
        ({"python": "3.13"}, "python"),
    ],
)
def test_a_broken_constraint_is_named(wishes: dict[str, Any], named: str) -> None:
    agreement = with_constraints(**wishes)
    with pytest.raises(IntegrityError, match=named):
        check_terms(agreement)


@pytest.mark.parametrize("wishes", [{"regions": ("DE", "CN")}, {"arch": "x86_64"}, {"python": "3.11"}])
def test_a_kept_constraint_passes(wishes: dict[str, Any]) -> None:
    agreement = with_constraints(**wishes)
    check_terms(agreement)


@pytest.mark.parametrize(
    ("offer", "rate", "named"),
    [
        ({"traits": 0}, None, "traits"),
        ({"bond_bps": 0}, None, "bond"),
        ({"max_window": 1}, None, "window"),
        ({"capacity": 0}, None, "capacity"),
        ({"market": builders.a_signer(8).address}, None, "other_market"),
        ({}, 100_001, "rate_above_bid"),
        ({}, 1, "rate"),
    ],
)
def test_a_broken_term_is_named(offer: dict[str, Any], rate: int | None, named: str) -> None:
    opened = an_opened_lease()
    view = signed_view(opened, offer=replace(opened.offer, **offer), rate=rate)
    with pytest.raises(IntegrityError, match=named):
        check_terms(read(view))


def test_a_lease_of_another_bid_is_named() -> None:
    opened = an_opened_lease()
    with pytest.raises(IntegrityError, match="bid"):
        check_bid(read(opened.view), replace(opened.bid, budget=opened.bid.budget - 1))


def test_only_the_chains_word_opens_a_lease() -> None:
    opened = an_opened_lease()
    agreement = read(opened.view)
    with pytest.raises(NotYetOnChainError):
        runs_on_chain(agreement, lambda _: NEVER_USED)
    for word in (CLOSED_WORD, b"\x07" * 32, opened.word(Progress(paid=1))):
        assert not runs_on_chain(agreement, partial(_constant, word))


@pytest.mark.parametrize(
    ("region", "wanted", "inside"),
    [("CN-GD", "CN", True), ("CN-GD", "CN-GD", True), ("CN", "CN-GD", False), ("", "CN", False), ("CNX", "CN", False)],
)
def test_regions(region: str, wanted: str, inside: bool) -> None:
    assert is_within(region, wanted) is inside
