"""What a node is and does: from its state folder, and from the chain if that can be asked. Needs no key."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from suanli_node.connections import Connections
from suanli_node.control import read_mode
from suanli_node.identity import Identity, remembered
from suanli_node.leases.closing import Due, Move, next_move
from suanli_node.leases.record import LeaseRecord, stored_leases
from suanli_node.leases.standing import Place, Standing, history_reader, stand
from suanli_node.leases.verification import Assignment
from suanli_node.settings import StateFolder
from suanli_node.shutdown import daemon_pid
from suanli_protocol.chain import Chain
from suanli_protocol.errors import NotFoundError, SuanliError
from suanli_protocol.escrow import Escrow
from suanli_protocol.units import format_money

CHAIN_TIMEOUT_S = 5.0
WEI_DECIMALS = 18


@dataclass(frozen=True)
class Funds:
    """What the account has, in base units of the token; gas in wei of the chain's coin."""

    symbol: str
    decimals: int
    free: str
    locked: str  # bonds of open leases
    wallet: str  # tokens outside of the escrow
    gas_wei: str


def node_status(path: Path, *, ask_chain: bool = True) -> dict[str, Any]:
    """Process, mode, identity, open leases, funds, receipts; NotFoundError if this is no node's state.

    Where the chain cannot be asked, "chain" says why, and what would come from it is missing.
    """
    state = StateFolder(path.resolve())
    if not state.identity.exists():
        raise NotFoundError(f"{path} holds no node's state", hint="name the folder that `suanli-node up` was given")
    identity, records = remembered(state.identity), readable(state)
    pid = daemon_pid(state)
    found: dict[str, Any] = {
        "running": pid is not None,
        "pid": pid,
        "mode": read_mode(state).value,
        "identity": asdict(identity),
        "leases": [_lease(record) for record in records],
        "chain": "",
        "funds": None,
        "receipts": len(list(state.receipts.glob("*.json"))),
        "billed": str(sum(_billed(file) for file in state.receipts.glob("*.json"))),
    }
    if ask_chain:
        try:
            _ask_chain(state, identity, records, found)
        except SuanliError as error:
            found["chain"] = error.detail
    return found


def readable(state: StateFolder) -> list[LeaseRecord]:
    """The records that can be read, in no order that matters."""
    found = []
    for folder in stored_leases(state.leases):
        try:
            found.append(folder.load())
        except (SuanliError, ValueError, KeyError, OSError):
            continue
    return sorted(found, key=lambda record: record.view.number)


def render_status(found: dict[str, Any]) -> str:
    """The same for a person."""
    identity = found["identity"]
    serving = f"serving (pid {found['pid']})" if found["running"] else "not serving"
    lines = [
        f"{serving} · {found['mode']} · account {identity['account']}",
        f"market {identity['market']} · escrow {identity['escrow']} on chain {identity['chain_id']}",
    ]
    funds = found["funds"]
    if funds is not None:
        free, locked, wallet = (
            f"{format_money(int(funds[name]), funds['decimals'])} {funds['symbol']}"
            for name in ("free", "locked", "wallet")
        )
        gas = format_money(int(funds["gas_wei"]), WEI_DECIMALS)
        lines.append(f"money {free} free · {locked} locked in bonds · {wallet} in the wallet · gas {gas} coin")
    elif found["chain"]:
        lines.append(f"the chain says nothing: {found['chain']}")
    billed = int(found["billed"])
    over = f"{format_money(billed, funds['decimals'])} {funds['symbol']}" if funds else f"{billed} base units"
    lines.append(f"{found['receipts']} receipts over {over}")
    lines += [_line(lease) for lease in found["leases"]]
    return "\n".join(lines)


def _line(lease: dict[str, Any]) -> str:
    due = f"{lease['due']} {_when(lease['dueAt'])}" if lease.get("due") else ""
    words = f"{lease['step']:<9} {lease.get('state', ''):<9} {lease['reason']:<16} {due:<22}"
    return f"lease {lease['number']:>5}  {words} {lease['id']}"


def _when(at: int) -> str:
    left = at - int(time.time())
    return "now" if left <= 0 else f"in {left} s"


def _billed(file: Path) -> int:
    try:
        return int(json.loads(file.read_bytes())["signed"]["receipt"]["amount"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _lease(record: LeaseRecord) -> dict[str, Any]:
    return {
        "id": record.view.id,
        "number": record.view.number,
        "step": record.step.value,
        "phase": phase_of(record),
        "reason": record.reason,
        "detail": record.detail,
        "consumer": record.view.bid["consumer"],
        "endsAt": record.view.opened_at + int(record.view.bid["maxSeconds"]),
    }


def phase_of(record: LeaseRecord) -> str:
    """What a person sees of a lease here."""
    words = {"accepted": "starting", "started": "running", "ended": "collecting", "collected": "delivering"}
    return words.get(record.step.value, "unpaid")


def _ask_chain(state: StateFolder, identity: Identity, records: list[LeaseRecord], found: dict[str, Any]) -> None:
    with Chain(Connections.read(state).chain, timeout_s=CHAIN_TIMEOUT_S) as chain:
        escrow = Escrow(chain, identity.escrow)
        account, token, locked = escrow.account(identity.account), escrow.token, 0
        for lease, record in zip(found["leases"], records, strict=True):
            assignment = record.assignment(identity.account, identity.domain)
            standing = stand(assignment, escrow.seat, history_reader(escrow, "latest"))
            lease.update(_on_chain(record, assignment, standing))
            locked += assignment.lease.bond if standing.place is Place.OPEN else 0
        found["funds"] = asdict(
            Funds(
                symbol=token.symbol,
                decimals=token.decimals,
                free=str(account.free),
                locked=str(locked),
                wallet=str(token.balance_of(identity.account)),
                gas_wei=str(chain.balance_wei(identity.account)),
            )
        )


def _on_chain(record: LeaseRecord, assignment: Assignment, standing: Standing) -> dict[str, Any]:
    """State, end, and what is due next and when (seconds of Unix UTC)."""
    state, due = standing.history.state if standing.place is Place.OPEN else standing.place.value, Due(Move.NONE)
    if standing.place is Place.OPEN and record.signed is not None:
        due = next_move(
            standing.state(assignment),
            signed_at=record.signed_at,
            countersigned_at=record.countersigned_at if record.countersignature else None,
            never_begun=record.never_begun,
        )
    return {"state": state, "endsAt": assignment.clauses.ends_at, "due": due.move.value, "dueAt": due.at}
