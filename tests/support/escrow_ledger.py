"""What an audit reads, from an escrow's bytecode in this process: every call that it took, and its state at the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from suanli.audit.calls import read_call
from suanli.audit.facts import AccountCall, History, Holding, Snapshot, Transaction
from suanli_protocol import events
from suanli_protocol.capacity import Lanes
from suanli_protocol.lease import Account
from suanli_protocol.messages import ZERO32
from support.escrow_world import FUNDS, World


@dataclass
class Ledger(World):
    """A world that keeps its calls as an endpoint of a chain would give them: one transaction a block."""

    transactions: list[Transaction] = field(default_factory=list)

    def _send(self, caller: str, data: bytes) -> list[events.EscrowEvent] | None:
        said = super()._send(caller, data)
        if said:
            number = len(self.transactions) + len(self.people) + 1
            block, hash_ = b"\x0b" + number.to_bytes(31, "big"), b"\x0a" + number.to_bytes(31, "big")
            placed = tuple(replace(e, block=number, block_hash=block, transaction=hash_) for e in said)
            call = read_call(self.escrow.address, self.escrow.address, data)
            self.transactions.append(Transaction(hash_, number, block, self.now, caller, call, placed))
        return said

    @property
    def history(self) -> History:
        """All of it, with the deposits that the people began with."""
        begun = tuple(self._deposit(number, person.address) for number, person in enumerate(self.people, 1))
        last = len(begun) + len(self.transactions)
        return History(self.escrow.domain, "DEVC", 6, last, ZERO32, (*begun, *self.transactions))

    def _deposit(self, number: int, account: str) -> Transaction:
        block, hash_ = b"\x0b" + number.to_bytes(31, "big"), b"\x0a" + number.to_bytes(31, "big")
        event = events.Deposited(number, block, hash_, 0, account, account, FUNDS)
        return Transaction(hash_, number, block, self.now, account, AccountCall("deposit"), (event,))

    @property
    def snapshot(self) -> Snapshot:
        """What the contract answers now."""
        return Snapshot(
            {address: self._holding(address) for address in self.accounts},
            {key: self.escrow.seat(key) for key in self.seats},
            self.balance(self.escrow.address),
        )

    def _holding(self, address: str) -> Holding:
        free, counter, used = self.escrow.account(address)
        return Holding(Account(free, counter, Lanes.unpack(used)), self.escrow.owner_of(address))
