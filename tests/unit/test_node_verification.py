"""A node believes no market: papers and the escrow's word decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from suanli_node.leases.standing import check_open, stand
from suanli_node.leases.verification import Assignment, NotYetOnChainError, read_assignment, read_bare
from suanli_protocol import wire
from suanli_protocol.errors import IntegrityError, ProtocolError, SignatureError, SuanliError
from suanli_protocol.escrow import CLOSED, UNUSED
from suanli_protocol.lease import Phase, Progress
from suanli_protocol.lease_history import LeaseHistory
from suanli_protocol.messages import Bid
from support import builders
from support.leases import Opened, an_opened_lease, other_offer


def read(view: wire.LeaseView) -> Assignment:
    return read_assignment(view, builders.provider().address, builders.a_domain())


def test_a_truthful_view_is_taken_and_the_terms_are_the_escrows() -> None:
    opened = an_opened_lease()
    assignment = read(opened.view)
    assert (assignment.id, assignment.lease, assignment.clauses) == (opened.id, opened.lease, opened.clauses)
    asked: list[bytes] = []

    def read_seat(key: bytes) -> bytes:
        asked.append(key)
        return opened.word()

    check_open(assignment, stand(assignment, read_seat, lambda _: LeaseHistory()))
    assert asked == [opened.lease.seat_key]


def test_what_earlier_attempts_cost_is_part_of_the_terms() -> None:
    bid = replace(builders.a_bid(), attempts=2)
    opened = an_opened_lease(attempts=bid.attempts, attempt=2, spent=1)
    assert read(opened.view).id == opened.id
    with pytest.raises(IntegrityError, match="make the lease"):
        read(opened.told(spent="0"))


def test_papers_without_documents_can_be_read_but_name_no_job() -> None:
    opened = an_opened_lease()
    bare = opened.told(attributes={}, constraints={}, job_digest="0x" + "00" * 32)
    assert (
        read_bare(bare, builders.provider().address).id,
        read_bare(bare, builders.provider().address).job_digest,
    ) == (
        opened.id,
        bytes(32),
    )
    with pytest.raises(IntegrityError, match="not this node's"):
        read_bare(bare, builders.a_signer(9).address)
    with pytest.raises(IntegrityError, match="make the lease"):
        read_bare(bare.model_copy(update={"opened_at": bare.opened_at + 1}), builders.provider().address)


def resigned_bid(opened: Opened) -> wire.LeaseView:
    """A bid with another need, signed by a stranger."""
    bid = replace(wire.paper_from_json(Bid, opened.view.bid), need=builders.a_need(cpu_milli=1).pack())
    signature = builders.a_signer(9).sign(builders.a_domain(), bid)
    return opened.told(bid=wire.paper_to_json(bid), bid_signature=wire.to_hex(signature))


def foreign_offer(opened: Opened) -> wire.LeaseView:
    """An offer of another provider, well signed by it."""
    offer = replace(opened.offer, provider=builders.a_signer(9).address)
    signature = builders.a_signer(9).sign(builders.a_domain(), offer)
    return opened.told(offer=wire.paper_to_json(offer), offer_signature=wire.to_hex(signature))


def offer_for_another_chain(opened: Opened) -> wire.LeaseView:
    signature = builders.provider().sign(builders.a_domain(chain_id=1), opened.offer)
    return opened.told(offer_signature=wire.to_hex(signature))


LIES: dict[str, tuple[Callable[[Opened], wire.LeaseView], type[SuanliError], str]] = {
    "rate": (lambda o: o.told(rate=str(int(o.view.rate) + 1)), IntegrityError, "make the lease"),
    "time of opening": (lambda o: o.told(opened_at=o.view.opened_at + 1), IntegrityError, "make the lease"),
    "index": (lambda o: o.told(index=1), IntegrityError, "make the lease"),
    "attempt": (lambda o: o.told(attempt=2), IntegrityError, "make the lease"),
    "id": (lambda o: o.told(id="0x" + "11" * 32), IntegrityError, "make the lease"),
    "huge rate": (lambda o: o.told(rate=str(2**96)), ProtocolError, "do not fit"),
    "huge time": (lambda o: o.told(opened_at=2**62), ProtocolError, "do not fit"),
    "job": (lambda o: o.told(job_digest="0x" + "11" * 32), IntegrityError, "job and constraints"),
    "constraints": (
        lambda o: o.told(constraints=builders.some_constraints(arch="arm64").to_json()),
        IntegrityError,
        "job and constraints",
    ),
    "attributes": (
        lambda o: o.told(attributes=builders.some_attributes(region="CN-BJ").to_json()),
        IntegrityError,
        "attributes",
    ),
    "cheaper offer": (lambda o: o.told(offer=other_offer(o, prices=1)), SignatureError, "Offer"),
    "bid": (resigned_bid, SignatureError, "Bid"),
    "other provider": (foreign_offer, IntegrityError, "not this node's"),
    "other chain": (offer_for_another_chain, SignatureError, "Offer"),
    "no signature": (lambda o: o.told(bid_signature="0x"), SignatureError, "64 bytes"),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_of_a_market_is_named(lie: str) -> None:
    tell, kind, words = LIES[lie]
    with pytest.raises(kind, match=words):
        read(tell(an_opened_lease()))


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        (UNUSED, NotYetOnChainError),
        (CLOSED, IntegrityError),
        (an_opened_lease(rate=90_000).word(), IntegrityError),
        (an_opened_lease().word(Progress(clock=1, phase=Phase.STOPPED)), IntegrityError),
    ],
)
def test_nothing_is_taken_unless_the_escrow_holds_this_very_lease(word: bytes, kind: type[SuanliError]) -> None:
    assignment = read(an_opened_lease().view)
    with pytest.raises(kind):
        check_open(assignment, stand(assignment, lambda _: word, lambda _: LeaseHistory()))


@pytest.mark.parametrize("phase", Phase)
def test_a_lease_is_taken_in_whichever_phase_it_is_open(phase: Phase) -> None:
    opened, progress = an_opened_lease(), Progress(clock=1, phase=phase)
    assignment = read(opened.view)
    found = stand(assignment, lambda _: opened.word(progress), lambda _: LeaseHistory(progress))
    check_open(assignment, found)
    assert found.progress == progress
