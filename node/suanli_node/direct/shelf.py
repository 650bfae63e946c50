"""The shelf: what a direct lease needs kept between its two parties, on the node's own disk.

STATE/direct/<lease>/
    taken.json         the papers with which the consumer came
    phase.json         how far the run is
    <slot>             a sealed blob; `<slot>.part` while it arrives, `<slot>.json` as it was announced
    log.jsonl          sealed log chunks, one a line; log.complete once the last is there
    receipt.json       the provider's receipt with its evidence
    countersignature.json
A folder is made only for a lease that the escrow holds, so that whoever takes this disk has paid a deposit for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from suanli_node.engine.runs import write_json
from suanli_protocol import wire
from suanli_protocol.errors import IntegrityError, MarketError, NotFoundError, ProtocolError, SuanliError

BLOB_BYTES_MAX = 1024**3
LOG_BYTES_MAX = 160 * 1024**2  # of one lease, sealed
PAGE_CHUNKS, PAGE_BYTES = 256, 2 * 1024**2
LEASES_MAX = 256
LEASES_WANTED = 192  # above this, closed leases are kept for an hour only
KEEP_S = 7 * 86_400  # after a lease is closed
KEEP_LEAST_S = 3600
_READ_BYTES = 1024**2
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Box:
    """What is kept of one lease. Methods are safe to repeat; callers hold the shelf's lock."""

    path: Path

    # Papers and phase

    def taken(self) -> wire.TakenLease:
        """The papers with which the consumer came."""
        return wire.TakenLease.model_validate_json((self.path / "taken.json").read_bytes())

    def phase(self) -> wire.Report:
        """How far the run is, in the provider's own word."""
        found = self._read("phase.json")
        return wire.Report.model_validate(found) if found else wire.Report(phase="leased")

    def report(self, report: wire.Report) -> None:
        """Replaces the phase."""
        write_json(self.path / "phase.json", report.to_json())

    # Receipt and countersignature

    def receipt(self) -> wire.SignedReceipt | None:
        """The provider's receipt, once it is there."""
        found = self._read("receipt.json")
        return wire.SignedReceipt.model_validate(found) if found else None

    def post_receipt(self, signed: wire.SignedReceipt) -> None:
        """Keeps a receipt; MarketError if the consumer has signed another already."""
        held = self.receipt()
        if held is not None and held.receipt != signed.receipt and self.countersignature() is not None:
            raise MarketError("another receipt of this lease is countersigned already", code="countersigned")
        write_json(self.path / "receipt.json", signed.to_json())

    def countersignature(self) -> wire.Countersignature | None:
        """The consumer's signature, once it is there."""
        found = self._read("countersignature.json")
        return wire.Countersignature.model_validate(found) if found else None

    def countersign(self, body: wire.Countersignature) -> None:
        """Keeps a countersignature; NotFoundError before the receipt, ProtocolError if it is over another one."""
        held = self.receipt()
        if held is None:
            raise NotFoundError("there is no receipt of this lease yet")
        if held.receipt != body.receipt:
            raise ProtocolError("the countersigned receipt is not the provider's", hint="read it again")
        if self.countersignature() is None:
            write_json(self.path / "countersignature.json", body.to_json())

    # Log

    def append_log(self, page: wire.LogPage) -> None:
        """Adds sealed chunks in their order; those that are there already are passed over."""
        known = self._chunks_held()
        lines = [chunk for chunk in page.chunks if chunk.seq >= known]
        size = self._log.stat().st_size if self._log.exists() else 0
        if size + sum(len(chunk.data) for chunk in lines) > 2 * LOG_BYTES_MAX:  # hex takes two characters a byte
            raise ProtocolError(f"a log has at most {LOG_BYTES_MAX} bytes", code="log_full")
        with self._log.open("ab") as file:
            for chunk in lines:
                if chunk.seq != known:
                    raise ProtocolError(f"chunk {chunk.seq} of the log does not follow chunk {known - 1}")
                file.write(json.dumps(chunk.to_json()).encode() + b"\n")
                known += 1
            file.flush()
            os.fsync(file.fileno())
        if page.complete:
            (self.path / "log.complete").touch()

    def log(self, after: int) -> wire.LogPage:
        """The chunks after a number, as many as fit one page."""
        chunks: list[wire.LogChunk] = []
        size, is_whole = 0, True
        for chunk in self._chunks():
            if chunk.seq <= after:
                continue
            size += len(chunk.data) // 2
            if len(chunks) == PAGE_CHUNKS or (chunks and size > PAGE_BYTES):
                is_whole = False
                break
            chunks.append(chunk)
        return wire.LogPage(chunks=chunks, complete=is_whole and (self.path / "log.complete").exists())

    @property
    def _log(self) -> Path:
        return self.path / "log.jsonl"

    def _chunks(self) -> Iterator[wire.LogChunk]:
        if not self._log.exists():
            return
        with self._log.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # a line that a crash cut off is written again
                    yield wire.LogChunk.model_validate_json(line)

    def _chunks_held(self) -> int:
        """How many chunks are whole; what a crash cut off behind them is taken away."""
        if not self._log.exists():
            return 0
        data = self._log.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.truncate(self._log, whole)
        return data.count(b"\n")

    # Blobs

    def announce(self, slot: str, size: int, digest: str) -> int:
        """Announces a blob; how many bytes of it are here. Another size or digest starts anew."""
        if not 0 <= size <= BLOB_BYTES_MAX:
            raise ProtocolError(f"a blob has at most {BLOB_BYTES_MAX} bytes, not {size}", code="too_large")
        wanted = {"size": size, "digest": digest}
        if self.blob(slot).exists():
            if self.announced(slot) != wanted:
                raise MarketError(f"another {slot} blob is delivered already", code="delivered")
            return size
        if self.announced(slot) != wanted:
            self._part(slot).unlink(missing_ok=True)
            write_json(self.path / f"{slot}.json", wanted)
        self._part(slot).touch()
        if size == 0:
            self._finish(slot, digest)
        return self.received(slot)

    def append(self, slot: str, offset: int, data: bytes) -> int:
        """Adds bytes where the blob ends so far; how many are here then."""
        announced = self.announced(slot)
        if announced is None:
            raise NotFoundError(f"no {slot} blob is announced for this lease", hint="POST its size first")
        size, received = int(announced["size"]), self.received(slot)
        if self.blob(slot).exists():
            return received
        if offset != received:
            raise MarketError(f"the blob ends at {received}, not at {offset}", code="offset")
        if received + len(data) > size:
            raise ProtocolError(f"the blob was announced with {size} bytes, this is more", code="too_large")
        with self._part(slot).open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if received + len(data) == size:
            self._finish(slot, str(announced["digest"]))
        return received + len(data)

    def store(self, slot: str, data: BinaryIO, size: int, digest: str = "") -> None:
        """Keeps a blob of the provider's own, whole; IntegrityError if it has another size or digest."""
        self.announce(slot, size, digest)
        if self.blob(slot).exists():
            return
        with self._part(slot).open("wb") as file:
            shutil.copyfileobj(data, file, _READ_BYTES)
            file.flush()
            os.fsync(file.fileno())
        if self._part(slot).stat().st_size != size:
            raise IntegrityError(f"the {slot} blob has not its {size} bytes")
        self._finish(slot, digest)

    def blob(self, slot: str) -> Path:
        """Where a whole blob lies."""
        return self.path / slot

    def announced(self, slot: str) -> wire.Json | None:
        """{"size", "digest"} of a blob as it was announced, None if it was not."""
        return self._read(f"{slot}.json")

    def received(self, slot: str) -> int:
        """How many bytes of a blob are here."""
        for path in (self.blob(slot), self._part(slot)):
            if path.exists():
                return path.stat().st_size
        return 0

    def digest(self, slot: str) -> bytes:
        """SHA-256 of a whole blob."""
        with self.blob(slot).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def _part(self, slot: str) -> Path:
        return self.path / f"{slot}.part"

    def _finish(self, slot: str, digest: str) -> None:
        with self._part(slot).open("rb") as file:
            found = wire.to_hex(hashlib.file_digest(file, "sha256").digest())
        if digest and digest != found:
            self._part(slot).unlink()
            raise IntegrityError(f"the {slot} blob is not the one that was announced; send it again")
        self._part(slot).replace(self.blob(slot))

    def _read(self, name: str) -> wire.Json | None:
        try:
            found: wire.Json = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        return found


class Shelf:
    """All direct leases of a node. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.mkdir(mode=0o700, exist_ok=True)
        self.lock = threading.RLock()
        self._consumers: dict[str, str] = {}
        for folder in path.iterdir():
            try:
                if (folder / "taken.json").exists():
                    self._consumers["0x" + folder.name] = _consumer_of(Box(folder).taken())
            except (SuanliError, ValueError, OSError) as error:
                log.error("the papers in %s cannot be read and are left alone: %s", folder, error)

    def holds(self, lease: str) -> bool:
        """Whether a lease (0x and hex) is a direct one."""
        return lease in self._consumers

    def box(self, lease: str) -> Box:
        """What is kept of a lease; NotFoundError if it is no direct one."""
        if not self.holds(lease):
            raise NotFoundError(f"no direct lease {lease} here")
        return Box(self._folder(lease))

    def consumer(self, lease: str) -> str:
        """Who brought a lease; NotFoundError if it is no direct one."""
        try:
            return self._consumers[lease]
        except KeyError:
            raise NotFoundError(f"no direct lease {lease} here") from None

    def put(self, lease: str, taken: wire.TakenLease) -> Box:
        """Keeps a new lease's papers; the same again changes nothing. MarketError if the shelf is full."""
        with self.lock:
            if not self.holds(lease):
                if len(self._consumers) >= LEASES_MAX:
                    raise MarketError("this node keeps no more direct leases", code="full")
                self._folder(lease).mkdir(mode=0o700, exist_ok=True)
                write_json(self._folder(lease) / "taken.json", taken.to_json())
                self._consumers[lease] = _consumer_of(taken)
            return self.box(lease)

    def leases(self, consumer: str | None = None) -> list[str]:
        """Ids of all that is kept, or of what one consumer brought. Waits for nobody."""
        return sorted(lease for lease, who in list(self._consumers.items()) if consumer in (None, who))

    def trim(self, open_: Collection[str], endings: Path, *, now: float | None = None) -> list[str]:
        """Deletes what is kept of leases that are closed for long, those closed first; which they were.

        `endings` is the folder in which the node writes down how a lease ended. One that has no ending and is not open
        either (a reorganisation took it back) counts from when it was brought.
        """
        now = time.time() if now is None else now
        with self.lock:
            closed = {lease: self._closed_at(lease, endings) for lease in self._consumers if lease not in open_}
            gone: list[str] = []
            for lease in sorted(closed, key=lambda lease: closed[lease]):
                keep_s = KEEP_LEAST_S if len(self._consumers) > LEASES_WANTED else KEEP_S
                if now - closed[lease] > keep_s:
                    self.forget(lease)
                    gone.append(lease)
        return gone

    def forget(self, lease: str) -> None:
        """Deletes what is kept of a lease; its papers first, so that a half of it is never taken for a lease."""
        with self.lock:
            self._consumers.pop(lease, None)
            (self._folder(lease) / "taken.json").unlink(missing_ok=True)
            shutil.rmtree(self._folder(lease), ignore_errors=True)

    def _closed_at(self, lease: str, endings: Path) -> float:
        for path in (endings / f"{lease[2:]}.json", self._folder(lease) / "taken.json"):
            if path.exists():
                return path.stat().st_mtime
        return 0.0

    def _folder(self, lease: str) -> Path:
        return self._path / wire.from_hex(lease, size=32, name="lease").hex()


def _consumer_of(taken: wire.TakenLease) -> str:
    return wire.read_address(taken.bid.get("consumer"), name="Bid.consumer")
