"""The audit: from a chain endpoint and an escrow's address alone, whether every lease was priced and paid as signed.

No market, no key, no trust: the history is read, replayed by the protocol's own rules, and compared with the state on
the chain. With the documents that a party kept, the bill itself is recomputed. `memory` is a file in which may stand,
and will, since when the escrow is on its chain: the history is read from there on.
"""

from __future__ import annotations

from pathlib import Path

from suanli.audit.books import Books
from suanli.audit.documents import Folder, read_folders
from suanli.audit.evidence import check_documents
from suanli.audit.facts import History
from suanli.audit.history import read_history, read_snapshot
from suanli.audit.replay import replay
from suanli.audit.report import AuditReport, find_attempts, find_lease, report_all, report_some
from suanli_protocol.chain import Chain


def audit_lease(
    chain_url: str, escrow: str, which: str, documents: Path | None = None, *, memory: Path | None = None
) -> AuditReport:
    """Audits one lease, by number or prefix of its id. Errors: unknown lease, unreachable chain, no escrow there."""
    history, books = _read(chain_url, escrow, memory)
    lease = find_lease(books, which)
    unchecked = _check_documents(books, _folders(documents), {lease.id})
    return report_some(history, books, [lease], unchecked)


def audit_job(
    chain_url: str, escrow: str, job: str, documents: Path | None = None, *, memory: Path | None = None
) -> AuditReport:
    """Audits every attempt of one job, by a prefix of its id. Errors as `audit_lease`'s."""
    history, books = _read(chain_url, escrow, memory)
    leases = find_attempts(books, job)
    unchecked = _check_documents(books, _folders(documents), {lease.id for lease in leases})
    return report_some(history, books, leases, unchecked)


def audit_all(chain_url: str, escrow: str, documents: Path | None = None, *, memory: Path | None = None) -> AuditReport:
    """Audits every lease and every account of an escrow. Errors: unreachable chain, no escrow there."""
    history, books = _read(chain_url, escrow, memory)
    unchecked = _check_documents(books, _folders(documents))
    return report_all(history, books, unchecked)


def _read(chain_url: str, escrow: str, memory: Path | None) -> tuple[History, Books]:
    with Chain(chain_url) as chain:
        history = read_history(chain, escrow, memory)
        return history, replay(history, read_snapshot(chain, history))


def _folders(documents: Path | None) -> list[Folder]:
    return read_folders(documents) if documents is not None else []


def _check_documents(books: Books, folders: list[Folder], only: set[bytes] | None = None) -> dict[bytes, list[str]]:
    lives = [life for life in books.lives if only is None or life.id in only]
    return {life.id: check_documents(books, life, folders) for life in lives}
