"""What an audit names although the escrow allows it: an arbiter that is no third party. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from suanli.audit.books import Books
from suanli.audit.life import Anomaly, LeaseLife
from suanli_protocol.messages import ZERO_ADDRESS


def note_arbiter(books: Books, life: LeaseLife) -> None:
    """Names an arbiter that is, or is owned by, the consumer, the provider, the market or their owner, as of now."""
    arbiter = life.state.clauses.arbiter
    if arbiter == ZERO_ADDRESS:
        return
    judges = {address.lower() for address in (arbiter, books.owner(arbiter))} - {ZERO_ADDRESS}
    for role, address in _interested(books, life):
        if address.lower() in judges:
            life.note(Anomaly("arbiter_is_party", f"the arbiter {arbiter} is, or is owned by, {role} {address}"))


def _interested(books: Books, life: LeaseLife) -> Iterator[tuple[str, str]]:
    lease = life.state.lease
    for role, address in (("consumer", lease.consumer), ("provider", lease.provider), ("market", lease.market)):
        yield f"the {role}", address
        yield f"the {role}'s owner", books.owner(address)
