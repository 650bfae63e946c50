"""The client's jobs on this machine: one private folder a job, one atomic record in it.

A record is written before the side effect that it is about, so that a client that dies can take the same step again:
the seat makes submission idempotent, sealed files are kept until the relay has them.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from suanli.files import data_home, private_dir, write_json
from suanli.jobs.record import Record
from suanli_protocol.errors import IntegrityError, NotFoundError, UsageError

_ID = re.compile(r"^0x[0-9a-f]{64}$")
_PREFIX = re.compile(r"^(0x)?[0-9a-fA-F]{1,64}$")


class Store:
    """The jobs under `<data home>/jobs`."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or data_home()

    @property
    def jobs_dir(self) -> Path:
        """The folder with one folder per job."""
        return self.root / "jobs"

    def folder(self, job: str) -> Path:
        """The private folder of a job, made if need be."""
        if not _ID.match(job):
            raise ValueError(f"{job!r} is no job id")
        private_dir(self.jobs_dir)
        return private_dir(self.jobs_dir / job)

    def save(self, record: Record) -> None:
        """Writes a record; on the disk when this returns."""
        write_json(self.folder(record.id) / "record.json", record.to_json())

    def load(self, job: str) -> Record:
        """The record of a full id; NotFoundError if this machine has none."""
        path = self.jobs_dir / job / "record.json"
        try:
            data = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"this machine knows no job {job}", hint="`suanli ps -a` lists all") from None
        except ValueError:
            raise IntegrityError(f"{path} is not JSON", hint="move the file away") from None
        return Record.from_json(data, place=str(path))

    @contextmanager
    def care(self, job: str) -> Iterator[bool]:
        """Whether this process alone takes care of the job while the context is open; another one may be at it."""
        with (self.folder(job) / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True  # closing the file lets go

    def all(self) -> list[Record]:
        """All records, newest first."""
        if not self.jobs_dir.is_dir():
            return []
        found = [self.load(path.parent.name) for path in self.jobs_dir.glob("0x*/record.json")]
        return sorted(found, key=lambda record: (record.created_at, record.id), reverse=True)

    def by_key(self, key: str, *, escrow: str, consumer: str) -> Record | None:
        """The job that was submitted under an idempotency key by this consumer on this escrow."""
        for record in self.all():
            same = record.escrow.lower() == escrow.lower() and record.bid["consumer"].lower() == consumer.lower()
            if record.idempotency_key == key and same:
                return record
        return None

    def size(self, job: str) -> int:
        """How many bytes a job's folder holds."""
        return sum(path.lstat().st_size for path in (self.jobs_dir / job).rglob("*") if not path.is_dir())

    def forget(self, job: str) -> None:
        """Removes a job's folder with all that is in it."""
        shutil.rmtree(self.jobs_dir / job, ignore_errors=True)


def resolve(word: str, records: Iterable[Record]) -> Record:
    """The job that a name, a lease number, or an unambiguous prefix of a job's id, else of a lease's id, means.

    UsageError lists the candidates if there are several, NotFoundError if there is none. The newest of several jobs of
    one name is not guessed.
    """
    known = list(records)
    if not word:
        raise UsageError("an empty id names no job", hint="`suanli ps -a` lists all")
    exact = [record for record in known if word in (record.id, record.lease)]
    named = [record for record in known if record.name == word]
    numbered = [record for record in known if record.number and str(record.number) == word]
    for candidates in (exact, named, numbered, _by_prefix(word, known, "id"), _by_prefix(word, known, "lease")):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            listed = "\n".join(f"{record.id}  {record.phase:9}  {record.name}" for record in candidates[:10])
            raise UsageError(
                f"{word!r} means {len(candidates)} jobs:\n{listed}", hint="give more of the id", code="ambiguous"
            )
    raise NotFoundError(f"no job is called {word!r}", hint="`suanli ps -a` lists all")


def _by_prefix(word: str, known: list[Record], member: str) -> list[Record]:
    if not _PREFIX.match(word):
        return []
    prefix = "0x" + word.lower().removeprefix("0x")
    if prefix == "0x":
        return []
    return [record for record in known if str(getattr(record, member)).startswith(prefix)]
