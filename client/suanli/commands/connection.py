"""The options that every command which talks to market, chain or key takes, and the client that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from suanli.terminal.console import Console

if TYPE_CHECKING:
    from suanli.client import Client
    from suanli.config import Config

F = TypeVar("F", bound=Callable[..., Any])
_META = "suanli.flags"
_HELP = {
    "market": "The market's address.",
    "chain": "The chain's JSON-RPC address.",
    "escrow": "The escrow's address.",
    "keystore": "Your encrypted key.",
    "password_file": "A 0600 file with its password.",
}


def _note(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        ctx.meta.setdefault(_META, {})[parameter.name] = value


def connection_options(command: F) -> F:
    """Adds --market, --chain, --escrow, --keystore and --password-file."""
    for name, text in reversed(_HELP.items()):
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, name, expose_value=False, callback=_note, metavar="…", help=text)(command)
    return command


def flags() -> dict[str, str | None]:
    """What was given on the command line."""
    found: dict[str, str | None] = click.get_current_context().meta.get(_META, {})
    return found


def load_config() -> Config:
    """The settings in force for this command."""
    from suanli import config

    return config.load(flags())


@contextmanager
def open_client(console: Console, *, market: str | None = None) -> Iterator[Client]:
    """The client of this command, of the given market (or node) if one is given; closed at the end."""
    from suanli.client import Client
    from suanli.terminal.progressline import ProgressLine

    given = flags()
    with Client(
        market=market or given.get("market"),
        chain=given.get("chain"),
        escrow=given.get("escrow"),
        keystore=given.get("keystore"),
        password_file=given.get("password_file"),
    ) as client:
        client.on_notice = console.warn
        line = ProgressLine(console)
        client.on_progress = line.show
        try:
            yield client
        finally:
            line.clear()
