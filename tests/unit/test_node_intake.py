"""What a stranger sends is held against what the bid names, within the lease's bounds, and within time."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from suanli_node.bounds import Bounded
from suanli_node.leases.intake import Intake, RunRefusedError, consumer_key_of, requirements_of
from suanli_node.leases.record import LeaseFolder
from suanli_node.leases.verification import read_assignment
from suanli_protocol.documents import ArchiveManifest, JobDocument
from suanli_protocol.errors import NotFoundError, UnreachableError
from suanli_protocol.reasons import Reason
from suanli_protocol.sealing import Context, seal_bytes, seal_stream
from support import builders
from support.leases import Opened, an_opened_lease
from support.node import an_archive

SOON_S = 0.05


class Relay:
    """Blobs by slot; None: not here, an error: raised once."""

    def __init__(self, **blobs: bytes) -> None:
        self.blobs = dict(blobs)
        self.outages = 0
        self.asked = 0

    def get(self, slot: str) -> Iterator[bytes]:
        """Ciphertext in small pieces."""
        self.asked += 1
        if self.outages:
            self.outages -= 1
            raise UnreachableError("gone")
        if slot not in self.blobs:
            raise NotFoundError("not here")
        data = self.blobs[slot]
        yield from (data[at : at + 1000] for at in range(0, len(data), 1000))


def sealed(opened: Opened, slot: str, data: bytes) -> bytes:
    recipient = builders.provider().encryption_public
    if slot == "job":
        return seal_bytes(data, recipient, Context(opened.id, slot))
    out = io.BytesIO()
    seal_stream(io.BytesIO(data), out, recipient, Context(opened.id, slot))
    return out.getvalue()


def an_intake(opened: Opened, relay: Relay, folder: Path, bell: threading.Event | None = None) -> Intake:
    assignment = read_assignment(opened.view, builders.provider().address, builders.a_domain())
    lease_folder = LeaseFolder(folder)
    key = builders.provider().encryption_key
    bounded = Bounded(4, threading.Event())
    return Intake(assignment, lease_folder, relay.get, key, bell or threading.Event(), lambda: None, bounded)


def soon() -> float:
    return time.time() + SOON_S


def later() -> float:
    return time.time() + 30


def with_archive(files: dict[str, bytes]) -> tuple[Opened, bytes]:
    archive, manifest = an_archive(files)
    return an_opened_lease(job=builders.a_job(archive=manifest)), archive


def test_a_job_is_opened_and_known_by_its_digest(tmp_path: Path) -> None:
    opened = an_opened_lease()
    relay = Relay(job=sealed(opened, "job", opened.job.canonical()))
    assert an_intake(opened, relay, tmp_path).job(soon()) == opened.job


def test_a_job_that_comes_later_is_taken_at_the_ring(tmp_path: Path) -> None:
    opened, relay, bell = an_opened_lease(), Relay(), threading.Event()

    def upload() -> None:
        while not relay.asked:
            time.sleep(0.001)
        relay.blobs["job"] = sealed(opened, "job", opened.job.canonical())
        bell.set()

    threading.Thread(target=upload).start()
    assert an_intake(opened, relay, tmp_path, bell).job(later()) == opened.job
    assert relay.asked == 2


def test_an_outage_is_waited_out(tmp_path: Path) -> None:
    opened = an_opened_lease()
    relay = Relay(job=sealed(opened, "job", opened.job.canonical()))
    relay.outages = 1
    bell = threading.Event()
    threading.Timer(0.05, bell.set).start()
    assert an_intake(opened, relay, tmp_path, bell).job(later()) == opened.job


def refused(call: object) -> RunRefusedError:
    with pytest.raises(RunRefusedError) as caught:
        call()  # type: ignore[operator]
    return caught.value


def test_what_is_not_the_named_job_is_refused(tmp_path: Path) -> None:
    opened = an_opened_lease()
    forged = builders.a_job(name="forged").canonical()
    for_another = sealed(an_opened_lease(rate=99_999), "job", opened.job.canonical())
    for blob in (sealed(opened, "job", forged), b"x" * 100, b"", for_another):
        error = refused(lambda blob=blob: an_intake(opened, Relay(job=blob), tmp_path).job(soon()))
        assert error.reason is Reason.BAD_JOB


def test_an_endless_job_is_cut_off(tmp_path: Path) -> None:
    opened = an_opened_lease()
    error = refused(lambda: an_intake(opened, Relay(job=b"x" * 10**6), tmp_path).job(soon()))
    assert (error.reason, "more than" in error.detail) == (Reason.BAD_JOB, True)


def test_nothing_in_time_is_a_startup_timeout(tmp_path: Path) -> None:
    assert refused(lambda: an_intake(an_opened_lease(), Relay(), tmp_path).job(soon())).reason is Reason.STARTUP_TIMEOUT


def test_an_unknown_member_is_named_and_its_consumer_still_told(tmp_path: Path) -> None:
    job = builders.a_job()
    document = json.dumps({**job.to_json(), "gpus": 2}, sort_keys=True, separators=(",", ":")).encode()

    class Other(JobDocument):
        """Says what it likes."""

        def canonical(self) -> bytes:
            return document

    opened = an_opened_lease(job=Other(**dict(job)))
    intake = an_intake(opened, Relay(job=sealed(opened, "job", document)), tmp_path)
    error = refused(lambda: intake.job(soon()))
    assert (error.reason, "gpus" in error.detail) == (Reason.BAD_JOB, True)
    assert intake.consumer_key == job.consumer_key


@pytest.mark.parametrize(
    "document", [b"", b"{}", b"[1]", b'{"consumerKey": 1}', b'{"consumerKey": "0x12"}', b"[" * 10**5]
)
def test_no_key_where_none_is(document: bytes) -> None:
    assert consumer_key_of(document) == ""


def test_an_archive_is_unpacked_and_its_ciphertext_removed(tmp_path: Path) -> None:
    opened, archive = with_archive({"work/a": b"1", "in/b": b"2"})
    intake = an_intake(opened, Relay(inputs=sealed(opened, "inputs", archive)), tmp_path)
    assert opened.job.archive is not None
    unpacked = intake.archive(opened.job.archive, soon())
    assert (unpacked / "work" / "a").read_bytes() == b"1"
    assert (unpacked / "in" / "b").read_bytes() == b"2"
    assert [path.name for path in tmp_path.iterdir()] == ["unpacked"]


def archive_refusal(opened: Opened, data: bytes, folder: Path, manifest: ArchiveManifest | None = None) -> Reason:
    intake = an_intake(opened, Relay(inputs=data), folder)
    wanted = manifest or opened.job.archive
    assert wanted is not None
    return refused(lambda: intake.archive(wanted, soon())).reason


def test_archives_that_are_not_what_was_announced_are_refused(tmp_path: Path) -> None:
    opened, archive = with_archive({"work/a": b"1" * 5000})
    other, _ = an_archive({"work/a": b"2" * 5000})
    whole = sealed(opened, "inputs", archive)
    assert opened.job.archive is not None
    cases: Iterable[bytes] = (
        sealed(opened, "inputs", other),
        whole[:-1],
        whole + b"x",
        b"",
        whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
    )
    for data in cases:
        assert archive_refusal(opened, data, tmp_path) is Reason.BAD_JOB
    lower = opened.job.archive.model_copy(update={"unpacked": 4999})
    assert archive_refusal(opened, whole, tmp_path, lower) is Reason.BAD_JOB


def test_an_archive_beyond_the_leased_disk_is_not_even_fetched(tmp_path: Path) -> None:
    opened, _ = with_archive({"work/a": b"1"})
    assert opened.job.archive is not None
    relay = Relay()
    intake = an_intake(opened, relay, tmp_path)
    for fields in ({"unpacked": 2**31}, {"size": 2**31}):
        manifest = opened.job.archive.model_copy(update=fields)
        assert refused(lambda manifest=manifest: intake.archive(manifest, soon())).reason is Reason.DISK_EXCEEDED
    assert relay.asked == 0


def test_a_failed_attempt_is_cleared_before_the_next(tmp_path: Path) -> None:
    opened, archive = with_archive({"work/a": b"1"})
    (tmp_path / "unpacked" / "work").mkdir(parents=True)
    (tmp_path / "unpacked" / "work" / "stale").write_bytes(b"old")
    assert opened.job.archive is not None
    intake = an_intake(opened, Relay(inputs=sealed(opened, "inputs", archive)), tmp_path)
    unpacked = intake.archive(opened.job.archive, soon())
    assert [path.name for path in (unpacked / "work").iterdir()] == ["a"]


def test_requirements_are_the_named_ones(tmp_path: Path) -> None:
    assert "no requirements.txt" in refused(lambda: requirements_of(tmp_path, "0x" + "00" * 32)).detail
    (tmp_path / "requirements.txt").write_bytes(b"a==1\n")
    assert refused(lambda: requirements_of(tmp_path, "0x" + "00" * 32)).reason is Reason.BAD_JOB
    digest = "0x" + hashlib.sha256(b"a==1\n").hexdigest()
    assert requirements_of(tmp_path, digest) == tmp_path / "requirements.txt"


def test_the_lease_ends_before_the_job_could_begin(tmp_path: Path) -> None:
    from suanli_node.leases.workshop import spec_of

    opened = an_opened_lease()
    assignment = read_assignment(opened.view, builders.provider().address, builders.a_domain())
    assert spec_of(assignment, opened.job, "", now=assignment.end - 10).seconds == 10
    long_job = replace_execution(opened.job, 10**6)
    assert spec_of(assignment, long_job, "", now=builders.NOW).seconds == 3600
    assert refused(lambda: spec_of(assignment, opened.job, "", now=assignment.end)).reason is Reason.STARTUP_TIMEOUT


def replace_execution(job: JobDocument, seconds: int) -> JobDocument:
    return job.model_copy(update={"timeouts": job.timeouts.model_copy(update={"execution": seconds})})


def test_two_commands_are_none(tmp_path: Path) -> None:
    from suanli_node.leases.workshop import spec_of

    opened = an_opened_lease()
    assignment = read_assignment(opened.view, builders.provider().address, builders.a_domain())
    both = opened.job.model_copy(update={"command": opened.job.command.model_copy(update={"shell": "true"})})
    assert refused(lambda: spec_of(assignment, both, "", now=builders.NOW)).reason is Reason.BAD_JOB
    no_memory = replace(assignment, bid=replace(assignment.bid, need=builders.a_need(memory_mib=0).pack()))
    assert refused(lambda: spec_of(no_memory, opened.job, "", now=builders.NOW)).reason is Reason.BAD_JOB


SMALL_ORDER = "0x" + "00" * 32


def test_a_key_that_nothing_can_be_sealed_to_is_none_and_its_job_is_refused(tmp_path: Path) -> None:
    job = builders.a_job(consumer_key=SMALL_ORDER)
    assert consumer_key_of(job.canonical()) == ""
    opened = an_opened_lease(job=job)
    relay = Relay(job=sealed(opened, "job", job.canonical()))
    with pytest.raises(RunRefusedError, match="nothing can be sealed") as caught:
        an_intake(opened, relay, tmp_path).job(time.time() + 10)
    assert caught.value.reason is Reason.BAD_JOB


def test_requirements_are_not_read_before_their_size_is_known(tmp_path: Path) -> None:
    with (tmp_path / "requirements.txt").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RunRefusedError, match="bytes"):
        requirements_of(tmp_path, "0x" + "00" * 32)
