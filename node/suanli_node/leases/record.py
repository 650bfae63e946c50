"""The durable record of one lease: each step is written before its side effect, so a killed daemon goes on from here.

A lease's folder, STATE/leases/<id>/:
    record.json      papers, step, and what each step found out
    setup.log        what preparing the run printed, framed as `runlog`
    chunks.jsonl     where each log chunk ends (`log_shipping`)
    inputs.*         ciphertext and archive on their way into the run's folder
    outputs.sealed   the ciphertext that the evidence names; kept until the lease is closed
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

from suanli_node.engine.runs import RunSpec, RunStatus, write_json
from suanli_node.leases.verification import Assignment, read_assignment, read_bare
from suanli_protocol import wire
from suanli_protocol.documents import JobDocument, Outputs
from suanli_protocol.errors import SuanliError
from suanli_protocol.messages import Receipt
from suanli_protocol.reasons import billable
from suanli_protocol.signing import Domain

T = TypeVar("T")


class UnreadableError(SuanliError):
    """A lease's record is not one that this version can read."""

    code, title = "unreadable", "A record cannot be read"


def present(value: T | None, name: str) -> T:
    """What an earlier step has recorded; RuntimeError if it is missing, which only another hand can have done."""
    if value is None:
        raise RuntimeError(f"the record lacks its {name}")
    return value


class Step(StrEnum):
    """How far a lease has come here. What a step names was made durable before the next one began."""

    ACCEPTED = "accepted"  # verified on the chain; whatever preparing did can be done again
    STARTED = "started"  # the executor may have started the run: from here on it is never started anew elsewhere
    ENDED = "ended"  # the run is final, or will never begin
    COLLECTED = "collected"  # the sealed outputs lie on disk, or there are none
    SIGNED = "signed"  # evidence and receipt exist; these and no others are sent, or claimed by
    POSTED = "posted"  # the relay has the receipt
    CLOSED = "closed"  # nothing of it is open on the chain any more


@dataclass
class LeaseRecord:
    """What this node knows of one lease. `reason` is empty until the run ended or cannot begin."""

    view: wire.LeaseView
    step: Step = Step.ACCEPTED
    job: JobDocument | None = None
    consumer_key: str = ""  # to which the log is sealed; known even of some jobs that are refused
    ready_at: int | None = None
    spec: RunSpec | None = None
    status: RunStatus | None = None
    reason: str = ""
    detail: str = ""
    stopped_at: int | None = None  # the chain's clock; nothing later is billable
    outputs: Outputs | None = None
    signed: wire.SignedReceipt | None = None
    delivered: bool = False  # outputs and log are at the relay
    signed_at: int = 0
    countersignature: str = ""  # over the same receipt: with it the lease can be settled by anyone
    countersigned_at: int = 0
    bare: bool = False  # from the chain alone, without documents: it can be ended, never run
    tries: int = 0  # of the present step, that failed or took the process with them
    closing_seen: bool = False  # closed by the seat's word, while its events were not there yet; not kept
    ran_as: str = ""  # the run's name if it was started under another lease, whose opening the chain took back

    @property
    def lease(self) -> bytes:
        """The lease's id."""
        return bytes.fromhex(self.view.id[2:])

    def assignment(self, provider: str, domain: Domain) -> Assignment:
        """What its papers make; ProtocolError or IntegrityError names what does not hold."""
        return read_bare(self.view, provider) if self.bare else read_assignment(self.view, provider, domain)

    @property
    def run_id(self) -> str:
        """The executor's name for the run: the id, without 0x, of the lease under which it was started."""
        return self.ran_as or self.view.id[2:]

    @property
    def receipt(self) -> Receipt:
        """The receipt that was signed; RuntimeError before there is one."""
        return wire.paper_from_json(Receipt, present(self.signed, "receipt").receipt)

    @property
    def never_begun(self) -> bool:
        """Whether nothing ran, by this node's fault: nothing is due, and another provider may take the job."""
        return bool(self.reason) and self.status is None and not billable(self.reason)

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        return {
            "view": self.view.to_json(),
            "step": self.step.value,
            "job": self.job.to_json() if self.job else None,
            "consumerKey": self.consumer_key,
            "readyAt": self.ready_at,
            "spec": self.spec.to_json() if self.spec else None,
            "status": self.status.to_json() if self.status else None,
            "reason": self.reason,
            "detail": self.detail,
            "stoppedAt": self.stopped_at,
            "outputs": self.outputs.to_json() if self.outputs else None,
            "signed": self.signed.to_json() if self.signed else None,
            "delivered": self.delivered,
            "signedAt": self.signed_at,
            "countersignature": self.countersignature,
            "countersignedAt": self.countersigned_at,
            "bare": self.bare,
            "tries": self.tries,
            "ranAs": self.ran_as,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The record of its own JSON form."""
        return cls(
            view=wire.LeaseView.model_validate(data["view"]),
            step=Step(data["step"]),
            job=JobDocument.parse(data["job"]) if data["job"] else None,
            consumer_key=data["consumerKey"],
            ready_at=data["readyAt"],
            spec=RunSpec.from_json(data["spec"]) if data["spec"] else None,
            status=RunStatus.from_json(data["status"]) if data["status"] else None,
            reason=data["reason"],
            detail=data["detail"],
            stopped_at=data["stoppedAt"],
            outputs=Outputs.parse(data["outputs"]) if data["outputs"] else None,
            signed=wire.SignedReceipt.model_validate(data["signed"]) if data["signed"] else None,
            delivered=data.get("delivered", False),
            signed_at=data.get("signedAt", 0),
            countersignature=data.get("countersignature", ""),
            countersigned_at=data.get("countersignedAt", 0),
            bare=data.get("bare", False),
            tries=data.get("tries", 0),
            ran_as=data.get("ranAs", ""),
        )


@dataclass(frozen=True)
class LeaseFolder:
    """The folder of one lease."""

    path: Path

    @property
    def setup_log(self) -> Path:
        """What preparing the run printed."""
        return self.path / "setup.log"

    @property
    def chunks(self) -> Path:
        """Where each log chunk ends."""
        return self.path / "chunks.jsonl"

    @property
    def sealed_inputs(self) -> Path:
        """The inputs as the relay held them."""
        return self.path / "inputs.sealed"

    @property
    def inputs(self) -> Path:
        """The inputs' plain archive."""
        return self.path / "inputs.tar"

    @property
    def unpacked(self) -> Path:
        """The unpacked archive, before its parts move into the run's folder."""
        return self.path / "unpacked"

    @property
    def outputs(self) -> Path:
        """The outputs' plain archive."""
        return self.path / "outputs.tar"

    @property
    def sealed_outputs(self) -> Path:
        """The outputs as the relay gets them."""
        return self.path / "outputs.sealed"

    def save(self, record: LeaseRecord) -> None:
        """Make the record durable, creating the folder at the first time."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        write_json(self.path / "record.json", record.to_json())

    def load(self) -> LeaseRecord:
        """The record as it was last saved."""
        return read_record(self.path / "record.json")

    @property
    def is_recorded(self) -> bool:
        """Whether there is a record, legible or not."""
        return (self.path / "record.json").exists()

    def set_aside(self) -> None:
        """Keep a record that cannot be read out of the way of another one; it goes with the folder."""
        with suppress(FileNotFoundError):
            (self.path / "record.json").replace(self.path / "record.unread")

    def clear_inputs(self) -> None:
        """Delete what was only on its way into the run's folder."""
        for part in (self.sealed_inputs, self.inputs):
            part.unlink(missing_ok=True)
        shutil.rmtree(self.unpacked, ignore_errors=True)

    def remove(self) -> None:
        """Delete the folder; links are deleted, never followed."""
        shutil.rmtree(self.path, ignore_errors=True)


def read_record(path: Path) -> LeaseRecord:
    """The record in a file; UnreadableError, whatever is wrong with it."""
    try:
        return LeaseRecord.from_json(json.loads(path.read_bytes()))
    except Exception as error:  # torn, another version's, another hand's: whatever it is, one record stops nothing else
        raise UnreadableError(f"the record {path} cannot be read: {error!r:.200}") from error


def stored_leases(leases: Path) -> Iterator[LeaseFolder]:
    """The folders that hold a record."""
    for path in sorted(leases.iterdir()):
        if (path / "record.json").is_file():
            yield LeaseFolder(path)


def remove_remains(leases: Path) -> None:
    """Delete folders without a record: of leases that were never accepted, or that are closed."""
    for path in leases.iterdir():
        if not (path / "record.json").exists():
            LeaseFolder(path).remove()
