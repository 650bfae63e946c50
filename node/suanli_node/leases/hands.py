"""Hands: ways out that the operator takes by command, in the daemon or, while none runs, in the command itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from suanli_node.leases.closer import Closer
from suanli_node.leases.closing import Move
from suanli_node.leases.ledger import Ledger
from suanli_node.leases.run import LeaseRun
from suanli_node.leases.standing import Place
from suanli_node.supply.purse import Purse
from suanli_protocol import wire
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import FundsError, NotFoundError, UsageError

WAYS = ("settle", "stop", "release", "claim", "finalize")


class Hands:
    """Carries out what the operator asks."""

    def __init__(self, closer: Closer, ledger: Ledger, runs: Callable[[], Sequence[LeaseRun]], purse: Purse) -> None:
        self._closer, self._ledger, self._runs, self._purse = closer, ledger, runs, purse

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """What came of a request {"what", "lease" or "amount"}; a SuanliError says why nothing did."""
        what = str(request.get("what"))
        if what == "withdraw":
            return told(what, self._withdraw(request.get("amount")))
        if what not in WAYS:
            raise UsageError(f"{what!r:.40} is nothing that a node does")
        run = find(self._runs(), str(request.get("lease", "")))
        standing = self._ledger.latest(run.assignment)
        if standing.place is not Place.OPEN:
            raise NotFoundError(f"lease {run.record.view.id} is {standing.place} on the chain: nothing is to be done")
        if what == "stop":
            return told(what, self._ledger.stop(run.assignment), run)
        if what in ("claim", "settle") and run.record.signed is None:
            raise NotFoundError(f"lease {run.record.view.id} has no receipt yet", hint="stop it, or wait for its end")
        if what == "settle":
            self._closer.ask(run)
        mined = self._closer.do(Move(what), run)
        self._closer.hurry()
        return told(what, mined, run)

    def _withdraw(self, amount: object) -> TxReceipt:
        free = self._ledger.free()
        wanted = free if amount is None else int(str(amount))
        if not 0 < wanted <= free:
            raise FundsError(f"{free} base units are free, {wanted} were asked for", hint="withdraw less")
        with self._ledger.alone(), self._purse.putting_aside(0 if self._ledger.has_owner else wanted):
            return self._ledger.withdraw(wanted)


def told(what: str, mined: TxReceipt, run: LeaseRun | None = None) -> dict[str, Any]:
    """What a command shows."""
    return {
        "what": what,
        "lease": run.record.view.id if run else "",
        "transaction": wire.to_hex(mined.transaction),
        "block": mined.block,
        "gasUsed": mined.gas_used,
        "wei": str(mined.cost_wei),
    }


def find(runs: Sequence[LeaseRun], name: str) -> LeaseRun:
    """The lease of a number or of the beginning of an id; NotFoundError if there is none or more than one."""
    if name.isdecimal():
        found = [run for run in runs if run.record.view.number == int(name) > 0]  # 0: the number is not known
    else:
        prefix = "0x" + name.lower().removeprefix("0x")
        found = [run for run in runs if run.record.view.id.startswith(prefix) and len(prefix) > 5]
    if len(found) != 1:
        many = "no open lease" if not found else f"{len(found)} leases"
        raise NotFoundError(f"{many} of this node: {name!r:.80}", hint="`suanli-node status` lists them")
    return found[0]
