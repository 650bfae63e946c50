"""Admission's checks of one paper against the market's terms and the chain: the first that fails is the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from suanli_market.admission.papers import BidPaper, OfferPaper
from suanli_protocol import errors
from suanli_protocol.capacity import GUARD
from suanli_protocol.documents import documents_digest, sha256
from suanli_protocol.errors import SignatureError, SuanliError
from suanli_protocol.lease import BOND_BPS_MIN, Account, Refusal, fee_down
from suanli_protocol.log import ReasonCode
from suanli_protocol.messages import ZERO_ADDRESS
from suanli_protocol.signing import Domain, verify_hashed
from suanli_protocol.units import BPS, format_duration

VALIDITY_MAX_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class MarketTerms:
    """What this market asks of papers."""

    address: str
    domain: Domain
    fee_bps: int
    min_fee: int
    min_window: int
    paper_money: int = 10_000  # free base units for each open paper of an account beyond its first ones


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a paper is refused: a code of ReasonCode or Refusal, and words for a person."""

    code: int
    detail: str
    hint: str = ""

    def as_error(self) -> SuanliError:
        """The error that a client gets."""
        kind = _KINDS.get(self.code, errors.ProtocolError)
        return kind(self.detail, hint=self.hint)


_KINDS: dict[int, type[SuanliError]] = {
    ReasonCode.SIGNATURE: errors.SignatureError,
    ReasonCode.ATTRIBUTES: errors.IntegrityError,
    ReasonCode.CONSTRAINTS: errors.IntegrityError,
    ReasonCode.BOOK_FULL: errors.MarketError,
    ReasonCode.FEE_TOO_SMALL: errors.FundsError,
    Refusal.CONSUMER_FUNDS: errors.FundsError,
    Refusal.PROVIDER_FUNDS: errors.FundsError,
    Refusal.SEAT_TAKEN: errors.MarketError,
}


CHAIN_REASONS = frozenset({Refusal.CONSUMER_FUNDS, Refusal.PROVIDER_FUNDS, Refusal.BID_COUNTER, Refusal.OFFER_COUNTER})


def reason_name(code: int) -> str:
    """The stable text of a reason code: "bid_expired", "signature"."""
    kinds: tuple[type[IntEnum], ...] = (Refusal, ReasonCode)
    for kind in kinds:
        if code in kind._value2member_map_:
            return kind(code).name.lower()
    return f"reason_{code}"


def doubts_of_offer(offer: OfferPaper, terms: MarketTerms, now: int) -> Iterator[Doubt]:
    """What speaks against an offer, whatever its account is, in the order of checking."""
    paper = offer.paper
    yield from _signature_doubts(offer, terms)
    if sha256(offer.document) != paper.attributes:
        yield Doubt(ReasonCode.ATTRIBUTES, "the attributes are not the document that the offer names by digest")
    if paper.market not in (ZERO_ADDRESS, terms.address):
        yield Doubt(Refusal.OTHER_MARKET, f"the offer is for market {paper.market}, this one is {terms.address}")
    if paper.valid_until <= now:
        yield Doubt(Refusal.OFFER_EXPIRED, f"the offer expired {now - paper.valid_until} s ago", "sign a new one")
    if paper.valid_until > now + VALIDITY_MAX_S:
        yield Doubt(ReasonCode.VALIDITY_TOO_LONG, "an offer is valid for at most 30 days")
    if paper.capacity & GUARD:
        yield Doubt(Refusal.LANES, "a lane of the capacity has its guard bit set (lanes hold 31 bits)")
    if not BOND_BPS_MIN <= paper.bond_bps <= BPS:
        yield Doubt(Refusal.BOND, f"bondBps is {paper.bond_bps}, it must be {BOND_BPS_MIN} to {BPS}")
    if paper.max_seconds == 0 or paper.min_seconds > paper.max_seconds:
        yield Doubt(Refusal.SECONDS, "maxSeconds must be positive and not under minSeconds")
    if paper.max_window < terms.min_window:
        least = format_duration(terms.min_window)
        yield Doubt(ReasonCode.WINDOW_TOO_SHORT, f"maxWindow is under this market's least window of {least}")


def account_doubts_of_offer(offer: OfferPaper, account: Account) -> Iterator[Doubt]:
    """What speaks against an offer by its account, in the order of checking."""
    paper = offer.paper
    if paper.counter != account.counter:
        yield Doubt(Refusal.OFFER_COUNTER, *_counter_words(paper.counter, account))
    if account == Account(counter=account.counter):
        yield Doubt(
            Refusal.PROVIDER_FUNDS, f"account {paper.provider} has no money for bonds", "deposit to it before offering"
        )


def doubts_of_bid(bid: BidPaper, terms: MarketTerms, now: int) -> Iterator[Doubt]:
    """What speaks against a bid, whatever its account is, in the order of checking."""
    paper = bid.paper
    yield from _signature_doubts(bid, terms)
    if documents_digest(bid.job_digest, bid.constraints.digest()) != paper.documents:
        yield Doubt(ReasonCode.CONSTRAINTS, "constraints and job digest are not the documents that the bid names")
    if paper.market != terms.address:
        yield Doubt(Refusal.NOT_THE_MARKET, f"the bid names market {paper.market}, this one is {terms.address}")
    if paper.valid_until <= now:
        yield Doubt(Refusal.BID_EXPIRED, f"the bid expired {now - paper.valid_until} s ago", "sign a new one")
    if paper.valid_until > now + VALIDITY_MAX_S:
        yield Doubt(ReasonCode.VALIDITY_TOO_LONG, "a bid is valid for at most 30 days")
    yield from _neutral_doubts(bid)
    if paper.need & GUARD or paper.need == 0:
        yield Doubt(Refusal.LANES, "the need is empty, or a lane has its guard bit set (lanes hold 31 bits)")
    if paper.max_seconds == 0:
        yield Doubt(Refusal.SECONDS, "maxSeconds must be positive")
    yield from _fee_doubts(bid, terms)
    if paper.window < terms.min_window:
        least = format_duration(terms.min_window)
        yield Doubt(ReasonCode.WINDOW_TOO_SHORT, f"the window is under this market's least of {least}")


def account_doubts_of_bid(bid: BidPaper, account: Account) -> Iterator[Doubt]:
    """What speaks against a bid by its account, in the order of checking."""
    paper = bid.paper
    if paper.counter != account.counter:
        yield Doubt(Refusal.BID_COUNTER, *_counter_words(paper.counter, account))
    if account.free == 0:
        yield Doubt(Refusal.CONSUMER_FUNDS, f"account {paper.consumer} has no free money", "deposit to it first")


def _signature_doubts(paper: OfferPaper | BidPaper, terms: MarketTerms) -> Iterator[Doubt]:
    try:
        verify_hashed(terms.domain, type(paper.paper).__name__, paper.id, paper.signature, paper.party)
    except SignatureError as error:
        yield Doubt(ReasonCode.SIGNATURE, error.detail, error.hint)


def _neutral_doubts(bid: BidPaper) -> Iterator[Doubt]:
    paper = bid.paper
    if paper.attempts == 0:
        yield Doubt(Refusal.ATTEMPTS, "attempts = 0: a bid has at least one")
    for name, value, neutral in (("count", paper.count, 1), ("gang", paper.gang, 0)):
        if value != neutral:
            yield Doubt(Refusal.UNSUPPORTED, f"{name} = {value}: this version takes only {neutral}")


def _fee_doubts(bid: BidPaper, terms: MarketTerms) -> Iterator[Doubt]:
    if bid.paper.fee_bps != terms.fee_bps:
        yield Doubt(
            ReasonCode.FEE_RATE,
            f"feeBps is {bid.paper.fee_bps}, this market's fee is {terms.fee_bps}",
            "ask the market for its terms and sign a new bid",
        )
    if fee_down(bid.paper.budget, terms.fee_bps) < terms.min_fee:
        yield Doubt(
            ReasonCode.FEE_TOO_SMALL, f"the budget cannot bring this market's least fee of {terms.min_fee} base units"
        )


def _counter_words(counter: int, account: Account) -> tuple[str, str]:
    detail = f"the paper's counter is {counter}, the account's is {account.counter}"
    return detail, "read the account's counter on the chain and sign a new paper"
