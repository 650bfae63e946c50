"""The books that an audit keeps while it replays an escrow: accounts, owners, seats, leases. Pure."""

from __future__ import annotations

from dataclasses import replace

from suanli.audit.check import Checks, Subject
from suanli.audit.life import LeaseLife, Step, UnreadLease
from suanli_protocol.capacity import Lanes
from suanli_protocol.errors import SignatureError
from suanli_protocol.lease import Account, acts_for
from suanli_protocol.messages import ZERO_ADDRESS, Message
from suanli_protocol.openings import NO_SIGNATURE
from suanli_protocol.signing import Domain, recover


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
        self._latest: dict[bytes, LeaseLife] = {}  # by seat

    # Leases

    def add(self, life: LeaseLife, also: bytes) -> None:
        """Enters a lease under the ledger's id and under the id that its papers give (the same, if all is well).

        It follows the attempt that was at its seat before.
        """
        seat = life.state.lease.seat_key
        life.previous = self._latest.get(seat)
        if life.previous:
            life.previous.following = life
        self._latest[seat] = life
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

    def take(self, life: LeaseLife, step: Step) -> None:
        """Takes a lease on by one step, and moves the money and the capacity that it sets free."""
        lease, split = life.state.lease, step.split
        self.credit(lease.provider, split.to_provider + split.bond_back)
        self.credit(lease.market, split.to_market)
        self.credit(lease.consumer, split.to_consumer + split.penalty)
        self.credit(life.state.clauses.arbiter, split.to_arbiter)
        self.occupy(lease.provider, Lanes.unpack(step.after.need) - Lanes.unpack(step.before.need))
        life.take(step)
        self.seats[lease.seat_key] = life.state.word

    # Accounts

    def account(self, address: str) -> Account:
        """The account's word."""
        return self.accounts.get(address, Account())

    def credit(self, address: str, amount: int) -> None:
        """Adds to the free money; a negative amount takes away."""
        if amount:
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
