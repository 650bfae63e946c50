"""Outputs are taken as they are, and count as delivered only when the relay signed for these very bytes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suanli_node.leases.delivery import SLOT, check_delivered, digested, seal_outputs
from suanli_node.leases.record import LeaseFolder
from suanli_protocol import wire
from suanli_protocol.archive import Source, UnpackLimits, unpack
from suanli_protocol.documents import Outputs
from suanli_protocol.errors import IntegrityError, ProtocolError, SignatureError
from suanli_protocol.messages import Delivered
from suanli_protocol.sealing import Context, open_stream
from support import builders

LEASE = b"\x05" * 32


def some_outputs(folder: Path) -> tuple[LeaseFolder, Outputs]:
    (folder / "file").write_bytes(b"42")
    lease_folder = LeaseFolder(folder)
    sources = [Source("out/a", folder / "file"), Source("b", b"7")]
    return lease_folder, seal_outputs(lease_folder, sources, builders.consumer().encryption_public, LEASE)


def test_only_the_consumer_opens_what_the_evidence_lists(tmp_path: Path) -> None:
    folder, outputs = some_outputs(tmp_path)
    sealed = folder.sealed_outputs.read_bytes()
    assert (hashlib.sha256(sealed).hexdigest(), len(sealed)) == (outputs.sealed[2:], outputs.sealed_size)
    plain = io.BytesIO()
    open_stream(io.BytesIO(sealed), plain, builders.consumer().encryption_key, Context(LEASE, SLOT))
    assert hashlib.sha256(plain.getvalue()).hexdigest() == outputs.archive.sha256[2:]
    plain.seek(0)
    found = unpack(plain, tmp_path / "unpacked", UnpackLimits())
    assert {file.path: file for file in found} == {file.path: file for file in outputs.files}
    assert not folder.outputs.exists()
    with pytest.raises(IntegrityError):
        open_stream(io.BytesIO(sealed), io.BytesIO(), builders.provider().encryption_key, Context(LEASE, SLOT))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        digested(Source("link", tmp_path / "link"))


def signed(outputs: Outputs, signer: int = 3, **fields: Any) -> wire.BlobView:
    digest = bytes.fromhex(outputs.sealed[2:])
    true = Delivered(builders.market().address, LEASE, SLOT, digest, outputs.sealed_size, 1)
    delivered = replace(true, **fields)
    return wire.BlobView(
        slot=SLOT,
        size=outputs.sealed_size,
        received=outputs.sealed_size,
        delivered=wire.paper_to_json(delivered),
        signature=wire.to_hex(builders.a_signer(signer).sign(builders.a_domain(), delivered)),
    )


def check(view: wire.BlobView, outputs: Outputs) -> None:
    check_delivered(view, builders.a_domain(), builders.market().address, LEASE, outputs)


def test_the_relay_must_sign_for_these_bytes(tmp_path: Path) -> None:
    _, outputs = some_outputs(tmp_path)
    check(signed(outputs), outputs)
    lies: list[dict[str, Any]] = [{"digest": bytes(32)}, {"size": 1}, {"slot": "inputs"}, {"lease": bytes(32)}]
    for lie in lies:
        with pytest.raises(IntegrityError):
            check(signed(outputs, **lie), outputs)
    with pytest.raises(SignatureError):
        check(signed(outputs, signer=9), outputs)
    for fields in ({"signature": None}, {"delivered": None}):
        with pytest.raises(ProtocolError):
            check(signed(outputs).model_copy(update=fields), outputs)
