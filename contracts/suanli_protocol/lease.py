"""The lease as the escrow sees it: its terms, its arithmetic, why it would not open, and each way on from each state.

A pure mirror of LeaseEscrow.sol (parity tests compare the two): no I/O, no clock. Money is in base units; the
direction of rounding stands in each name.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NoReturn, assert_never

from suanli_protocol.capacity import GUARD, Lanes, Prices
from suanli_protocol.errors import ProtocolError
from suanli_protocol.messages import ZERO_ADDRESS, Bid, Offer, Struct, typed
from suanli_protocol.signing import address_bytes, keccak256, struct_hash, words
from suanli_protocol.units import BPS, SECONDS_PER_HOUR, ceil_div

STAKE_DIVISOR = 10
BOND_BPS_MIN = 1000
BY_CONSUMER_SIDE = 1  # bit 0 of Progress.flags

# Arithmetic


def price_up(rate: int, seconds: int) -> int:
    """The most that `seconds` at `rate` per hour can cost."""
    return ceil_div(rate * seconds, SECONDS_PER_HOUR)


def fee_down(amount: int, fee_bps: int) -> int:
    """The market's fee on a cumulative payment. A step's fee is a difference of two of these."""
    return amount * fee_bps // BPS


def stake_down(price: int) -> int:
    """What the consumer locks beside price and fee."""
    return price // STAKE_DIVISOR


def deposit_of(price: int, fee_bps: int) -> int:
    """What the consumer locks in all: price, its fee, its stake."""
    return price + fee_down(price, fee_bps) + stake_down(price)


def bond_down(price: int, bond_bps: int) -> int:
    """What the provider locks."""
    return price * bond_bps // BPS


def penalty_down(rate: int, min_seconds: int, bond: int) -> int:
    """What giving a lease back costs the provider: the shortest billed time, at most its bond."""
    return min(bond, rate * min_seconds // SECONDS_PER_HOUR)


def lease_seconds(bid: Bid, offer: Offer) -> int:
    """The longest that a lease of the two may last."""
    return min(bid.max_seconds, offer.max_seconds)


def ask_up(bid: Bid, offer: Offer) -> int:
    """What the offer asks per hour for the bid's need."""
    return Prices.unpack(offer.prices).ask_up(Lanes.unpack(bid.need))


# Terms


@dataclass(frozen=True, slots=True)
class Clauses(Struct):
    """The terms of a lease that only its rarer ways out need (see ILeaseEscrow.sol)."""

    bid: bytes = typed("bytes32")
    offer: bytes = typed("bytes32")
    arbiter: str = typed("address")
    guard: str = typed("address")
    rate: int = typed("uint96")
    budget: int = typed("uint96")
    max_seconds: int = typed("uint32")
    min_seconds: int = typed("uint32")
    window: int = typed("uint32")
    attempt: int = typed("uint8")
    attempts: int = typed("uint8")
    opened_at: int = typed("uint40")

    @property
    def ends_at(self) -> int:
        """The second from which nothing more is billable, unless it is stopped earlier."""
        return self.opened_at + self.max_seconds


@dataclass(frozen=True, slots=True)
class Lease(Struct):
    """The terms of a lease that every settlement needs (see ILeaseEscrow.sol)."""

    clauses: bytes = typed("bytes32")
    seat_key: bytes = typed("bytes32")
    consumer: str = typed("address")
    provider: str = typed("address")
    market: str = typed("address")
    need: int = typed("uint128")
    price: int = typed("uint96")
    bond: int = typed("uint96")
    fee_bps: int = typed("uint16")

    @property
    def deposit(self) -> int:
        """What the consumer locked."""
        return deposit_of(self.price, self.fee_bps)


class Phase(IntEnum):
    """Where an open lease stands."""

    RUNNING = 0
    STOPPED = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an open lease has come: paid and claimed totals, the second its phase began, phase, flags."""

    paid: int = 0
    claimed: int = 0
    clock: int = 0
    phase: Phase = Phase.RUNNING
    flags: int = 0

    def pack(self) -> int:
        """The escrow's word."""
        return self.paid << 160 | self.claimed << 64 | self.clock << 24 | self.phase << 16 | self.flags << 8

    @classmethod
    def unpack(cls, word: int) -> Progress:
        """From the escrow's word; ProtocolError for a phase that this version does not know."""
        phase = word >> 16 & 0xFF
        if phase > max(Phase) or word & 0xFF or not 0 <= word < 1 << 256:
            raise ProtocolError(f"{word:#x} is no progress of a lease")
        return cls(word >> 160, word >> 64 & (1 << 96) - 1, word >> 24 & (1 << 40) - 1, Phase(phase), word >> 8 & 0xFF)

    @property
    def by_consumer_side(self) -> bool:
        """Whether the consumer or its guard stopped the lease."""
        return bool(self.flags & BY_CONSUMER_SIDE)


def clauses_hash(clauses: Clauses) -> bytes:
    """keccak256(abi.encode(clauses))."""
    return keccak256(words(clauses))


def lease_id(lease: Lease) -> bytes:
    """keccak256(abi.encode(lease))."""
    return keccak256(words(lease))


def seat_key(seat: bytes, consumer: str, index: int = 0) -> bytes:
    """Where the escrow keeps the lease of a seat."""
    return keccak256(seat + address_bytes(consumer) + index.to_bytes(12, "big"))


def seat_word(lease: bytes, progress: Progress) -> bytes:
    """What a seat holds while its lease (by id) is open."""
    return keccak256(lease + progress.pack().to_bytes(32, "big"))


def terms(
    bid: Bid, offer: Offer, *, rate: int, index: int = 0, attempt: int = 1, opened_at: int
) -> tuple[Lease, Clauses]:
    """What `open` creates from two papers at the block time `opened_at`; ValueError if a term does not fit its type."""
    seconds = lease_seconds(bid, offer)
    price = price_up(rate, seconds)
    clauses = Clauses(
        bid=struct_hash(bid),
        offer=struct_hash(offer),
        arbiter=bid.arbiter,
        guard=bid.guard,
        rate=rate,
        budget=bid.budget,
        max_seconds=seconds,
        min_seconds=offer.min_seconds,
        window=bid.window,
        attempt=attempt,
        attempts=bid.attempts,
        opened_at=opened_at,
    )
    lease = Lease(
        clauses=clauses_hash(clauses),
        seat_key=seat_key(bid.seat, bid.consumer, index),
        consumer=bid.consumer,
        provider=offer.provider,
        market=bid.market,
        need=bid.need,
        price=price,
        bond=bond_down(price, offer.bond_bps),
        fee_bps=bid.fee_bps,
    )
    return lease, clauses


# Why an entry of a batch is left out


class Refusal(IntEnum):
    """The escrow's codes, as ILeaseEscrow.sol numbers them."""

    NONE = 0
    NOT_THE_MARKET = 1
    OTHER_MARKET = 2
    SAME_PARTY = 3
    BID_EXPIRED = 4
    OFFER_EXPIRED = 5
    BID_COUNTER = 6
    OFFER_COUNTER = 7
    SEAT_TAKEN = 8
    UNSUPPORTED = 9
    ARBITER = 10
    SECONDS = 11
    RATE_BELOW_ASK = 12
    RATE_ABOVE_BID = 13
    BUDGET = 14
    WINDOW = 15
    BOND = 16
    FEE = 17
    TRAITS = 18
    LANES = 19
    CAPACITY = 20
    CONSUMER_FUNDS = 21
    PROVIDER_FUNDS = 22
    BID_SIGNATURE = 23
    OFFER_SIGNATURE = 24
    UNKNOWN_LEASE = 25
    AMOUNT = 26
    KIND = 27
    PROVIDER_SIGNATURE = 28
    CONSUMER_SIGNATURE = 29


@dataclass(frozen=True, slots=True)
class Account:
    """An account's word: free money, counter, capacity in use."""

    free: int = 0
    counter: int = 0
    used: Lanes = field(default_factory=Lanes)


def same_address(one: str, other: str) -> bool:
    """Whether two texts name one address."""
    return one.lower() == other.lower()


def acts_for(caller: str, account: str, owner: str = ZERO_ADDRESS) -> bool:
    """Whether `caller` is the account or its owner; nobody acts for the zero account."""
    if same_address(account, ZERO_ADDRESS):
        return False
    return same_address(caller, account) or same_address(caller, owner)


def refusal(
    bid: Bid,
    offer: Offer,
    *,
    rate: int,
    index: int = 0,
    previous: bytes = b"",
    caller: str,
    now: int,
    consumer: Account,
    provider: Account,
    seat: bytes = bytes(32),
    market_owner: str = ZERO_ADDRESS,
) -> Refusal:
    """Why `open` by `caller` at block time `now` would leave this fill out, signatures aside; NONE if it would not.

    The same checks in the same order as the escrow's. `consumer` and `provider` are the accounts, `seat` the word at
    the seat, as of the block before.
    """
    for code, refused in (
        (Refusal.NOT_THE_MARKET, not acts_for(caller, bid.market, market_owner)),
        (Refusal.OTHER_MARKET, offer.market not in (ZERO_ADDRESS, bid.market)),
        (Refusal.SAME_PARTY, not _are_two_parties(bid.consumer, offer.provider)),
        (Refusal.BID_EXPIRED, now >= bid.valid_until),
        (Refusal.OFFER_EXPIRED, now >= offer.valid_until),
        (Refusal.BID_COUNTER, bid.counter != consumer.counter),
        (Refusal.OFFER_COUNTER, offer.counter != provider.counter),
        (Refusal.SEAT_TAKEN, seat != bytes(32)),
        (Refusal.UNSUPPORTED, _is_unsupported(bid) or index != 0 or previous != b""),
        (Refusal.ARBITER, not same_address(bid.arbiter, ZERO_ADDRESS) or not same_address(offer.arbiter, ZERO_ADDRESS)),
    ):
        if refused:
            return code
    return _refusal_of_terms(bid, offer, rate) or _refusal_of_means(bid, offer, rate, consumer, provider)


def _are_two_parties(consumer: str, provider: str) -> bool:
    return len({consumer.lower(), provider.lower(), ZERO_ADDRESS}) == 3


def _is_unsupported(bid: Bid) -> bool:
    return bid.count != 1 or bid.attempts != 1 or bid.gang


def _refusal_of_terms(bid: Bid, offer: Offer, rate: int) -> Refusal:
    """The bounds that the two papers set for each other."""
    seconds = lease_seconds(bid, offer)
    price = price_up(rate, seconds)
    for code, refused in (
        (Refusal.SECONDS, seconds == 0 or seconds < offer.min_seconds),
        (Refusal.RATE_BELOW_ASK, rate < ask_up(bid, offer)),
        (Refusal.RATE_ABOVE_BID, rate > bid.max_rate),
        (Refusal.BUDGET, price + fee_down(price, bid.fee_bps) > bid.budget),
        (Refusal.WINDOW, bid.window > offer.max_window),
        (Refusal.BOND, not BOND_BPS_MIN <= offer.bond_bps <= BPS),
        (Refusal.FEE, bid.fee_bps > BPS),
        (Refusal.TRAITS, bool(bid.needs & ~offer.traits or bid.refuses & offer.traits)),
        (Refusal.LANES, bool((bid.need | offer.capacity) & GUARD)),
    ):
        if refused:
            return code
    return Refusal.NONE


def _refusal_of_means(bid: Bid, offer: Offer, rate: int, consumer: Account, provider: Account) -> Refusal:
    """Capacity and money of the two accounts."""
    price = price_up(rate, lease_seconds(bid, offer))
    if not Lanes.unpack(offer.capacity).covers(provider.used + Lanes.unpack(bid.need)):
        return Refusal.CAPACITY
    if deposit_of(price, bid.fee_bps) > consumer.free:
        return Refusal.CONSUMER_FUNDS
    if bond_down(price, offer.bond_bps) > provider.free:
        return Refusal.PROVIDER_FUNDS
    return Refusal.NONE


# The state machine


class Kind(IntEnum):
    """Kinds of receipts."""

    INTERIM = 0
    DONE = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class State:
    """A lease as the escrow sees it."""

    lease: Lease
    clauses: Clauses
    progress: Progress = Progress()
    is_open: bool = True

    @property
    def locked(self) -> int:
        """What the escrow still holds for the lease: deposit and bond, less what was paid with its fee."""
        if not self.is_open:
            return 0
        paid = self.progress.paid
        return self.lease.deposit + self.lease.bond - paid - fee_down(paid, self.lease.fee_bps)

    @property
    def need(self) -> int:
        """The capacity that the lease occupies (lanes)."""
        return self.lease.need if self.is_open else 0


@dataclass(frozen=True, slots=True)
class Settle:
    """A receipt that both sides signed; `amount` is the provider's total."""

    amount: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Stop:
    """A party, the guard or an owner ends the billable time."""

    by_consumer_side: bool


@dataclass(frozen=True, slots=True)
class Release:
    """The provider gives the lease back."""


Change = Settle | Stop | Release


@dataclass(frozen=True, slots=True)
class Split:
    """Where the money that a change sets free goes; the parts sum to exactly what is no longer locked."""

    to_provider: int = 0  # earned
    to_market: int = 0
    to_consumer: int = 0  # what is left of the deposit
    bond_back: int = 0  # to the provider
    penalty: int = 0  # from the bond to the consumer

    @property
    def total(self) -> int:
        """All parts."""
        return self.to_provider + self.to_market + self.to_consumer + self.bond_back + self.penalty


def apply(state: State, change: Change, now: int) -> tuple[State, Split]:
    """The state after the change at block time `now`, and the money that moves; ProtocolError if it is not allowed."""
    if not state.is_open:
        raise ProtocolError("the lease is closed", code="lease_closed")
    match change:
        case Settle():
            return _settle(state, change)
        case Stop():
            return _stop(state, change, now), Split()
        case Release():
            return _release(state)
        case _:
            assert_never(change)


def settle_refusal(state: State, amount: int, kind: int) -> Refusal:
    """Why `settle` would refuse a receipt on an open lease, signatures aside; NONE if it would not."""
    paid = state.progress.paid
    if amount > state.lease.price or amount < paid or (kind == Kind.INTERIM and amount == paid):
        return Refusal.AMOUNT
    return Refusal.KIND if kind > Kind.FAILED else Refusal.NONE


def _settle(state: State, receipt: Settle) -> tuple[State, Split]:
    code = settle_refusal(state, receipt.amount, receipt.kind)
    if code is not Refusal.NONE:
        _refuse_amount(state, receipt)
    earned = Split(
        to_provider=receipt.amount - state.progress.paid,
        to_market=fee_down(receipt.amount, state.lease.fee_bps) - fee_down(state.progress.paid, state.lease.fee_bps),
    )
    after = replace(state, progress=replace(state.progress, paid=receipt.amount))
    match receipt.kind:
        case Kind.INTERIM:
            return after, earned
        case Kind.DONE | Kind.FAILED:
            refund = after.locked - state.lease.bond
            return replace(after, is_open=False), replace(earned, to_consumer=refund, bond_back=state.lease.bond)
        case _:
            assert_never(receipt.kind)


def _refuse_amount(state: State, receipt: Settle) -> NoReturn:
    raise ProtocolError(
        f"a receipt of kind {receipt.kind} over {receipt.amount} does not follow {state.progress.paid} paid of at most "
        f"{state.lease.price}",
        code="lease_amount",
    )


def _stop(state: State, stop: Stop, now: int) -> State:
    if state.progress.phase is not Phase.RUNNING:
        raise ProtocolError("the lease is stopped already", code="lease_phase")
    clock = min(now, state.clauses.ends_at)
    flags = BY_CONSUMER_SIDE if stop.by_consumer_side else 0
    return replace(state, progress=replace(state.progress, clock=clock, phase=Phase.STOPPED, flags=flags))


def _release(state: State) -> tuple[State, Split]:
    lease, clauses = state.lease, state.clauses
    due = 0 if state.progress.by_consumer_side else penalty_down(clauses.rate, clauses.min_seconds, lease.bond)
    split = Split(to_consumer=state.locked - lease.bond, bond_back=lease.bond - due, penalty=due)
    return replace(state, is_open=False), split
