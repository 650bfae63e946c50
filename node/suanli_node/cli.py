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

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
WHOLE = click.IntRange(1, 2**31)
LEVEL = click.Choice(["debug", "info", "warning", "error"])
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
    click.option("--cpus", help="Cores for sale; default: all but a little."),
    click.option("--memory", help="Memory for sale, such as 8GB."),
    click.option("--disk", help="Disk for sale, such as 100GB."),
    click.option("--price-core", default="0.03", show_default=True, help="Per core and hour."),
    click.option("--price-memory", default="0.005", show_default=True, help="Per GiB of memory and hour."),
    click.option("--price-disk", default="0.0001", show_default=True, help="Per GiB of disk and hour."),
    click.option("--listen", default="", metavar="HOST:PORT", help="Deal without a market too: listen for consumers."),
    click.option("--index", default="", help="Where Python environments come from: a URL, a folder, or default."),
    click.option("--index-certificates", type=FILE, envvar="SSL_CERT_FILE", help="Authorities that uv shall trust."),
    click.option("--max-seconds", default=86_400, show_default=True, type=WHOLE, help="Longest lease."),
    click.option("--max-window", default=86_400, show_default=True, type=WHOLE, help="Longest window."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="suanli", prog_name="suanli-node", message="%(prog)s %(version)s")
def cli() -> None:
    """Sell this machine's idle hours on an open market: jobs run sandboxed, and are paid from an escrow."""


@cli.command()
@CONNECTIONS
@GOODS
@click.option("--log-level", default="info", show_default=True, type=LEVEL)
def up(log_level: str, **given: Any) -> None:
    """Serve until SIGTERM: publish an offer, run what is leased, bill it.

    Ending the daemon withdraws its offer; jobs that run go on, and the next `up` finds them again. `down` ends them.
    """
    from suanli_node.startup import serve

    _log_to_stderr(log_level)
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
def status(state: Path, as_json: bool) -> None:
    """What this node is, and its leases."""
    from suanli_node.report import node_status, render_status

    found = node_status(state)
    click.echo(json.dumps(found) if as_json else render_status(found))


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


def _log_to_stderr(level: str) -> None:
    import logging

    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


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
