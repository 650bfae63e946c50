"""Anything sealed opens, and nothing altered does."""

from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from suanli_protocol.errors import IntegrityError
from suanli_protocol.sealing import CHUNK_BYTES, Context, open_bytes, open_stream, seal_bytes, seal_stream, sealed_size
from support import builders

PARTY = builders.provider()
CONTEXTS = st.builds(Context, st.binary(min_size=32, max_size=32), st.text(max_size=40), st.integers(0, 2**63))
SIZES = st.one_of(st.integers(0, 100), st.integers(CHUNK_BYTES - 2, CHUNK_BYTES + 2))


@given(data=st.binary(max_size=500), context=CONTEXTS)
def test_bytes_come_back(data: bytes, context: Context) -> None:
    assert open_bytes(seal_bytes(data, PARTY.encryption_public, context), PARTY.encryption_key, context) == data


@given(one=CONTEXTS, other=CONTEXTS)
def test_contexts_are_told_apart(one: Context, other: Context) -> None:
    assert (one.info() == other.info()) == (one == other)


@given(data=st.binary(max_size=100), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_every_bit_counts(data: bytes, at: int, bit: int) -> None:
    context = Context(bytes(32), "log", 1)
    sealed = bytearray(seal_bytes(data, PARTY.encryption_public, context))
    place = at % len(sealed)
    sealed[place] ^= 1 << bit
    try:
        opened = open_bytes(bytes(sealed), PARTY.encryption_key, context)
    except IntegrityError:
        return
    raise AssertionError(f"altered bytes opened as {opened!r}")


@settings(max_examples=40, deadline=None)
@given(size=SIZES, at=st.integers(0, 2**32), bit=st.integers(0, 7))
def test_streams_come_back_and_every_bit_of_them_counts(size: int, at: int, bit: int) -> None:
    context, data = Context(b"\x01" * 32, "inputs"), bytes(size)
    out = io.BytesIO()
    seal_stream(io.BytesIO(data), out, PARTY.encryption_public, context)
    sealed = bytearray(out.getvalue())
    assert len(sealed) == sealed_size(size)
    plain = io.BytesIO()
    open_stream(io.BytesIO(bytes(sealed)), plain, PARTY.encryption_key, context)
    assert plain.getvalue() == data
    sealed[at % len(sealed)] ^= 1 << bit
    try:
        open_stream(io.BytesIO(bytes(sealed)), io.BytesIO(), PARTY.encryption_key, context)
    except IntegrityError:
        return
    raise AssertionError("an altered stream opened")


@settings(max_examples=40, deadline=None)
@given(size=SIZES, kept=st.integers(0, 2**32))
def test_streams_cannot_be_cut(size: int, kept: int) -> None:
    context = Context(b"\x01" * 32, "inputs")
    out = io.BytesIO()
    seal_stream(io.BytesIO(bytes(size)), out, PARTY.encryption_public, context)
    sealed = out.getvalue()
    try:
        open_stream(io.BytesIO(sealed[: kept % len(sealed)]), io.BytesIO(), PARTY.encryption_key, context)
    except IntegrityError:
        return
    raise AssertionError("a stream that was cut opened")
