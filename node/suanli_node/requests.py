"""Requests: what a command asks of the daemon, by a file, so that one process alone ever uses the node's key.

    requests/<id>.json      what is asked, written whole
    requests/<id>.answer    what came of it

While no daemon serves the state, the command takes its lock and does the same with the key itself.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from suanli_node.engine.runs import write_json
from suanli_node.sandbox.disk import remove_tree
from suanli_node.settings import StateFolder
from suanli_protocol.errors import SuanliError, TimedOutError

ANSWER_S = 180.0  # a transaction may have to wait for the chain
STALE_S = 600
LOOK_S = 0.05
BYTES_MAX = 4096
NAME = re.compile(r"^[0-9a-f]{16}\.json$")
log = logging.getLogger(__name__)
Handle = Callable[[dict[str, Any]], dict[str, Any]]


class RefusedRequestError(SuanliError):
    """The daemon could not do what was asked; its own code and hint."""

    title = "The node could not do it"


def ask(state: StateFolder, request: dict[str, Any], *, timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """The daemon's answer; its error if it could not; TimedOutError if it does not answer."""
    name = secrets.token_hex(8)
    question, answer = state.requests / f"{name}.json", state.requests / f"{name}.answer"
    write_json(question, request)
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            if answer.exists():
                found = json.loads(answer.read_bytes())
                if "error" in found:
                    raise _told(found["error"])
                return dict(found["answer"])
            time.sleep(LOOK_S)
        raise TimedOutError(
            f"the daemon has not answered within {timeout_s:.0f} s", hint="look into its log; what it began goes on"
        )
    finally:
        question.unlink(missing_ok=True)
        answer.unlink(missing_ok=True)


def answer_requests(state: StateFolder, handle: Handle) -> None:
    """Answer whatever is asked now; what nobody waits for any more is dropped."""
    for path in sorted(state.requests.iterdir()):
        is_stale = _is_stale(path)
        is_question = NAME.match(path.name) is not None
        request = _read(path) if is_question and not is_stale else None
        if is_stale or is_question:
            _remove(path)  # before it is done: asked once, done at most once
        if request is not None:
            write_json(path.with_suffix(".answer"), _answered(request, handle))


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > STALE_S
    except FileNotFoundError:
        return False  # the command has just taken it away


def _read(path: Path) -> dict[str, Any] | None:
    """What a file asks for; None if it is no plain file, too long, or no JSON object."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        content = os.read(descriptor, BYTES_MAX + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)
    try:
        found = from_json(content) if len(content) <= BYTES_MAX else None  # it bounds the depth, unlike json
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _remove(path: Path) -> None:
    """Links are deleted, never followed."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def _answered(request: dict[str, Any], handle: Handle) -> dict[str, Any]:
    try:
        return {"answer": handle(request)}
    except SuanliError as error:
        return {"error": {**error.as_problem(), "exitStatus": error.exit_status}}
    except Exception as error:
        log.exception("a request could not be answered")
        return {"error": {"code": "internal", "detail": repr(error), "hint": "look into the daemon's log"}}


def _told(problem: dict[str, Any]) -> SuanliError:
    error = RefusedRequestError(problem["detail"], hint=problem.get("hint", ""), code=problem["code"])
    error.exit_status = int(problem.get("exitStatus", 1))
    return error
