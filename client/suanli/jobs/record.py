"""What this machine remembers of a job: everything that was signed, and how far it has come."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from suanli_protocol.errors import IntegrityError

VERSION = 1


@dataclass
class Record:
    """A job as the consumer knows it. `id` is 0x and the seat in hex; papers and documents are JSON as on the wire.

    `job` is None on a machine that did not submit it: the document is sealed to the provider and cannot be had again.
    """

    id: str
    created_at: int  # seconds of Unix UTC
    market: str
    chain: str
    chain_id: int
    escrow: str
    genesis: str
    symbol: str
    decimals: int
    bid: dict[str, Any]
    bid_hash: str
    constraints: dict[str, Any]
    job: dict[str, Any] | None = None
    job_digest: str = ""
    signature: str = ""
    name: str = ""
    idempotency_key: str = ""
    acknowledgement: dict[str, Any] | None = None
    plan: dict[str, Any] = field(default_factory=dict)  # the figures that were shown
    lease: str = ""
    number: int = 0
    phase: str = "new"  # a reasons.Phase, or "new" until the market has acknowledged the bid
    reason: str = ""
    detail: str = ""
    provider: str = ""
    terms: dict[str, Any] = field(default_factory=dict)  # of the lease: openedAt, seconds, rate, price
    disputed: bool = False  # the provider's claim was challenged, and nobody has judged yet
    attempts: list[dict[str, Any]] = field(default_factory=list)  # leases of this job that failed, oldest first
    attributes: dict[str, Any] | None = None  # the provider's, as its offer names them
    stopped_at: int | None = None  # the chain's clock of a stop
    event: int = 0  # the last event of the market that was seen
    delivered: list[str] = field(default_factory=list)  # slots that the relay has taken whole
    evidence: dict[str, Any] | None = None
    receipt: dict[str, Any] | None = None
    receipt_signature: str = ""
    countersignature: str = ""
    unchecked: list[str] = field(default_factory=list)
    output_dir: str = ""
    output_files: list[dict[str, Any]] = field(default_factory=list)
    paid: str = ""
    fee: str = ""
    gained: int = 0  # base units from the provider's bond, less what a dispute cost
    transaction: str = ""  # of the settlement
    gas: int = 0  # of the transactions that opened and closed the lease, whole: others may share them
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any, *, place: str) -> Record:
        """From what a file holds; IntegrityError names the file if it is no record of this version."""
        known = {item.name for item in fields(cls)}
        if not isinstance(data, dict) or data.get("version") != VERSION or not set(data) <= known:
            raise IntegrityError(f"{place} is not a record of this version", hint="move the file away")
        try:
            return cls(**data)
        except TypeError as error:
            raise IntegrityError(f"{place} is incomplete: {error}", hint="move the file away") from None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will change: settled, or ended before there was a lease."""
        return self.phase == "settled" or (not self.lease and self.phase in ("failed", "cancelled"))

    @property
    def exit_code(self) -> int | None:
        """The exit code of the job's process, if it ended."""
        return self.evidence.get("exitCode") if self.evidence else None

    @property
    def locked(self) -> int:
        """Base units that its lease locks, or as the plan had it while there is none; 0 if neither is known."""
        return int(self.terms.get("deposit") or self.plan.get("locked") or 0)

    @property
    def lease_name(self) -> str:
        """Its lease as a person types it: the number, or the beginning of its id where nobody has counted."""
        return str(self.number) if self.number else self.lease[:10]

    @property
    def short(self) -> str:
        """The id as a person types it."""
        return self.id[:10]
