"""The books that an audit keeps while it replays an escrow: accounts, owners, seats, leases. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from suanli.audit.check import Checks, Subject
from suanli.audit.facts import Claim, Transaction
from suanli_protocol.capacity import Lanes
from suanli_protocol.errors import SignatureError
from suanli_protocol.lease import Account, Split, State, acts_for
from suanli_protocol.messages import ZERO_ADDRESS, Bid, Message, Offer
from suanli_protocol.openings import NO_SIGNATURE
from suanli_protocol.signing import Domain, recover


@dataclass(frozen=True, slots=True)
class Payment:
    """One receipt that the escrow took."""

    transaction: Transaction
    claim: Claim
    split: Split


@dataclass
class LeaseLife:
    """A lease from its opening on. `id` is the one that the ledger names, `state` follows from the papers."""

    number: int
    id: bytes
    opened: Transaction
    bid: Bid
    offer: Offer
    state: State
    payments: list[Payment] = field(default_factory=list)
    stopped: Transaction | None = None
    released: Transaction | None = None
    split: Split = field(default_factory=Split)  # all that was set free so far

    @property
    def status(self) -> str:
        """open, stopped, settled or released: derived from the facts."""
        if self.released:
            return "released"
        if not self.state.is_open:
            return "settled"
        return "stopped" if self.stopped else "open"

    @property
    def seat_word(self) -> bytes:
        """What the escrow must hold at the lease's seat."""
        return self.state.word


@dataclass(frozen=True, slots=True)
class UnreadLease:
    """A lease whose papers do not stand in its transaction."""

    number: int
    id: bytes
    opened: Transaction


class Books:
    """What must be true, by the protocol's rules alone, after the transactions so far."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.checks = Checks()
        self.accounts: dict[str, Account] = {}
        self.owners: dict[str, str] = {}
        self.seats: dict[bytes, bytes] = {}
        self.leases: list[LeaseLife | UnreadLease] = []  # in the order of their numbers
        self._lives: dict[bytes, LeaseLife] = {}

    # Leases

    def add(self, life: LeaseLife, also: bytes) -> None:
        """Enters a lease under the ledger's id and under the id that its papers give (the same, if all is well)."""
        self.leases.append(life)
        self._lives[life.id] = life
        self._lives.setdefault(also, life)

    def life(self, *ids: bytes) -> LeaseLife | None:
        """The first lease that is known under one of the ids."""
        return next((self._lives[one] for one in ids if one in self._lives), None)

    @property
    def lives(self) -> list[LeaseLife]:
        """The leases whose papers are known."""
        return [lease for lease in self.leases if isinstance(lease, LeaseLife)]

    def release_split(self, life: LeaseLife, after: State, split: Split) -> None:
        """Moves the money and the capacity that a change sets free."""
        lease = life.state.lease
        self.credit(lease.provider, split.to_provider + split.bond_back)
        self.credit(lease.market, split.to_market)
        self.credit(lease.consumer, split.to_consumer + split.penalty)
        self.credit(life.state.clauses.arbiter, split.to_arbiter)
        self.occupy(lease.provider, Lanes.unpack(after.need) - Lanes.unpack(life.state.need))
        life.state = after
        life.split = Split(*(getattr(life.split, name) + getattr(split, name) for name in Split.__slots__))
        self.seats[lease.seat_key] = life.seat_word

    # Accounts

    def account(self, address: str) -> Account:
        """The account's word."""
        return self.accounts.get(address, Account())

    def credit(self, address: str, amount: int) -> None:
        """Adds to the free money; a negative amount takes away."""
        account = self.account(address)
        self.accounts[address] = replace(account, free=account.free + amount)

    def occupy(self, address: str, need: Lanes) -> None:
        """Takes capacity."""
        account = self.account(address)
        self.accounts[address] = replace(account, used=account.used + need)

    def owner(self, address: str) -> str:
        """Who may withdraw for the account, or the zero address."""
        return self.owners.get(address, ZERO_ADDRESS)

    def acts_for(self, caller: str, address: str) -> bool:
        """Whether the caller is the account or its owner."""
        return acts_for(caller, address, self.owner(address))

    def signer_of(self, message: Message, signature: bytes, named: str, caller: str) -> str:
        """Who stands behind a paper: `named` if the caller may stay silent for it, else whom the signature shows."""
        if signature == NO_SIGNATURE:
            return named if self.acts_for(caller, named) else "nobody"
        try:
            return recover(self.domain.digest(message), signature)
        except SignatureError:
            return "nobody"

    def signed(self, code: str, message: Message, signature: bytes, named: str, caller: str, subject: Subject) -> bool:
        """Checks that a paper is by the party that it names."""
        member = code.replace("_", ".")
        return self.checks.same(code, member, named, self.signer_of(message, signature, named, caller), subject)
