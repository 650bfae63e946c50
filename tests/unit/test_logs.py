"""What a log shows and what it never shows: real secrets are planted in every way that code could log them."""

from __future__ import annotations

import io
import json
import logging
import secrets
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from suanli_protocol import keystore, logs
from suanli_protocol.keystore import SCRYPT_N_DEVNET
from suanli_protocol.signing import struct_hash
from support.builders import a_bid, a_domain, consumer

PASSWORD = 'pässword "quoted" \\ 7'


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(params=logs.FORMATS)
def written(request: pytest.FixtureRequest) -> io.StringIO:
    stream = io.StringIO()
    logs.log_to(stream, level="debug", form=request.param)
    return stream


@pytest.fixture
def secret(tmp_path: Path) -> bytes:
    """A key and a password as a service reads them: from its files."""
    key = secrets.token_bytes(32)
    keystore.create(tmp_path / "key.json", PASSWORD, scrypt_n=SCRYPT_N_DEVNET, secret=key)
    logs._concealed.clear()
    (tmp_path / "password").touch(mode=0o600)
    (tmp_path / "password").write_text(PASSWORD)
    keystore.load(tmp_path / "key.json", keystore.read_password(tmp_path / "password"))
    return key


def spellings(secret: bytes) -> list[str]:
    return [
        secret.hex(),
        "0x" + secret.hex().upper(),
        str(secret),
        str(int.from_bytes(secret, "big")),
        b64encode(secret).decode(),
        PASSWORD,
        repr(PASSWORD),
        json.dumps(PASSWORD),
    ]


def test_a_key_and_a_password_that_were_read_appear_in_no_spelling(written: io.StringIO, secret: bytes) -> None:
    log = logging.getLogger("any.library")
    for planted in spellings(secret):
        log.warning("in the message %s", planted)
        log.warning("among the arguments %r", {"value": [planted]})
        try:
            raise ValueError(f"in an error: {planted}")
        except ValueError:
            log.exception("it failed")
        log.debug(planted, stack_info=True)
    log.error("the bytes %r and %s", secret, [secret])
    text = written.getvalue()
    for planted in spellings(secret):
        for form in (planted, planted.removeprefix("0x").lower(), planted[2:-1] if planted[:2] == "b'" else planted):
            assert form not in text
            assert json.dumps(form)[1:-1] not in text
            assert json.dumps(form, ensure_ascii=False)[1:-1] not in text
    assert text.count(logs.REDACTED) >= 4 * len(spellings(secret))


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("Suanli-Signature: 0x" + "ab" * 64, "ab" * 64),
        ("raw signature " + "CD" * 65, "CD" * 65),
        ("password=hunter22", "hunter22"),
        ("{'keystore_password': 'hunter 22'}", "hunter 22"),
        ('{"private_key": "hunter22"}', "hunter22"),
        ("Authorization: Bearer eyJhbGciOi", "eyJhbGciOi"),
        ("the chain at https://me:hunter22@node.example/ cannot be used", "hunter22"),
        ("the chain at https://node.example/v3/0123456789abcdef0123456789abcdef cannot be used", "0123456789abcdef"),
        ("the chain at https://node.example/?api_key=hunter22&x=1", "hunter22"),
    ],
)
def test_what_looks_like_a_secret_is_cut_out(written: io.StringIO, line: str, gone: str) -> None:
    logging.getLogger("suanli_market").info("%s", line)
    assert gone not in written.getvalue()
    assert logs.REDACTED in written.getvalue()


def test_a_real_signature_goes_and_public_facts_stay(written: io.StringIO) -> None:
    bid, domain = a_bid(), a_domain()
    signature, id_ = consumer().sign(domain, bid), "0x" + struct_hash(bid).hex()
    path = f"http://127.0.0.1:8402/v1/leases/{id_}/logs?after=3"
    logging.getLogger("suanli_market").info("bid %s of %s, %s at %s", id_, consumer().address, signature.hex(), path)
    text = written.getvalue()
    assert signature.hex() not in text
    assert all(fact in text for fact in (id_, consumer().address, path))


def test_nobody_writes_a_second_line_or_turns_a_terminal(written: io.StringIO) -> None:
    logging.getLogger("suanli_market").warning("unknown member %s", "x\n2026 ERROR forged\x1b[2J\u202e")
    assert len(written.getvalue().splitlines()) == 1
    assert "\x1b" not in written.getvalue()
    assert "\u202e" not in written.getvalue()


def test_json_lines_have_stated_members() -> None:
    stream = io.StringIO()
    logs.log_to(stream, form="json")
    token = logs.request_id.set("abc")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("suanli_market").exception("failed with %d", 7)
    finally:
        logs.request_id.reset(token)
    logging.getLogger("suanli_market").info("later")
    logging.getLogger("suanli_market").debug("not shown")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("error", "suanli_market", "failed with 7")
    assert first["request"] == "abc"
    assert "ValueError: no" in first["traceback"]
    assert set(second) == {"at", "level", "logger", "message"}
    assert second["at"].endswith("Z")


def test_a_record_that_cannot_be_formatted_is_still_written(written: io.StringIO) -> None:
    logging.getLogger("suanli_market").warning("%d of %d", "one")
    assert "%d of %d" in written.getvalue()
