"""The gate of a service that takes signed requests: who signed, if the signature covers this very request, and once."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict

from suanli_protocol import wire
from suanli_protocol.errors import ProtocolError, SignatureError, SuanliError
from suanli_protocol.market_client import HEADERS
from suanli_protocol.messages import Request
from suanli_protocol.signing import Domain, verify

TOLERANCE_S = 60
NONCES_MAX = 1_000_000
_BUCKET_S = TOLERANCE_S * 2


class CrowdedError(SuanliError):
    """So many requests came that no more of their nonces can be kept; this one is as good as any."""

    code, title, http_status, retryable = "too_many_requests", "Too many requests", 429, True


class Gate:
    """Checks signed requests. A nonce is remembered for as long as its request could be accepted.

    After a restart a request of the last minute could be sent again; all writes are idempotent, so it changes nothing.
    """

    def __init__(self, domain: Domain, market: str) -> None:
        self._domain = domain
        self._market = market
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def check(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> str:
        """The signer's checksummed address; SignatureError names what is wrong."""
        signer, at, nonce, signature = self._read(headers)
        if abs(at - int(time.time())) > TOLERANCE_S:
            late = int(time.time()) - at
            raise SignatureError(
                f"the request was signed {late} s ago, at most {TOLERANCE_S} s count", hint="set the clock"
            )
        digest = hashlib.sha256(body).digest()
        request = Request(signer, self._market, method, target, digest, at, nonce)
        verify(self._domain, request, signature, signer)
        self._use(nonce, signer)
        return signer

    def _read(self, headers: dict[str, str]) -> tuple[str, int, bytes, bytes]:
        values = [headers.get(name.lower(), "") for name in HEADERS]
        if not all(values):
            missing = ", ".join(name for name, value in zip(HEADERS, values, strict=True) if not value)
            raise SignatureError(f"this request must be signed; it lacks {missing}")
        signer, at, nonce, signature = values
        if not at.isdecimal() or len(at) > 12:
            raise SignatureError(f"{HEADERS[1]} is not a second of Unix UTC")
        try:
            return (
                wire.read_address(signer, name=HEADERS[0]),
                int(at),
                wire.from_hex(nonce, size=32, name=HEADERS[2]),
                wire.from_hex(signature, size=64, name=HEADERS[3]),
            )
        except ProtocolError as error:
            raise SignatureError(error.detail, hint=error.hint) from None

    def _use(self, nonce: bytes, signer: str) -> None:
        key = hashlib.sha256(signer.encode() + nonce).digest()[:16]
        now = time.monotonic()
        with self._lock:
            while self._seen and next(iter(self._seen.values())) < now - _BUCKET_S:
                self._seen.popitem(last=False)
            if key in self._seen:
                raise SignatureError("this request was sent before", hint="sign each request with a new nonce")
            if len(self._seen) >= NONCES_MAX:
                raise CrowdedError("too many requests within a minute", hint="try again later")
            self._seen[key] = now
