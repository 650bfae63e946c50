"""Documents: one content, one digest; hostile bytes are refused by name."""

from __future__ import annotations

import json

import pytest

from suanli_protocol import documents
from suanli_protocol.documents import Constraints, Evidence, JobDocument, canonical, documents_digest
from suanli_protocol.errors import ProtocolError
from support import builders


def test_canonical_bytes_do_not_depend_on_order_or_spaces() -> None:
    assert canonical({"b": 1, "a": ["ü", None, True]}) == '{"a":["ü",null,true],"b":1}'.encode()


@pytest.mark.parametrize("value", [1.5, {"a": 2.0}, [float("nan")], 2**63, -(2**64), object(), b"bytes"])
def test_inexact_values_have_no_place(value: object) -> None:
    with pytest.raises(ProtocolError):
        canonical(value)


def test_a_document_survives_its_bytes() -> None:
    job = builders.a_job(env={"SEED": "1"}, outputs=("out.png",))
    assert JobDocument.parse(job.canonical()) == job
    assert JobDocument.parse(job.to_json()).digest() == job.digest()
    assert documents.sha256(job.canonical()) == job.digest()


def test_each_field_moves_the_digest() -> None:
    job = builders.a_job()
    others = [builders.a_job(name="x"), builders.a_job(salt="22" * 16), builders.a_job(billing="usage")]
    assert len({job.digest(), *(other.digest() for other in others)}) == 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"colour": "blue"}, "colour"),
        ({"salt": "short"}, "salt"),
        ({"timeouts": {"execution": -1}}, "timeouts.execution"),
        ({"timeouts": {"execution": "60"}}, "timeouts.execution"),
        ({"billing": "free"}, "billing"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"version": 2}, "version"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(ProtocolError, match=named):
        JobDocument.parse(builders.a_job().to_json() | change)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"null", b'{"version":1}', b"[" * 100_000])
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        JobDocument.parse(data)


def test_values_that_no_text_can_hold_are_refused() -> None:
    deep: object = None
    for _ in range(10_000):
        deep = [deep]
    for value in ("\ud800", deep):
        with pytest.raises(ProtocolError):
            JobDocument.parse(builders.a_job().to_json() | {"name": value})


def test_an_oversized_document_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError, match="bytes"):
        JobDocument.parse(b" " * (documents.DOCUMENT_BYTES_MAX + 1))


def test_the_bids_documents_name_both() -> None:
    job, wishes = builders.a_job().digest(), builders.some_constraints().digest()
    both = documents_digest(job, wishes)
    assert both != documents_digest(wishes, job)
    assert both != documents_digest(job, Constraints(salt="33" * 16).digest())


def test_evidence_amounts_are_whole_decimal_text() -> None:
    fields = json.loads(an_evidence().canonical())
    for amount in ("-1", "1.0", "01", "", "0x1"):
        with pytest.raises(ProtocolError, match="amount"):
            Evidence.parse(fields | {"amount": amount})


def an_evidence() -> Evidence:
    log = documents.LogSummary(sha256="0x" + "00" * 32, size=0, chunks=0)
    return Evidence(
        lease="0x" + "01" * 32,
        sequence=1,
        billing="capacity",
        billed_seconds=10,
        amount="97",
        usage=builders.some_usage(),
        exit_code=0,
        reason="ok",
        ended_at=builders.NOW,
        log=log,
    )
