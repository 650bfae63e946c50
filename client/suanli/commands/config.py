"""`suanli config`: the settings in force and where they come from."""

from __future__ import annotations

import click

from suanli.commands.connection import connection_options, load_config
from suanli.terminal.console import Console, output_options


@click.group()
def config() -> None:
    """The settings in force and where they come from."""


@config.command()
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@connection_options
@output_options
@click.pass_obj
def show(console: Console, origin: bool) -> None:
    """Print each setting; empty if it is nowhere set."""
    from suanli.config import NAMES

    found = load_config()
    if console.json:
        values = {name: {"value": found.get(name), "origin": found.origin(name)} for name in NAMES}
        console.dump(values if origin else {name: found.get(name) for name in NAMES})
        return
    from suanli.terminal import render

    rows = [(name, found.get(name) or "–", *([found.origin(name)] if origin else [])) for name in NAMES]
    columns = ("setting", "value", "origin") if origin else ("setting", "value")
    render.show(render.listing(columns, rows, below=origin))
