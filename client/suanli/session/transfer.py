"""What passes through the market's relay: sealed on the way out, opened and held against its digests on the way in."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from suanli.files import shorten_home, write_atomically
from suanli.session.moving import Counted, Moving
from suanli_protocol import wire
from suanli_protocol.archive import UnpackLimits, unpack
from suanli_protocol.documents import OutputFile, Outputs, hex32
from suanli_protocol.errors import IntegrityError, UsageError
from suanli_protocol.market_client import MarketClient
from suanli_protocol.messages import Delivered
from suanli_protocol.sealing import Context, open_stream, seal_bytes, seal_stream
from suanli_protocol.signing import Domain, Signer, verify

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

OUTPUT_BYTES_MAX = 4 * 1024**3
OUTPUT_ENTRIES_MAX = 100_000


def seal_job(document: bytes, recipient: bytes, lease: bytes, into: Path) -> Path:
    """The job document, sealed once: what lies there already is what is sent again."""
    if not into.exists():
        write_atomically(into, seal_bytes(document, recipient, Context(lease, "job")))
    return into


def seal_archive(archive: Path, recipient: bytes, lease: bytes, into: Path) -> Path:
    """The archive, sealed once."""
    if into.exists():
        return into
    part = into.with_name(into.name + ".part")
    with archive.open("rb") as src, part.open("wb") as dst:
        seal_stream(src, dst, recipient, Context(lease, "inputs"))
    part.replace(into)
    return into


def upload(
    market: MarketClient, domain: Domain, lease: bytes, slot: str, sealed: Path, moving: Moving | None = None
) -> Delivered:
    """Uploads a sealed file and returns the relay's word for it; IntegrityError if it signed for other bytes."""
    size = sealed.stat().st_size
    with sealed.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0)
        view = market.put_blob(lease, slot, Counted(file, moving) if moving is not None else file, size)
    delivered = wire.paper_from_json(Delivered, view.delivered)
    address = market.info().address
    verify(domain, delivered, wire.from_hex(view.signature or "0x", size=64, name="signature"), address)
    if (delivered.lease, delivered.slot, delivered.digest, delivered.size) != (lease, slot, digest, size):
        raise IntegrityError(f"{slot}: the relay signed for other bytes than were uploaded")
    return delivered


def download(pieces: Iterable[bytes], outputs: Outputs, into: Path) -> None:
    """The sealed outputs, byte for byte those that the evidence names; IntegrityError otherwise."""
    digest, size = hashlib.sha256(), 0
    with into.open("wb") as file:
        for piece in pieces:
            size += len(piece)
            if size > outputs.sealed_size:
                raise IntegrityError(f"evidence.outputs.sealedSize: more than {outputs.sealed_size} bytes came")
            digest.update(piece)
            file.write(piece)
    if size != outputs.sealed_size:
        raise IntegrityError(f"evidence.outputs.sealedSize: {outputs.sealed_size}, but {size} bytes came")
    if hex32(digest.digest()) != outputs.sealed:
        raise IntegrityError("evidence.outputs.sealed: other bytes came than the provider signed for")


def open_outputs(sealed: Path, outputs: Outputs, key: X25519PrivateKey, lease: bytes, into: Path) -> None:
    """Opens the sealed outputs into a plain archive; IntegrityError unless it is the one that the evidence names."""
    part = into.with_name(into.name + ".part")
    with sealed.open("rb") as src, part.open("wb") as dst:
        digest, size = open_stream(src, dst, key, Context(lease, "outputs"), limit=outputs.archive.size)
    if size != outputs.archive.size or hex32(digest) != outputs.archive.sha256:
        raise IntegrityError("evidence.outputs.archive: the archive is not the one that the provider signed for")
    part.replace(into)


def fetch_outputs(
    get_blob: Callable[[str], Iterable[bytes]], outputs: Outputs, signer: Signer, lease: bytes, folder: Path
) -> Path:
    """The plain archive of the outputs in a job's folder, downloaded and opened if it is not there yet."""
    if outputs.sealed_size > OUTPUT_BYTES_MAX:
        raise IntegrityError(f"evidence.outputs.sealedSize: {outputs.sealed_size} is beyond {OUTPUT_BYTES_MAX}")
    archive, sealed = folder / "outputs.tar", folder / "outputs.sealed"
    if archive.is_file() and _digest_of(archive) == outputs.archive.sha256:
        return archive
    try:
        download(get_blob("outputs"), outputs, sealed)
        open_outputs(sealed, outputs, signer.encryption_key, lease, archive)
    finally:
        sealed.unlink(missing_ok=True)
    return archive


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hex32(hashlib.file_digest(file, "sha256").digest())


def unpack_outputs(archive: Path, outputs: Outputs, into: Path, *, only: str = "") -> list[OutputFile]:
    """Unpacks on the disk of `into`, checks every file against the evidence, then moves them into place.

    `only` limits what is moved to one file or folder. IntegrityError names the file that is not as signed; UsageError a
    file that is there already with other content: nothing of the user's is ever replaced.
    """
    told = {file.path: file for file in outputs.files}
    total = outputs.archive.unpacked
    limits = UnpackLimits(entries=OUTPUT_ENTRIES_MAX, total_bytes=total, file_bytes=total)
    into.parent.mkdir(parents=True, exist_ok=True)
    beside = into if into.is_dir() else into.parent  # a folder that is there may be a disk of its own
    staging = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=beside))
    try:
        with archive.open("rb") as src:
            found = {file.path: file for file in unpack(src, staging, limits)}
        for path in sorted(told.keys() | found.keys()):
            if told.get(path) != found.get(path):
                raise IntegrityError(f"evidence.outputs.files: {path} is not what the provider signed for")
        wanted = [file for path, file in found.items() if _is_under(path, only)]
        _move(staging, into, wanted)
        return wanted
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_under(path: str, only: str) -> bool:
    top = only.strip("/")
    return not top or path == top or path.startswith(top + "/")


def _move(staging: Path, into: Path, files: list[OutputFile]) -> None:
    for file in files:
        target = into / file.path
        if target.is_symlink() or (target.exists() and (not target.is_file() or _digest_of(target) != file.sha256)):
            raise UsageError(
                f"{shorten_home(target)} is there already, with other content",
                hint="give another folder with -o",
                code="exists",
            )
    for file in files:
        target = into / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
        (staging / file.path).replace(target)
