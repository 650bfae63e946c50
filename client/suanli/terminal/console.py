"""How the command line talks: data on stdout, everything else on stderr.

One Console travels as click's context object; every command takes it by `@click.pass_obj`. This module imports nothing
heavy, since `suanli --help` loads it.

Much of what is said is a stranger's: a market's reason, a machine's name. None of it steers the terminal, whatever
method it goes through; colour comes from `style` alone.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO, TypeVar

import click

from suanli.terminal.plain import as_json, plain
from suanli_protocol.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
_OWN = os.urandom(8).hex()  # in the marks of own colour, so that no other text passes for one
_MARK = re.compile(f"\0{_OWN}:([0-9;]*)\0")
_CODES = {"red": 31, "green": 32, "yellow": 33, "cyan": 36}


@dataclass
class Console:
    """The output switches of one invocation.

    `json` and `jsonl` (data for programs, whole or line by line), `quiet` (no notes), `verbose` (0..2).
    """

    json: bool = False
    jsonl: bool = False
    quiet: bool = False
    verbose: int = 0

    def data(self, text: str = "") -> None:
        """A line of data, on stdout."""
        click.echo(shown(text))

    def dump(self, value: Any) -> None:
        """A JSON value, on stdout, indented for a terminal and in one line for a pipe."""
        indent = 2 if sys.stdout.isatty() else None
        click.echo(as_json(value, indent=indent))

    def line(self, value: Any) -> None:
        """One JSON value in one line, on stdout (`--jsonl`)."""
        click.echo(as_json(value))

    def note(self, text: str = "") -> None:
        """A remark for a person, on stderr; silent under --quiet."""
        if not self.quiet:
            click.echo(shown(text), err=True)

    def warn(self, text: str) -> None:
        """A warning, on stderr, even under --quiet."""
        click.echo(shown(f"{style('Warning', 'yellow')}  {text}"), err=True)

    def detail(self, text: str) -> None:
        """A remark that only -v shows."""
        if self.verbose and not self.quiet:
            click.echo(shown(style(text, dim=True)), err=True)

    def next(self, *commands: str) -> None:
        """What to run next, on stderr."""
        for i, command in enumerate(commands):
            self.note(f"{style('Next:' if not i else '     ', dim=True)} {command}")

    def confirm(self, question: str, *, flag: str = "--yes") -> bool:
        """Asks on a terminal; without one it fails and names the flag that answers."""
        if not sys.stdin.isatty():
            raise UsageError(f"there is no terminal to ask: {question}", hint=f"add {flag} to agree beforehand")
        return click.confirm(shown(question), default=True, err=True)


def coloured() -> bool:
    """Whether stderr takes colour: a terminal, and NO_COLOR is not set."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def style(text: str, colour: str | None = None, *, bold: bool = False, dim: bool = False) -> str:
    """Text for a Console, or for `shown`, marked only where colour is wanted."""
    codes = [code for code, is_on in ((1, bold), (2, dim), (_CODES.get(colour or ""), True)) if is_on and code]
    return f"{_mark(*codes)}{text}{_mark(0)}" if codes and coloured() else text


def shown(text: str) -> str:
    """Text as it goes to the terminal: own colours, and of all else what is no control sequence."""
    parts = _MARK.split(text)  # every second one is the codes of a mark
    return "".join(f"\x1b[{part}m" if i % 2 else plain(part) for i, part in enumerate(parts))


def _mark(*codes: int) -> str:
    return f"\0{_OWN}:{';'.join(map(str, codes))}\0"


def let_go(stream: TextIO) -> None:
    """Whatever is written to a stream from now on, and what it could not get rid of, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def apply(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        console = ctx.ensure_object(Console)
        if value:
            setattr(console, name, value)

    return apply


def jsonl_option(text: str) -> Callable[[F], F]:
    """Adds --jsonl; an error is told as a JSON object then, as under --json."""

    def note(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
        if value:
            ctx.ensure_object(Console).jsonl = True
        return value

    return click.option("--jsonl", is_flag=True, callback=note, help=text)


def output_options(command: F) -> F:
    """Adds --json, --quiet and -v to a command; they set the context's Console, before or after the command's name."""
    options = (
        click.option("--json", is_flag=True, expose_value=False, callback=_set("json"), help="Print data as JSON."),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_set("quiet"), help="Only data."),
        click.option("-v", "--verbose", count=True, expose_value=False, callback=_set("verbose"), help="Say more."),
    )
    for option in reversed(options):
        command = option(command)
    return command
