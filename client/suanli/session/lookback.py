"""A lease looked for on the chain, from the newest block back: nobody has to say where it lies."""

from __future__ import annotations

from collections.abc import Iterator

from suanli_protocol.escrow import Escrow
from suanli_protocol.events import EscrowEvent, Opened
from suanli_protocol.lease import same_address
from suanli_protocol.messages import Bid
from suanli_protocol.signing import struct_hash

SPAN_BLOCKS = 1_000  # asked for at once
SLACK_S = 600  # of unlike clocks


def newest_lease(escrow: Escrow, bid: Bid, since: int) -> Opened | None:
    """The newest lease of a bid that was signed at `since`, in seconds of Unix UTC; None if there is none."""
    wanted, earliest = struct_hash(bid), since - max(SLACK_S, bid.window // 10)
    for first, last in _spans(escrow, escrow.chain.block("latest").number, earliest):
        for event in reversed(escrow.events(first, last)):
            if isinstance(event, Opened) and event.bid_hash == wanted and same_address(event.consumer, bid.consumer):
                return event
    return None


def events_of(escrow: Escrow, lease: bytes, opened_at: int, head: int) -> list[EscrowEvent]:
    """All events of a lease up to block `head`, in order; none unless its opening, at that time, is among them."""
    found: list[EscrowEvent] = []
    for first, last in _spans(escrow, head, opened_at):
        found = escrow.events_of_lease(lease, first, last) + found
        if any(isinstance(event, Opened) for event in found):
            return found
    return []


def _spans(escrow: Escrow, last: int, earliest: int) -> Iterator[tuple[int, int]]:
    """First and last of spans of blocks, the newest first, to the block before the time `earliest`."""
    while last >= 0:
        first = max(0, last - SPAN_BLOCKS + 1)
        yield first, last
        if escrow.chain.block(first).timestamp < earliest:
            return
        last = first - 1
