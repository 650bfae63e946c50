"""The lease as the escrow sees it: each way on from each state, when it is open, and where its money goes.

A pure mirror of LeaseEscrow.sol (parity tests compare the two): no I/O, no clock. Money is in base units. The names of
a lease's arithmetic, terms and refusals are here as well, so that one import gives the whole lease.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NoReturn, assert_never

from suanli_protocol.errors import ProtocolError
from suanli_protocol.lease_math import (
    BOND_BPS_MIN,
    DISPUTE_DIVISOR,
    STAKE_DIVISOR,
    ask_up,
    bond_down,
    deposit_of,
    dispute_cost_down,
    dispute_costs,
    earned_down,
    fee_down,
    lease_seconds,
    penalty_down,
    price_up,
    silence_down,
    stake_down,
)
from suanli_protocol.lease_terms import (
    BY_CONSUMER_SIDE,
    Clauses,
    Kind,
    Lease,
    Phase,
    Previous,
    Progress,
    attempt_after,
    clauses_hash,
    lease_id,
    proves,
    reopenable_word,
    seat_key,
    seat_word,
    terms,
)
from suanli_protocol.messages import ZERO_ADDRESS
from suanli_protocol.refusals import Account, Refusal, acts_for, refusal, same_address

__all__ = [
    "BOND_BPS_MIN",
    "BY_CONSUMER_SIDE",
    "CLOSED_WORD",
    "DISPUTE_DIVISOR",
    "STAKE_DIVISOR",
    "Account",
    "Change",
    "Claim",
    "Clauses",
    "Dispute",
    "Finalize",
    "Kind",
    "Lease",
    "Phase",
    "Previous",
    "Progress",
    "Reclaim",
    "Refusal",
    "Release",
    "Resolve",
    "Settle",
    "Split",
    "State",
    "Status",
    "Stop",
    "acts_for",
    "apply",
    "ask_up",
    "attempt_after",
    "bond_down",
    "claim_until",
    "clauses_hash",
    "deposit_of",
    "dispute_cost_down",
    "dispute_costs",
    "dispute_until",
    "earned_down",
    "fee_down",
    "finalize_from",
    "has_ended",
    "lease_id",
    "lease_seconds",
    "most_claimable",
    "penalty_down",
    "price_up",
    "proves",
    "reclaim_from",
    "refusal",
    "reopenable_word",
    "resolve_until",
    "same_address",
    "seat_key",
    "seat_word",
    "settle_refusal",
    "silence_down",
    "stake_down",
    "terms",
]

CLOSED_WORD = (1).to_bytes(32, "big")  # of a seat that is closed for good


# States


class Status(StrEnum):
    """What a lease is, in one word."""

    OPEN = "open"
    STOPPED = "stopped"
    CLAIMED = "claimed"
    DISPUTED = "disputed"
    SETTLED = "settled"
    RELEASED = "released"
    FINALIZED = "finalized"
    RESOLVED = "resolved"
    RECLAIMED = "reclaimed"


_OPEN = {
    Phase.RUNNING: Status.OPEN,
    Phase.STOPPED: Status.STOPPED,
    Phase.CLAIMED: Status.CLAIMED,
    Phase.DISPUTED: Status.DISPUTED,
}


@dataclass(frozen=True, slots=True)
class State:
    """A lease as the escrow sees it. `closed` is by what it ended, `reopenable` whether its seat may be used again."""

    lease: Lease
    clauses: Clauses
    progress: Progress = field(default_factory=Progress)
    closed: Status | None = None
    reopenable: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the escrow still holds money for it."""
        return self.closed is None

    @property
    def status(self) -> Status:
        """Derived from the facts."""
        return self.closed or _OPEN[self.progress.phase]

    @property
    def locked(self) -> int:
        """What the escrow still holds for the lease: deposit and bond, less what was paid with its fee."""
        return self.lease.deposit + self.lease.bond - self.spent if self.is_open else 0

    @property
    def spent(self) -> int:
        """What was paid, with its fee."""
        return self.progress.paid + fee_down(self.progress.paid, self.lease.fee_bps)

    @property
    def need(self) -> int:
        """The capacity that the lease occupies (lanes): none from a claim on."""
        return self.lease.need if self.is_open and self.progress.is_occupying else 0

    @property
    def ends_at(self) -> int:
        """The second from which nothing more is billable."""
        return self.progress.clock if self.progress.phase is Phase.STOPPED else self.clauses.ends_at

    @property
    def word(self) -> bytes:
        """What the seat holds."""
        if self.is_open:
            return seat_word(lease_id(self.lease), self.progress)
        return reopenable_word(self.lease.clauses, self.spent) if self.reopenable else CLOSED_WORD

    @property
    def previous(self) -> Previous | None:
        """The proof for the next attempt at the seat; None if there can be none."""
        return Previous(self.clauses, self.spent) if self.reopenable else None


def has_ended(lease: Lease, word: bytes, paid: Iterable[int] = (0,)) -> bool:
    """Whether a seat's word says that the lease ended, having paid one of these totals if the seat is reopenable.

    Once a later attempt took the seat, no word tells: its events do.
    """
    spent = {amount + fee_down(amount, lease.fee_bps) for amount in paid}
    return word == CLOSED_WORD or word in {reopenable_word(lease.clauses, total) for total in spent}


# Windows: half-open, so that no two ways of opposite effect are ever open together


def claim_until(state: State) -> int | None:
    """The provider may claim or release before this second; None once it has, or the lease is closed."""
    return state.ends_at + state.clauses.window if state.is_open and state.progress.is_occupying else None


def reclaim_from(state: State) -> int | None:
    """From this second on anyone may send everything back to the consumer; None where that is not possible."""
    return claim_until(state)


def dispute_until(state: State) -> int | None:
    """The consumer's side may dispute before this second; None if nothing is claimed, or nobody could judge."""
    claimed = state.is_open and state.progress.phase is Phase.CLAIMED
    judged = not same_address(state.clauses.arbiter, ZERO_ADDRESS)
    return state.progress.clock + state.clauses.window if claimed and judged else None


def resolve_until(state: State) -> int | None:
    """The arbiter may decide before this second; None if nothing is disputed."""
    disputed = state.is_open and state.progress.phase is Phase.DISPUTED
    return state.progress.clock + 3 * state.clauses.window if disputed else None


def finalize_from(state: State) -> int | None:
    """From this second on anyone may end a claimed or disputed lease; None if it is neither."""
    if state.is_open and state.progress.phase is Phase.CLAIMED:
        return state.progress.clock + state.clauses.window
    return resolve_until(state)


def most_claimable(state: State, now: int) -> int:
    """The highest total that the provider can claim at `now`: the time used, at most the price, at least `paid`."""
    used = min(now, state.ends_at) - state.clauses.opened_at
    earned = earned_down(state.clauses.rate, max(state.clauses.min_seconds, used))
    return max(state.progress.paid, min(state.lease.price, earned))


# Changes


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


@dataclass(frozen=True, slots=True)
class Claim:
    """The provider asks for its due without the consumer; `amount` is its total."""

    amount: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Dispute:
    """The consumer or its guard calls the arbiter."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """The arbiter's verdict: the provider's total, and what is taken of its bond for the consumer."""

    award: int
    slash: int


@dataclass(frozen=True, slots=True)
class Finalize:
    """Anyone ends a claim that nobody disputed, or a dispute that nobody judged."""


@dataclass(frozen=True, slots=True)
class Reclaim:
    """Anyone ends a lease whose provider has vanished."""


Change = Settle | Stop | Release | Claim | Dispute | Resolve | Finalize | Reclaim


@dataclass(frozen=True, slots=True)
class Split:
    """Where the money that a change sets free goes; the parts sum to exactly what is no longer locked."""

    to_provider: int = 0  # earned
    to_market: int = 0
    to_consumer: int = 0  # what is left of the deposit
    bond_back: int = 0  # to the provider
    penalty: int = 0  # from the bond to the consumer
    to_arbiter: int = 0

    @property
    def total(self) -> int:
        """All parts."""
        return self.to_provider + self.to_market + self.to_consumer + self.bond_back + self.penalty + self.to_arbiter


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
            return _release(state, now)
        case Claim():
            return _claim(state, change, now), Split()
        case Dispute():
            return _dispute(state, now), Split()
        case Resolve():
            return _resolve(state, change, now)
        case Finalize():
            return _finalize(state, now)
        case Reclaim():
            return _reclaim(state, now)
        case _:
            assert_never(change)


def settle_refusal(state: State, amount: int, kind: int) -> Refusal:
    """Why `settle` would refuse a receipt on an open lease, signatures aside; NONE if it would not."""
    paid = state.progress.paid
    if amount > state.lease.price or amount < paid or (kind == Kind.INTERIM and amount == paid):
        return Refusal.AMOUNT
    late = kind == Kind.INTERIM and not state.progress.is_occupying
    return Refusal.KIND if kind > Kind.FAILED or late else Refusal.NONE


def _settle(state: State, receipt: Settle) -> tuple[State, Split]:
    match settle_refusal(state, receipt.amount, receipt.kind):
        case Refusal.AMOUNT:
            _refuse_amount(state, receipt.amount, state.progress.paid, state.lease.price)
        case Refusal.KIND:
            raise ProtocolError("an interim receipt cannot follow a claim", code="lease_kind")
        case _:
            pass
    if receipt.kind is not Kind.INTERIM:
        return _close(state, Status.SETTLED, receipt.amount, reopenable=receipt.kind is Kind.FAILED)
    return replace(state, progress=replace(state.progress, paid=receipt.amount)), _earned(state, receipt.amount)


def _stop(state: State, stop: Stop, now: int) -> State:
    _require_phase(state, Phase.RUNNING)
    clock = min(now, state.ends_at)
    flags = BY_CONSUMER_SIDE if stop.by_consumer_side else 0
    return replace(state, progress=replace(state.progress, clock=clock, phase=Phase.STOPPED, flags=flags))


def _release(state: State, now: int) -> tuple[State, Split]:
    _require_phase(state, Phase.RUNNING, Phase.STOPPED)
    _require_before(claim_until(state), now)
    lease, clauses = state.lease, state.clauses
    due = 0 if state.progress.by_consumer_side else penalty_down(clauses.rate, clauses.min_seconds, lease.bond)
    return _close(state, Status.RELEASED, state.progress.paid, penalty=due, reopenable=True)


def _claim(state: State, claim: Claim, now: int) -> State:
    _require_phase(state, Phase.RUNNING, Phase.STOPPED)
    _require_before(claim_until(state), now)
    if claim.kind is Kind.INTERIM:
        raise ProtocolError("a claim is final: done or failed", code="lease_kind")
    most = most_claimable(state, now)
    if not state.progress.paid <= claim.amount <= most:
        _refuse_amount(state, claim.amount, state.progress.paid, most)
    return replace(state, progress=state.progress.claimed_by(claim.amount, now, claim.kind))


def _dispute(state: State, now: int) -> State:
    _require_phase(state, Phase.CLAIMED)
    _require_before(state.progress.clock + state.clauses.window, now)
    if dispute_until(state) is None:
        raise ProtocolError("the lease names no arbiter: the claim stands", code="lease_no_arbiter")
    return replace(state, progress=replace(state.progress, clock=now, phase=Phase.DISPUTED))


def _resolve(state: State, verdict: Resolve, now: int) -> tuple[State, Split]:
    """Closed as if the verdict had been agreed; then both sides pay the arbiter, the slash coming after the cost."""
    _require_phase(state, Phase.DISPUTED)
    _require_before(resolve_until(state), now)
    paid, claimed, bond = state.progress.paid, state.progress.claimed, state.lease.bond
    for amount, least, most in ((verdict.award, paid, claimed), (verdict.slash, 0, bond)):
        if not least <= amount <= most:
            _refuse_amount(state, amount, least, most)
    of_consumer, of_provider = dispute_costs(claimed - paid, verdict.award - paid)
    taken = min(verdict.slash, bond - of_provider)
    closed, split = _close(state, Status.RESOLVED, verdict.award, penalty=taken)
    return closed, replace(
        split,
        to_consumer=split.to_consumer - of_consumer,
        bond_back=split.bond_back - of_provider,
        to_arbiter=of_consumer + of_provider,
    )


def _finalize(state: State, now: int) -> tuple[State, Split]:
    _require_phase(state, Phase.CLAIMED, Phase.DISPUTED)
    _require_from(finalize_from(state), now)
    progress = state.progress
    silent = progress.phase is Phase.DISPUTED
    paid = silence_down(progress.paid, progress.claimed) if silent else progress.claimed
    return _close(state, Status.FINALIZED, paid, reopenable=progress.kind is Kind.FAILED)


def _reclaim(state: State, now: int) -> tuple[State, Split]:
    _require_phase(state, Phase.RUNNING, Phase.STOPPED)
    _require_from(reclaim_from(state), now)
    return _close(state, Status.RECLAIMED, state.progress.paid, penalty=state.lease.bond, reopenable=True)


def _earned(state: State, amount: int) -> Split:
    """What a new total gives to provider and market."""
    paid, fee_bps = state.progress.paid, state.lease.fee_bps
    return Split(to_provider=amount - paid, to_market=fee_down(amount, fee_bps) - fee_down(paid, fee_bps))


def _close(
    state: State, status: Status, paid: int, *, penalty: int = 0, reopenable: bool = False
) -> tuple[State, Split]:
    """Every end of a lease: the provider has `paid` in all and its bond less the penalty, the consumer the rest."""
    after = replace(state, progress=replace(state.progress, paid=paid), closed=status, reopenable=reopenable)
    rest = state.lease.deposit - after.spent
    return after, replace(_earned(state, paid), to_consumer=rest, bond_back=state.lease.bond - penalty, penalty=penalty)


def _require_phase(state: State, *phases: Phase) -> None:
    if state.progress.phase not in phases:
        raise ProtocolError(f"the lease is {state.status}", code="lease_phase", hint="read its state again")


def _require_before(until: int | None, now: int) -> None:
    if until is None or now >= until:
        raise ProtocolError(f"it was possible before {until}, it is {now}", code="lease_too_late")


def _require_from(start: int | None, now: int) -> None:
    if start is None or now < start:
        raise ProtocolError(f"it is possible from {start} on, it is {now}", code="lease_too_early")


def _refuse_amount(state: State, amount: int, least: int, most: int) -> NoReturn:
    raise ProtocolError(f"{amount} is not from {least} to {most} ({state.progress.paid} paid)", code="lease_amount")
