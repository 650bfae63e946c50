"""What of this node stands on the market's book now, as the market tells anybody."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from suanli_node.connections import Connections
from suanli_node.identity import remembered
from suanli_node.settings import StateFolder
from suanli_protocol.capacity import Prices
from suanli_protocol.errors import NotFoundError
from suanli_protocol.market_client import MarketClient
from suanli_protocol.units import format_mib, format_money


def own_offers(path: Path) -> list[dict[str, Any]]:
    """The node's offers, with what is free of each; NotFoundError if this is no node's state."""
    state = StateFolder(path.resolve())
    if not state.identity.exists():
        raise NotFoundError(f"{path} holds no node's state", hint="name the folder that `suanli-node up` was given")
    known, account = Connections.read(state), remembered(state.identity).account
    with MarketClient(known.market) as market:
        views = [view for view in market.offers(provider=account) if view.offer["provider"] == account]
    return [{**view.to_json(), "symbol": known.symbol, "decimals": known.decimals} for view in views]


def render_offers(offers: list[dict[str, Any]]) -> str:
    """The same for a person."""
    return "\n".join(map(_line, offers)) or "no offer of this node stands on the book"


def _line(found: dict[str, Any]) -> str:
    offer, free = found["offer"], found["free"]
    core = format_money(Prices.unpack(int(offer["prices"])).core, found["decimals"])
    left = max(0, int(offer["validUntil"]) - int(time.time()))
    memory, disk = format_mib(free["memoryMib"]), format_mib(free["diskMib"])
    room = f"{free['cpuMilli'] / 1000:g} cores, {memory}, {disk} of disk free"
    return f"{found['id']}  {room} · {core} {found['symbol']} a core and hour · renewed within {left} s"
