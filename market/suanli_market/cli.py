"""The command line of a market's operator. Heavy imports happen inside the commands."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from suanli_protocol.errors import SuanliError
from suanli_protocol.logs import FORMATS, LEVELS, log_to

SWITCH_S = 0.001  # requests need not wait five milliseconds for a thread that hashes
RATE = click.IntRange(0, 1_000_000)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="suanli", prog_name="suanli-market")
def main() -> None:
    """Run a market: keep the book, match bids and offers, open and settle leases, relay sealed data."""


@main.command()
@click.option("--chain", "chain_url", envvar="SUANLI_CHAIN", required=True, help="JSON-RPC address of the chain.")
@click.option("--escrow", envvar="SUANLI_ESCROW", required=True, help="Address of the escrow.")
@click.option("--keystore", envvar="SUANLI_KEYSTORE", required=True, type=click.Path(path_type=Path), help="Key file.")
@click.option(
    "--password-file",
    envvar="SUANLI_PASSWORD_FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="File with the key file's password, readable by you alone.",
)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder for database and blobs.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8402, show_default=True, type=click.IntRange(0, 65_535), help="0: any free one.")
@click.option("--name", default="market", show_default=True, help="What people call this market.")
@click.option("--fee-bps", default=50, show_default=True, type=click.IntRange(0, 10_000), help="Fee in 1/10000.")
@click.option("--min-fee", default=0, show_default=True, type=click.IntRange(0), help="Least fee in base units.")
@click.option("--min-window", default=10, show_default=True, type=click.IntRange(0), help="Least window in seconds.")
@click.option("--round-ms", default=500, show_default=True, type=click.IntRange(0, 60_000), help="Contested rounds.")
@click.option("--confirmations", type=click.IntRange(-1), help="-1: finalized. Default: 0 on a devnet, else -1.")
@click.option("--start-block", default=0, show_default=True, type=click.IntRange(0), help="Where the escrow began.")
@click.option("--poll-ms", default=25, show_default=True, type=click.IntRange(5, 60_000), help="Pace of the indexer.")
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
    from suanli_market.bootstrap import build
    from suanli_market.settings import Settings
    from suanli_protocol.wire import read_address

    try:
        options["escrow"] = read_address(options["escrow"], name="--escrow")
        settings = Settings(**options)
        listener = bind(settings.host, settings.port)
        serve_http(build(settings), listener)
    except SuanliError as error:
        _fail(error)


def _fail(error: SuanliError) -> None:
    hint = f"\n  {error.hint}" if error.hint else ""
    click.echo(f"{error.title}: {error.detail}{hint}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
