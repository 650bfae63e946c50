"""Events after the market's database was put back: market, client and node agree where the numbers begin."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suanli.session.feed import Feed
from suanli_market.backup import back_up
from suanli_market.events import note
from suanli_market.store import FILE, Store
from suanli_market.streams import start_of
from suanli_market.tables import CursorRow
from suanli_node.daemon import Daemon
from suanli_protocol import wire
from suanli_protocol.errors import UnreachableError
from support.builders import consumer

OLD, NEW = "aa" * 16, "bb" * 16


def an_event(seq: int, kind: str = "lease.opened") -> wire.Event:
    return wire.Event.model_validate({"seq": seq, "at": 1, "kind": kind, "lease": None, "bid": None, "data": {}})


def a_store(folder: Path, events: int) -> Store:
    folder.mkdir()
    store = Store(folder)
    store.migrate()
    with store.write() as session:
        facts = {"chain_id": 1, "escrow": "0x", "market": "0x", "genesis": "0x", "block": 0, "block_hash": "0x"}
        session.add(CursorRow(**facts, history=OLD))
        for _ in range(events):
            note(session, [consumer().address], "bid.queued")
    return store


def test_a_reader_goes_on_where_it_was_unless_the_numbers_are_others(tmp_path: Path) -> None:
    store = a_store(tmp_path / "data", events=3)
    for after in (0, 2, 3):
        assert (start_of(store, after).after, start_of(store, after, OLD).after) == (after, after)
    assert start_of(store, 2, OLD).history == OLD
    assert start_of(store, 4).after == 0, "beyond the end"
    assert start_of(store, 2, NEW).after == 0, "of another history"


def test_a_copy_goes_on_in_a_history_of_its_own(tmp_path: Path) -> None:
    """Also when it has reached the number that the reader had seen before: what came between is told."""
    store = a_store(tmp_path / "data", events=3)
    (tmp_path / "again").mkdir()
    back_up(tmp_path / "data", tmp_path / "again" / FILE)
    with store.write() as session:
        note(session, [consumer().address], "bid.matched")
    again = Store(tmp_path / "again")
    with again.write() as session:
        note(session, [consumer().address], "bid.refused")
    assert start_of(store, 4, OLD).after == 4
    start = start_of(again, 4, OLD)
    assert start.after == 0
    assert start.history not in (OLD, "")
    assert start_of(again, 4, start.history).after == 4


class Told:
    """A market's event stream as a reader sees it: what it asked for, and one answer after the other."""

    def __init__(self, *answers: tuple[int, str, list[wire.Event]]) -> None:
        self.asked: list[tuple[int, str]] = []
        self.answers = list(answers)
        self.all_told = threading.Event()

    def events(self, after: int, *, history: str, on_start: Any) -> Iterator[wire.Event]:
        self.asked.append((after, history))
        if not self.answers:
            self.all_told.set()
            threading.Event().wait(0.01)
            raise UnreachableError("over")
        start, own, events = self.answers.pop(0)
        on_start(start, own)
        yield from events
        raise UnreachableError("it broke off")


PUT_BACK = (
    (0, OLD, [an_event(1), an_event(7)]),
    (0, NEW, [an_event(1), an_event(2, "lease.settled")]),
)


def test_a_client_begins_anew_with_another_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suanli.session.feed.BACKOFF_S", (0.01,))
    market = Told(*PUT_BACK)
    with Feed(market, lambda _: True) as feed:  # type: ignore[arg-type]
        assert market.all_told.wait(10)
        assert [event.seq for event in feed.wait(1)] == [1, 7, 1, 2]
    assert market.asked[:3] == [(0, ""), (7, OLD), (2, NEW)]


def test_a_node_begins_anew_with_another_history_and_remembers_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suanli_node.daemon.pauses", lambda: iter(lambda: 0.0, None))
    market, handled = Told(*PUT_BACK), list[int]()
    state = SimpleNamespace(cursor=tmp_path / "cursor.json")
    desk = SimpleNamespace(handle=lambda event: handled.append(event.seq))
    unused: Any = None
    daemon = Daemon(
        identity=unused, state=state, market=market, desk=desk, publisher=unused, halted=market.all_told,  # type: ignore[arg-type]
        genesis=unused, keep_engine=unused, closer=unused, hands=unused, upkeep=unused,
    )  # fmt: skip
    daemon._follow_events()
    assert handled == [1, 7, 1, 2]
    assert market.asked[:3] == [(0, ""), (7, OLD), (2, NEW)]
    assert json.loads(state.cursor.read_bytes()) == {"after": 0, "history": NEW}, "another history is written at once"
    daemon._cursor_due = 0.0
    daemon._write_cursor(2)
    assert daemon._read_cursor() == (2, NEW)
    state.cursor.write_text(json.dumps({"after": 9, "origin": "of a former version"}))
    assert daemon._read_cursor() == (9, "")
