"""The book: a fold over changes."""

from __future__ import annotations

from suanli_market.clearing.book import BEHIND_MAX, Book, Change, Entered, Left, Opened, Proposed, Returned
from suanli_market.clearing.conditions import terms_of
from suanli_market.clearing.matching import Proposal
from suanli_protocol.lease import Account
from support.builders import CREDIT, NOW, a_need, a_seat, consumer, provider
from support.market_papers import a_standing_bid, a_standing_offer, some_facts


def folded(*changes: Change) -> Book:
    book = Book()
    for change in changes:
        book.apply(change)
    return book


OFFER, BID = a_standing_offer(), a_standing_bid()
PROPOSAL = Proposal(BID, OFFER, terms_of(BID, OFFER))


def test_papers_enter_and_leave() -> None:
    book = folded(Entered(OFFER), Entered(BID))
    assert list(book.index) == [OFFER]
    assert book.waiting() == (BID,)
    assert book.count(provider().address) == (1, 2)
    book.apply(Left(OFFER.id))
    book.apply(Left(b"\x09" * 32))
    assert list(book.index) == []
    assert book.count(provider().address) == (0, 1)


def test_a_pending_bid_does_not_wait_and_returns_at_its_place() -> None:
    later = a_standing_bid(seat=a_seat(7), seq=50)
    book = folded(Entered(OFFER), Entered(BID), Entered(later), Proposed(PROPOSAL))
    assert book.waiting() == (later,)
    book.apply(Returned(BID.id))
    assert book.waiting() == (BID, later)


def test_an_alternative_of_a_pending_seat_does_not_wait() -> None:
    alternative = a_standing_bid(max_rate=200_000)
    book = folded(Entered(OFFER), Entered(BID), Entered(alternative), Proposed(PROPOSAL))
    assert book.waiting() == ()


def test_pending_matches_hold_capacity_bond_and_deposit() -> None:
    book = folded(Entered(OFFER), Entered(BID), Proposed(PROPOSAL))
    left = book.less_pending(some_facts().accounts)
    assert left[provider().address] == Account(100 * CREDIT - 3510, 0, a_need())
    assert left[consumer().address].free == 100 * CREDIT - 38_785
    book.apply(Opened(BID.id))
    assert book.less_pending(some_facts().accounts) == some_facts().accounts
    assert book.waiting() == ()


def test_what_the_index_lacks_is_made_good_when_somebody_looks() -> None:
    offers = [a_standing_offer(valid_until=NOW + 600 + number, seq=number) for number in range(BEHIND_MAX + 20)]
    looked_at, not_looked_at = Book(), Book()
    for first in range(0, len(offers), 170):
        for book in (looked_at, not_looked_at):
            book.apply_all(map(Entered, offers[first : first + 170]))
        assert len(looked_at.index) == min(first + 170, len(offers))
    account = Account(5 * CREDIT, 0, a_need())
    for book in (looked_at, not_looked_at):
        book.apply_all([Left(offers[3].id), Entered(offers[3]), Left(offers[4].id), Left(offers[-1].id)])
        book.settle({provider().address: account})
    assert set(looked_at.index) == set(not_looked_at.index) == {*offers[:4], *offers[5:-1]}
    assert len(not_looked_at.index) == len(offers) - 2
    assert not_looked_at.index.idle is None, "all of the account's offers are in use"


def test_expiry_spares_pending_bids() -> None:
    book = folded(Entered(OFFER), Entered(BID))
    assert book.expired(NOW + 599) == ([], [])
    assert book.expired(NOW + 600) == ([OFFER.id], [BID.id])
    book.apply(Proposed(PROPOSAL))
    assert book.expired(NOW + 600) == ([OFFER.id], [])


def test_parties_are_all_accounts_of_the_book() -> None:
    assert folded(Entered(OFFER), Entered(BID)).parties() == {consumer().address, provider().address}
