"""Requests: a folder full of rubbish answers nothing and stops nothing; what is asked is done at most once."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from suanli_node.requests import STALE_S, answer_requests, ask
from suanli_node.settings import StateFolder
from suanli_protocol.errors import FundsError, SuanliError, TimedOutError

NAME = "0123456789abcdef"


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


def put(state: StateFolder, content: bytes, name: str = f"{NAME}.json", *, age_s: float = 0) -> Path:
    path = state.requests / name
    path.write_bytes(content)
    if age_s:
        at = path.stat().st_mtime - age_s
        os.utime(path, (at, at))
    return path


class Handled:
    """What was carried out."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """Says which one it was."""
        self.requests.append(request)
        if request.get("what") == "fail":
            raise FundsError("nothing is free", hint="earn some")
        if request.get("what") == "break":
            raise ZeroDivisionError
        return {"n": len(self.requests)}


@contextmanager
def answering(state: StateFolder, handle: Handled) -> Iterator[None]:
    """A daemon, as far as requests go."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.01):
            answer_requests(state, handle)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_each_command_gets_its_own_answer_and_nothing_is_left(state: StateFolder) -> None:
    handle, found = Handled(), []
    with answering(state, handle):
        threads = [threading.Thread(target=lambda: found.append(ask(state, {"what": "x"})["n"])) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == [1, 2, 3, 4, 5]
    assert list(state.requests.iterdir()) == []


@pytest.mark.parametrize(("what", "code", "status"), [("fail", "funds", 5), ("break", "internal", 1)])
def test_an_error_reaches_the_command_as_it_is(state: StateFolder, what: str, code: str, status: int) -> None:
    with answering(state, Handled()), pytest.raises(SuanliError) as caught:
        ask(state, {"what": what})
    assert (caught.value.code, caught.value.exit_status) == (code, status)


def test_a_daemon_that_does_not_answer_is_not_waited_for_and_does_nothing_later(state: StateFolder) -> None:
    with pytest.raises(TimedOutError):
        ask(state, {"what": "x"}, timeout_s=0.1)
    handle = Handled()
    answer_requests(state, handle)
    assert handle.requests == []


HOSTILE: dict[str, bytes] = {
    "not JSON": b"{",
    "not text": b"\xff\xfe\x00",
    "empty": b"",
    "no object": b'["withdraw"]',
    "a number": b"7",
    "nested": b"[" * 100_000,
    "large": b'{"what": "' + b"x" * 2**20 + b'"}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_rubbish_is_dropped_and_its_neighbour_is_answered(state: StateFolder, kind: str) -> None:
    handle = Handled()
    rubbish = put(state, HOSTILE[kind])
    put(state, b'{"what": "x"}', f"{'f' * 16}.json")
    answer_requests(state, handle)
    assert handle.requests == [{"what": "x"}]
    assert not rubbish.exists()
    assert json.loads((state.requests / f"{'f' * 16}.answer").read_bytes()) == {"answer": {"n": 1}}


def test_links_folders_pipes_and_other_names_are_not_followed_nor_waited_on(state: StateFolder, tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere.json"
    secret.write_text('{"what": "x"}')
    (state.requests / f"{'a' * 16}.json").symlink_to(secret)
    (state.requests / f"{'b' * 16}.json").symlink_to(tmp_path / "nowhere")
    (state.requests / f"{'c' * 16}.json").mkdir()
    os.mkfifo(state.requests / f"{'d' * 16}.json")
    put(state, b'{"what": "x"}', "../escape.json".replace("../", "x"))
    put(state, b'{"what": "x"}', f"{NAME}.json.tmp")
    put(state, b'{"what": "x"}', f"{'f' * 16}.json")
    handle = Handled()
    answer_requests(state, handle)
    answer_requests(state, handle)
    assert handle.requests == [{"what": "x"}]
    assert secret.exists()


def test_what_nobody_waits_for_any_more_is_not_done(state: StateFolder) -> None:
    handle = Handled()
    put(state, b'{"what": "x"}', age_s=STALE_S + 5)
    answer = put(state, b"{}", f"{NAME}.answer", age_s=STALE_S + 5)
    answer_requests(state, handle)
    assert (handle.requests, answer.exists()) == ([], False)


def test_a_daemon_that_dies_while_it_works_does_not_do_it_twice(state: StateFolder) -> None:
    class Killed(BaseException):
        """kill -9."""

    def die(_: dict[str, Any]) -> dict[str, Any]:
        raise Killed

    put(state, b'{"what": "withdraw"}')
    with pytest.raises(Killed):
        answer_requests(state, die)
    handle = Handled()
    answer_requests(state, handle)
    assert handle.requests == []
