"""What an audit works on: the escrow's history and its state at one block, as facts without any opinion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from suanli_protocol.events import EscrowEvent
from suanli_protocol.lease import Account, Clauses, Lease, lease_id
from suanli_protocol.messages import ZERO_ADDRESS, Link, Receipt, Verdict
from suanli_protocol.openings import Openings
from suanli_protocol.signing import Domain


@dataclass(frozen=True, slots=True)
class SentSettlement:
    """One settlement of a call, as it was sent: hostile, so its progress is a bare word that may mean nothing."""

    lease: Lease
    progress: int
    amount: int
    kind: int
    evidence: bytes
    provider: bytes
    consumer: bytes

    @property
    def receipt(self) -> Receipt:
        """What both sides must have signed."""
        return Receipt(lease_id(self.lease), self.amount, self.kind, self.evidence)


@dataclass(frozen=True, slots=True)
class SettleCall:
    """settle(settlements)."""

    settlements: tuple[SentSettlement, ...]


@dataclass(frozen=True, slots=True)
class TermsCall:
    """Any other way out: it takes the lease, its clauses and its progress (a bare word) first."""

    lease: Lease
    clauses: Clauses
    progress: int


@dataclass(frozen=True, slots=True)
class StopCall(TermsCall):
    """stop(lease, clauses, progress)."""


@dataclass(frozen=True, slots=True)
class ReleaseCall(TermsCall):
    """release(lease, clauses, progress)."""


@dataclass(frozen=True, slots=True)
class ClaimCall(TermsCall):
    """claim(lease, clauses, progress, amount, kind, evidence)."""

    amount: int
    kind: int
    evidence: bytes


@dataclass(frozen=True, slots=True)
class DisputeCall(TermsCall):
    """dispute(lease, clauses, progress)."""


@dataclass(frozen=True, slots=True)
class ResolveCall(TermsCall):
    """resolve(lease, clauses, progress, award, slash, evidence, arbiter)."""

    award: int
    slash: int
    evidence: bytes
    arbiter: bytes

    @property
    def verdict(self) -> Verdict:
        """What the arbiter must have signed, unless it called itself."""
        return Verdict(lease_id(self.lease), self.award, self.slash, self.evidence)


@dataclass(frozen=True, slots=True)
class FinalizeCall(TermsCall):
    """finalize(lease, clauses, progress)."""


@dataclass(frozen=True, slots=True)
class ReclaimCall(TermsCall):
    """reclaim(lease, clauses, progress)."""


WayOutCall = StopCall | ReleaseCall | ClaimCall | DisputeCall | ResolveCall | FinalizeCall | ReclaimCall


@dataclass(frozen=True, slots=True)
class LinkCall:
    """link(account, owner, signature)."""

    link: Link
    signature: bytes


@dataclass(frozen=True, slots=True)
class CancelCall:
    """cancel(consumer, seat, index, previous)."""

    consumer: str
    seat: bytes
    index: int
    previous: bytes


@dataclass(frozen=True, slots=True)
class AccountCall:
    """deposit, withdraw or bump: their events say everything."""

    name: str


@dataclass(frozen=True, slots=True)
class Indirect:
    """The escrow was called by another contract, or with bytes that decode to no call: there are no papers to read."""

    why: str


@dataclass(frozen=True, slots=True)
class Unreadable(EscrowEvent):
    """A log of the escrow that is no event that it declares."""

    why: str


Call = Openings | SettleCall | WayOutCall | LinkCall | CancelCall | AccountCall | Indirect


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction that made the escrow speak, with all events that it emitted, in order."""

    hash: bytes
    block: int
    block_hash: bytes  # of the block that the chain has at that height
    timestamp: int  # of that block: the time that every rule is about
    sender: str
    call: Call
    events: tuple[EscrowEvent, ...]


@dataclass(frozen=True, slots=True)
class History:
    """All that an escrow ever did up to a block, in order."""

    domain: Domain
    symbol: str
    decimals: int
    block: int
    block_hash: bytes
    transactions: tuple[Transaction, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """An account as the escrow shows it."""

    account: Account
    owner: str = ZERO_ADDRESS


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the escrow shows at the history's block: every account and seat that the history names, and its money."""

    holdings: dict[str, Holding]
    seats: dict[bytes, bytes]
    balance: int  # of the token, at the escrow


def addresses_of(history: History) -> frozenset[str]:
    """Every account that the history touches."""
    found: set[str] = set()
    for transaction in history.transactions:
        found.add(transaction.sender)
        for event in transaction.events:
            found.update(_addresses(event))
        match transaction.call:
            case Openings(openings=openings):
                for opening in openings:
                    found.update((opening.bid.consumer, opening.bid.market))
                    found.update(fill.offer.provider for fill in opening.fills)
            case SettleCall(settlements=settlements):
                for settlement in settlements:
                    found.update(_addresses(settlement.lease))
            case TermsCall(lease=lease, clauses=clauses):
                found.update(_addresses(lease))
                found.update(_addresses(clauses))  # the arbiter is paid
            case _:
                pass
    return frozenset(found - {ZERO_ADDRESS})


def _addresses(record: object) -> Iterable[str]:
    """The members of a dataclass that are addresses."""
    for field in fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if isinstance(value, str) and len(value) == 42:
            yield value
