"""`suanli audit`: recompute leases from the chain and the signed papers; exit 0 only if everything matches.

Exit statuses: 0 all matches · 104 something does not · 102 no such lease · 6 the chain cannot be reached · 2 usage.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from suanli import config
from suanli.files import data_home
from suanli.terminal.console import Console, output_options
from suanli_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from suanli.audit.report import AuditReport

F = TypeVar("F", bound=Callable[..., Any])


def _place_options(command: F) -> F:
    """Where to read: chain and escrow; and the documents that were kept."""
    options = (
        click.option("--chain", metavar="URL", help="Any JSON-RPC endpoint of the chain."),
        click.option("--escrow", metavar="0x…", help="The escrow's address."),
        click.option(
            "--documents",
            metavar="DIR",
            type=click.Path(path_type=Path),
            help="Folder with job, evidence and other documents; default: the jobs that this machine remembers.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return output_options(command)


@click.group()
def audit() -> None:
    """Recompute leases from the chain and the signed papers: no market, no key, no trust.

    Exits with 0 only if everything matches, with 104 if something does not.
    """


@audit.command()
@click.argument("which", metavar="N|0x…")
@_place_options
@click.pass_obj
def lease(console: Console, which: str, chain: str | None, escrow: str | None, documents: Path | None) -> None:
    """One lease, by its number or by 0x and the beginning of its id."""
    from suanli.audit import audit_lease
    from suanli.deployments import memory_file

    url, address = _place(chain, escrow)
    _tell(console, audit_lease(url, address, which, _documents(documents), memory=memory_file()))


@audit.command(name="job")
@click.argument("word", metavar="JOB")
@_place_options
@click.pass_obj
def job_(console: Console, word: str, chain: str | None, escrow: str | None, documents: Path | None) -> None:
    """Every attempt of one job, by its name, or by 0x and the beginning of its id."""
    from suanli.audit import audit_job
    from suanli.deployments import memory_file

    url, address = _place(chain, escrow)
    _tell(console, audit_job(url, address, _id_of(word), _documents(documents), memory=memory_file()))


def _id_of(word: str) -> str:
    """The id of a job that this machine knows; else the word, which may be another's id."""
    from suanli.jobs.store import Store, resolve
    from suanli_protocol.errors import NotFoundError

    try:
        return resolve(word, Store().all()).id
    except NotFoundError:
        return word


@audit.command(name="all")
@_place_options
@click.pass_obj
def all_(console: Console, chain: str | None, escrow: str | None, documents: Path | None) -> None:
    """Every lease and every account of the escrow."""
    from suanli.audit import audit_all
    from suanli.deployments import memory_file

    url, address = _place(chain, escrow)
    _tell(console, audit_all(url, address, _documents(documents), memory=memory_file()))


def _place(chain: str | None, escrow: str | None) -> tuple[str, str]:
    settings = config.load({"chain": chain, "escrow": escrow})
    return settings.require("chain"), settings.require("escrow")


def _documents(given: Path | None) -> Path | None:
    """The folder given, else the client's own records if there are any."""
    if given is not None:
        return given
    own = data_home() / "jobs"
    return own if own.is_dir() else None


def _tell(console: Console, report: AuditReport) -> None:
    """The report on stdout; IntegrityError if anything does not match."""
    if console.json:
        console.dump(report.to_json())
    else:
        from suanli.audit.view import lines

        for line in lines(report):
            console.data(line)
    if not report.ok:
        first, found = report.findings[0], len(report.findings)
        count = "one check does" if found == 1 else f"{found} checks do"
        raise IntegrityError(
            f"{count} not match; the first: {first.code} ({first.member})",
            hint="ask another chain endpoint with --chain: if it agrees, the ledger itself breaks the rules",
            code="audit",
        )
