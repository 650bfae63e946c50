"""Retention: the sealed data of a closed lease is deleted some days after; its papers and signatures stay.

Of a lease that a reorganisation took for good nothing stays. What told of the past, or waited in vain, ages out.
Files go first, then rows: whatever breaks in between, the next sweep finishes it.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import delete
from sqlmodel import col, select

from suanli_market.leasing.ageing import age_out
from suanli_market.store import StorageError, Store
from suanli_market.tables import BlobRow, GoneLeaseRow, LeaseRow, LogChunkRow, ReceiptRow
from suanli_protocol.errors import NotFoundError, SuanliError

KEPT_S = 7 * 86_400
SWEEP_EVERY_S = 3_600.0

log = logging.getLogger(__name__)


class Retention:
    """The thread that deletes; `now` gives seconds of Unix UTC."""

    def __init__(
        self, store: Store, blobs: Path, now: Callable[[], int], *, on_swept: Callable[[], None] | None = None
    ) -> None:
        self._store, self._blobs, self._now, self._on_swept = store, blobs, now, on_swept
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Begins to sweep: at once, then each hour."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the lease at hand."""
        self._stopping.set()
        self._thread.join(timeout=10)

    def sweep(self, now: int) -> int:
        """Deletes blobs and log chunks of leases that were closed, or gone, KEPT_S before `now`; of how many."""
        swept = 0
        while not self._stopping.is_set() and (lease := self._next(now - KEPT_S)) is not None:
            self._delete(lease)
            swept += 1
        while not self._stopping.is_set() and (lease := self._next_gone(now - KEPT_S)) is not None:
            self._forget(lease)
            swept += 1
        if swept and self._on_swept is not None:
            self._on_swept()
        return swept

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if swept := self.sweep(self._now()):
                    log.info("deleted the sealed data of %d leases that were closed long ago", swept)
                age_out(self._store, self._now(), is_ended=self._stopping.is_set)
            except SuanliError as error:
                log.error("a sweep failed: %s", error.detail)
            except Exception:
                log.exception("a sweep failed")
            self._stopping.wait(SWEEP_EVERY_S)

    def _next(self, closed_by: int) -> str | None:
        query = select(LeaseRow.id).where(col(LeaseRow.closed_at) <= closed_by, col(LeaseRow.swept).is_(False)).limit(1)
        with self._store.read() as session:
            return session.exec(query).first()

    def _next_gone(self, gone_by: int) -> str | None:
        query = select(GoneLeaseRow.id).where(GoneLeaseRow.at <= gone_by).limit(1)
        with self._store.read() as session:
            return session.exec(query).first()

    def _forget(self, lease: str) -> None:
        """Deletes all that the parties handed over for a lease that is none, unless the chain opened it again."""
        with self._store.read() as session:
            is_back = session.get(LeaseRow, lease) is not None
        if not is_back:
            self._delete_blobs(lease)
        with self._store.write() as session:
            for kind in (LogChunkRow, BlobRow, ReceiptRow) if not is_back else ():
                session.execute(delete(kind).where(col(kind.lease) == lease))
            session.execute(delete(GoneLeaseRow).where(col(GoneLeaseRow.id) == lease))

    def _delete_blobs(self, lease: str) -> None:
        try:
            shutil.rmtree(self._blobs / lease)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"{self._blobs / lease} cannot be deleted: {error.strerror}") from error

    def _delete(self, lease: str) -> None:
        self._delete_blobs(lease)
        with self._store.write() as session:
            session.execute(delete(LogChunkRow).where(col(LogChunkRow.lease) == lease))
            row = session.get_one(LeaseRow, lease)
            row.swept = True
            session.add(row)


def require_kept(row: LeaseRow) -> None:
    """NotFoundError if the lease's sealed data is deleted."""
    if row.swept:
        raise NotFoundError(
            f"the data of lease {row.id} was deleted {KEPT_S // 86_400} days after it was closed",
            hint="what the client fetched in time lies in its job folder",
        )
