"""Since when each escrow is on its chain, remembered on this machine: events are read from there on."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from suanli.files import data_home, write_json
from suanli_protocol import wire
from suanli_protocol.chain import LOG_SPAN_BLOCKS
from suanli_protocol.deployment import deployment_block
from suanli_protocol.escrow import Escrow
from suanli_protocol.rpc_errors import LackingError

MEMORY_FILE = "deployments.json"


def memory_file() -> Path:
    """The client's own memory."""
    return data_home() / MEMORY_FILE


def first_block(escrow: Escrow, memory: Path | None) -> int:
    """A block before which the escrow had no event: the one that deployed it, or 0. Remembered in a file, if named.

    What is remembered counts while that block is the chain's, so neither a reset nor a reorganisation misleads.
    ChainUnavailableError if the chain cannot be reached.
    """
    chain = escrow.chain
    head = chain.block("latest").number
    if head < LOG_SPAN_BLOCKS:  # one question brings all
        return 0
    known = _read(memory)
    key = f"{chain.chain_id()}:{escrow.address.lower()}"
    if _is_still_there(escrow, known.get(key)):
        return int(known[key]["block"])
    found = deployment_block(escrow, head)
    if found and memory is not None:
        with suppress(OSError):  # it is looked for again
            write_json(memory, {**known, key: {"block": found, "hash": wire.to_hex(chain.block(found).hash)}})
    return found


def _read(memory: Path | None) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_bytes()) if memory is not None else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _is_still_there(escrow: Escrow, kept: Any) -> bool:
    if not isinstance(kept, dict) or not isinstance(kept.get("block"), int):
        return False
    try:
        return wire.to_hex(escrow.chain.block(kept["block"]).hash) == kept.get("hash")
    except LackingError:
        return False
