"""Records of jobs as the client keeps them, with only what a test is about spelled out."""

from __future__ import annotations

from suanli.jobs.record import Record

CONSUMER = "0x" + "11" * 20
ESCROW = "0x" + "22" * 20


def a_record(seat: str, **changes: object) -> Record:
    """A job on the devnet that nobody has posted yet; `seat` begins its id."""
    values: dict[str, object] = {
        "id": "0x" + seat.ljust(64, "0"),
        "created_at": 1_700_000_000,
        "market": "http://127.0.0.1:1",
        "chain": "http://127.0.0.1:2",
        "chain_id": 31337,
        "escrow": ESCROW,
        "genesis": "0x" + "33" * 32,
        "symbol": "DEV",
        "decimals": 6,
        "bid": {"consumer": CONSUMER, "budget": "1000000"},
        "bid_hash": "0x" + "44" * 32,
        "constraints": {},
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]
