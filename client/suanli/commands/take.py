"""`suanli take`: a lease on one node's own offer, with no market between the two parties."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suanli.commands.connection import connection_options, open_client
from suanli.commands.run import agree, follow, job_of, job_options, known
from suanli.terminal.console import Console, output_options
from suanli_protocol.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from suanli.client import Client
    from suanli.jobs.job import Job
    from suanli.plan import Plan


@click.command()
@click.argument("offer", metavar="NODE")
@job_options
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the outputs go.")
@click.option("-y", "--yes", is_flag=True, help="Agree to the plan beforehand.")
@click.option("--dry-run", is_flag=True, help="Show the plan and sign nothing.")
@click.option("-d", "--detach", is_flag=True, help="Leave as soon as the provider has all that it needs.")
@click.option("--jsonl", is_flag=True, help="Print each step and log line as a JSON line.")
@click.option("--idempotency-key", default="", metavar="KEY", help="The same key again goes on with the same job.")
@connection_options
@output_options
@click.pass_context
def take(ctx: click.Context, /, offer: str, **options: Any) -> None:
    """Lease from one node directly: you open the lease and pay it out yourself, no market takes part.

    NODE is the address at which the node listens (`suanli-node up --listen` prints it; of the demo's nodes,
    `suanli demo status` does), or a file that holds it.

    \b
    suanli take http://127.0.0.1:7750 -- python -c 'print(6*7)'
    suanli take http://127.0.0.1:7750 -f job.yaml
    """
    console: Console = ctx.obj
    with open_client(console, market=address_of(offer)) as client:
        handle = known(client, options["idempotency_key"])
        if handle is None:
            job = job_of(options)
            if not options["dry_run"]:
                client.prepare_key()
            handle = agree(client, console, _plan(client, job), options)
        if handle is None:
            return
        ctx.exit(follow(console, handle, options))


def _plan(client: Client, job: Job) -> Plan:
    from suanli.take import plan_direct

    try:
        return plan_direct(client, job)
    except UnreachableError as error:
        hint = "`suanli-node up --listen` prints the address; of the demo's nodes, `suanli demo status` does"
        raise UnreachableError(error.detail.replace("the market at", "the node at"), hint=hint) from error


def address_of(offer: str) -> str:
    """The node's address; UsageError if there is none to be found."""
    if offer.startswith(("http://", "https://")):
        return offer
    path = Path(offer)
    if not path.is_file():
        raise UsageError(f"{offer}: neither a node's address nor a file", hint="write http://host:port")
    text = path.read_text()[:65_536].strip()
    if text.startswith(("http://", "https://")):
        return text
    try:
        found = json.loads(text.removeprefix("ready "))["direct"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{offer} names no node", hint='it should hold an address, or JSON with "direct"') from None
    return str(found)
