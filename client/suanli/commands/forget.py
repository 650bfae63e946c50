"""`suanli forget`: what this machine keeps of jobs that are over, removed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from suanli.commands.connection import connection_options, open_client
from suanli.terminal.console import Console, output_options
from suanli_protocol.errors import UsageError

if TYPE_CHECKING:
    from suanli.jobs.record import Record


@click.command()
@click.argument("jobs", nargs=-1, metavar="JOB...")
@click.option("--older", metavar="TIME", help="All jobs that are over and were submitted longer ago, such as 30d.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@connection_options
@output_options
@click.pass_obj
def forget(console: Console, jobs: tuple[str, ...], older: str | None, yes: bool) -> None:
    """Remove the logs, outputs and papers that are kept here of jobs that are over.

    What was unpacked into a folder of yours stays. Without the papers an audit from here can say less.
    """
    if bool(jobs) == bool(older):
        raise UsageError("say which jobs", hint="suanli forget ID, or suanli forget --older 30d")
    with open_client(console) as client:
        if older:
            known = [handle.record for handle in client.jobs()]
            before = int(time.time()) - _seconds(older)
            records = [record for record in known if record.is_over and record.created_at < before]
        else:
            records = [client.job_here(word).record for word in jobs]
        _check(records)
        size = sum(client.store.size(record.id) for record in records)
        if records and not yes and not console.confirm(_question(records, size)):
            return
        for record in records:
            client.store.forget(record.id)
    if console.json:
        console.dump({"forgotten": [record.id for record in records], "bytes": size})
        return
    for record in records:
        console.data(record.id)
    if not records:
        console.note("No job is over and that old.")


def _seconds(text: str) -> int:
    from suanli_protocol.units import parse_duration

    days = text.removesuffix("d")
    return int(days) * 86_400 if text.endswith("d") and days.isdigit() else parse_duration(text, name="--older")


def _check(records: list[Record]) -> None:
    for record in records:
        if not record.is_over:
            raise UsageError(
                f"{record.short} is {record.phase}: its papers are what brings its money back",
                hint=f"suanli cancel {record.short}, then suanli wait {record.short}",
                code="not_over",
            )


def _question(records: list[Record], size: int) -> str:
    from suanli_protocol.units import format_bytes

    what = records[0].short if len(records) == 1 else f"{len(records)} jobs"
    return f"Forget {what} ({format_bytes(size)} of papers, logs and outputs)?"
