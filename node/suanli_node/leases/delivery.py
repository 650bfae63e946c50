"""Delivery: outputs are packed, sealed to the consumer, relayed, and acknowledged by the relay's signature."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from suanli_node.leases.record import LeaseFolder
from suanli_node.leases.relay import Relay
from suanli_node.retry import Halt, persist
from suanli_protocol import wire
from suanli_protocol.archive import Source, pack
from suanli_protocol.documents import OutputFile, Outputs, hex32, sha256
from suanli_protocol.errors import IntegrityError
from suanli_protocol.messages import Delivered
from suanli_protocol.sealing import Context, seal_stream
from suanli_protocol.signing import Domain, verify

SLOT = "outputs"


def seal_outputs(folder: LeaseFolder, sources: Sequence[Source], recipient: bytes, lease: bytes) -> Outputs:
    """Pack and seal the outputs into the lease's folder; durable when this returns. UsageError names a bad source."""
    files = [digested(source) for source in sources]
    with folder.outputs.open("w+b") as plain:
        manifest = pack(sources, plain)
        plain.seek(0)
        with folder.sealed_outputs.open("wb") as sealed:
            digest, size = seal_stream(plain, sealed, recipient, Context(lease, SLOT))
            sealed.flush()
            os.fsync(sealed.fileno())
    folder.outputs.unlink()
    return Outputs(archive=manifest, sealed=hex32(digest), sealed_size=size, files=tuple(files))


def digested(source: Source) -> OutputFile:
    """Name, size and digest of a source; the run is over, so nothing writes to it any more."""
    if not isinstance(source.content, Path):
        data = source.content
        return OutputFile(path=source.name, size=len(data), sha256=hex32(sha256(data)))
    with open(source.content, "rb", opener=_no_link) as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        return OutputFile(path=source.name, size=file.tell(), sha256=hex32(digest))


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def deliver(market: Relay, domain: Domain, lease: bytes, outputs: Outputs, folder: LeaseFolder, halt: Halt) -> None:
    """Upload until the relay holds all and has signed for it; IntegrityError if it signed for something else."""
    with folder.sealed_outputs.open("rb") as sealed:
        put = partial(market.put_blob, lease, SLOT, sealed, outputs.sealed_size)
        view = persist(put, halt, "uploading outputs")
    check_delivered(view, domain, wire.read_address(market.info().address), lease, outputs)


def check_delivered(view: wire.BlobView, domain: Domain, market: str, lease: bytes, outputs: Outputs) -> None:
    """Passes if the relay's signed word is about these very bytes."""
    delivered = wire.paper_from_json(Delivered, view.delivered)
    signature = wire.from_hex(view.signature or "0x", size=64, name="signature")
    verify(domain, delivered, signature, market)
    said = (delivered.market, delivered.lease, delivered.slot, hex32(delivered.digest), delivered.size)
    if said != (market, lease, SLOT, outputs.sealed, outputs.sealed_size):
        raise IntegrityError("the relay signed for other outputs than were uploaded")
