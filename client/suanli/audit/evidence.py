"""Auditing what a receipt or a claim stands on: evidence, job, bill, outputs. Reads only the outputs' files.

The chain needs none of this; a party that kept its documents can prove more. What is absent is listed as not checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from suanli.audit.books import Books
from suanli.audit.check import Checks, Subject
from suanli.audit.documents import Folder
from suanli.audit.life import Bill, LeaseLife
from suanli_protocol import billing
from suanli_protocol.documents import Document, Evidence, JobDocument, OutputFile, documents_digest, hex32
from suanli_protocol.lease import Kind


def check_documents(books: Books, life: LeaseLife, folders: list[Folder]) -> list[str]:
    """Checks every document of the lease that is at hand; returns what could not be checked, in words."""
    audit = _LeaseDocuments(books.checks, life, folders)
    audit.check()
    return audit.unchecked


class _LeaseDocuments:
    def __init__(self, checks: Checks, life: LeaseLife, folders: list[Folder]) -> None:
        self.checks, self.life = checks, life
        self.subject = Subject(life.id)
        self.all = folders
        self.own = [folder for folder in folders if folder.names(hex32(life.id))]
        self.unchecked: list[str] = []

    def check(self) -> None:
        self._attributes()
        job = self._job()
        for bill in self.life.bills:
            evidence = self._evidence(bill)
            if evidence is None:
                continue
            self._facts(bill, evidence)
            if job is None:
                self.unchecked.append("the mode of billing: the job document is not here")
            else:
                self.checks.same("evidence_billing", "billing", job.billing, evidence.billing, self.subject)
            self._bill(bill, evidence)
            self._outputs(evidence)

    def _find(
        self, code: str, name: str, digest: bytes, all_: Iterable[Document], own: Iterable[Document]
    ) -> Document | None:
        """The document of that digest. One that is claimed to be it, and is not, is a finding."""
        found = next((document for document in all_ if document.digest() == digest), None)
        if found is not None:
            self.checks.same(code, f"{name} digest", digest, digest, self.subject)
            return found
        claimed = next(iter(own), None)
        if claimed is not None:
            self.checks.same(code, f"{name} digest", digest, claimed.digest(), self.subject)
        else:
            self.unchecked.append(f"{name} {hex32(digest)}: not here")
        return None

    def _attributes(self) -> None:
        every = (item for folder in self.all for item in folder.attributes)
        own = (item for folder in self.own for item in folder.attributes)
        self._find("attributes_digest", "the provider's attributes", self.life.offer.attributes, every, own)

    def _evidence(self, bill: Bill) -> Evidence | None:
        every = (item for folder in self.all for item in folder.evidences)
        named = (item for folder in self.own for item in folder.evidences if item.lease == hex32(self.life.id))
        found = self._find("evidence_digest", "the evidence of the bill", bill.evidence, every, named)
        return found if isinstance(found, Evidence) else None

    def _job(self) -> JobDocument | None:
        """The job and constraints whose digests together are the bid's `documents`."""
        wanted, claimed = self.life.bid.documents, None
        for folder in self.all:
            for job in folder.jobs:
                for constraints in folder.constraints:
                    digest = documents_digest(job.digest(), constraints.digest())
                    if digest == wanted:
                        self.checks.same("documents_digest", "job and constraints", wanted, digest, self.subject)
                        return job
                    if folder in self.own:
                        claimed = digest
        if claimed is not None:
            self.checks.same("documents_digest", "job and constraints", wanted, claimed, self.subject)
        else:
            self.unchecked.append(f"the job and its constraints {hex32(wanted)}: not here")
        return None

    def _facts(self, bill: Bill, evidence: Evidence) -> None:
        """The evidence is about this lease and this bill, and about no more time than there was."""
        self.checks.same("evidence_lease", "lease", hex32(self.life.id), evidence.lease, self.subject)
        self.checks.same("evidence_amount", "amount", bill.amount, evidence.amount, self.subject)
        most = max(0, self.life.billable_until - self.life.state.clauses.opened_at) * 1000
        wall = evidence.usage.wall_ms
        billed = min(wall, self.life.state.clauses.max_seconds * 1000)
        self.checks.holds("evidence_time", "usage.wallMs", billed <= most, f"at most {most}", wall, self.subject)

    def _bill(self, bill: Bill, evidence: Evidence) -> None:
        state = self.life.state
        terms = (state.lease, state.clauses, self.life.offer)
        due = billing.due(*terms, evidence.billing, evidence.usage, evidence.reason)
        self.checks.same("bill", "billedSeconds", due.billed_seconds, evidence.billed_seconds, self.subject)
        self.checks.same("bill", "amount", due.amount, bill.amount, self.subject)
        if bill.kind is not Kind.INTERIM:
            self.checks.same("bill", "kind", billing.kind_of(evidence.reason), bill.kind, self.subject)

    def _outputs(self, evidence: Evidence) -> None:
        if evidence.outputs is None or not evidence.outputs.files:
            return
        root = next((folder.output_dir for folder in self.own if folder.output_dir), None)
        if root is None or not root.is_dir():
            self.unchecked.append(f"{len(evidence.outputs.files)} output files: they are not here")
            return
        for file in evidence.outputs.files:
            self._output(root, file)

    def _output(self, root: Path, file: OutputFile) -> None:
        path = root / file.path
        inside = path.resolve().is_relative_to(root.resolve())
        if not inside or not path.is_file():
            self.unchecked.append(f"output {file.path}: not in {root}")
            return
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        self.checks.same("output_digest", file.path, file.sha256, hex32(digest.digest()), self.subject)
