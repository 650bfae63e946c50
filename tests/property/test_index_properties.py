"""The index against the reference: the same offers in the same order, whatever has changed before."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from suanli_market.clearing.book import Book, Entered, Left, View
from suanli_market.clearing.conditions import (
    Condition,
    Facts,
    Place,
    StandingBid,
    StandingOffer,
    Wish,
    failures,
    terms_of,
)
from suanli_market.clearing.index import Index
from suanli_market.clearing.reference import ranked
from suanli_market.clearing.search import cheapest, hits
from suanli_market.clearing.shortfall import least_deposit
from suanli_protocol.capacity import Lanes, Prices
from suanli_protocol.lease import Account
from suanli_protocol.messages import Offer
from support.builders import NOW, a_bid, a_signer, an_offer

PROVIDERS = ["0x" + f"{n:040x}" for n in range(1, 40)]
MARKET = a_signer(3).address
OFFER, BID = an_offer(), a_bid()


def an_offer_of(random: Random) -> StandingOffer:
    paper = replace(
        OFFER,
        provider=random.choice(PROVIDERS),
        capacity=some_lanes(random, 8).pack(),
        prices=Prices(*(random.choice((0, 7, random.randrange(40_000))) for _ in range(4))).pack(),
        traits=random.choice((2, 6, 7, 0x306)),
        valid_until=NOW + random.choice((0, 1, 600, 9000)),
        min_seconds=random.choice((1, 60, 3600)),
        max_seconds=random.choice((0, 600, 3600)),
        bond_bps=random.choice((0, 1000, 2500)),
        max_window=random.choice((300, 3600)),
        counter=random.choice((0, 0, 0, 0, 1)),
        arbiter=random.choice((BID.arbiter, BID.arbiter, BID.arbiter, PROVIDERS[1])),
    )
    region = random.choice(("", "CN", "CN-GD", "CN-GD-1", "CNX", "US-CA", "US-NY"))
    pythons = random.choice(((), ("3.11",), ("3.11", "3.12")))
    place = Place(region, random.choice(("x86_64", "arm64")), pythons, random.random() < 0.7)
    return StandingOffer.of(random.randbytes(32), random.randrange(10**6), paper, place)


def a_bid_of(random: Random) -> StandingBid:
    paper = replace(
        BID,
        consumer=random.choice(("0x" + "99" * 20, PROVIDERS[0])),
        need=some_lanes(random, 3).pack(),
        needs=random.choice((0, 2, 6)),
        refuses=random.choice((0, 0, 1, 0x300)),
        max_rate=random.choice((1000, 60_000, 300_000)),
        budget=random.choice((5000, 10**6)),
        max_seconds=random.choice((1, 600, 3600, 9000)),
        window=random.choice((60, 300, 3600)),
        fee_bps=random.choice((0, 100, 9000)),
    )
    regions = random.choice(((), (), ("CN",), ("CN-GD", "US"), ("",)))
    arch, python = random.choice(("", "x86_64")), random.choice(("", "", "3.12"))
    return StandingBid.of(random.randbytes(32), 1, paper, Wish(regions, arch, python, random.random() < 0.2))


def some_lanes(random: Random, most: int) -> Lanes:
    accelerators = random.choice((0, 0, 1000, 500))
    return Lanes(
        random.randint(0, most) * 1000, random.randint(0, most) * 1024, accelerators, random.choice((0, 100, 20_480))
    )


def least_fee(random: Random) -> int:
    return random.choice((0, 1, 20, 500))


def some_accounts(random: Random) -> dict[str, Account]:
    return {
        address: Account(random.choice((0, 500, 10**6)), 0, some_lanes(random, 4))
        for address in [*PROVIDERS, "0x" + "99" * 20]
        if random.random() < 0.95
    }


def agree(index: Index, offers: list[StandingOffer], facts: Facts, random: Random) -> None:
    """All hits of a bid, in their order, are the reference's."""
    assert sorted(offer.id for offer in index) == sorted(offer.id for offer in offers)
    assert len(index) == len(offers)
    for _ in range(4):
        bid = a_bid_of(random)
        expected = ranked(bid, offers, facts)
        found = list(hits(bid, index, facts))
        assert [(hit.entry.offer.id, hit.terms) for hit in found] == [(p.offer.id, p.terms) for p in expected]
        best = cheapest(bid, index, facts)
        assert (best.entry.offer.id if best else None) == (expected[0].offer.id if expected else None)


@given(st.integers(), st.integers(0, 150))
@settings(max_examples=60, deadline=None)
def test_what_is_found_at_once(seed: int, count: int) -> None:
    random = Random(seed)
    offers = [an_offer_of(random) for _ in range(count)]
    facts = Facts(NOW, MARKET, some_accounts(random), random.randbytes(32), least_fee(random))
    agree(Index.of(offers, facts), offers, facts, random)


@given(st.integers(), st.integers(1, 60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_is_found_after_changes(seed: int, steps: int, ascending: bool) -> None:
    """Through a book: offers enter (at random, or each dearer than the last) and leave, accounts move."""
    random = Random(seed)
    book, offers, accounts = Book(), dict[bytes, StandingOffer](), some_accounts(random)
    views: list[tuple[Index, list[StandingOffer], Facts]] = []
    for step in range(steps):
        for _ in range(random.randint(1, 8)):
            offer = an_offer_of(random)
            if ascending:
                prices = Prices(*(4 * step + lane for lane in range(4)))
                offer = replace(offer, prices=prices, offer=with_prices(offer.offer, prices))
            offers[offer.id] = offer
            book.apply(Entered(offer))
        gone = random.sample(sorted(offers), random.randint(0, min(5, len(offers))))
        book.apply_all([Left(id_) for id_ in gone])
        for id_ in gone:
            del offers[id_]
        moved = random.sample(PROVIDERS, 3)
        accounts |= {address: account for address, account in some_accounts(random).items() if address in moved}
        book.touch(moved)
        book.settle({address: accounts.get(address, Account()) for address in book.stale})
        if step % 10 == 0:
            facts = Facts(NOW, MARKET, {**accounts, **book.accounts({})}, random.randbytes(32), least_fee(random))
            views.append((book.index, list(offers.values()), facts))
    for view in views:  # also those from before later changes
        agree(*view, random)


def with_prices(paper: Offer, prices: Prices) -> Offer:
    return replace(paper, prices=prices.pack())


@given(st.integers(), st.integers(0, 60))
@settings(max_examples=80, deadline=None)
def test_the_least_deposit(seed: int, count: int) -> None:
    random = Random(seed)
    offers = [an_offer_of(random) for _ in range(count)]
    facts = Facts(NOW, MARKET, some_accounts(random), random.randbytes(32), least_fee(random))
    view = View(Index.of(offers, facts), (), facts)
    for _ in range(4):
        bid = a_bid_of(random)
        assert least_deposit(bid, view) == plain_least_deposit(bid, offers, facts)


def plain_least_deposit(bid: StandingBid, offers: list[StandingOffer], facts: Facts) -> int | None:
    least: list[int] = []
    for offer in offers:
        terms = terms_of(bid, offer)
        failed = list(failures(bid, offer, terms, facts))
        if not failed:
            return None
        if failed == [Condition.CONSUMER_FUNDS]:
            least.append(terms.deposit)
    return min(least, default=None)


def test_an_index_stays_shallow_when_each_offer_is_dearer_than_the_last() -> None:
    random = Random(1)
    book = Book()
    for step in range(2000):
        prices = Prices(step, step, step, step)
        offer = an_offer_of(random)
        book.apply(Entered(replace(offer, prices=prices, offer=with_prices(offer.offer, prices))))
    assert 0 < max(part.height for part in book.index.roots) <= 20
    book.apply_all([Left(offer.id) for offer in list(book.index)])
    assert list(book.index) == []
