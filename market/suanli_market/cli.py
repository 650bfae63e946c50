"""The command line of a market's operator. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from suanli_protocol.errors import SuanliError
from suanli_protocol.logs import FORMATS, LEVELS, log_to

SWITCH_S = 0.001  # requests need not wait five milliseconds for a thread that hashes
F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
RATE = click.IntRange(0, 1_000_000)


DATA = click.option(
    "--data",
    envvar="SUANLI_MARKET_DATA",
    required=True,
    type=click.Path(path_type=Path, file_okay=True),
    help="Folder for database and blobs.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


def needs(command: F) -> F:
    """The options that name what every market needs."""
    for option in reversed(
        (
            click.option(
                "--chain", "chain_url", envvar="SUANLI_CHAIN", required=True, help="The chain's JSON-RPC URL."
            ),
            click.option("--escrow", envvar="SUANLI_ESCROW", required=True, help="Address of the escrow."),
            click.option("--keystore", envvar="SUANLI_KEYSTORE", required=True, type=PATH, help="Key file."),
            click.option(
                "--password-file",
                envvar="SUANLI_PASSWORD_FILE",
                required=True,
                type=PATH,
                help="File with the key file's password, readable by you alone.",
            ),
            DATA,
        )
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="suanli", prog_name="suanli-market")
def main() -> None:
    """Run a market: keep the book, match bids and offers, open and settle leases, relay sealed data."""


@main.command()
@needs
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8402, show_default=True, type=click.IntRange(0, 65_535), help="0: any free one.")
@click.option("--name", default="market", show_default=True, help="What people call this market.")
@click.option("--fee-bps", default=50, show_default=True, type=click.IntRange(0, 10_000), help="Fee in 1/10000.")
@click.option(
    "--min-fee", type=click.IntRange(0), help="Least fee of a lease in base units. 0 on a devnet; elsewhere needed."
)
@click.option(
    "--min-window", type=click.IntRange(0), help="Least window in seconds. Default: 10 on a devnet, else 600."
)
@click.option("--round-ms", default=500, show_default=True, type=click.IntRange(0, 60_000), help="Contested rounds.")
@click.option("--confirmations", type=click.IntRange(-1), help="-1: finalized. Default: 0 on a devnet, else -1.")
@click.option("--start-block", default=0, show_default=True, type=click.IntRange(0), help="Where the escrow began.")
@click.option("--poll-ms", default=100, show_default=True, type=click.IntRange(5, 60_000), help="Pace of the indexer.")
@click.option("--rate-per-key", default=500, show_default=True, type=RATE, help="Requests a second; 0: any.")
@click.option("--rate-per-address", default=500, show_default=True, type=RATE, help="Requests a second; 0: any.")
@click.option("--relay-gib", default=50, show_default=True, type=click.IntRange(1), help="Sealed data of all leases.")
@click.option("--reserve-mib", default=512, show_default=True, type=click.IntRange(0), help="Disk kept free.")
@click.option("--log-level", default="info", show_default=True, type=click.Choice(LEVELS), help="What goes to stderr.")
@click.option("--log-format", default="text", show_default=True, type=click.Choice(FORMATS), help="How it is written.")
def serve(log_level: str, log_format: str, **options: Any) -> None:
    """Serve the market over HTTP until SIGTERM. An older database is migrated, a newer one is refused."""
    log_to(level=log_level, form=log_format)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # its warnings are strangers' bad requests, one by one
    sys.setswitchinterval(SWITCH_S)
    from suanli_market.api.server import bind
    from suanli_market.api.server import serve as serve_http
    from suanli_market.bootstrap import build_patiently
    from suanli_market.settings import Settings
    from suanli_protocol.wire import read_address

    try:
        options["escrow"] = read_address(options["escrow"], name="--escrow")
        settings = Settings(**options)
        listener = bind(settings.host, settings.port)
        serve_http(build_patiently(settings), listener)
    except SuanliError as error:
        _fail(error)


@main.command()
@DATA
@click.option("--check", is_flag=True, help="Change nothing; exit with 2 if there is something to do.")
def migrate(data: Path, check: bool) -> None:
    """Bring the database to this version's tables; the market must not be serving.

    `serve` does the same when it starts. A backup before it is wise: there is no way back but to restore it.
    """
    from suanli_market.store import Store, newest_revision

    try:
        store = Store.existing(data)
        if check:
            click.echo(f"{store.path} is at revision {store.require_readable()}, as this version wants it")
            return
        store.hold()
        before = store.revision()
        store.migrate()
        click.echo(f"{store.path}: {before or 'empty'} -> {newest_revision()}")
    except SuanliError as error:
        _fail(error)


@main.command()
@click.argument("number", type=click.IntRange(1), required=False)
@click.option("--last", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many to list.")
@DATA
@JSON
def rounds(number: int | None, last: int, data: Path, as_json: bool) -> None:
    """List the newest rounds of clearing, or show one with its matches."""
    from suanli_market.past_rounds import PastRounds

    try:
        past = PastRounds(data)
        found = [past.one(number)] if number is not None else past.newest(last)
    except SuanliError as error:
        _fail(error, as_json=as_json)
    if as_json:
        click.echo(json.dumps(found if number is None else found[0], indent=2))
        return
    for line in past.lines(found, with_matches=number is not None):
        click.echo(line)


@main.command()
@needs
@JSON
def doctor(as_json: bool, **options: Any) -> None:
    """Check key, chain, clock, escrow, gas, disk and database. Exits with 2 if something is broken."""
    from suanli_market.doctor import Doctor
    from suanli_market.settings import Settings
    from suanli_protocol.finding_lines import finding_lines, screen_cells

    findings = []
    for finding in Doctor(Settings(**options)).findings():
        findings.append(finding)
        if not as_json:
            mark, fix = ("ok", "") if finding.ok else ("FAIL", finding.hint)
            click.echo("\n".join(finding_lines(mark, finding.name, finding.detail, fix, cells=screen_cells())))
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    sys.exit(0 if all(finding.ok for finding in findings) else 2)


@main.command()
@click.argument("file", type=PATH)
@DATA
def backup(file: Path, data: Path) -> None:
    """Write a consistent copy of the database to FILE, also while the market serves.

    Sealed blobs are not in it: copy the folder `blobs` after it. To restore: stop the market, put FILE in place of
    `market.sqlite` in the --data folder, remove `market.sqlite-wal` and `market.sqlite-shm`, and serve again.
    """
    from suanli_market.backup import back_up

    try:
        size = back_up(data, file)
    except SuanliError as error:
        _fail(error)
    click.echo(f"{file}: {size} bytes")


def _fail(error: SuanliError, *, as_json: bool = False) -> NoReturn:
    if as_json:
        click.echo(json.dumps(error.as_problem(), indent=2))
    else:
        hint = f"\n  {error.hint}" if error.hint else ""
        click.echo(f"{error.title}: {error.detail}{hint}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
