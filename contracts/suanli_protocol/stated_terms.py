"""The terms of a lease as a market states them, held against its id: what either side goes by follows from papers."""

from __future__ import annotations

from suanli_protocol import wire
from suanli_protocol.errors import IntegrityError, ProtocolError
from suanli_protocol.lease import Clauses, Lease, lease_id, terms
from suanli_protocol.messages import Bid, Offer


def stated_terms(view: wire.LeaseView, bid: Bid, offer: Offer) -> tuple[Lease, Clauses]:
    """Lease and clauses of the papers as the view says that they were opened.

    ProtocolError if they do not fit their types, IntegrityError if they do not make the lease that the view names.
    """
    try:
        lease, clauses = terms(
            bid,
            offer,
            rate=int(view.rate),
            index=view.index,
            attempt=view.attempt,
            spent=int(view.spent),
            opened_at=view.opened_at,
        )
        found = lease_id(lease)
    except (ValueError, OverflowError) as error:
        raise ProtocolError(f"the terms of the lease do not fit their types: {error}") from error
    if found != wire.from_hex(view.id, size=32, name="id"):
        raise IntegrityError(
            f"id: papers, rate, index, attempt and time of opening make the lease {wire.to_hex(found)}, not {view.id}"
        )
    return lease, clauses
