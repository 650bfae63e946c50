"""Standing: how a lease stands on the chain, by the escrow's own word at its seat and the lease's own events.

The word is a hash: what it is of is guessed (nothing happened yet; what was known before) or read from the events, and
then proven. Where neither fits nothing is concluded: an endpoint may lag, a chain may reorganise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from suanli_node.leases.verification import Assignment, NotYetOnChainError, ReadSeat
from suanli_protocol import wire
from suanli_protocol.chain import BlockId, Chain
from suanli_protocol.errors import IntegrityError
from suanli_protocol.escrow import CLOSED, UNUSED, Escrow
from suanli_protocol.lease import Phase, Progress, State, seat_word
from suanli_protocol.lease_history import LeaseHistory, read_history

STEP_BLOCKS = 64
ReadHistory = Callable[[Assignment], LeaseHistory]  # of the lease, as deep as the node trusts


class Place(StrEnum):
    """Where a lease is."""

    OPEN = "open"
    CLOSED = "closed"
    ABSENT = "absent"  # the seat was never used: a reorganisation took the lease back, or the endpoint lags
    UNKNOWN = "unknown"  # the seat holds something that nothing explains yet


@dataclass(frozen=True)
class Standing:
    """Where a lease is, and what its events say; `history` is not filled in for one that is absent or unknown."""

    place: Place
    history: LeaseHistory = field(default_factory=LeaseHistory)

    @property
    def progress(self) -> Progress:
        """How far an open lease is."""
        return self.history.progress

    @property
    def stopped(self) -> bool:
        """Whether nothing more is billable: by a stop, or by a claim."""
        return self.place is Place.OPEN and self.progress.phase is not Phase.RUNNING

    @property
    def stopped_at(self) -> int | None:
        """The chain's clock of a stop, if it is known."""
        progress = self.progress
        return progress.clock if self.place is Place.OPEN and progress.phase is Phase.STOPPED else None

    def state(self, assignment: Assignment) -> State:
        """The state of an open lease."""
        return State(assignment.lease, assignment.clauses, self.progress)


def stand(assignment: Assignment, read_seat: ReadSeat, read_history: ReadHistory) -> Standing:
    """How the lease stands; ChainError if the chain does not say."""
    word = read_seat(assignment.lease.seat_key)
    if word == UNUSED:
        return Standing(Place.ABSENT)
    if word == seat_word(assignment.id, Progress()):
        return Standing(Place.OPEN)
    history = read_history(assignment)
    if history.closed_by is not None or word == CLOSED:
        return Standing(Place.CLOSED, history)
    if word == seat_word(assignment.id, history.progress):
        return Standing(Place.OPEN, history)
    return Standing(Place.UNKNOWN)


def check_open(assignment: Assignment, standing: Standing) -> None:
    """Passes only if the escrow holds this very lease, open in whichever phase.

    NotYetOnChainError if the seat was never used (wait), IntegrityError if it holds something else.
    """
    lease = wire.to_hex(assignment.id)
    if standing.place is Place.ABSENT:
        raise NotYetOnChainError(f"the escrow has no lease at the seat of {lease}")
    if standing.place is not Place.OPEN:
        raise IntegrityError(f"the escrow's word at the seat is not that of {lease}, open")


def history_reader(escrow: Escrow, block: BlockId) -> ReadHistory:
    """Reads what happened to a lease between its opening and a block."""

    def read(assignment: Assignment) -> LeaseHistory:
        last = escrow.chain.block(block).number
        first = block_before(escrow.chain, assignment.clauses.opened_at, last)
        return read_history(escrow, assignment.id, first, last)

    return read


def block_before(chain: Chain, time: int, last: int) -> int:
    """A block that was made before `time` (seconds), or 0: not the last such, but near. Needs no market's word.

    Most leases are young, so it is looked for backwards from `last`, in steps that double.
    """
    block, step = last, STEP_BLOCKS
    while block > 0:
        block, step = max(0, block - step), 2 * step
        if block == 0 or chain.block(block).timestamp < time:
            break
    return block
