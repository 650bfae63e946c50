"""Intake: the sealed job and its archive come from the relay, are opened, and are held against what the bid names.

Everything here comes from a stranger. What is wrong with it ends the lease with a reason code, never the node.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic_core import from_json

from suanli_node.bounds import Bounded
from suanli_node.leases.record import LeaseFolder
from suanli_node.leases.verification import Assignment
from suanli_protocol.archive import UnpackLimits, unpack
from suanli_protocol.documents import DOCUMENT_BYTES_MAX, ArchiveManifest, JobDocument, hex32, sha256
from suanli_protocol.errors import ExecutionError, IntegrityError, NotFoundError, ProtocolError, SuanliError
from suanli_protocol.reasons import Reason
from suanli_protocol.requirements import REQUIREMENTS_BYTES_MAX
from suanli_protocol.sealing import OVERHEAD_BYTES, Context, open_bytes, open_stream, seal_bytes, sealed_size

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

HEX32 = re.compile(r"^0x[0-9a-f]{64}$")
LEAST_FETCH_S = 0.1
LOOK_S = 1.0  # the relay is asked this often should its event be lost
MIB = 2**20
ARCHIVE_SLACK_BYTES = 32 * MIB  # headers and padding of an archive of many small files
GetBlob = Callable[[str], Iterable[bytes]]  # the ciphertext of a slot; NotFoundError while it is not there


class RunRefusedError(SuanliError):
    """A lease whose run cannot begin; `reason` says whose doing that is."""

    code, title = "run_refused", "The run cannot begin"

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def check_window(assignment: Assignment, least_s: int) -> None:
    """RunRefusedError if the lease's window is too short to claim in, should its consumer fall silent."""
    window = assignment.clauses.window
    if window < least_s:
        raise RunRefusedError(
            Reason.BAD_JOB, f"the window of {window} s is under the {least_s} s that this node needs for a claim"
        )


class Doorbell(Protocol):
    """Wakes a waiting intake: set when the relay says that a blob is whole, or when waiting is over."""

    def wait(self, timeout: float) -> bool:
        """True if it was rung within `timeout` seconds."""

    def clear(self) -> None:
        """Ready to be rung again."""


class Intake:
    """Fetches what one lease needs, until `deadline` (seconds of Unix UTC). `check` raises if waiting is over."""

    def __init__(
        self,
        assignment: Assignment,
        folder: LeaseFolder,
        get_blob: GetBlob,
        key: X25519PrivateKey,
        bell: Doorbell,
        check: Callable[[], None],
        bounded: Bounded,
    ) -> None:
        self._assignment, self._folder, self._get_blob, self._key = assignment, folder, get_blob, key
        self._bell, self._check, self._bounded = bell, check, bounded
        self.consumer_key = ""  # of the document, as soon as it is known to be the consumer's

    def job(self, deadline: float) -> JobDocument:
        """The job document, which is the one that the bid names; RunRefusedError with the reason otherwise."""
        sealed = self._await_blob(partial(self._read, "job", DOCUMENT_BYTES_MAX + OVERHEAD_BYTES), "job", deadline)
        try:
            data = open_bytes(sealed, self._key, Context(self._assignment.id, "job"))
            if sha256(data) != self._assignment.job_digest:
                raise IntegrityError("the job document is not the one that the bid names")
            self.consumer_key = consumer_key_of(data)
            job = JobDocument.parse(data)
            if not self.consumer_key:
                raise ProtocolError("nothing can be sealed to the consumer's key that it names")
            return job
        except (IntegrityError, ProtocolError) as error:
            raise RunRefusedError(Reason.BAD_JOB, error.detail) from error

    def archive(self, manifest: ArchiveManifest, deadline: float) -> Path:
        """The folder with the unpacked archive; RunRefusedError if it is not what the job names or does not fit."""
        room = self._assignment.need.disk_mib * MIB
        if manifest.unpacked > room or manifest.size > room + ARCHIVE_SLACK_BYTES:
            detail = f"the archive unpacks to {manifest.unpacked} bytes, {room} of disk are leased"
            raise RunRefusedError(Reason.DISK_EXCEEDED, detail)
        self._folder.clear_inputs()
        size = sealed_size(manifest.size)
        self._await_blob(partial(self._store, "inputs", size), "inputs", deadline)
        try:
            self._open_archive(manifest)
            limits = UnpackLimits(total_bytes=manifest.unpacked, file_bytes=manifest.unpacked)
            with self._folder.inputs.open("rb") as file:
                unpack(file, self._folder.unpacked, limits)
        except (IntegrityError, ProtocolError) as error:
            raise RunRefusedError(Reason.BAD_JOB, f"archive: {error.detail}") from error
        except ExecutionError as error:
            raise RunRefusedError(Reason.SANDBOX_FAILED, error.detail) from error
        finally:
            self._folder.sealed_inputs.unlink(missing_ok=True)
            self._folder.inputs.unlink(missing_ok=True)
        return self._folder.unpacked

    def _await_blob(self, fetch: Callable[[], bytes], slot: str, deadline: float) -> bytes:
        while True:
            self._bell.clear()  # before looking: what rings while we look is not lost
            self._check()
            try:
                return self._bounded.within(max(LEAST_FETCH_S, deadline - time.time()), fetch, f"fetching the {slot}")
            except NotFoundError:
                pass
            except SuanliError as error:
                if not error.retryable:
                    raise RunRefusedError(Reason.BAD_JOB, f"the {slot} cannot be fetched: {error.detail}") from error
            left = deadline - time.time()
            if left <= 0:
                raise RunRefusedError(Reason.STARTUP_TIMEOUT, f"the {slot} did not come in time")
            self._bell.wait(min(LOOK_S, left))

    def _read(self, slot: str, limit: int) -> bytes:
        return b"".join(_capped(self._get_blob(slot), limit, slot))

    def _store(self, slot: str, limit: int) -> bytes:
        with self._folder.sealed_inputs.open("wb") as file:
            for piece in _capped(self._get_blob(slot), limit, slot):
                file.write(piece)
        return b""

    def _open_archive(self, manifest: ArchiveManifest) -> None:
        context = Context(self._assignment.id, "inputs")
        with self._folder.sealed_inputs.open("rb") as src, self._folder.inputs.open("wb") as dst:
            digest, size = open_stream(src, dst, self._key, context, limit=manifest.size)
        if size != manifest.size or hex32(digest) != manifest.sha256:
            raise IntegrityError("it is not the one that the job document names")


def consumer_key_of(document: bytes) -> str:
    """The encryption key in a job document that may be refused for other members; "" if none can be sealed to."""
    try:
        key = from_json(document)["consumerKey"]
        if not HEX32.fullmatch(key):
            return ""
        seal_bytes(b"", bytes.fromhex(key[2:]), Context(bytes(32), "log"))
        return str(key)
    except (ValueError, KeyError, TypeError, ProtocolError):
        return ""


def requirements_of(unpacked: Path, wanted: str) -> Path:
    """The requirements file of an archive, whose digest is `wanted`; RunRefusedError otherwise."""
    path = unpacked / "requirements.txt"
    if not path.is_file():
        raise RunRefusedError(Reason.BAD_JOB, "the job asks for an environment, the archive has no requirements.txt")
    if path.stat().st_size > REQUIREMENTS_BYTES_MAX:
        raise RunRefusedError(Reason.BAD_JOB, f"requirements.txt has more than {REQUIREMENTS_BYTES_MAX} bytes")
    if "0x" + hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
        raise RunRefusedError(Reason.BAD_JOB, "requirements.txt is not the one that the job document names")
    return path


def _capped(pieces: Iterable[bytes], limit: int, slot: str) -> Iterable[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise RunRefusedError(Reason.BAD_JOB, f"the {slot} has more than the {limit} bytes that it may have")
        yield piece
