"""The market's tables, one per noun. Ids are 0x-hex, addresses checksummed text, money decimal text, papers JSON text.

Facts only: what follows from other rows (free capacity, a lease's phase on the clock) is computed, never stored.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Text, false
from sqlmodel import Field, SQLModel


def _text() -> Column[str]:
    return Column(Text, nullable=False)


class EntryRow(SQLModel, table=True):
    """A line of the admission log, with its proof inside the group commit that `last_seq` names."""

    __tablename__ = "log_entry"
    seq: int = Field(primary_key=True)
    kind: int
    paper: str = Field(index=True)
    reason: int
    received_at: int
    last_seq: int = Field(index=True)
    path: str = Field(sa_column=_text())  # JSON list of siblings
    detail: str = Field(default="", sa_column=_text())  # for people; not signed


class HeadRow(SQLModel, table=True):
    """A signed head of the admission log: one group commit."""

    __tablename__ = "log_head"
    last_seq: int = Field(primary_key=True)
    first_seq: int
    previous: str
    head: str
    at: int
    signature: str


class OfferRow(SQLModel, table=True):
    """An admitted offer. States: open, withdrawn, expired, dead."""

    __tablename__ = "offer"
    __table_args__ = (
        Index("ix_offer_state", "state", "seq"),
        Index("ix_offer_provider", "provider", "state", "seq"),
    )
    id: str = Field(primary_key=True)
    seq: int = Field(index=True)
    provider: str
    paper: str = Field(sa_column=_text())
    signature: str
    attributes: str = Field(sa_column=_text())
    valid_until: int
    received_at: int
    state: str = "open"


class BidRow(SQLModel, table=True):
    """An admitted bid. States as wire.BidView has them."""

    __tablename__ = "bid"
    id: str = Field(primary_key=True)
    seq: int = Field(index=True)
    consumer: str = Field(index=True)
    seat: str = Field(index=True)
    paper: str = Field(sa_column=_text())
    signature: str
    constraints: str = Field(sa_column=_text())
    job_digest: str
    valid_until: int
    received_at: int
    state: str = Field(default="queued", index=True)
    reason: str = ""
    lease: str | None = None
    rejections: str = Field(default="[]", sa_column=_text())
    judged: bool = False  # whether a round has considered it
    queued_at: int = 0  # seconds; when it began to wait, at first or for the next attempt
    attempt: int = 1  # the attempt that it waits for, or that its lease is
    spent: str = "0"  # what earlier attempts cost, fees included
    previous: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))  # their proof, hex


class RoundRow(SQLModel, table=True):
    """One clearing of the book, as its message says."""

    __tablename__ = "round"
    number: int = Field(primary_key=True)
    hash: str
    message: str = Field(sa_column=_text())
    last_seq: int
    at: int


class MatchRow(SQLModel, table=True):
    """A proposal of a round. States: pending (it is to be opened), opened, released (see reason)."""

    __tablename__ = "match"
    id: int | None = Field(default=None, primary_key=True)
    round: int = Field(index=True)
    position: int
    bid: str = Field(index=True)
    offer: str
    rate: str
    seat_index: int = 0
    state: str = Field(default="pending", index=True)
    reason: str = ""
    transaction: int | None = Field(default=None, index=True)  # the ChainTransactionRow that carries it


class LeaseRow(SQLModel, table=True):
    """A lease on the chain. Leases of other markets are counted (number) and have no papers here."""

    __tablename__ = "lease"
    id: str = Field(primary_key=True)
    number: int = Field(index=True)
    provider: str = Field(index=True)
    consumer: str = Field(index=True)
    bid: str | None = Field(default=None, index=True)
    offer: str | None = None
    rate: str
    price: str
    seat_index: int
    attempt: int
    opened_at: int
    block: int
    block_hash: str
    transaction: str
    state: str = Field(default="open", index=True)
    phase: str = "leased"
    reason: str = ""
    paid: str = "0"
    fee: str = "0"
    spent: str = "0"  # by earlier attempts of the seat, fees included
    claimed: str = "0"
    claim_kind: int = 0
    clock: int = 0  # when its present phase on the chain began
    due_at: int | None = Field(default=None, index=True)  # when time alone ends it; 0: to be looked up
    by_consumer: bool = False
    settled_transaction: str | None = None
    log_complete: bool = False
    closed_at: int | None = Field(default=None, index=True)  # time of the block that settled or released it
    swept: bool = Field(default=False, sa_column_kwargs={"server_default": false()})  # its sealed data is deleted


class GoneLeaseRow(SQLModel, table=True):
    """A lease that a reorganisation took, and when; if it has a LeaseRow, the chain opened it again."""

    __tablename__ = "gone_lease"
    id: str = Field(primary_key=True)
    at: int = Field(index=True)  # seconds of Unix UTC


class ReceiptRow(SQLModel, table=True):
    """A lease's newest receipt. States: signed, queued (countersigned), settled, refused."""

    __tablename__ = "receipt"
    lease: str = Field(primary_key=True)
    receipt: str = Field(sa_column=_text())
    signature: str
    evidence: str = Field(sa_column=_text())
    countersignature: str | None = None
    state: str = Field(default="signed", index=True)
    tries: int = 0
    transaction: int | None = Field(default=None, index=True)


class BlobRow(SQLModel, table=True):
    """A blob of a lease; its bytes lie on the disk. `delivered` is the signed Delivered message once it is whole."""

    __tablename__ = "blob"
    lease: str = Field(primary_key=True)
    slot: str = Field(primary_key=True)
    size: int
    digest: str = ""  # what the sender announced, or ""
    delivered: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    signature: str | None = None


class LogChunkRow(SQLModel, table=True):
    """A sealed piece of a job's log."""

    __tablename__ = "log_chunk"
    lease: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class EventRow(SQLModel, table=True):
    """One change for one party."""

    __tablename__ = "event"
    seq: int | None = Field(default=None, primary_key=True)
    party: str = Field(index=True)
    at: int
    kind: str
    lease: str | None = None
    bid: str | None = None
    data: str = Field(default="{}", sa_column=_text())


class ChainTransactionRow(SQLModel, table=True):
    """A transaction, written down before it is first sent. Its fees (wei per gas) are those of its newest version.

    States: prepared (it is carried until the chain answers), mined, failed (it reverted), dropped (another transaction
    took its nonce).
    """

    __tablename__ = "chain_transaction"
    id: int | None = Field(default=None, primary_key=True)
    kind: str  # open, settle, finalize, reclaim
    nonce: int
    entries: int
    calldata: str = Field(sa_column=_text())  # "" once no reorganisation can bring it back
    gas: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    fee: str = Field(default="0", sa_column_kwargs={"server_default": "0"})
    tip: str = Field(default="0", sa_column_kwargs={"server_default": "0"})
    raises: int = Field(default=0, sa_column_kwargs={"server_default": "0"})  # of its fees, so far
    hash: str | None = Field(default=None, index=True)  # of the version that was mined
    block: int | None = Field(default=None, index=True)  # that mined it
    state: str = Field(default="prepared", index=True)
    gas_used: int = 0
    gas_price: str = "0"
    error: str = Field(default="", sa_column=_text())
    at: int


class ChainVersionRow(SQLModel, table=True):
    """A signed version of a transaction, at its fee: by its hash the chain's answers are known as this market's."""

    __tablename__ = "chain_version"
    hash: str = Field(primary_key=True)
    transaction: int = Field(index=True)  # the ChainTransactionRow


class ChainStepRow(SQLModel, table=True):
    """A block up to which the chain was read at once; the newest are kept, to find where a reorganisation began."""

    __tablename__ = "chain_step"
    block: int = Field(primary_key=True)
    block_hash: str
    opened: int  # as in CursorRow


class ChainChangeRow(SQLModel, table=True):
    """What a step of the chain changed in one row: the values from before as JSON, or None if it made the row."""

    __tablename__ = "chain_change"
    id: int | None = Field(default=None, primary_key=True)
    block: int = Field(index=True)
    table: str
    key: str
    before: str | None = Field(default=None, sa_column=Column(Text, nullable=True))


class CursorRow(SQLModel, table=True):
    """How far the chain is known: one row."""

    __tablename__ = "cursor"
    id: int = Field(default=1, primary_key=True)
    chain_id: int
    escrow: str
    market: str
    genesis: str
    block: int
    block_hash: str
    opened: int = 0  # Opened events so far: the next lease's number less one
    history: str = Field(default="", sa_column_kwargs={"server_default": ""})  # of events' numbers; a copy has its own
