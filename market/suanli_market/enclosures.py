"""Enclosures: an event brings what its reader would ask for next, as it is at the moment of reading.

They save requests and promise nothing: whoever finds none asks.
"""

from __future__ import annotations

import json

from sqlmodel import Session

from suanli_market.leasing.leases import OPEN_STATES, view_of
from suanli_market.tables import LeaseRow, ReceiptRow
from suanli_protocol import wire

EVIDENCE_CHARACTERS_MAX = 16 * 1024  # longer evidence is asked for


def enclosed(session: Session, event: wire.Event) -> wire.Event:
    """The event with its lease's view (`lease.opened`), or receipt, signature and evidence (`lease.receipt`)."""
    match event.kind:
        case "lease.opened":
            row = session.get(LeaseRow, event.lease)
            if row is not None and row.bid is not None and row.state in OPEN_STATES:
                return _with(event, view=view_of(session, row))
        case "lease.receipt":
            held = session.get(ReceiptRow, event.lease)
            if held is not None and len(held.evidence) <= EVIDENCE_CHARACTERS_MAX:
                receipt, evidence = json.loads(held.receipt), json.loads(held.evidence)
                return _with(event, receipt=receipt, signature=held.signature, evidence=evidence)
    return event


def _with(event: wire.Event, **members: object) -> wire.Event:
    return event.model_copy(update={"data": {**event.data, **members}})
