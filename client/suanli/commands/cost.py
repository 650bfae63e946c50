"""`suanli cost`: what jobs have cost; price, market fee and gas in columns of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from suanli.commands.connection import connection_options, open_client
from suanli.terminal.console import Console, output_options
from suanli_protocol.errors import UsageError

if TYPE_CHECKING:
    from suanli.costs import Cost


@click.command()
@click.option("--by", type=click.Choice(["job", "provider", "day"]), default="job", show_default=True)
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option(
    "-a", "--all", "everything", is_flag=True, help="Also jobs of other machines, as the market reports them."
)
@connection_options
@output_options
@click.pass_obj
def cost(console: Console, by: Literal["job", "provider", "day"], as_csv: bool, everything: bool) -> None:
    """What your settled jobs have cost. Days are days of UTC.

    Gas is what the market spent to open and settle; it is not on your bill.
    """
    from suanli import costs as bills

    if as_csv and console.json:
        raise UsageError("--csv and --json exclude each other", hint="leave one of them out")
    with open_client(console) as client:
        records = [handle.record for handle in client.jobs()]
        if everything:
            records += client.adopt_leases(as_reported=True)
    rows = bills.costs(records, by)
    if as_csv:
        click.echo(bills.as_csv(rows, by), nl=False)
    elif console.json:
        console.dump({"by": by, "rows": [row.to_json(by) for row in rows], "totals": _totals(rows)})
    elif rows:
        from suanli.terminal import render

        render.show(render.costs(rows, bills.totals(rows), by))
    else:
        console.note("Nothing is settled yet.")


def _totals(rows: list[Cost]) -> list[dict[str, object]]:
    from suanli.costs import totals

    return [
        {name: value for name, value in row.to_json("job").items() if name not in ("job", "name")}
        for row in totals(rows)
    ]
