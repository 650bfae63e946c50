"""Before and after a run: files where the sandbox finds them, outputs within limits, each fault with its reason."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from suanli_node.engine.environment import Check, Prepared
from suanli_node.engine.runlog import Source
from suanli_node.engine.runs import RunFolder
from suanli_node.leases.intake import RunRefusedError
from suanli_node.leases.record import LeaseFolder
from suanli_node.leases.verification import Assignment, read_assignment
from suanli_node.leases.workshop import Workshop
from suanli_protocol.documents import JobDocument, PythonEnvironment, hex32, sha256
from suanli_protocol.errors import ExecutionError
from suanli_protocol.reasons import Reason
from support import builders
from support.leases import an_opened_lease


@dataclass
class Folders:
    """Run folders under one path."""

    path: Path

    def folder(self, lease_id: str) -> RunFolder:
        """Made if need be."""
        folder = RunFolder.under(self.path, lease_id)
        folder.create()
        return folder

    def forget(self, lease_id: str) -> None:
        """Removed."""
        RunFolder.under(self.path, lease_id).remove()


class Environments:
    """Prepares anything, or nothing."""

    def __init__(self, failure: str = "") -> None:
        self.failure = failure
        self.asked: list[str] = []

    def prepare(self, requirements: str, *, check: Check, **_: int) -> Prepared:
        """By name."""
        check()
        self.asked.append(requirements)
        if self.failure:
            raise ExecutionError(self.failure, code="environment_failed")
        return Prepared("env", "installed\n", cached=False)


class Bench:
    """A workshop, a lease and what was said."""

    def __init__(self, folder: Path, *, failure: str = "", blob_bytes_max: int = 10**9) -> None:
        self.folders = Folders(folder / "runs")
        self.folders.path.mkdir()
        self.lease = LeaseFolder(folder / "lease")
        self.lease.path.mkdir()
        self.environments = Environments(failure)
        self.workshop = Workshop(self.folders, self.environments, blob_bytes_max=blob_bytes_max)  # type: ignore[arg-type]
        self.said: list[tuple[Source, bytes]] = []
        self.stopped = False
        self.opened_at = int(time.time())  # read once: it is part of the lease's id

    def say(self, source: Source, data: bytes) -> None:
        self.said.append((source, data))

    def check(self) -> None:
        if self.stopped:
            raise RunRefusedError(Reason.STOPPED, "stopped")

    def assignment(self) -> Assignment:
        view = an_opened_lease(opened_at=self.opened_at).view
        return read_assignment(view, builders.provider().address, builders.a_domain())

    def unpack(self, **files: bytes) -> Path:
        for name, content in files.items():
            path = self.lease.unpacked / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return self.lease.unpacked

    def prepare(self, job: JobDocument, unpacked: Path | None) -> Any:
        return self.workshop.prepare(self.assignment(), job, unpacked, self.say, time.time() + 30, self.check)

    def run_folder(self) -> RunFolder:
        return self.folders.folder(self.assignment().id.hex())


def test_the_archive_goes_where_the_sandbox_looks(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assignment = bench.assignment()
    unpacked = bench.unpack(work__a=b"1", in__b=b"2", stray=b"3")
    spec = bench.prepare(builders.a_job(env={"A": "b"}), unpacked)
    folder = bench.folders.folder(assignment.id.hex())
    assert (folder.work / "a").read_bytes() == b"1"
    assert (folder.inputs / "b").read_bytes() == b"2"
    assert list(folder.out.iterdir()) == []
    assert (spec.argv, spec.env["A"], spec.environment) == (("python", "-c", "print(6*7)"), "b", "")
    assert spec.env["SUANLI_LEASE_ID"] == "0x" + spec.lease_id
    assert int(spec.env["SUANLI_DEADLINE"]) >= int(time.time()) + spec.seconds - 5
    assert (spec.cpus_milli, spec.memory_mib, spec.disk_mib) == (1000, 1024, 1024)


def test_preparing_twice_leaves_nothing_of_the_first_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assignment = bench.assignment()
    for content in (b"old", b"new"):
        unpacked = bench.unpack(work__a=content)
        bench.prepare(builders.a_job(), unpacked)
    assert (bench.folders.folder(assignment.id.hex()).work / "a").read_bytes() == b"new"


def with_python(requirements: bytes) -> JobDocument:
    return builders.a_job(python=PythonEnvironment(version="3.11", requirements=hex32(sha256(requirements))))


def test_an_environment_is_prepared_and_its_output_is_in_the_log(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (bench.unpack(work__a=b"") / "requirements.txt").write_bytes(b"a==1\n")
    assert bench.prepare(with_python(b"a==1\n"), bench.lease.unpacked).environment == "env"
    assert bench.environments.asked == ["a==1\n"]
    assert (Source.SETUP, b"installed\n") in bench.said


def test_a_stop_interrupts_the_making_of_an_environment(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.stopped = True
    (bench.unpack(work__a=b"") / "requirements.txt").write_bytes(b"a==1\n")
    with pytest.raises(RunRefusedError) as caught:
        bench.prepare(with_python(b"a==1\n"), bench.lease.unpacked)
    assert caught.value.reason is Reason.STOPPED


def test_an_environment_that_fails_is_the_jobs_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, failure="no such version")
    (bench.unpack(work__a=b"") / "requirements.txt").write_bytes(b"a==1\n")
    with pytest.raises(RunRefusedError, match="no such version") as caught:
        bench.prepare(with_python(b"a==1\n"), bench.lease.unpacked)
    assert caught.value.reason is Reason.ENVIRONMENT_FAILED


def collect(bench: Bench, job: JobDocument, **files: bytes) -> Any:
    assignment = bench.assignment()
    folder = bench.folders.folder(assignment.id.hex())
    for name, content in files.items():
        (folder.out / name).write_bytes(content)
    return bench.workshop.collect(assignment, assignment.id.hex(), job, bench.lease, bench.say)


def test_nothing_written_is_no_output(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    found = collect(bench, builders.a_job(outputs=("scores.json",)))
    assert (found.outputs, found.refused) == (None, False)
    assert bench.said == [(Source.NODE, b"output scores.json is missing\n")]


def test_outputs_are_listed_and_sealed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    found = collect(bench, builders.a_job(), a=b"1", b=b"22")
    assert [(file.path, file.size) for file in found.outputs.files] == [("out/a", 1), ("out/b", 2)]
    assert bench.lease.sealed_outputs.stat().st_size == found.outputs.sealed_size


@pytest.mark.parametrize("limit", ["job", "relay"])
def test_too_much_output_is_told_by_its_reason(tmp_path: Path, limit: str) -> None:
    bench = Bench(tmp_path, blob_bytes_max=10**9 if limit == "job" else 100)
    job = builders.a_job()
    if limit == "job":
        job = job.model_copy(update={"limits": job.limits.model_copy(update={"output_mib": 0})})
    with pytest.raises(RunRefusedError) as caught:
        collect(bench, job, a=b"x" * 1000)
    assert caught.value.reason is Reason.OUTPUT_EXCEEDED


def test_an_output_outside_the_work_folder_is_a_bad_job(tmp_path: Path) -> None:
    with pytest.raises(RunRefusedError) as caught:
        collect(Bench(tmp_path), builders.a_job(outputs=("../../secret",)))
    assert caught.value.reason is Reason.BAD_JOB


@pytest.mark.parametrize("path", ["x" * 300, "a/" + "x" * 300 + "/b"], ids=len)
def test_a_declared_path_that_no_file_can_have_loses_nothing_else(tmp_path: Path, path: str) -> None:
    bench = Bench(tmp_path)
    found = collect(bench, builders.a_job(outputs=(path,)), a=b"1")
    assert [file.path for file in found.outputs.files] == ["out/a"]


def test_a_path_too_long_for_the_evidence_is_left_behind_by_name(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    deep = bench.run_folder().out
    for _ in range(6):
        deep = deep / ("d" * 200)
        deep.mkdir()
    (deep / "x").write_bytes(b"1")
    found = collect(bench, builders.a_job(), a=b"1")
    assert ([file.path for file in found.outputs.files], found.refused) == (["out/a"], True)
    assert any(b"more than 1024 characters" in data for _, data in bench.said)


def test_outputs_are_taken_from_the_run_by_its_own_name(tmp_path: Path) -> None:
    """After a reorganisation a lease goes on with the run of the one in whose place it came."""
    bench = Bench(tmp_path)
    (bench.folders.folder("former").out / "a").write_bytes(b"1")
    found = bench.workshop.collect(bench.assignment(), "former", builders.a_job(), bench.lease, bench.say)
    assert found.outputs is not None
    assert [file.path for file in found.outputs.files] == ["out/a"]
