"""Papers are found in whatever call opened the lease, as long as it shows them; the lease's id proves them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from suanli_protocol.errors import ChainError, IntegrityError
from suanli_protocol.events import Opened
from suanli_protocol.lease_lookup import read_papers
from suanli_protocol.openings import Fill, Opening, encode_open
from suanli_protocol.signing import struct_hash
from support import builders
from support.leases import an_opened_lease

ESCROW = "0x" + "e5" * 20
LEASE = an_opened_lease()
FILL = Fill(LEASE.offer, bytes(64), LEASE.clauses.rate)
CALL = encode_open(bytes(32), [Opening(LEASE.bid, bytes(64), (FILL,))])
OTHER = encode_open(bytes(32), [Opening(LEASE.bid, bytes(64), (replace(FILL, rate=FILL.rate + 1),))])
OPENED = Opened(
    5, bytes(32), bytes(32), 0, LEASE.id, LEASE.offer.provider, LEASE.bid.consumer,
    struct_hash(LEASE.bid), struct_hash(LEASE.offer), FILL.rate, 0, 1,
)  # fmt: skip


def an_escrow(calldata: bytes, trace: Any = None) -> Any:
    """An escrow whose chain has one transaction, and one trace if it has any."""

    def rpc(method: str, *_: object) -> Any:
        if trace is None:
            raise ChainError(f"{method} is not known")
        return trace

    chain = SimpleNamespace(
        block=lambda _: SimpleNamespace(timestamp=builders.NOW),
        transaction=lambda _: SimpleNamespace(data=calldata),
        rpc=rpc,
    )
    return SimpleNamespace(chain=chain, address=ESCROW)


def a_frame(to: str, data: bytes, *calls: Any) -> Any:
    """One call of a trace."""
    return {"to": to, "input": "0x" + data.hex(), "calls": list(calls)}


@pytest.mark.parametrize(
    ("calldata", "trace"),
    [
        (CALL, None),
        (b"\x12\x34\x56\x78" + bytes(64) + CALL + bytes(28), None),
        (OTHER + CALL, None),
        (b"", a_frame("0x" + "01" * 20, b"", a_frame("0x" + "02" * 20, OTHER), a_frame(ESCROW.upper(), CALL))),
        (b"", a_frame(ESCROW, b"\x00", None, 7, a_frame(ESCROW, CALL))),
    ],
    ids=["its own call", "inside a wallet's", "after another's", "in a trace", "in an odd trace"],
)
def test_the_papers_are_found(calldata: bytes, trace: Any) -> None:
    found = read_papers(an_escrow(calldata, trace), OPENED)
    assert (found.opening.bid, found.fill.offer, found.attempt) == (LEASE.bid, LEASE.offer, (1, 0))
    assert (found.state.lease, found.state.clauses) == (LEASE.lease, LEASE.clauses)


@pytest.mark.parametrize(
    "trace", [None, "no frame", {"calls": 5}, a_frame(ESCROW, OTHER)], ids=["none", "text", "odd", "other"]
)
def test_papers_of_other_terms_are_none(trace: Any) -> None:
    for calldata in (b"", OTHER, CALL[:-32], CALL[4:]):
        with pytest.raises(IntegrityError, match="does not hold the papers"):
            read_papers(an_escrow(calldata, trace), OPENED)
