"""Sealing: one party opens it, as one thing, whole."""

from __future__ import annotations

import hashlib
import io

import pytest

from suanli_protocol.errors import IntegrityError, ProtocolError
from suanli_protocol.sealing import (
    CHUNK_BYTES,
    OVERHEAD_BYTES,
    TAG_BYTES,
    Context,
    open_bytes,
    open_stream,
    seal_bytes,
    seal_stream,
    sealed_size,
)
from support import builders

ALICE, BOB = builders.consumer(), builders.provider()
CONTEXT = Context(b"\x01" * 32, "inputs", 3)
OTHERS = [Context(b"\x02" * 32, "inputs", 3), Context(b"\x01" * 32, "outputs", 3), Context(b"\x01" * 32, "inputs", 4)]
SEALED = CHUNK_BYTES + TAG_BYTES
HEADER = sealed_size(0) - TAG_BYTES


def stream(data: bytes) -> bytes:
    out = io.BytesIO()
    digest, size = seal_stream(io.BytesIO(data), out, BOB.encryption_public, CONTEXT)
    sealed = out.getvalue()
    assert (digest, size) == (hashlib.sha256(sealed).digest(), len(sealed))
    return sealed


def opened(sealed: bytes, *, limit: int | None = None, context: Context = CONTEXT) -> bytes:
    out = io.BytesIO()
    digest, size = open_stream(io.BytesIO(sealed), out, BOB.encryption_key, context, limit=limit)
    assert (digest, size) == (hashlib.sha256(out.getvalue()).digest(), len(out.getvalue()))
    return out.getvalue()


def test_bytes_open_for_their_party_alone() -> None:
    sealed = seal_bytes(b"secret", BOB.encryption_public, CONTEXT)
    assert len(sealed) == 6 + OVERHEAD_BYTES
    assert b"secret" not in sealed
    assert open_bytes(sealed, BOB.encryption_key, CONTEXT) == b"secret"
    with pytest.raises(IntegrityError):
        open_bytes(sealed, ALICE.encryption_key, CONTEXT)
    assert seal_bytes(b"secret", BOB.encryption_public, CONTEXT) != sealed


@pytest.mark.parametrize("other", OTHERS)
def test_nothing_opens_as_something_else(other: Context) -> None:
    with pytest.raises(IntegrityError):
        open_bytes(seal_bytes(b"x", BOB.encryption_public, CONTEXT), BOB.encryption_key, other)
    with pytest.raises(IntegrityError):
        opened(stream(b"x"), context=other)


def test_contexts_do_not_run_into_each_other() -> None:
    assert Context(bytes(32), "a", 0x62).info() != Context(bytes(32), "ab", 0).info()
    for context in (Context(b"", "a"), Context(bytes(32), "a" * 256)):
        with pytest.raises(ValueError, match="context"):
            context.info()


@pytest.mark.parametrize("sealed", [b"", b"x" * 20, bytes(100)])
def test_bytes_that_are_no_seal(sealed: bytes) -> None:
    with pytest.raises(IntegrityError):
        open_bytes(sealed, BOB.encryption_key, CONTEXT)


@pytest.mark.parametrize("key", [b"", bytes(32), b"\x01" + bytes(31), b"k" * 33])
def test_keys_that_cannot_seal_are_refused(key: bytes) -> None:
    with pytest.raises(ProtocolError):
        seal_bytes(b"x", key, CONTEXT)


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES - 7]
)
def test_streams_of_every_shape(size: int) -> None:
    data = hashlib.shake_128(b"data").digest(size)
    sealed = stream(data)
    assert len(sealed) == sealed_size(size)
    assert opened(sealed, limit=size) == data
    if size:
        with pytest.raises(IntegrityError, match="announced"):
            opened(sealed, limit=size - 1)


def test_chunks_cannot_be_cut_swapped_dropped_doubled_or_added() -> None:
    sealed = stream(b"a" * CHUNK_BYTES + b"b" * CHUNK_BYTES + b"c" * CHUNK_BYTES + b"d")
    head, first, second = (
        sealed[:HEADER],
        sealed[HEADER : HEADER + SEALED],
        sealed[HEADER + SEALED : HEADER + 2 * SEALED],
    )
    third, last = sealed[HEADER + 2 * SEALED : HEADER + 3 * SEALED], sealed[HEADER + 3 * SEALED :]
    assert opened(head + first + second + third + last)
    for altered in (
        head,
        head + first,
        head + first + second + third,
        head + second + first + third + last,
        head + first + third + last,
        head + first + first + second + third + last,
        head + first + second + third + last + last,
        sealed + b"\0",
        sealed + bytes(SEALED),
        sealed[:-1],
        head + last,
        sealed[1:],
        b"",
        sealed[: HEADER - 1],
    ):
        with pytest.raises(IntegrityError):
            opened(altered)


def test_chunks_of_another_stream_do_not_fit() -> None:
    one, two = stream(b"x" * 10), stream(b"y" * 10)
    with pytest.raises(IntegrityError):
        opened(one[:HEADER] + two[HEADER:])


def test_streams_that_come_in_small_reads() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 65_521))

    data = b"z" * (CHUNK_BYTES + 5)
    out = io.BytesIO()
    seal_stream(Slow(data), out, BOB.encryption_public, CONTEXT)
    plain = io.BytesIO()
    open_stream(Slow(out.getvalue()), plain, BOB.encryption_key, CONTEXT)
    assert plain.getvalue() == data
