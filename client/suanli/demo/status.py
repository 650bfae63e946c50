"""How the demo stands: each process, where it listens, who is who, what everybody has, what is for rent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from suanli.demo.home import KEYS, MACHINES, DemoHome
from suanli_protocol.errors import SuanliError
from suanli_protocol.market_client import MarketClient

PROCESSES = ("chain", "market", *(machine.name for machine in MACHINES))


@dataclass(frozen=True)
class Status:
    """Facts for a person or for --json; a part that cannot be asked is absent and `troubles` says why."""

    processes: list[dict[str, Any]]
    parties: list[dict[str, Any]]
    offers: list[dict[str, Any]]
    chain: str
    market: str
    escrow: str
    token: str
    keys: str  # the folder with everybody's key and, beside it, its password
    logs: str
    symbol: str
    decimals: int
    troubles: list[str]

    @property
    def is_up(self) -> bool:
        """Whether every process runs and answers."""
        return not self.troubles and all(process["alive"] for process in self.processes)

    def to_json(self) -> dict[str, Any]:
        """The status as JSON values."""
        return {"up": self.is_up, **self.__dict__}


def read_status(home: DemoHome) -> Status:
    """Asks every part; never raises for one that is down."""
    memory = home.load()
    chain, market = f"http://127.0.0.1:{memory.chain_port}", f"http://127.0.0.1:{memory.market_port}"
    troubles: list[str] = []
    symbol, decimals = "", 0
    parties: list[dict[str, Any]] = []
    try:
        symbol, decimals, parties = _parties(home, chain, memory.escrow)
    except SuanliError as error:
        troubles.append(error.detail)
    offers: list[dict[str, Any]] = []
    try:
        with MarketClient(market) as client:
            symbol, decimals = client.info().symbol, client.info().decimals
            offers = _offers(client)
    except SuanliError as error:
        troubles.append(error.detail)
    return Status(
        [_process(home, name, {"chain": chain, "market": market}) for name in PROCESSES],
        parties,
        offers,
        chain,
        market,
        memory.escrow,
        memory.token,
        str(home.keystore("consumer").parent),
        str(home.processes.log("chain").parent),
        symbol,
        decimals,
        troubles,
    )


def _process(home: DemoHome, name: str, urls: dict[str, str]) -> dict[str, Any]:
    """A process, and where it listens: a node says that itself, and elsewhere at each start."""
    record = home.processes.find(name)
    alive = bool(record and record.is_alive)
    return {
        "name": name,
        "alive": alive,
        "pid": record.pid if record and alive else None,
        "url": (urls.get(name) or str((home.processes.ready_line(name) or {}).get("direct", ""))) if alive else "",
        "log": str(home.processes.log(name)),
    }


def _parties(home: DemoHome, url: str, address: str) -> tuple[str, int, list[dict[str, Any]]]:
    from suanli_protocol import keystore
    from suanli_protocol.escrow import Chain, Escrow

    chain = Chain(url)
    escrow = Escrow(chain, address)
    parties = []
    for name in KEYS:
        who = keystore.address(home.keystore(name))
        account = escrow.account(who)
        parties.append({"name": name, "address": who, "free": str(account.free), "wei": str(chain.balance_wei(who))})
    return escrow.token.symbol, escrow.token.decimals, parties


def _offers(client: MarketClient) -> list[dict[str, Any]]:
    return [
        {
            "name": view.attributes.get("name", ""),
            "region": view.attributes.get("region", ""),
            "provider": view.offer["provider"],
            "prices": view.offer["prices"],
            "free": view.free,
        }
        for view in client.offers()
    ]
