"""What a node's state folder says of it: for `status`, without its key and without asking anybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from suanli_node.leases.record import LeaseRecord, stored_leases
from suanli_node.settings import StateFolder
from suanli_node.shutdown import daemon_pid
from suanli_protocol.errors import NotFoundError, SuanliError


def node_status(path: Path) -> dict[str, Any]:
    """Process, identity, leases that are not closed, and receipts; NotFoundError if this is no node's state."""
    state = StateFolder(path.resolve())
    if not state.identity.exists():
        raise NotFoundError(f"{path} holds no node's state", hint="name the folder that `suanli-node up` was given")
    pid = daemon_pid(state)
    receipts = [json.loads(file.read_bytes())["signed"]["receipt"] for file in sorted(state.receipts.glob("*.json"))]
    return {
        "running": pid is not None,
        "pid": pid,
        "identity": json.loads(state.identity.read_bytes()),
        "leases": [_lease(folder.load()) for folder in _readable(state)],
        "receipts": len(receipts),
        "billed": str(sum(int(receipt["amount"]) for receipt in receipts)),
    }


def render_status(found: dict[str, Any]) -> str:
    """The same for a person."""
    identity = found["identity"]
    serving = f"serving (pid {found['pid']})" if found["running"] else "not serving"
    lines = [
        f"{serving} · account {identity['account']}",
        f"market {identity['market']} · escrow {identity['escrow']} on chain {identity['chain_id']}",
        f"{found['receipts']} receipts over {found['billed']} base units",
    ]
    for lease in found["leases"]:
        lines.append(f"lease {lease['number']:>5}  {lease['step']:<10} {lease['reason']:<18} {lease['id']}")
    return "\n".join(lines)


def _readable(state: StateFolder) -> list[Any]:
    found = []
    for folder in stored_leases(state.leases):
        try:
            folder.load()
        except (SuanliError, ValueError, KeyError):
            continue
        found.append(folder)
    return found


def _lease(record: LeaseRecord) -> dict[str, Any]:
    return {
        "id": record.view.id,
        "number": record.view.number,
        "step": record.step.value,
        "reason": record.reason,
        "detail": record.detail,
        "consumer": record.view.bid["consumer"],
    }
