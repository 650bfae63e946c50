"""Control: whether this node sells, as its operator wishes. A file says it, the daemon looks at it, both may die.

selling    an offer stands on the book
paused     no offer: nothing new is leased; what runs goes on, and what a market matched before is still honoured
draining   as paused; the daemon ends once no lease is left, and the node stays paused
"""

from __future__ import annotations

import json
import time
from enum import StrEnum

from suanli_node.engine.runs import write_json
from suanli_node.settings import StateFolder
from suanli_protocol.errors import ConfigurationError, NotFoundError


class Mode(StrEnum):
    """What the operator wants of the node."""

    SELLING = "selling"
    PAUSED = "paused"
    DRAINING = "draining"


def read_mode(state: StateFolder) -> Mode:
    """The mode that was last written; selling if none was. ConfigurationError if the file says no mode."""
    try:
        return Mode(json.loads(state.control.read_bytes())["mode"])
    except FileNotFoundError:
        return Mode.SELLING
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"{state.control} names no mode", hint=f"write one with `suanli-node resume --state {state.path}`"
        ) from None


def write_mode(state: StateFolder, mode: Mode) -> None:
    """Wish for a mode; a daemon that serves this state follows within a second. NotFoundError if it is no node's."""
    if not state.path.is_dir():
        raise NotFoundError(f"{state.path} holds no node's state", hint="name the folder that `up` was given")
    write_json(state.control, {"mode": mode.value, "at": int(time.time())})
