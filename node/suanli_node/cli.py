"""The command `suanli-node`: sell this machine's idle hours, and see how that goes."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from suanli_protocol.errors import SuanliError
from suanli_protocol.logs import FORMATS, LEVELS, log_to

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
WHOLE = click.IntRange(1, 2**31)
NOBODY = "0x" + "00" * 20
INTERRUPTED = 130


def options(*added: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in this order."""

    def add(function: F) -> F:
        for option in reversed(added):
            function = option(function)
        return function

    return add


STATE = click.option("--state", type=FOLDER, required=True, envvar="SUANLI_NODE_STATE", help="Folder of this node.")
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
CONNECTIONS = options(
    click.option("--market", required=True, envvar="SUANLI_MARKET", help="URL of the market."),
    click.option("--chain", required=True, envvar="SUANLI_CHAIN", help="URL of a chain endpoint that you trust."),
    click.option("--escrow", required=True, envvar="SUANLI_ESCROW", help="Address of the escrow."),
    click.option("--keystore", type=FILE, required=True, envvar="SUANLI_KEYSTORE", help="Encrypted key file."),
    click.option("--password-file", type=FILE, envvar="SUANLI_PASSWORD_FILE", help="0600 file with its password."),
    STATE,
)
GOODS = options(
    click.option("--name", required=True, help="Name of this machine, shown with its offers."),
    click.option("--region", default="", help="ISO 3166-2, such as CN-GD."),
    click.option("--cpus", help="Cores for sale; default: all but a reserve."),
    click.option("--memory", help="Memory for sale, such as 8GB; default: all but a reserve."),
    click.option("--disk", help="Disk for sale, such as 100GB; default: all but a reserve."),
    click.option("--accelerators", type=click.IntRange(0), help="Whole accelerators for sale; default: all."),
    click.option("--price-core", default="0.03", show_default=True, help="Per core and hour."),
    click.option("--price-memory", default="0.005", show_default=True, help="Per GiB of memory and hour."),
    click.option("--price-disk", default="0.0001", show_default=True, help="Per GiB of disk and hour."),
    click.option("--price-accelerator", default="0.50", show_default=True, help="Per accelerator and hour."),
    click.option("--listen", default="", metavar="HOST:PORT", help="Deal without a market too: listen for consumers."),
    click.option("--index", default="", help="Where Python environments come from: a URL, a folder, or default."),
    click.option("--index-certificates", type=FILE, envvar="SSL_CERT_FILE", help="Authorities that uv shall trust."),
    click.option("--max-seconds", default=86_400, show_default=True, type=WHOLE, help="Longest lease."),
    click.option("--max-window", default=86_400, show_default=True, type=WHOLE, help="Longest window."),
    click.option("--min-window", type=WHOLE, help="Shortest window to run under; default: 600, on a devnet 10."),
    click.option("--arbiter", default=NOBODY, envvar="SUANLI_ARBITER", help="Who judges disputes; default: nobody."),
    click.option("--cache", default="32GiB", show_default=True, help="Disk for prepared environments."),
    click.option("--keep-days", default=400, show_default=True, type=WHOLE, help="How long receipts are kept."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="suanli", prog_name="suanli-node", message="%(prog)s %(version)s")
def cli() -> None:
    """Sell this machine's idle hours on an open market: jobs run sandboxed, and are paid from an escrow."""


@cli.command()
@CONNECTIONS
@GOODS
@click.option("--log-level", default="info", show_default=True, type=click.Choice(LEVELS))
@click.option("--log-format", default="text", show_default=True, type=click.Choice(FORMATS), help="How it is written.")
def up(log_level: str, log_format: str, **given: Any) -> None:
    """Serve until SIGTERM: publish an offer, run what is leased, bill it.

    Ending the daemon withdraws its offer; jobs that run go on, and the next `up` finds them again. `down` ends them.
    """
    from suanli_node.startup import serve

    log_to(level=log_level, form=log_format)
    serve(_settings(given))


@cli.command()
@STATE
@JSON
def down(state: Path, as_json: bool) -> None:
    """End the daemon, the engine that it leaves running, and all jobs in it; wait until they are gone."""
    from suanli_node.shutdown import shut_down

    ended = shut_down(state)
    click.echo(json.dumps(ended) if as_json else f"daemon: {ended['daemon']} · engine: {ended['engine']}")


@cli.command()
@STATE
@JSON
@click.option("--offline", is_flag=True, help="Do not ask the chain.")
def status(state: Path, as_json: bool, offline: bool) -> None:
    """What this node is and has, its open leases, and what is due for each."""
    from suanli_node.report import node_status, render_status

    found = node_status(state, ask_chain=not offline)
    click.echo(json.dumps(found) if as_json else render_status(found))


@cli.command()
@STATE
@JSON
@click.option("--csv", "as_csv", is_flag=True, help="One line a lease.")
def earnings(state: Path, as_json: bool, as_csv: bool) -> None:
    """What closed leases brought, by day; gas apart. Amounts in JSON and CSV are base units and wei."""
    from suanli_node import earnings as report
    from suanli_node.connections import Connections
    from suanli_node.settings import StateFolder

    folder = StateFolder(state.resolve())
    known = Connections.read(folder)
    found = report.earnings(folder)
    if as_csv:
        click.echo(report.as_csv(found), nl=False)
    else:
        money = report.Money(known.symbol, known.decimals)
        click.echo(json.dumps(found) if as_json else report.render_earnings(found, money))


@cli.command()
@STATE
@JSON
def offers(state: Path, as_json: bool) -> None:
    """This node's offers on the market's book."""
    from suanli_node.offered import own_offers, render_offers

    found = own_offers(state)
    click.echo(json.dumps(found) if as_json else render_offers(found))


def _mode(name: str, mode: str, text: str) -> None:
    @cli.command(name, help=text)
    @STATE
    @JSON
    def command(state: Path, as_json: bool) -> None:
        from suanli_node.control import Mode, write_mode
        from suanli_node.settings import StateFolder

        write_mode(StateFolder(state.resolve()), Mode(mode))
        click.echo(json.dumps({"mode": mode}) if as_json else mode)


_mode("pause", "paused", "Take the offer off the book: nothing new is leased, what runs goes on.")
_mode("resume", "selling", "Sell again.")
_mode("drain", "draining", "Pause, and end the daemon once its last lease is closed.")


def _way_out(name: str, text: str) -> None:
    @cli.command(name, help=text)
    @click.argument("lease")
    @STATE
    @JSON
    def command(lease: str, state: Path, as_json: bool) -> None:
        _do(state, {"what": name, "lease": lease}, as_json)


_way_out("settle", "Submit the receipt of LEASE with the consumer's signature, without the market.")
_way_out("claim", "Claim what the receipt of LEASE is over, without the consumer.")
_way_out("finalize", "End the claim of LEASE once nobody can dispute it any more.")
_way_out("stop", "End the billable time of LEASE now.")
_way_out("release", "Give LEASE back: costs the shortest billed time, at most the bond.")


@cli.command()
@click.argument("amount", required=False)
@STATE
@JSON
def withdraw(amount: str | None, state: Path, as_json: bool) -> None:
    """Pay free money out to the account's owner: AMOUNT in the token's currency, default all."""
    from suanli_node.connections import Connections
    from suanli_node.settings import StateFolder
    from suanli_protocol.units import parse_money

    decimals = Connections.read(StateFolder(state.resolve())).decimals
    units = None if amount is None else str(parse_money(amount, decimals, name="AMOUNT"))
    _do(state, {"what": "withdraw", "amount": units}, as_json)


def _do(state: Path, request: dict[str, Any], as_json: bool) -> None:
    """Have the daemon do it, or do it here while none serves this state."""
    from suanli_node.alone import do
    from suanli_node.settings import StateFolder

    found = do(StateFolder(state.resolve()), request)
    said = f"{found['what']} {found['lease']} in block {found['block']}: transaction {found['transaction']}"
    click.echo(json.dumps(found) if as_json else " ".join(said.split()))


@cli.command()
@CONNECTIONS
@click.option("--index", default="", help="As for `up`.")
@click.option("--index-certificates", type=FILE, envvar="SSL_CERT_FILE", help="As for `up`.")
@JSON
def doctor(as_json: bool, **given: Any) -> None:
    """Check all that a node needs, with the fix for what is missing. Exit 0 only if nothing is."""
    from suanli_node.doctor import examine, render_findings

    findings = examine(_settings(given | {"name": "doctor"}))
    click.echo(json.dumps([finding.to_json() for finding in findings]) if as_json else render_findings(findings))
    click.get_current_context().exit(0 if all(finding.ok for finding in findings) else 2)


def _settings(given: dict[str, Any]) -> Any:
    """Settings from the options of a command; UsageError for one that makes no sense."""
    from suanli_node.settings import read_settings

    return read_settings(given)


def main() -> None:
    """The entry point of the console script: errors become words on stderr and an exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit status of a command line."""
    try:
        status = cli.main(arguments, prog_name="suanli-node", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except SuanliError as error:
        _tell(error, as_json="--json" in arguments)
        return error.exit_status
    except click.ClickException as error:
        error.show(sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception:
        traceback.print_exc(file=sys.stderr)
        click.echo("This is a bug in suanli-node; please report it with the lines above.", err=True)
        return 1


def _tell(error: SuanliError, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(error.as_problem()), err=True)
        return
    click.echo(f"Error  {error.detail}\n       {error.title} ({error.code})", err=True)
    if error.hint:
        click.echo(f"Try    {error.hint}", err=True)


if __name__ == "__main__":
    main()
