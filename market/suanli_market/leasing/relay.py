"""The relay: sealed blobs of leases on the disk, appended in chunks, digested as they arrive, whole or not there.

A blob grows as `<slot>.part`; its length on the disk is how far it has come, so an upload goes on after any break. The
last chunk makes it `<slot>`, and the market signs that it has it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlmodel import Session, select

from suanli_market.events import note, now_ms
from suanli_market.leasing.leases import OPEN_STATES, lease_of, require
from suanli_market.leasing.retention import require_kept
from suanli_market.store import StorageError, Store
from suanli_market.tables import BlobRow
from suanli_protocol import wire
from suanli_protocol.errors import IntegrityError, MarketError, NotFoundError, ProtocolError
from suanli_protocol.messages import Delivered
from suanli_protocol.signing import Domain, Signer

BLOB_BYTES_MAX = 1024**3
LEASE_BYTES_MAX = 2 * 1024**3  # announced, of all slots
RELAY_BYTES_MAX = 50 * 1024**3  # held, of all leases
SMALLER = "send less: leave out what the job does not need, or let it fetch data itself"
_READ_BYTES = 1024 * 1024


class BlobTooLargeError(ProtocolError):
    """A blob, or all blobs of a lease, are larger than the relay carries."""

    code, title, http_status = "too_large", "The blob is too large", 413


class Relay:
    """Blobs under one folder: <lease>/<slot>."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        signer: Signer,
        domain: Domain,
        *,
        bytes_max: int = RELAY_BYTES_MAX,
        reserve_bytes: int = 0,
    ) -> None:
        self._store, self._folder = store, folder
        self.bytes_max, self._reserve_bytes = bytes_max, reserve_bytes
        self._held = 0
        self._signer, self._domain = signer, domain
        self._lock = threading.Lock()
        self._busy: set[tuple[str, str, str]] = set()
        self._hashes: dict[tuple[str, str], tuple[int, hashlib._Hash]] = {}
        self.recount()

    def recount(self) -> None:
        """Counts what lies on the disk: at the start, and after retention deleted some of it."""
        held = sum(_size_of(path) for path in self._folder.glob("*/*"))
        with self._lock:
            self._held = held

    def held_bytes(self) -> int:
        """How many bytes of blobs are held, all leases together."""
        return self._held

    def begin(self, lease: str, slot: str, party: str, size: int, digest: str) -> wire.BlobView:
        """Announces a blob; how much of it is here already. Another size or digest starts anew."""
        if not 0 <= size <= BLOB_BYTES_MAX:
            raise BlobTooLargeError(f"a blob has at most {BLOB_BYTES_MAX} bytes, not {size}", hint=SMALLER)
        with self._store.write() as session:
            self._require_sender(session, lease, slot, party)
            row = session.get(BlobRow, (lease, slot))
            if row is not None and row.delivered is not None:
                if row.size != size or digest not in ("", row.digest):
                    raise MarketError(f"another {slot} blob is delivered already", code="delivered")
                return _view(row, row.size)
            if row is None or row.size != size or row.digest != digest:
                _require_lease_room(session, lease, slot, size)
                with self._alone(lease, slot, party):
                    self._drop_part(lease, slot)
                row = row or BlobRow(lease=lease, slot=slot, size=size)
                row.size, row.digest = size, digest
                session.add(row)
        if size == 0:
            return self.append(lease, slot, party, 0, b"")
        return _view(row, self._received(lease, slot))

    def store(self, lease: str, slot: str, party: str, data: bytes, digest: str) -> wire.BlobView:
        """A whole blob at once, which takes the place of what is here of one that is not whole."""
        found, size = hashlib.sha256(data).digest(), len(data)
        if digest not in ("", wire.to_hex(found)):
            raise IntegrityError(f"the {slot} blob is not the one that was announced; send it again")
        with self._alone(lease, slot, party):
            with self._store.read() as session:
                self._require_sender(session, lease, slot, party)
                row = session.get(BlobRow, (lease, slot))
                _require_lease_room(session, lease, slot, size)
            if row is not None and row.delivered is not None:
                if row.size != size or row.digest != wire.to_hex(found):
                    raise MarketError(f"another {slot} blob is delivered already", code="delivered")
                return _view(row, size)
            self._require_room(size)
            self._drop_part(lease, slot)
            self._store_bytes(lease, slot, data)
            return self._deliver(BlobRow(lease=lease, slot=slot, size=size), party, found)

    def append(self, lease: str, slot: str, party: str, offset: int, data: bytes) -> wire.BlobView:
        """Adds bytes at the offset, which must be where the blob ends so far; delivers it when it is whole."""
        with self._alone(lease, slot, party):
            with self._store.read() as session:
                self._require_sender(session, lease, slot, party)
                row = session.get(BlobRow, (lease, slot))
            if row is None:
                raise NotFoundError(f"no {slot} blob is announced for this lease", hint="POST its size first")
            if row.delivered is not None:
                return _view(row, row.size)
            received = self._received(lease, slot)
            if offset != received:
                raise MarketError(f"the blob ends at {received}, not at {offset}", code="offset")
            if received + len(data) > row.size:
                raise ProtocolError(f"the blob was announced with {row.size} bytes, this is more", code="too_large")
            self._require_room(len(data))
            state = self._hash_of(lease, slot, received)
            self._store_bytes(lease, slot, data)
            state.update(data)
            received += len(data)
            self._hashes[lease, slot] = (received, state)
            return self._deliver(row, party, state.digest()) if received == row.size else _view(row, received)

    def path(self, lease: str, slot: str, party: str) -> Path:
        """The file of a delivered blob, for a party of the lease."""
        _require_slot(slot)
        with self._store.read() as session:
            lease_row, _ = lease_of(session, lease, party)
            require_kept(lease_row)
            row = session.get(BlobRow, (lease, slot))
        if row is None or row.delivered is None:
            raise NotFoundError(f"the {slot} blob of lease {lease} is not here", hint="wait for lease.delivered")
        path = self._folder / lease / slot
        if not path.is_file():  # a database that was restored without its blobs
            raise NotFoundError(f"the {slot} blob of lease {lease} was lost", hint="ask its sender for it")
        return path

    def _deliver(self, row: BlobRow, party: str, digest: bytes) -> wire.BlobView:
        part, whole = self._part(row.lease, row.slot), self._folder / row.lease / row.slot
        self._hashes.pop((row.lease, row.slot), None)
        if row.digest and row.digest != wire.to_hex(digest):
            self._drop_part(row.lease, row.slot)
            raise IntegrityError(f"the {row.slot} blob is not the one that was announced; send it again")
        part.replace(whole)
        _sync_folder(whole.parent)
        message = Delivered(self._signer.address, bytes.fromhex(row.lease[2:]), row.slot, digest, row.size, now_ms())
        with self._store.write() as session:
            held = session.get(BlobRow, (row.lease, row.slot)) or BlobRow(lease=row.lease, slot=row.slot, size=row.size)
            held.size = row.size
            lease, role = lease_of(session, row.lease, party)
            held.digest = wire.to_hex(digest)
            held.delivered = json.dumps(wire.paper_to_json(message))
            held.signature = wire.to_hex(self._signer.sign(self._domain, message))
            session.add(held)
            receiver = lease.provider if role == "consumer" else lease.consumer
            data = {"slot": row.slot, "size": row.size, "digest": held.digest}
            note(session, [receiver], "lease.delivered", lease=row.lease, bid=lease.bid, data=data)
        return _view(held, held.size)

    def _require_sender(self, session: Session, lease: str, slot: str, party: str) -> None:
        _require_slot(slot)
        row, role = lease_of(session, lease, party)
        require(role, wire.SLOT_SENDER[slot])
        if row.state not in OPEN_STATES:
            raise MarketError(f"the lease is {row.state}: no blob is taken any more", code="lease_closed")

    def _require_room(self, more: int) -> None:
        """StorageError if the relay, or the disk, would be too full with `more` bytes."""
        if self._held + more > self.bytes_max:
            raise StorageError(
                f"the relay holds {self._held} bytes of at most {self.bytes_max}",
                hint="try again later: data is deleted some days after its lease is closed (operator: --relay-gib)",
            )
        free = shutil.disk_usage(self._existing_folder()).free
        if free - more < self._reserve_bytes:
            raise StorageError(
                f"the market's disk has {free} bytes left, of which {self._reserve_bytes} are kept for its database",
                hint="try again later (operator: make room, or lower --reserve-mib)",
            )

    def _existing_folder(self) -> Path:
        return self._folder if self._folder.exists() else self._store.path.parent

    def _drop_part(self, lease: str, slot: str) -> None:
        part = self._part(lease, slot)
        size = _size_of(part)
        part.unlink(missing_ok=True)
        with self._lock:
            self._held -= size

    def _part(self, lease: str, slot: str) -> Path:
        return self._folder / lease / f"{slot}.part"

    def _received(self, lease: str, slot: str) -> int:
        try:
            return self._part(lease, slot).stat().st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def _alone(self, lease: str, slot: str, party: str) -> Iterator[None]:
        """One upload of a blob at a time, which reads within how far it is; MarketError for a second one.

        Only the slot's sender gets on from here: so another party, which is turned away within, holds up nobody else.
        """
        key = (lease, slot, party)
        with self._lock:
            if key in self._busy:
                raise MarketError("another upload of this blob is under way", code="offset")
            self._busy.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(key)

    def _hash_of(self, lease: str, slot: str, received: int) -> hashlib._Hash:
        """The digest so far: kept from the last chunk, or read from the disk after a restart."""
        kept = self._hashes.get((lease, slot))
        if kept is not None and kept[0] == received:
            return kept[1]
        state = hashlib.sha256()
        if received:
            with self._part(lease, slot).open("rb") as file:
                while block := file.read(_READ_BYTES):
                    state.update(block)
        return state

    def _store_bytes(self, lease: str, slot: str, data: bytes) -> None:
        part = self._part(lease, slot)
        try:
            part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with part.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with self._lock:
                self._held += len(data)
        except OSError as error:
            self._hashes.pop((lease, slot), None)
            self.recount()
            raise StorageError(f"the relay cannot store this: {error.strerror}", hint="try again later") from error


def _view(row: BlobRow, received: int) -> wire.BlobView:
    delivered = json.loads(row.delivered) if row.delivered else None
    return wire.BlobView(slot=row.slot, size=row.size, received=received, delivered=delivered, signature=row.signature)


def _require_lease_room(session: Session, lease: str, slot: str, size: int) -> None:
    others = session.exec(select(BlobRow.size).where(BlobRow.lease == lease, BlobRow.slot != slot)).all()
    if sum(others) + size > LEASE_BYTES_MAX:
        raise BlobTooLargeError(
            f"a lease has at most {LEASE_BYTES_MAX} bytes of blobs, with this one it has {sum(others) + size}",
            hint=SMALLER,
        )


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _require_slot(slot: str) -> None:
    if slot not in wire.SLOTS:
        raise ProtocolError(f"{slot!r:.40} is no slot", hint="one of " + ", ".join(wire.SLOTS))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
