"""The wire: papers and HTTP bodies as JSON.

The one module where snake_case meets camelCase. A paper's integers above 32 bits travel as decimal text (a JSON number
loses digits beyond 2^53 in many readers), bytes as 0x-hex, addresses as checksummed text. Reading is strict: a missing,
unknown, ill-typed or out-of-range member is a ProtocolError that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel as pydantic_camel

from suanli_protocol.documents import Hex32, Whole
from suanli_protocol.errors import ProtocolError, SignatureError
from suanli_protocol.messages import Message, solidity_fields, to_camel
from suanli_protocol.signing import address_bytes, checksum_address

M = TypeVar("M", bound=Message)
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}")
_HEX = re.compile(r"0x([0-9a-f]{2})*")
_HEX32 = re.compile(r"0x[0-9a-f]{64}")

HexBytes = Annotated[str, StringConstraints(pattern=r"^0x([0-9a-f]{2})*$")]
Signature = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{128}$")]
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
Amount = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,77})$")]
Json = dict[str, Any]


def to_hex(data: bytes) -> str:
    """0x and lower-case hex."""
    return "0x" + data.hex()


def from_hex(text: str, *, size: int | None = None, name: str = "value") -> bytes:
    """Bytes from 0x-hex of `size` bytes; ProtocolError otherwise."""
    if not isinstance(text, str) or not _HEX.fullmatch(text) or (size is not None and len(text) != 2 + 2 * size):
        wanted = f"{size} bytes of " if size is not None else ""
        raise ProtocolError(f"{name}: {text!r:.80} is not {wanted}lower-case hex after 0x")
    return bytes.fromhex(text[2:])


Reader = Callable[[Any], Any]
Writer = Callable[[Any], Any]


def _as_it_is(value: Any) -> Any:
    return value


def _writer(solidity: str) -> Writer:
    """How a member of this type is written."""
    if solidity == "bytes32":
        return to_hex
    return str if solidity.startswith("uint") and _bits(solidity) > 32 else _as_it_is


def _reader(name: str, solidity: str) -> Reader:
    """How the member of this name and type is read; what it does not take is a ProtocolError with the name."""
    if solidity == "bytes32":
        return _bytes32_reader(name)
    if solidity == "address":
        return lambda value: read_address(value, name=name)
    if solidity.startswith("uint"):
        return _wide_reader(name, _bits(solidity)) if _bits(solidity) > 32 else _narrow_reader(name, _bits(solidity))
    kind = {"string": str, "bool": bool}[solidity]

    def read(value: Any) -> Any:
        if not isinstance(value, kind):
            raise ProtocolError(f"{name}: {value!r:.80} is not a {solidity}")
        return value

    return read


def _bits(solidity: str) -> int:
    return int(solidity.removeprefix("uint"))


def _bytes32_reader(name: str) -> Reader:
    def read(value: Any) -> bytes:
        if isinstance(value, str) and _HEX32.fullmatch(value):
            return bytes.fromhex(value[2:])
        return from_hex(value, size=32, name=name)

    return read


def _wide_reader(name: str, bits: int) -> Reader:
    end = 1 << bits

    def read(value: Any) -> int:
        if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
            raise ProtocolError(f"{name}: {value!r:.80} is not a whole number in decimal text")
        number = int(value)
        if number >= end:
            raise ProtocolError(f"{name}: {number} does not fit in {bits} bits")
        return number

    return read


def _narrow_reader(name: str, bits: int) -> Reader:
    end = 1 << bits

    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ProtocolError(f"{name}: {value!r:.80} is not a whole number")
        if not 0 <= value < end:
            raise ProtocolError(f"{name}: {value} does not fit in {bits} bits")
        return int(value)

    return read


def read_address(value: Any, *, name: str = "address") -> str:
    """The checksummed address; a wrong checksum in mixed case is refused (it is a typing error)."""
    if not isinstance(value, str):
        raise ProtocolError(f"{name}: {value!r:.80} is not an address")
    try:
        text = _checksummed(value)
    except SignatureError as error:
        raise ProtocolError(f"{name}: {error.detail}") from None
    digits = value.removeprefix("0x")
    if value != text and digits != digits.lower():
        raise ProtocolError(f"{name}: {value} has a wrong checksum", hint=f"did you mean {text}?")
    return text


@lru_cache(maxsize=8192)
def _checksummed(address: str) -> str:
    return checksum_address(address_bytes(address))


_READERS: dict[type[Message], dict[str, Reader]] = {}
_WRITERS: dict[type[Message], tuple[Callable[[Message], tuple[Any, ...]], tuple[tuple[str, Writer], ...]]] = {}


def _readers(kind: type[Message]) -> dict[str, Reader]:
    """The readers by the name on the wire, in the order of the fields."""
    found = _READERS.get(kind)
    if found is None:
        named = ((to_camel(name), solidity) for name, solidity in solidity_fields(kind))
        found = _READERS[kind] = {key: _reader(f"{kind.__name__}.{key}", solidity) for key, solidity in named}
    return found


def paper_to_json(paper: Message) -> Json:
    """A signed message as a JSON object."""
    found = _WRITERS.get(type(paper))
    if found is None:
        fields = solidity_fields(type(paper))
        writers = tuple((to_camel(name), _writer(solidity)) for name, solidity in fields)
        found = _WRITERS[type(paper)] = attrgetter(*(name for name, _ in fields)), writers
    values, writers = found
    return {key: write(value) for (key, write), value in zip(writers, values(paper), strict=True)}


def paper_from_json(kind: type[M], data: Any) -> M:
    """A signed message from hostile JSON; ProtocolError names the member that is wrong."""
    if not isinstance(data, dict):
        raise ProtocolError(f"{kind.__name__}: a JSON object is wanted")
    readers = _readers(kind)
    if data.keys() != readers.keys():
        raise _other_members(kind, data)
    return kind(*[read(data[key]) for key, read in readers.items()])


def _other_members(kind: type[Message], data: Json) -> ProtocolError:
    wanted = _readers(kind)
    for key in data:
        if key not in wanted:
            return ProtocolError(f"{kind.__name__}: unknown member {key!r:.80}")
    missing = next(key for key in wanted if key not in data)
    return ProtocolError(f"{kind.__name__}: member {missing!r} is missing")


class Body(BaseModel):
    """Base of all HTTP bodies: camelCase, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=pydantic_camel, populate_by_name=True)

    def to_json(self) -> Json:
        """The body as JSON values."""
        return self.model_dump(mode="json", by_alias=True)


class MarketInfo(Body):
    """Who this market is and what it asks (GET /v1/market)."""

    name: str
    version: str
    address: Address
    chain_id: int
    genesis: Hex32
    escrow: Address
    code_hash: Hex32
    token: Address
    symbol: str
    decimals: int
    fee_bps: int
    min_fee: Amount  # base units; no lease is opened whose fee is less
    min_window: int  # seconds
    confirmations: int
    round_ms: int
    blob_bytes_max: int
    chunk_bytes_max: int
    time: int  # milliseconds of Unix UTC


class SignedOffer(Body):
    """POST /v1/offers."""

    offer: Json
    signature: Signature
    attributes: Json


class SignedBid(Body):
    """POST /v1/bids."""

    bid: Json
    signature: Signature
    constraints: Json
    job_digest: Hex32


class Acknowledgement(Body):
    """The market's signed proof that it admitted (or refused, see `entry.reason`) a paper."""

    entry: Json
    path: list[Hex32]  # Merkle siblings from leaf to root
    index: int  # of the leaf in its group commit
    previous: Hex32  # the log's head before this group commit
    head: Json
    signature: Signature
    paper: Hex32  # struct hash of the paper


class OfferView(Body):
    """An offer of the book. `free` is its capacity less what is leased or proposed."""

    id: Hex32
    offer: Json
    signature: Signature
    attributes: Json
    free: Json  # {"cpuMilli", "memoryMib", "acceleratorMilli", "diskMib"}
    seen_at: int


class OfferPage(Body):
    """GET /v1/offers: open offers in the order of their admission."""

    offers: list[OfferView]
    next: int | None = None  # the `after` of the page that follows; None on the last
    total: int  # offers that are open in all


class Rejection(Body):
    """One condition and how many offers it alone or first rejects."""

    condition: str
    detail: str
    offers: int
    hint: str = ""


class QuoteRequest(Body):
    """POST /v1/quotes: a bid that is not signed yet (its signature is not asked for, its counter not checked)."""

    bid: Json
    constraints: Json


class QuotedOffer(Body):
    """An offer that would do, with its rate and the most that it can cost."""

    offer: OfferView
    rate: Amount
    seconds: int
    price: Amount
    fee: Amount
    stake: Amount


class Quote(Body):
    """Best first. `rejections` says why the others would not do."""

    offers: list[QuotedOffer]
    considered: int
    rejections: list[Rejection]


class BidView(Body):
    """GET /v1/bids/{id}, by the consumer."""

    id: Hex32
    bid: Json
    state: Literal["queued", "matched", "leased", "refused", "withdrawn", "expired"]
    reason: str = ""
    lease: Hex32 | None = None
    rejections: list[Rejection] = Field(default_factory=list)


class LeaseView(Body):
    """A lease with its papers, for its two parties: everything that is needed to check it on the chain."""

    id: Hex32
    number: int
    bid: Json
    bid_signature: HexBytes
    offer: Json
    offer_signature: HexBytes
    attributes: Json
    constraints: Json
    job_digest: Hex32
    rate: Amount
    index: int
    attempt: int
    opened_at: int
    block: int
    block_hash: Hex32
    transaction: Hex32
    spent: Amount = "0"  # by earlier attempts of the seat, fees included
    state: Literal[
        "open", "stopped", "claimed", "disputed", "settled", "released", "finalized", "resolved", "reclaimed"
    ]
    phase: str  # a reasons.Phase, as the provider reports it
    reason: str = ""
    paid: Amount = "0"
    fee: Amount = "0"
    receipt: Json | None = None
    receipt_signature: Signature | None = None
    countersignature: Signature | None = None
    claimed: Amount = "0"
    claim_kind: int = 0
    clock: int = 0  # seconds; when the present phase on the chain began
    progress: Amount = "0"  # the escrow's word
    attempts_left: int = 0
    settled_transaction: Hex32 | None = None  # that closed it, whatever the way
    stopped_at: int | None = None


class TakenLease(Body):
    """POST /v1/leases of a node: the papers of a lease that the consumer opened without a market, and where it lies."""

    id: Hex32
    bid: Json
    bid_signature: Signature
    offer: Json
    offer_signature: Signature
    attributes: Json
    constraints: Json
    job_digest: Hex32
    rate: Amount
    opened_at: Whole
    block: Whole
    block_hash: Hex32
    transaction: Hex32


class Report(Body):
    """POST /v1/leases/{id}/phase: the provider's word on how far the run is."""

    phase: str
    reason: str = ""
    detail: str = Field(default="", max_length=500)


class LogChunk(Body):
    """A sealed piece of a job's log. `data` is sealed to the consumer for (lease, "log", seq)."""

    seq: Whole
    data: HexBytes


class LogPage(Body):
    """POST and GET /v1/leases/{id}/logs; `complete` once the provider has sent its last chunk."""

    chunks: list[LogChunk]
    complete: bool = False


class BlobView(Body):
    """How much of a blob the relay holds; `delivered` and its signature once it is whole."""

    slot: str
    size: int
    received: int
    delivered: Json | None = None
    signature: Signature | None = None


class SignedReceipt(Body):
    """POST /v1/leases/{id}/receipt, by the provider."""

    receipt: Json
    signature: Signature
    evidence: Json


class Countersignature(Body):
    """POST /v1/leases/{id}/countersignature, by the consumer, over the same receipt."""

    receipt: Json
    signature: Signature


class Event(Body):
    """One change that concerns the reader (GET /v1/events, server-sent). `data` depends on `kind`."""

    seq: int
    at: int  # milliseconds of Unix UTC
    kind: Literal[
        "bid.queued",
        "bid.unmatched",
        "bid.matched",
        "bid.refused",
        "bid.expired",
        "lease.opened",
        "lease.phase",
        "lease.delivered",
        "lease.receipt",
        "lease.countersigned",
        "lease.stopped",
        "lease.settled",
        "lease.released",
        "lease.claimed",
        "lease.disputed",
        "lease.resolved",
        "lease.finalized",
        "lease.reclaimed",
        "bid.retried",
        "offer.expired",
        "chain.reorganised",
        "chain.reset",
    ]
    lease: Hex32 | None = None
    bid: Hex32 | None = None
    data: Json = Field(default_factory=dict)


SLOTS = ("job", "inputs", "outputs")
SLOT_SENDER: dict[str, Literal["consumer", "provider"]] = {
    "job": "consumer",
    "inputs": "consumer",
    "outputs": "provider",
}
