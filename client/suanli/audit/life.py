"""One lease from its opening to its end, as the chain has it: its papers, each step, what is odd about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from suanli.audit.facts import Transaction
from suanli_protocol.lease import Change, Claim, Kind, Settle, Split, State, Status, Stop
from suanli_protocol.messages import Bid, Offer


@dataclass(frozen=True, slots=True)
class Step:
    """A change that the rules allow, with the state on both sides of it and the money that it moved."""

    transaction: Transaction
    change: Change
    before: State
    after: State
    split: Split
    evidence: bytes = b""  # the digest that a receipt, a claim or a verdict names


@dataclass(frozen=True, slots=True)
class Bill:
    """A total that was asked for, by a receipt or by a claim, and the digest of the evidence that it stands on."""

    transaction: Transaction
    amount: int
    kind: Kind
    evidence: bytes


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that the rules allow and a careful party would not: no finding, but named."""

    code: str
    text: str


@dataclass
class LeaseLife:
    """A lease from its opening on. `id` is the one that the ledger names, `state` follows from the papers."""

    number: int
    id: bytes
    opened: Transaction
    bid: Bid
    offer: Offer
    state: State
    steps: list[Step] = field(default_factory=list)
    split: Split = field(default_factory=Split)  # all that was set free so far
    previous: LeaseLife | None = field(default=None, repr=False)  # the attempt before this one at its seat
    following: LeaseLife | None = field(default=None, repr=False)
    anomalies: list[Anomaly] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """What the lease is, in one word."""
        return self.state.status

    @property
    def payments(self) -> list[Bill]:
        """The receipts that the escrow took."""
        return list(self._bills(Settle))

    @property
    def bills(self) -> list[Bill]:
        """Every receipt and every claim."""
        return list(self._bills(Settle, Claim))

    def _bills(self, *kinds: type[Settle | Claim]) -> Iterator[Bill]:
        for step in self.steps:
            match step.change:
                case Settle(amount, kind) | Claim(amount, kind) if isinstance(step.change, kinds):
                    yield Bill(step.transaction, amount, kind, step.evidence)
                case _:
                    pass

    @property
    def billable_until(self) -> int:
        """The second from which nothing more is billable: the stop, or the end of the agreed time."""
        stops = [step.after.ends_at for step in self.steps if isinstance(step.change, Stop)]
        return min([self.state.clauses.ends_at, *stops])

    def take(self, step: Step) -> None:
        """Goes on by one step."""
        self.steps.append(step)
        self.state = step.after
        self.split = Split(*(getattr(self.split, name) + getattr(step.split, name) for name in Split.__slots__))

    def note(self, anomaly: Anomaly) -> None:
        """Names something odd, once."""
        if anomaly not in self.anomalies:
            self.anomalies.append(anomaly)


@dataclass(frozen=True, slots=True)
class UnreadLease:
    """A lease whose papers do not stand in its transaction."""

    number: int
    id: bytes
    opened: Transaction
