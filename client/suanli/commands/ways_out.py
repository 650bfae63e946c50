"""`suanli stop|settle|dispute|reclaim|finalize|resolve`: acting on a lease by oneself, on the chain, with no market."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from suanli.commands.connection import connection_options, open_client
from suanli.terminal.console import Console, output_options

if TYPE_CHECKING:
    from suanli.client import Client
    from suanli.lease_actions import Acted
    from suanli_protocol.escrow import Escrow, TxReceipt
    from suanli_protocol.lease_lookup import FoundLease

LEASE = click.argument("lease", metavar="LEASE")


def _act(console: Console, word: str, change: str, *rest: Any) -> None:
    """Finds the lease, makes the change, says what the lease is now."""
    from suanli.lease_actions import act, find, on_terms

    with open_client(console) as client:
        client.prepare_key()
        acted = act(client, find(client, word), change, on_terms(change, client.signer, *rest))
        _tell(console, client, change, acted)


def _tell(console: Console, client: Client, change: str, acted: Acted) -> None:
    history, lease = acted.now.history, "0x" + acted.now.id.hex()
    if console.json:
        facts: dict[str, Any] = {
            "lease": lease,
            "change": change,
            "state": history.state,
            "paid": str(history.paid),
            "transaction": "0x" + acted.transaction.hex() if acted.transaction else None,
        }
        console.dump(facts)
        return
    from suanli.lease_actions import ways
    from suanli_protocol.units import format_money

    token = client.network.escrow.token
    paid, claimed = (
        f"{format_money(amount, token.decimals)} {token.symbol}" for amount in (history.paid, history.progress.claimed)
    )
    words = f"the lease is {history.state}; {paid} were paid"
    if history.closed_by is None and history.progress.claimed:
        words += f", {claimed} are claimed"
    console.data(words if acted.transaction else f"nothing was left to do: {words}")
    open_ways = [] if acted.transaction else [way for way in ways(client, acted.now) if way != "settle"]
    console.next(*(f"suanli {way} {lease}" for way in open_ways), f"suanli audit lease {lease}")


@click.command()
@LEASE
@connection_options
@output_options
@click.pass_obj
def stop(console: Console, lease: str) -> None:
    """End the billable time of a running lease: as its consumer, guard or provider.

    LEASE is a job (its name or id), or a lease's number or id. What was used until now stays to be paid.
    """
    _act(console, lease, "stop")


@click.command()
@LEASE
@connection_options
@output_options
@click.pass_obj
def dispute(console: Console, lease: str) -> None:
    """Challenge what the provider claimed, within the window: as the consumer or its guard.

    The lease's arbiter then decides. Whoever is wrong pays a tenth of what is disputed; if the arbiter stays silent,
    half of it is paid.
    """
    _act(console, lease, "dispute")


@click.command()
@LEASE
@connection_options
@output_options
@click.pass_obj
def reclaim(console: Console, lease: str) -> None:
    """Take the deposit back from a provider that never billed, once end and window are over: anyone may.

    The provider's whole bond comes with it.
    """
    _act(console, lease, "reclaim")


@click.command()
@LEASE
@connection_options
@output_options
@click.pass_obj
def finalize(console: Console, lease: str) -> None:
    """End a claim whose window is over, or a dispute that nobody judged: anyone may."""
    _act(console, lease, "finalize")


@click.command()
@LEASE
@connection_options
@output_options
@click.pass_obj
def settle(console: Console, lease: str) -> None:
    """Submit the receipt that both sides signed, without the market.

    LEASE is a job of this machine, by its name, its id or its lease's number. Its receipt must have been checked and
    signed (`suanli wait` does).
    """
    from suanli import lease_actions
    from suanli.jobs.store import resolve
    from suanli_protocol.errors import NotFoundError

    with open_client(console) as client:
        try:
            record = resolve(lease, client.store.all())
        except NotFoundError:
            raise NotFoundError(f"{lease} is no job of this machine", hint="suanli ps -a") from None
        found, signer = lease_actions.find(client, record.id), client.signer

        def send(escrow: Escrow, lease: FoundLease) -> TxReceipt:
            return escrow.settle(signer, [lease_actions.settlement(record, lease)])

        _tell(console, client, "settle", lease_actions.act(client, found, "settle", send))


@click.command()
@LEASE
@click.option("--award", required=True, help="What the provider gets in all, in the currency.")
@click.option("--slash", default="0", show_default=True, help="What of its bond goes to the consumer.")
@connection_options
@output_options
@click.pass_obj
def resolve(console: Console, lease: str, award: str, slash: str) -> None:
    """Decide a dispute: as the arbiter that both papers name."""
    from suanli_protocol.units import parse_money

    with open_client(console) as client:
        decimals = client.network.escrow.token.decimals
    amounts = (parse_money(award, decimals, name="--award"), parse_money(slash, decimals, name="--slash"))
    _act(console, lease, "resolve", *amounts, bytes(32))
