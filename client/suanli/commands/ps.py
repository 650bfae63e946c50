"""`suanli ps`: the jobs, how far they are, and how far their money reaches."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from suanli.commands.connection import connection_options, open_client
from suanli.terminal.console import Console, jsonl_option, output_options
from suanli.terminal.failure import DetachedError
from suanli_protocol.errors import SuanliError, UsageError
from suanli_protocol.reasons import Phase

if TYPE_CHECKING:
    from suanli.client import Client
    from suanli.handle import JobHandle
    from suanli.jobs.record import Record

SHOWN = 10  # jobs, unless all are asked for or more go on
PACE_S = 2.0


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that are over, and those of other machines.")
@click.option("-w", "--watch", is_flag=True, help="Go on showing, until Ctrl-C.")
@jsonl_option("With -w: print a JSON line for each job that changed.")
@connection_options
@output_options
@click.pass_obj
def ps(console: Console, everything: bool, watch: bool, jsonl: bool) -> None:
    """Your jobs: those that go on, and the last few that are over; all with -a.

    `left` is what remains of a running lease's time and money; 20 % and 5 % are warned of.
    """
    if watch and not jsonl and not sys.stdout.isatty():
        raise UsageError("ps -w draws on a terminal, and there is none", hint="add --jsonl for a line a change")
    with open_client(console) as client:
        if watch:
            _watch(console, client, everything=everything, jsonl=jsonl)
            return
        records = _records(console, client, everything=everything)
        if console.json or jsonl:
            found = [_summary(client, record) for record in records]
            if jsonl:
                for item in found:
                    console.line(item)
            else:
                console.dump(found)
            return
        if not records:
            console.note("No jobs yet.")
            console.next("suanli run -- python -c 'print(6*7)'", *([] if everything else ["suanli ps -a"]))
            return
        from suanli.terminal import render

        render.show(render.jobs(records))
        _warn(console, records)
        _name_unsigned(console, records)


def _watch(console: Console, client: Client, *, everything: bool, jsonl: bool) -> None:
    """Shows again and again; a warning is given once a lease and level."""
    if any(not handle.record.is_over for handle in client.jobs()):
        client.signer  # noqa: B018  # a password is asked for before the screen is cleared
    told: dict[str, Any] = {}
    warned: set[tuple[str, str]] = set()
    try:
        while True:
            records = _records(console, client, everything=everything)
            if jsonl:
                _tell_changes(console, client, records, told)
            else:
                _draw(records)
            _warn(console, records, warned if jsonl else None)
            time.sleep(PACE_S)
    except KeyboardInterrupt:
        raise DetachedError("no longer watching; the jobs go on", hint="suanli ps -w") from None


def _tell_changes(console: Console, client: Client, records: Sequence[Record], told: dict[str, Any]) -> None:
    for record in records:
        item = _summary(client, record)
        steady = {name: value for name, value in item.items() if name != "runway"}
        if told.get(record.id) != steady:
            told[record.id] = steady
            console.line(item)


def _draw(records: Sequence[Record]) -> None:
    from suanli.terminal import render

    click.echo("\x1b[H\x1b[2J", nl=False)
    click.echo(f"{render.local_time(int(time.time()))}   Ctrl-C ends the watching, not the jobs\n")
    render.show(render.jobs(records))


def _warn(console: Console, records: Sequence[Record], warned: set[tuple[str, str]] | None = None) -> None:
    """Leases that near their end; each once for its level if `warned` remembers."""
    from suanli.runway import runway_of
    from suanli_protocol.units import format_duration

    for record in records:
        runway = runway_of(record, int(time.time()))
        key = (record.id, runway.level if runway else "")
        if runway is None or not runway.level or (warned is not None and key in warned):
            continue
        if warned is not None:
            warned.add(key)
        left = f"{format_duration(runway.seconds)}, {runway.percent} % of its lease"
        console.warn(f"{record.short} has {left} left: then it is ended, and what it has printed and left counts")


def _records(console: Console, client: Client, *, everything: bool) -> list[Record]:
    handles = client.jobs()
    refresh(console, client, handles)
    records = [handle.record for handle in handles]
    if everything:
        return records + _elsewhere(console, client)
    going = [record for record in records if not record.is_over]
    return going + [record for record in records if record.is_over][: max(0, SHOWN - len(going))]


def _summary(client: Client, record: Record) -> dict[str, Any]:
    from suanli.commands.run import summary
    from suanli.handle import JobHandle

    return summary(JobHandle(client, record))


def refresh(console: Console, client: Client, handles: list[JobHandle]) -> None:
    """Looks at each job that goes on, if that needs no one to type a password."""
    going = [handle for handle in handles if not handle.record.is_over]
    if not going or not (client.config.get("password_file") or client.is_unlocked):
        return
    for handle in going:
        try:
            handle.refresh(is_patient=False)
        except SuanliError as error:
            console.warn(f"{handle.record.short}: {error.detail}")


def _elsewhere(console: Console, client: Client) -> list[Record]:
    if not client.config.get("market") or not client.config.get("password_file"):
        return []
    try:
        return client.adopt_leases(as_reported=True)
    except SuanliError as error:
        console.warn(f"the market's leases are not listed: {error.detail}")
        return []


def _name_unsigned(console: Console, records: Sequence[Record]) -> None:
    unsigned = [record.short for record in records if record.phase in (Phase.SUCCEEDED, Phase.FAILED)]
    if unsigned:
        console.note("\nWhat has ended is paid, and the rest comes back, once you have waited for it.")
        console.next(*(f"suanli wait {short}" for short in unsigned[:3]))
