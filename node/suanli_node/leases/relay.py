"""The relay of a lease, as its run sees it: a market, or the node's own shelf."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from suanli_protocol import wire


class Relay(Protocol):
    """What keeps papers, blobs, logs and receipts between a lease's two parties: a market, or the node's own shelf."""

    def info(self) -> wire.MarketInfo:
        """Who keeps them; its address signs for what was delivered."""

    def lease(self, lease: bytes) -> wire.LeaseView:
        """One lease."""

    def report(self, lease: bytes, report: wire.Report) -> None:
        """Takes the phase of a run."""

    def post_logs(self, lease: bytes, page: wire.LogPage) -> None:
        """Takes sealed log chunks."""

    def post_receipt(self, lease: bytes, signed: wire.SignedReceipt) -> None:
        """Takes the receipt."""

    def put_blob(self, lease: bytes, slot: str, data: Any, size: int, *, digest: bytes = b"") -> wire.BlobView:
        """Takes a sealed blob."""

    def get_blob(self, lease: bytes, slot: str) -> Iterator[bytes]:
        """Streams a sealed blob."""


class Market(Relay, Protocol):
    """A market, which also lists leases."""

    def leases(self, *, state: str = "") -> list[wire.LeaseView]:
        """The node's leases there."""


class Direct(Relay, Protocol):
    """The node's own shelf."""

    def holds(self, lease: str) -> bool:
        """Whether it keeps this lease (0x and hex)."""
