"""A bid's lease looked for on the chain, from the newest block back: nobody has to say where it lies."""

from __future__ import annotations

from suanli_protocol.escrow import Escrow
from suanli_protocol.events import Opened
from suanli_protocol.lease import same_address
from suanli_protocol.messages import Bid
from suanli_protocol.signing import struct_hash

SPAN_BLOCKS = 1_000  # asked for at once
SLACK_S = 600  # of unlike clocks


def newest_lease(escrow: Escrow, bid: Bid, since: int) -> Opened | None:
    """The newest lease of a bid that was signed at `since`, in seconds of Unix UTC; None if there is none."""
    wanted, earliest = struct_hash(bid), since - max(SLACK_S, bid.window // 10)
    last = escrow.chain.block("latest").number
    while last >= 0:
        first = max(0, last - SPAN_BLOCKS + 1)
        for event in reversed(escrow.events(first, last)):
            if isinstance(event, Opened) and event.bid_hash == wanted and same_address(event.consumer, bid.consumer):
                return event
        if escrow.chain.block(first).timestamp < earliest:
            return None
        last = first - 1
    return None
