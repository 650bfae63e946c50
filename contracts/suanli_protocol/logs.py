"""Logs of services: text for people or one JSON object a line, each with its request, and with no secret in any.

Whatever is concealed (`keystore` conceals each key and password that it reads) is cut out of the finished line in every
spelling that it could have there, and so is what looks like a signature, a password or a credential in an address.
Lease ids, hashes and addresses stay: they are public, and a log without them is of no use.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import time
import traceback
from contextvars import ContextVar
from typing import Any, Literal, TextIO

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
REDACTED = "[redacted]"
SECRET_LENGTH_MIN = 4  # cutting out anything shorter would garble the log, and hide nothing
LINE_CHARS_MAX = 20_000
QUOTED_WITHIN = 2  # a secret in JSON in a repr

request_id: ContextVar[str] = ContextVar("request_id", default="")

_concealed: set[str] = set()
_whole: re.Pattern[str] | None = None

_SIGNATURE = re.compile(r"(?<![0-9a-fA-F])(?:0x)?[0-9a-fA-F]{128}(?:[0-9a-fA-F]{2})?(?![0-9a-fA-F])")
_NAMED = re.compile(
    r"""(?ix) (\b(?: [\w-]* (?:password|passphrase|passwd|secret|private[_-]?key|api[_-]?key|access[_-]?token|bearer)
    | authorization | suanli-signature | mnemonic | token ) ["']? \s* [=:] \s* (?:bearer\s+|basic\s+)? )
    ( "[^"]*" | '[^']*' | [^\s,;&"'}\]]+ )"""
)
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)
_ADDRESS_KEY = re.compile(r"(\bhttps?://[^\s/?#]+(?:/[^\s?#]*?)?/)(?!0x)[A-Za-z0-9_-]{24,}(?![A-Za-z0-9_-])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def conceal(*secrets: str | bytes) -> None:
    """From now on no log line of this process shows one of these, as text, hex, base64, number or Python literal."""
    global _whole
    for secret in secrets:
        _concealed.update(form for form in _forms(secret) if len(form) >= SECRET_LENGTH_MIN)
    longest_first = sorted(_concealed, key=len, reverse=True)
    _whole = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if longest_first else None


def _forms(secret: str | bytes) -> set[str]:
    raw = secret.encode() if isinstance(secret, str) else bytes(secret)
    forms = {raw.hex(), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(), repr(raw)[2:-1]}
    forms.add(secret if isinstance(secret, str) else str(int.from_bytes(raw, "big")))
    for _ in range(QUOTED_WITHIN):
        forms |= {written for form in forms for written in _quoted(form)}
    return forms


def _quoted(text: str) -> tuple[str, ...]:
    return repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]


def redact(text: str) -> str:
    """The text without anything that is, or looks like, a secret."""
    if _whole is not None:
        text = _whole.sub(REDACTED, text)
    text = _SIGNATURE.sub(REDACTED, text)
    text = _NAMED.sub(rf"\1{REDACTED}", text)
    text = _USERINFO.sub(rf"\1{REDACTED}@", text)
    return _ADDRESS_KEY.sub(rf"\1{REDACTED}", text)


class Redactor(logging.Filter):
    """Finishes a record: message, traceback and request id become text without secrets, and its arguments are dropped.

    It stands on the handler, so that every logger's records pass it, and no later formatter sees what was cut out.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets the record pass."""
        record.msg = _clean(_message(record))
        record.args = ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip())[:LINE_CHARS_MAX]
            record.exc_info = None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        record.request = request_id.get()
        return True


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return f"{record.msg!r} with {record.args!r}"


def _clean(text: str) -> str:
    """One line: nobody outside may write a second one, or turn the reader's terminal."""
    text = redact(text)[:LINE_CHARS_MAX].replace("\n", "\\n")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class TextFormatter(logging.Formatter):
    """Time, level, logger, message; the request's id where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        """The line, with its request."""
        line = super().formatMessage(record)
        request = getattr(record, "request", "")
        return f"{line} (request {request})" if request else line


class JsonFormatter(logging.Formatter):
    """One object a line: `at` (UTC), `level`, `logger`, `message`, and `request`, `traceback` where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        content: dict[str, Any] = {
            "at": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        optional = {"request": getattr(record, "request", ""), "traceback": record.exc_text, "stack": record.stack_info}
        return json.dumps(content | {key: value for key, value in optional.items() if value}, ensure_ascii=False)


def log_to(
    stream: TextIO | None = None, *, level: str = "info", form: Literal["text", "json"] | str = "text"
) -> logging.Handler:
    """Sends everything of this process's loggers from `level` up to the stream (stderr), and nothing anywhere else."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(Redactor())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return handler
