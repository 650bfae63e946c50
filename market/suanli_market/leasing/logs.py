"""Sealed log chunks of leases: appended by the provider, read by both parties."""

from __future__ import annotations

from sqlalchemy import func
from sqlmodel import Session, col, select

from suanli_market.events import touch
from suanli_market.leasing.leases import lease_of, require
from suanli_market.leasing.retention import require_kept
from suanli_market.tables import LeaseRow, LogChunkRow
from suanli_protocol import wire
from suanli_protocol.errors import ProtocolError

CHUNKS_PER_PAGE = 256
PAGE_BYTES = 2 * 1024 * 1024
CHUNK_BYTES_MAX = 1024 * 1024
LOG_BYTES_MAX = 160 * 1024 * 1024  # of one lease, sealed
LOG_CHUNKS_MAX = 200_000


def topic(lease: str) -> str:
    """What readers of a lease's log wait for."""
    return f"log {lease}"


def append(session: Session, lease: str, party: str, page: wire.LogPage) -> None:
    """Adds the chunks that are not there yet; ProtocolError beyond the caps, or after the log's end."""
    row, role = lease_of(session, lease, party)
    require(role, "provider")
    require_kept(row)
    if len(page.chunks) > CHUNKS_PER_PAGE:
        raise ProtocolError(f"{len(page.chunks)} chunks at once, at most {CHUNKS_PER_PAGE}")
    known = set(
        session.exec(
            select(LogChunkRow.seq).where(
                LogChunkRow.lease == lease, col(LogChunkRow.seq).in_([chunk.seq for chunk in page.chunks])
            )
        )
    )
    fresh = {chunk.seq: bytes.fromhex(chunk.data[2:]) for chunk in page.chunks if chunk.seq not in known}
    if fresh and row.log_complete:
        raise ProtocolError("the log is complete; nothing can be added", code="log_complete")
    _check_caps(session, lease, fresh)
    for seq, data in fresh.items():
        session.add(LogChunkRow(lease=lease, seq=seq, data=data))
    if page.complete and not row.log_complete:
        row.log_complete = True
        session.add(row)
    touch(session, topic(lease))


def end(session: Session, row: LeaseRow, chunks: int) -> None:
    """The receipt counts the log's chunks: with so many of them here the log is complete."""
    if row.log_complete:
        return
    held = session.exec(select(func.count()).select_from(LogChunkRow).where(LogChunkRow.lease == row.id)).one()
    if held == chunks:
        row.log_complete = True
        session.add(row)
        touch(session, topic(row.id))


def _check_caps(session: Session, lease: str, fresh: dict[int, bytes]) -> None:
    largest = max((len(data) for data in fresh.values()), default=0)
    if largest > CHUNK_BYTES_MAX:
        raise ProtocolError(f"a log chunk has {largest} bytes, at most {CHUNK_BYTES_MAX}")
    if any(seq >= LOG_CHUNKS_MAX for seq in fresh):
        raise ProtocolError(f"a log has at most {LOG_CHUNKS_MAX} chunks", code="log_full")
    held = session.exec(
        select(func.coalesce(func.sum(func.length(LogChunkRow.data)), 0)).where(LogChunkRow.lease == lease)
    ).one()
    if held + sum(len(data) for data in fresh.values()) > LOG_BYTES_MAX:
        raise ProtocolError(f"a log has at most {LOG_BYTES_MAX} bytes", code="log_full")


def read(session: Session, lease: str, party: str, after: int) -> wire.LogPage:
    """The chunks that follow `after` without a gap in the page's bounds; complete if the last of all is among them."""
    row, _ = lease_of(session, lease, party)
    require_kept(row)
    query = (
        select(LogChunkRow.seq, LogChunkRow.data)
        .where(LogChunkRow.lease == lease, col(LogChunkRow.seq) > after)
        .order_by(col(LogChunkRow.seq))
        .limit(CHUNKS_PER_PAGE)
    )
    chunks: list[wire.LogChunk] = []
    size = 0
    with session.connection().execute(query) as rows:  # past the ORM, which would hold all of them at once
        for seq, data in rows:
            if seq != after + 1 + len(chunks) or (size + len(data) > PAGE_BYTES and chunks):
                return wire.LogPage(chunks=chunks, complete=False)
            size += len(data)
            chunks.append(wire.LogChunk(seq=seq, data=wire.to_hex(data)))
    return wire.LogPage(chunks=chunks, complete=row.log_complete and len(chunks) < CHUNKS_PER_PAGE)
