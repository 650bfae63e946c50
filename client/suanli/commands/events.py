"""`suanli events`: what the market told about bids and leases of this key, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from suanli.commands.connection import connection_options, open_client
from suanli.terminal.console import Console, jsonl_option, output_options
from suanli.terminal.failure import DetachedError

if TYPE_CHECKING:
    from suanli.jobs.record import Record
    from suanli_protocol import wire

FIRST_S = 10.0  # for the market to begin to tell
QUIET_S = 1.0  # of silence: all that has been is told
PACE_S = 60.0


@click.command()
@click.argument("job", required=False, default="")
@click.option("-w", "--watch", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="SEQ", help="Only events with a higher number.")
@jsonl_option("Print each event as a JSON line.")
@connection_options
@output_options
@click.pass_obj
def events(console: Console, job: str, watch: bool, after: int, jsonl: bool) -> None:
    """What happened to your bids and leases, as the market told it; of one JOB only, if it is named."""
    with open_client(console) as client:
        is_mine = _only(client.job(job).record) if job else _any
        client.signer  # noqa: B018  # the market tells a key's events to that key alone
        names = {handle.record.bid_hash: handle.record for handle in client.jobs()}
        names |= {handle.record.lease: handle.record for handle in client.jobs() if handle.record.lease}
        found: list[dict[str, Any]] = []

        def tell(event: wire.Event) -> None:
            record = names.get(event.lease or "") or names.get(event.bid or "")
            if jsonl or (console.json and watch):
                console.line(as_json(event, record))
            elif console.json:
                found.append(as_json(event, record))
            else:
                from suanli.terminal.events import line

                console.data(line(event, record))

        _follow(console, client.network.market, is_mine, tell, after=after, watch=watch)
        if console.json and not watch and not jsonl:
            console.dump(found)


def _any(_: wire.Event) -> bool:
    return True


def _only(record: Record) -> Callable[[wire.Event], bool]:
    return lambda event: (record.lease != "" and event.lease == record.lease) or event.bid == record.bid_hash


def as_json(event: wire.Event, record: Record | None) -> dict[str, Any]:
    """The market's own event (times in ms of Unix UTC), with the job that it is about if this machine knows it."""
    return event.to_json() | {"job": record.id if record is not None else None}


def _follow(
    console: Console,
    market: Any,
    is_mine: Callable[[wire.Event], bool],
    tell: Callable[[wire.Event], None],
    *,
    after: int,
    watch: bool,
) -> None:
    """Tells what comes, to the first silence or for ever; watching, a stream that breaks is read on."""
    from suanli.session.feed import Feed

    try:
        with Feed(market, is_mine, after=after) as feed:
            patience, said = FIRST_S, ""
            while True:
                found = feed.wait(PACE_S if watch else patience)
                for event in found:
                    tell(event)
                trouble = feed.trouble
                if trouble is not None and not watch:
                    raise trouble
                if trouble is not None and trouble.detail != said:
                    said = trouble.detail
                    console.warn(f"{trouble.detail}; trying again")
                if not found and not watch:
                    return
                patience = QUIET_S
    except KeyboardInterrupt:
        raise DetachedError("no longer watching; the jobs go on", hint="suanli events -w") from None
