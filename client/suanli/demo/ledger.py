"""Anvil's state file between two runs.

Each start of Anvil makes a block 0 of its own, dated now, and its next dump holds it beside the loaded one; which of
them the start after that takes for the genesis is chance. So all but the oldest are struck out before each start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from suanli.files import write_atomically
from suanli_protocol.errors import IntegrityError


def keep_first_genesis(ledger: Path) -> None:
    """Strikes out every block 0 but the oldest; IntegrityError if the file is damaged. Nothing without a file."""
    if not ledger.is_file():
        return
    try:
        state = json.loads(ledger.read_bytes())
        blocks = state["blocks"]
        starts = [block for block in blocks if _number(block) == 0]
        if len(starts) > 1:
            first = min(starts, key=_time)
            state["blocks"] = [block for block in blocks if _number(block) != 0 or block is first]
            write_atomically(ledger, json.dumps(state).encode())
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"the ledger {ledger} is damaged: {error!r:.100}",
            hint="`suanli demo down` clears the demo away, `suanli demo up` begins afresh",
        ) from None


def _number(block: dict[str, Any]) -> int:
    return int(block["header"]["number"], 16)


def _time(block: dict[str, Any]) -> int:
    return int(block["header"]["timestamp"], 16)
