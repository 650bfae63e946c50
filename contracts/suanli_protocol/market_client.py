"""The market's HTTP interface, as node, client and tests call it.

Each request of a key holder is signed (messages.Request): method, target, body digest, time and a nonce, so that a
proxy can neither alter nor replay it. Errors of the market arrive as RFC 9457 problems and leave as SuanliErrors.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn, Self, TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import BaseModel, ValidationError

from suanli_protocol import errors, tls, wire
from suanli_protocol.answers import AnswerError, Patience, streaming, whole
from suanli_protocol.messages import Request
from suanli_protocol.plain_http import PlainHttp
from suanli_protocol.signing import Domain, Signer

B = TypeVar("B", bound=BaseModel)
HISTORY_HEADER, AFTER_HEADER = "Suanli-History", "Suanli-After"  # of an event stream's answer
HEADERS = ("Suanli-Signer", "Suanli-At", "Suanli-Nonce", "Suanli-Signature")
CHUNK_BYTES = 4 * 1024 * 1024
WHOLE_BYTES_MAX = 64 * 1024  # a blob up to here is announced and sent in one request
REQUEST_TIMEOUT_S = 30.0
RETRY_STATUSES = (429, 502, 503, 504, 507)  # for an answer that is no problem document
OFFERS_PAGE, OFFERS_MAX = 500, 10_000  # of one request; read from a market at most
EVENT_SILENCE_S = 30.0  # the market sends a comment every 10 s; longer silence means a dead connection

_BY_CODE: dict[str, type[errors.SuanliError]] = {
    kind.code: kind
    for kind in (
        errors.UsageError,
        errors.ProtocolError,
        errors.SignatureError,
        errors.NoMatchError,
        errors.FundsError,
        errors.ChainError,
        errors.ChainUnavailableError,
        errors.NotFoundError,
        errors.IntegrityError,
        errors.TimedOutError,
        errors.UnreachableError,
    )
}
_BY_CODE[errors.ChainRevertedError.code] = errors.ChainError  # the contract's name and arguments stay in the detail


def signed_headers(
    signer: Signer, domain: Domain, market: str, method: str, target: str, body: bytes
) -> dict[str, str]:
    """The four headers that sign one request; `target` is path and query as sent."""
    at, nonce = int(time.time()), secrets.token_bytes(32)
    request = Request(signer.address, market, method, target, hashlib.sha256(body).digest(), at, nonce)
    values = (signer.address, str(at), wire.to_hex(nonce), wire.to_hex(signer.sign(domain, request)))
    return dict(zip(HEADERS, values, strict=True))


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    content: bytes

    def json(self) -> Any:
        """Its JSON; ValueError if it is none."""
        return json.loads(self.content)


class MarketClient:
    """A connection to one market; reads need no key, writes and private reads do. Thread-safe, like httpx."""

    def __init__(self, url: str, *, signer: Signer | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._signer = signer
        self._plain = PlainHttp.of(self.url, timeout_s=REQUEST_TIMEOUT_S) if transport is None else None
        self._http = httpx.Client(
            base_url=self.url,
            timeout=REQUEST_TIMEOUT_S,
            transport=transport,
            verify=tls.trusted(),
            trust_env=False,
            follow_redirects=False,
        )
        self._info: wire.MarketInfo | None = None

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()
        if self._plain is not None:
            self._plain.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the market is

    def info(self) -> wire.MarketInfo:
        """Who the market is; read once per client."""
        if self._info is None:
            self._info = self._get("/v1/market", wire.MarketInfo)
        return self._info

    def clock(self) -> float:
        """The market's clock at this moment, in seconds of Unix UTC."""
        return self._get("/v1/market", wire.MarketInfo).time / 1000

    @property
    def domain(self) -> Domain:
        """The signing domain that the market works under. Callers pin it against their own configuration."""
        info = self.info()
        return Domain(info.chain_id, info.escrow)

    # Offers, bids, quotes

    def post_offer(self, signed: wire.SignedOffer) -> wire.Acknowledgement:
        """Publishes an offer."""
        return self._post("/v1/offers", signed, wire.Acknowledgement, sign=True)

    def withdraw_offer(self, offer: bytes) -> wire.Acknowledgement:
        """Takes an offer off the book, by its struct hash."""
        return self._post(f"/v1/offers/{wire.to_hex(offer)}/withdraw", None, wire.Acknowledgement, sign=True)

    def offer_page(self, *, after: int = 0, limit: int = OFFERS_PAGE, provider: str = "") -> wire.OfferPage:
        """Open offers with an admission number above `after`, at most `limit`, of one provider if it is named."""
        target = f"/v1/offers{_query(after=after, limit=limit, provider=provider)}"
        page = self._get(target, wire.OfferPage)
        if page.next is not None and (page.next <= after or not page.offers):
            raise errors.ProtocolError(f"the market at {self.url} answered a page of offers that leads nowhere")
        return page

    def offers(self, *, provider: str = "", most: int = OFFERS_MAX) -> list[wire.OfferView]:
        """The open offers, the oldest `most` of them, read page by page; of one provider if it is named."""
        return list(islice(self._each_offer(provider), most))

    def _each_offer(self, provider: str) -> Iterator[wire.OfferView]:
        after: int | None = 0
        while after is not None:
            page = self.offer_page(after=after, provider=provider)
            yield from page.offers
            after = page.next

    def post_bid(self, signed: wire.SignedBid) -> wire.Acknowledgement:
        """Submits a bid; the same bid twice gets the same acknowledgement."""
        return self._post("/v1/bids", signed, wire.Acknowledgement, sign=True)

    def bid(self, bid: bytes) -> wire.BidView:
        """A bid of the signer's, by its struct hash."""
        return self._get(f"/v1/bids/{wire.to_hex(bid)}", wire.BidView, sign=True)

    def withdraw_bid(self, bid: bytes) -> wire.Acknowledgement:
        """Takes a bid off the book, by its struct hash."""
        return self._post(f"/v1/bids/{wire.to_hex(bid)}/withdraw", None, wire.Acknowledgement, sign=True)

    def quote(self, request: wire.QuoteRequest) -> wire.Quote:
        """Which offers would do for a bid, at which price, and why the others would not."""
        return self._post("/v1/quotes", request, wire.Quote)

    # Leases

    def leases(self, *, state: str = "") -> list[wire.LeaseView]:
        """The signer's leases, newest first, as consumer or provider; `state` "open" leaves out the closed ones."""
        return self._list(f"/v1/leases{_query(state=state)}", wire.LeaseView, sign=True)

    def lease(self, lease: bytes) -> wire.LeaseView:
        """One lease of the signer's."""
        return self._get(f"/v1/leases/{wire.to_hex(lease)}", wire.LeaseView, sign=True)

    def take(self, taken: wire.TakenLease) -> wire.LeaseView:
        """Brings a node the papers of a lease that the signer opened without a market; the same again is the same."""
        return self._post("/v1/leases", taken, wire.LeaseView, sign=True)

    def report(self, lease: bytes, report: wire.Report) -> None:
        """The provider's word on the phase of a run."""
        self._send("POST", f"/v1/leases/{wire.to_hex(lease)}/phase", report, sign=True)

    def post_logs(self, lease: bytes, page: wire.LogPage) -> None:
        """Appends sealed log chunks; a chunk that is already there is ignored."""
        self._send("POST", f"/v1/leases/{wire.to_hex(lease)}/logs", page, sign=True)

    def logs(self, lease: bytes, *, after: int = -1, wait_s: int = 0) -> wire.LogPage:
        """Sealed log chunks with seq > after; waits up to `wait_s` (at most 20) for one."""
        target = f"/v1/leases/{wire.to_hex(lease)}/logs{_query(after=after, wait=wait_s)}"
        return self._get(target, wire.LogPage, sign=True)

    def post_receipt(self, lease: bytes, signed: wire.SignedReceipt) -> None:
        """The provider's receipt with its evidence."""
        self._send("POST", f"/v1/leases/{wire.to_hex(lease)}/receipt", signed, sign=True)

    def receipt(self, lease: bytes) -> wire.SignedReceipt:
        """The provider's receipt with its evidence, for the consumer to check."""
        return self._get(f"/v1/leases/{wire.to_hex(lease)}/receipt", wire.SignedReceipt, sign=True)

    def countersign(self, lease: bytes, signed: wire.Countersignature) -> None:
        """The consumer's signature over the same receipt; the market settles."""
        self._send("POST", f"/v1/leases/{wire.to_hex(lease)}/countersignature", signed, sign=True)

    # Blobs (ciphertext)

    def put_blob(self, lease: bytes, slot: str, data: Any, size: int, *, digest: bytes = b"") -> wire.BlobView:
        """Uploads `size` bytes from a binary file object; a large blob goes on where an earlier upload broke off.

        With `digest` (SHA-256 of the bytes) an upload of other bytes of the same size starts anew instead of going on,
        and the market refuses what does not have it (IntegrityError).
        """
        base = f"/v1/leases/{wire.to_hex(lease)}/blobs/{slot}"
        named = wire.to_hex(digest) if digest else ""
        if 0 < size <= WHOLE_BYTES_MAX:
            data.seek(0)
            target = f"{base}{_query(offset=0, size=size, digest=named)}"
            return _parse(self._request("PUT", target, data.read(size), sign=True), wire.BlobView)
        view = self._post(f"{base}{_query(size=size, digest=named)}", None, wire.BlobView, sign=True)
        data.seek(view.received)
        while view.delivered is None:
            chunk = data.read(CHUNK_BYTES)
            if not chunk and size:
                raise errors.IntegrityError(f"the {slot} blob ended before its {size} bytes")
            answer = self._request("PUT", f"{base}{_query(offset=view.received)}", chunk, sign=True)
            view = _parse(answer, wire.BlobView)
        return view

    def get_blob(self, lease: bytes, slot: str) -> Iterator[bytes]:
        """Streams a blob's bytes; the caller checks digest and size."""
        target = f"/v1/leases/{wire.to_hex(lease)}/blobs/{slot}"
        headers = self._headers("GET", target, b"")
        try:
            with streaming(self._http, "GET", target, Patience(REQUEST_TIMEOUT_S), headers=headers) as response:
                if response.is_error:
                    self._raise(Answer(response.status_code, whole(response, Patience(REQUEST_TIMEOUT_S))))
                yield from response.iter_bytes(1024 * 1024)
        except (httpx.HTTPError, AnswerError) as error:
            raise self._unreachable(error) from error

    # Events

    def events(
        self, after: int = 0, *, history: str = "", on_start: Callable[[int, str], None] | None = None
    ) -> Iterator[wire.Event]:
        """The signer's events with seq > after, as they come, until the connection breaks (UnreachableError).

        `on_start` is told first after which number they begin, and of which history the numbers are: after 0, if it is
        another than the reader's `history`, as when the market's database was put back from a copy.
        """
        target = f"/v1/events{_query(after=after, history=history)}"
        timeout = httpx.Timeout(REQUEST_TIMEOUT_S, read=EVENT_SILENCE_S)
        try:
            headers = self._headers("GET", target, b"")
            with streaming(
                self._http, "GET", target, Patience(REQUEST_TIMEOUT_S), headers=headers, timeout=timeout
            ) as response:
                if response.is_error:
                    self._raise(Answer(response.status_code, whole(response, Patience(REQUEST_TIMEOUT_S))))
                if on_start is not None and HISTORY_HEADER in response.headers:
                    on_start(_number(response.headers.get(AFTER_HEADER, "")), response.headers[HISTORY_HEADER])
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield wire.Event.model_validate_json(line.removeprefix("data:").strip())
        except (httpx.HTTPError, AnswerError) as error:
            raise self._unreachable(error) from error
        except ValidationError as error:
            raise errors.ProtocolError(f"the market sent an event that is none: {error.errors()[0]['msg']}") from None
        raise errors.UnreachableError(f"the market at {self.url} ended the event stream")

    # Public record

    def log(self, first: int, last: int) -> list[wire.Json]:
        """Entries of the admission log, with seq in first..last."""
        return self._list_json(f"/v1/log{_query(first=first, last=last)}")

    def heads(self, after: int = 0) -> list[wire.Json]:
        """Signed heads of the admission log with lastSeq > after: {"head", "signature"}."""
        return self._list_json(f"/v1/heads{_query(after=after)}")

    def round(self, number: int) -> wire.Json:
        """One round: {"round", "matches", "hash"}."""
        data = _json(self._request("GET", f"/v1/rounds/{number}", b""), "round")
        if not isinstance(data, dict):
            raise errors.ProtocolError(f"the market at {self.url} answered round {number} with no object")
        return data

    # The machinery

    def _headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        if self._signer is None:
            raise errors.UnusableKeyError("this call needs a key", hint="give the client a signer")
        return signed_headers(self._signer, self.domain, self.info().address, method, target, body)

    def _request(self, method: str, target: str, body: bytes, *, sign: bool = False) -> Answer:
        headers = self._headers(method, target, body) if sign else {}
        if body:
            headers["Content-Type"] = "application/octet-stream" if method == "PUT" else "application/json"
        answer = self._exchange(method, target, body, headers)
        if answer.status >= 400:
            self._raise(answer)
        return answer

    def _exchange(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Over the standard library where it does, for a third of the work."""
        try:
            if self._plain is not None:
                return Answer(*self._plain.request(method, target, body, headers))
            patience = Patience(REQUEST_TIMEOUT_S, len(body))
            with streaming(self._http, method, target, patience, content=body, headers=headers) as response:
                return Answer(response.status_code, whole(response, patience))
        except (httpx.HTTPError, AnswerError) as error:
            raise self._unreachable(error) from error

    def _raise(self, answer: Answer) -> NoReturn:
        """The problem as the error of its code. Whether trying again may help is its own word, or the status's."""
        retryable = answer.status in RETRY_STATUSES
        try:
            problem = answer.json()
            code, detail, hint = str(problem["code"]), str(problem["detail"]), str(problem.get("hint", ""))
            retryable = problem.get("retryable", retryable) is True
        except (ValueError, KeyError, TypeError, RecursionError):
            code, detail = "market", f"HTTP {answer.status} from {self.url}, which is not how a market answers"
            hint = "check the market's address: `suanli doctor` shows it"
        error = _BY_CODE.get(code, errors.MarketError)(detail, hint=hint, code=code)
        error.retryable = retryable
        raise error

    def _unreachable(self, error: Exception) -> errors.UnreachableError:
        what = str(error) or type(error).__name__
        if type(error).__name__ == "UnsupportedProtocol":
            return errors.UnreachableError(
                f"{self.url!r} is not the address of a market", hint="write http://host:port or https://host"
            )
        return errors.UnreachableError(
            f"the market at {self.url} cannot be reached: {what}",
            hint="is it running? `suanli doctor` checks the whole way",
        )

    def _send(self, method: str, target: str, body: wire.Body | None, *, sign: bool = False) -> Answer:
        content = json.dumps(body.to_json()).encode() if body is not None else b""
        return self._request(method, target, content, sign=sign)

    def _get(self, target: str, kind: type[B], *, sign: bool = False) -> B:
        return _parse(self._request("GET", target, b"", sign=sign), kind)

    def _post(self, target: str, body: wire.Body | None, kind: type[B], *, sign: bool = False) -> B:
        return _parse(self._send("POST", target, body, sign=sign), kind)

    def _list_json(self, target: str, *, sign: bool = False) -> list[wire.Json]:
        data = _json(self._request("GET", target, b"", sign=sign), "list")
        if not isinstance(data, list):
            raise errors.ProtocolError(f"the market at {self.url} answered {target} with no list")
        return data

    def _list(self, target: str, kind: type[B], *, sign: bool = False) -> list[B]:
        return [_validate(item, kind) for item in self._list_json(target, sign=sign)]


def _query(**values: object) -> str:
    given = {key: value for key, value in values.items() if value != ""}
    return f"?{urlencode(given)}" if given else ""


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise errors.ProtocolError(f"the market's events begin after {text!r:.40}, which is no number")
    return int(text)


def _validate(data: Any, kind: type[B]) -> B:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise errors.ProtocolError(f"the market's {kind.__name__} is malformed: {place}: {first['msg']}") from None


def _parse(answer: Answer, kind: type[B]) -> B:
    return _validate(_json(answer, kind.__name__), kind)


def _json(answer: Answer, what: str) -> Any:
    try:
        return answer.json()
    except (ValueError, RecursionError):
        raise errors.ProtocolError(f"the market's {what} is no JSON") from None
