"""`suanli config`: the settings in force, where they come from, and how one is kept."""

from __future__ import annotations

import click

from suanli.commands.connection import connection_options, load_config
from suanli.terminal import completing
from suanli.terminal.console import Console, output_options

_NAME = click.argument("name", shell_complete=completing.settings)
_LOCAL = click.option("--local", is_flag=True, help="In ./.suanli.toml, for this folder, instead of your own settings.")


@click.group()
def config() -> None:
    """The settings in force, where they come from, and how one is kept."""


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


@config.command("set")
@_NAME
@click.argument("value")
@_LOCAL
@output_options
@click.pass_obj
def set_(console: Console, name: str, value: str, local: bool) -> None:
    """Keep a setting in your own file. Comments and other settings in it stay as they are."""
    from suanli import settings_file
    from suanli.files import shorten_home

    path = settings_file.place(local=local)
    settings_file.write(path, name, value)
    _tell(console, name, f"{name} is set in {shorten_home(path)}")


@config.command()
@_NAME
@_LOCAL
@output_options
@click.pass_obj
def unset(console: Console, name: str, local: bool) -> None:
    """Remove a setting from your own file."""
    from suanli import settings_file
    from suanli.files import shorten_home

    path = settings_file.place(local=local)
    settings_file.remove(path, name)
    _tell(console, name, f"{name} is not in {shorten_home(path)} any more")


def _tell(console: Console, name: str, text: str) -> None:
    """What was done, and which value is in force now: another place may win."""
    found = load_config()
    if console.json:
        console.dump({"name": name, "value": found.get(name), "origin": found.origin(name)})
        return
    console.note(f"{text}; in force: {found.get(name) or '–'} ({found.origin(name)})")
