"""Sealing: bytes that only one party can open, and only as what they were sealed for.

HPKE (RFC 9180, base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305). A stream is a random content key, sealed by HPKE,
then chunks of 1 MiB under ChaCha20-Poly1305 by the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015): the nonce is the chunk's number and a
mark on the last one, so chunks cannot be cut off, swapped, dropped or doubled.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from suanli_protocol.errors import IntegrityError, ProtocolError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.hpke import Suite

CHUNK_BYTES = 1024 * 1024
TAG_BYTES = 16
KEY_BYTES = 32
OVERHEAD_BYTES = 32 + TAG_BYTES  # what seal_bytes adds: the encapsulated key and the tag
_MAGIC = b"suanli1\n"
_LABEL = b"suanli sealed 1"


@dataclass(frozen=True, slots=True)
class Context:
    """What something is sealed for: a lease, a slot of it ("job", "inputs", "outputs", "log"), a number within."""

    lease: bytes
    slot: str
    seq: int = 0

    def info(self) -> bytes:
        """The bytes that bind a seal to its context; ValueError if the lease is not 32 bytes or the slot too long."""
        slot = self.slot.encode()
        if len(self.lease) != 32 or len(slot) > 255:
            raise ValueError("a context has a lease of 32 bytes and a slot of at most 255")
        return _LABEL + self.lease + bytes([len(slot)]) + slot + self.seq.to_bytes(8, "big")


def seal_bytes(data: bytes, recipient_public: bytes, context: Context) -> bytes:
    """The data sealed to an X25519 public key; ProtocolError if the key is none."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    try:
        return _suite().encrypt(data, X25519PublicKey.from_public_bytes(recipient_public), context.info())
    except ValueError as error:  # not 32 bytes, or a point of small order
        raise ProtocolError(f"the recipient's encryption key cannot be used: {error}") from None


def open_bytes(sealed: bytes, key: X25519PrivateKey, context: Context) -> bytes:
    """The data; IntegrityError if it was not sealed to this key for this context, or was altered."""
    from cryptography.exceptions import InvalidTag

    try:
        return _suite().decrypt(sealed, key, context.info())
    except (InvalidTag, ValueError):
        raise IntegrityError(f"the sealed {context.slot} cannot be opened: altered, or meant for another") from None


def seal_stream(src: BinaryIO, dst: BinaryIO, recipient_public: bytes, context: Context) -> tuple[bytes, int]:
    """Seals a stream in constant memory; SHA-256 and size of the sealed bytes."""
    content_key = secrets.token_bytes(KEY_BYTES)
    cipher = _cipher(content_key)
    digest, size = hashlib.sha256(), 0

    def write(part: bytes) -> None:
        nonlocal size
        dst.write(part)
        digest.update(part)
        size += len(part)

    write(_MAGIC + seal_bytes(content_key, recipient_public, context))
    number, chunk = 0, _read(src, CHUNK_BYTES)
    while True:
        following = _read(src, CHUNK_BYTES)
        write(cipher.encrypt(_nonce(number, is_last=not following), chunk, None))
        if not following:
            return digest.digest(), size
        number, chunk = number + 1, following


def open_stream(
    src: BinaryIO, dst: BinaryIO, key: X25519PrivateKey, context: Context, *, limit: int | None = None
) -> tuple[bytes, int]:
    """Opens a sealed stream in constant memory; SHA-256 and size of the plain bytes.

    IntegrityError if anything was altered, cut off or added, or if there are more than `limit` plain bytes. What was
    written to `dst` until then is genuine but incomplete: throw it away.
    """
    from cryptography.exceptions import InvalidTag

    header = _read(src, len(_MAGIC) + KEY_BYTES + OVERHEAD_BYTES)
    if not header.startswith(_MAGIC):
        raise IntegrityError(f"the sealed {context.slot} does not begin as a sealed stream does")
    cipher = _cipher(open_bytes(header[len(_MAGIC) :], key, context))
    digest, size = hashlib.sha256(), 0
    number, chunk = 0, _read(src, CHUNK_BYTES + TAG_BYTES)
    while True:
        following = _read(src, CHUNK_BYTES + TAG_BYTES)
        try:
            plain = cipher.decrypt(_nonce(number, is_last=not following), chunk, None)
        except (InvalidTag, ValueError):
            raise IntegrityError(f"chunk {number} of the sealed {context.slot} is altered or missing") from None
        size += len(plain)
        if limit is not None and size > limit:
            raise IntegrityError(f"the sealed {context.slot} holds more than the {limit} bytes that were announced")
        digest.update(plain)
        dst.write(plain)
        if not following:
            return digest.digest(), size
        number, chunk = number + 1, following


def sealed_size(plain: int) -> int:
    """How long a sealed stream of `plain` bytes is."""
    chunks = max(1, -(-plain // CHUNK_BYTES))
    return len(_MAGIC) + KEY_BYTES + OVERHEAD_BYTES + plain + chunks * TAG_BYTES


def _suite() -> Suite:
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def _cipher(key: bytes) -> ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _read(src: BinaryIO, size: int) -> bytes:
    """Exactly `size` bytes unless the stream ends (a raw stream may give less at a time)."""
    parts = []
    while size and (part := src.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
