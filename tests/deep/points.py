"""The points at which a process is killed, by the role that dies there (`suanli_protocol.faults`)."""

from __future__ import annotations

import re
from pathlib import Path

from suanli_protocol import faults

CLIENT = (
    "client.bid.signed",
    "client.bid.recorded",
    "client.bid.posted",
    "client.bid.acknowledged",
    "client.lease.agreed",
    "client.job.sealed",
    "client.job.uploaded",
    "client.job.recorded",
    "client.inputs.sealed",
    "client.inputs.uploaded",
    "client.inputs.recorded",
    "client.receipt.checked",
    "client.outputs.taken",
    "client.receipt.signed",
    "client.receipt.countersigned",
    "client.settlement.seen",
)
MARKET = (
    "market.admission.committed",
    "market.admission.applied",
    "market.round.committed",
    "market.open.intended",
    "market.open.sent",
    "market.open.mined",
    "market.open.marked",
    "market.settle.intended",
    "market.settle.sent",
    "market.settle.mined",
    "market.settle.marked",
    "market.blocks.projected",
    "market.blocks.committed",
    "market.blocks.undone",
    "market.receipt.kept",
    "market.receipt.committed",
    "market.countersignature.kept",
    "market.countersignature.committed",
)
NODE = (
    "node.offer.recorded",
    "node.offer.posted",
    "node.lease.recorded",
    "node.inputs.fetched",
    "node.lease.started",
    "node.run.asked",
    "node.run.started",
    "node.run.ended",
    "node.lease.ended",
    "node.outputs.sealed",
    "node.lease.collected",
    "node.outputs.delivered",
    "node.receipt.signed",
    "node.lease.signed",
    "node.receipt.kept",
    "node.receipt.posted",
    "node.lease.posted",
    "node.countersignature.kept",
    "node.transaction.recorded",
    "node.transaction.sent",
    "node.transaction.mined",
    "node.lease.closed",
    "node.event.handled",
)
AGENT = ("agent.run.recorded", "agent.run.submitted", "agent.run.finished", "agent.stop.recorded")
WORKER = ("worker.child.started", "worker.run.running", "worker.child.ended", "worker.run.concluded")
POINTS = {"client": CLIENT, "market": MARKET, "node": NODE, "agent": AGENT, "worker": WORKER}


def in_the_code() -> set[str]:
    """What the sources reach, with `*` for a part that is only known as they run."""
    root = Path(faults.__file__).resolve().parents[2]
    files = (path for role in ("client", "market", "node") for path in (root / role).rglob("*.py"))
    calls = (name for path in files for name in re.findall(r'faults\.reach\(f?"([^"]+)"\)', path.read_text()))
    return {re.sub(r"{.*?}", "*", name) for name in calls}
