"""Documents that papers name by digest: attributes, constraints, job, evidence.

A document is canonical JSON (sorted keys, no spaces, UTF-8, integers only) and its digest is SHA-256 over those bytes,
so that both sides and any auditor get the same digest from the same content. Documents that a third party could guess
carry a salt.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from suanli_protocol.errors import ProtocolError
from suanli_protocol.units import SECONDS_PER_HOUR

INT_MAX = 2**63 - 1
DOCUMENT_BYTES_MAX = 256 * 1024

Hex32 = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
Salt = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Path = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$")]
Whole = Annotated[int, Field(ge=0, le=INT_MAX)]


def canonical(value: Any) -> bytes:
    """Canonical JSON bytes; ProtocolError for floats and for integers beyond 2^63."""
    _refuse_inexact(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _refuse_inexact(value: Any) -> None:
    match value:
        case float():
            raise ProtocolError(f"{value!r}: a document holds integers, never floats")
        case bool() | str() | None:
            return
        case int():
            if abs(value) > INT_MAX:
                raise ProtocolError(f"{value}: integers of a document stay within 2^63; write larger ones as text")
        case dict():
            for item in value.values():
                _refuse_inexact(item)
        case list() | tuple():
            for item in value:
                _refuse_inexact(item)
        case _:
            raise ProtocolError(f"{type(value).__name__} has no place in a document")


def sha256(data: bytes) -> bytes:
    """SHA-256, the digest of everything that is not a paper."""
    return hashlib.sha256(data).digest()


def hex32(digest: bytes) -> str:
    """The wire form of 32 bytes."""
    return "0x" + digest.hex()


def new_salt() -> str:
    """16 random bytes in hex."""
    return secrets.token_hex(16)


class Document(BaseModel):
    """Base of all documents: frozen, strict, camelCase on the wire, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """The document as JSON values."""
        return self.model_dump(mode="json", by_alias=True)

    def canonical(self) -> bytes:
        """The bytes that are digested."""
        return canonical(self.to_json())

    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes."""
        return sha256(self.canonical())

    @classmethod
    def parse(cls, data: bytes | dict[str, Any]) -> Self:
        """From hostile bytes or JSON values; ProtocolError names the first thing that is wrong."""
        try:
            if isinstance(data, bytes):
                if len(data) > DOCUMENT_BYTES_MAX:
                    raise ProtocolError(f"{cls.__name__} has {len(data)} bytes, at most {DOCUMENT_BYTES_MAX} are taken")
                return cls.model_validate_json(data)
            return cls.model_validate_json(json.dumps(data))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ProtocolError(f"{cls.__name__} {place}: {first['msg']}") from None
        except RecursionError:
            raise ProtocolError(f"{cls.__name__} is nested too deeply") from None


class Attributes(Document):
    """What a provider says of its machine; public, named by the offer's `attributes`."""

    version: Literal[1] = 1
    name: Text
    encryption_key: Hex32  # X25519 public key: inputs are sealed to it
    region: Annotated[str, StringConstraints(pattern=r"^([A-Z]{2}(-[A-Z0-9]{1,3})?)?$")] = ""  # ISO 3166-2 or ""
    arch: Text  # as `uname -m`
    os: Text
    cpu_model: Text
    pythons: tuple[Text, ...] = ()  # "3.11"
    environments: bool = False  # prepares Python environments from hashed requirements
    sandbox: Literal["A", "B", "C"]
    contained: tuple[Text, ...] = ()  # canary programs that the sandbox held at start
    accelerators: tuple[Text, ...] = ()
    software: Text  # "suanli-node 0.1.0, ray 2.60.0"


class Constraints(Document):
    """What a bid asks of an offer beyond capacity, price and traits; public, in the clear to the market."""

    version: Literal[1] = 1
    salt: Salt
    regions: tuple[Text, ...] = ()  # any of these, or a region inside one; empty: any
    arch: Text = ""
    python: Text = ""  # "3.11"; empty: any
    environments: bool = False
    queue_seconds: Whole = 600
    retry: tuple[Text, ...] = ()  # "interruption": given back or gone; "provider-error": ended by the provider's fault


class ArchiveManifest(Document):
    """A plain archive (before sealing): what the receiver must find and how much it may unpack."""

    sha256: Hex32  # of the archive's bytes
    size: Whole
    unpacked: Whole  # bytes of all files
    files: Whole


class PythonEnvironment(Document):
    """A Python environment: the interpreter's version ("": as the provider has it) and its hashed requirements."""

    version: Text
    requirements: Hex32  # SHA-256 of requirements.txt, which travels in the archive


class Command(Document):
    """What is executed: an argument vector, or a line for `sh -c`. Exactly one is given."""

    argv: tuple[str, ...] = ()
    shell: str = ""


class Timeouts(Document):
    """Seconds after which a phase is ended with a reason code."""

    startup: Whole = 300
    execution: Whole = SECONDS_PER_HOUR


class Limits(Document):
    """What a run may leave behind."""

    processes: Whole = 256
    output_mib: Whole = 1024
    log_mib: Whole = 64


class JobDocument(Document):
    """What is to run; seen by consumer and provider only, named (with the constraints) by the bid's `documents`."""

    version: Literal[1] = 1
    kind: Literal["command"] = "command"
    salt: Salt
    name: Text
    command: Command
    env: dict[str, str] = Field(default_factory=dict)
    archive: ArchiveManifest | None = None  # work/…, in/…, requirements.txt
    python: PythonEnvironment | None = None
    inputs: tuple[Path, ...] = ()  # mount points under /in, for the log; the files travel in the archive
    outputs: tuple[Path, ...] = ()  # relative to the work folder, besides $SUANLI_OUTPUT_DIR
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    billing: Literal["capacity", "usage"] = "capacity"
    consumer_key: Hex32  # X25519 public key: logs and outputs are sealed to it


class Usage(Document):
    """Metered by the provider from the operating system."""

    wall_ms: Whole
    cpu_ms: Whole
    peak_memory_mib: Whole
    samples: Whole
    chain_head: Hex32  # of the hash-chained samples


class OutputFile(Document):
    """One file that came back."""

    path: Path
    size: Whole
    sha256: Hex32


class Outputs(Document):
    """The archive of outputs: plain digest, sealed digest (as the relay holds it), and its files."""

    archive: ArchiveManifest
    sealed: Hex32
    sealed_size: Whole
    files: tuple[OutputFile, ...] = ()


class LogSummary(Document):
    """The whole log: SHA-256 over its plain chunks in order."""

    sha256: Hex32
    size: Whole
    chunks: Whole


class LogLine(Document):
    """A piece of a job's output. `data` is base64, so that bytes stay what they were; whole lines where they are short.

    A log chunk is LogLines in canonical JSON, one a line, sealed to the job's `consumer_key` for (lease, "log", seq).
    """

    at_ms: Whole  # milliseconds of Unix UTC
    source: Literal["stdout", "stderr", "setup", "system"]  # setup: before the job began; system: the node's own word
    data: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]

    @property
    def content(self) -> bytes:
        """The output as it was written; ProtocolError if `data` is not base64."""
        try:
            return base64.b64decode(self.data, validate=True)
        except ValueError:
            raise ProtocolError("LogLine data: not base64") from None


def read_log_chunk(chunk: bytes) -> list[LogLine]:
    """The lines of an opened (hostile) log chunk; ProtocolError names what is wrong."""
    return [LogLine.parse(line) for line in chunk.splitlines()]


def write_log_chunk(lines: Iterable[LogLine]) -> bytes:
    """The bytes of a log chunk; the log's digest is over these, chunk after chunk."""
    return b"".join(line.canonical() + b"\n" for line in lines)


class Energy(Document):
    """Energy and carbon of the run, with their source; this version knows no meter and says so."""

    mwh: Whole = 0
    mg_co2e: Whole = 0
    source: Text = "none"


class Evidence(Document):
    """What a receipt stands on, named by its `evidence`; the market relays it in the clear to both parties."""

    version: Literal[1] = 1
    lease: Hex32
    sequence: Whole
    billing: Literal["capacity", "usage"]
    billed_seconds: Whole
    amount: Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]*)$")]
    usage: Usage
    exit_code: int | None = None  # None: it never started
    reason: Text  # a code of `suanli_protocol.reasons`
    ready_at: Whole | None = None  # seconds of Unix UTC
    started_at: Whole | None = None
    ended_at: Whole
    outputs: Outputs | None = None
    log: LogSummary
    energy: Energy = Energy()
    profile: dict[str, int] = Field(default_factory=dict)


def documents_digest(job: bytes, constraints: bytes) -> bytes:
    """The bid's `documents`: SHA-256 over the digests of job and constraints."""
    return sha256(canonical({"constraints": hex32(constraints), "job": hex32(job)}))
