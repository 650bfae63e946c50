"""No control byte of any market, node, chain or job reaches the terminal, whatever the way that its text takes."""

from __future__ import annotations

import inspect
import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

import click
from hypothesis import given, settings
from hypothesis import strategies as st

from suanli.session.progress import Change
from suanli.terminal import console as consoles
from suanli.terminal import render
from suanli.terminal.console import Console, shown, style
from suanli.terminal.failure import tell
from suanli.terminal.plain import as_json, one_line, plain
from suanli.terminal.screen import Screen
from suanli_protocol.errors import SuanliError
from support.records import a_record

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
OWN_COLOUR = re.compile(r"\x1b\[(?:0|[12]|3[1236])(?:;3[1236])?m")
SEQUENCES = (
    "\x1b[2J",
    "\x1b]52;c;AAAA\x07",
    "\x1b]0;x\x1b\\",
    "\x1b[31m",
    "\x1bc",
    "\x1bPq\x1b\\",
    "\x9b31m",
    "\x1b",
    "\r",
)
HOSTILE = st.lists(
    st.one_of(st.sampled_from(SEQUENCES), st.characters(max_codepoint=0xFF), st.text(max_size=3)), min_size=1
).map("".join)

SAYS: dict[str, Callable[[Console, str], object]] = {
    "data": Console.data,
    "dump": lambda console, text: console.dump({text: [text]}),
    "line": lambda console, text: console.line({text: [text]}),
    "note": Console.note,
    "warn": Console.warn,
    "detail": Console.detail,
    "next": lambda console, text: console.next(text, text),
    "confirm": Console.confirm,
}


def written(say: Callable[[], object], *, is_coloured: bool = False) -> str:
    """What goes to stdout and stderr while something is said."""
    out = io.StringIO()
    answers = mock.patch.object(click, "confirm", lambda question, **_: out.write(question))
    colour = mock.patch.object(consoles, "coloured", return_value=is_coloured)
    terminal = mock.patch("sys.stdin", mock.Mock(isatty=lambda: True))
    kept = mock.patch("click.utils.should_strip_ansi", return_value=False)
    with redirect_stdout(out), redirect_stderr(out), answers, colour, terminal, kept:
        say()
    return out.getvalue()


def test_every_way_to_say_something_is_tried() -> None:
    public = {name for name, _ in inspect.getmembers(Console, inspect.isfunction) if not name.startswith("_")}
    assert public == set(SAYS)


@settings(max_examples=200, deadline=None)
@given(text=HOSTILE, name=st.sampled_from(sorted(SAYS)), is_coloured=st.booleans())
def test_no_console_method_lets_a_stranger_steer_the_terminal(text: str, name: str, is_coloured: bool) -> None:
    found = written(lambda: SAYS[name](Console(verbose=1), text), is_coloured=is_coloured)
    rest = OWN_COLOUR.sub("", found)
    assert not CONTROL.search(rest)
    assert is_coloured or rest == found


@settings(max_examples=200, deadline=None)
@given(text=HOSTILE, is_json=st.booleans(), verbose=st.integers(0, 2))
def test_no_error_lets_a_stranger_steer_the_terminal(text: str, is_json: bool, verbose: int) -> None:
    error = SuanliError(text, hint=text, code=text)
    error.title = text

    def fail() -> None:
        try:
            raise error
        except SuanliError as caught:
            tell(caught, Console(json=is_json, verbose=verbose))

    found = written(fail)
    assert not CONTROL.search(found)
    if is_json:
        assert json.loads(found)["detail"] == text


@settings(max_examples=200, deadline=None)
@given(text=HOSTILE, is_jsonl=st.booleans())
def test_no_step_of_a_job_lets_a_stranger_steer_the_terminal(text: str, is_jsonl: bool) -> None:
    record = a_record("aa" * 32)
    change = Change("leased", text, {"name": text})
    assert not CONTROL.search(written(lambda: Screen(Console(), jsonl=is_jsonl).changed(record, change)))


@settings(max_examples=100, deadline=None)
@given(text=HOSTILE)
def test_no_table_lets_a_stranger_steer_the_terminal(text: str) -> None:
    table = render.titled(text, render.pairs([("name", text, text)]), render.listing(["a", "b"], [(text, "x")]))
    assert not CONTROL.search(written(lambda: render.show(table)))
    assert not CONTROL.search(render.text(table))


@given(text=HOSTILE)
def test_a_strangers_text_is_no_colour_of_our_own(text: str) -> None:
    with mock.patch.object(consoles, "coloured", return_value=True):
        assert shown(style(text, "red", bold=True)) == f"\x1b[1;31m{plain(text)}\x1b[0m"


@given(text=st.text())
def test_what_is_harmless_stays(text: str) -> None:
    if not CONTROL.search(text):
        assert plain(text) == shown(text) == text
    assert json.loads(as_json({"text": text})) == {"text": text}
    assert "\n" not in one_line(text)
