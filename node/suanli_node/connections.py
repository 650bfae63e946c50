"""Connections: where chain, escrow, market and key of a node are, kept by the daemon for the commands beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from suanli_node.engine.runs import write_json
from suanli_node.settings import Settings, StateFolder
from suanli_protocol import wire
from suanli_protocol.errors import NotFoundError


@dataclass(frozen=True)
class Connections:
    """What `up` was given. Addresses may hold a password of an endpoint: the file is the node's own, mode 0600."""

    market: str
    chain: str
    escrow: str
    keystore: str
    password_file: str
    blob_bytes_max: int = 0  # this and the token as the market last said
    symbol: str = ""
    decimals: int = 0

    @classmethod
    def of(cls, settings: Settings, info: wire.MarketInfo) -> Connections:
        """From the settings of `up`, and what the market says of itself."""
        password = str(settings.password_file.resolve()) if settings.password_file else ""
        return cls(
            settings.market, settings.chain, settings.escrow, str(settings.keystore.resolve()), password,
            info.blob_bytes_max, info.symbol, info.decimals,
        )  # fmt: skip

    @classmethod
    def read(cls, state: StateFolder) -> Connections:
        """As the daemon wrote them last; NotFoundError if there never was one."""
        try:
            return cls(**json.loads(state.connections.read_bytes()))
        except (FileNotFoundError, TypeError, ValueError):
            raise NotFoundError(
                f"{state.path} does not say where chain and key are", hint="start the node once with `suanli-node up`"
            ) from None

    def write(self, state: StateFolder) -> None:
        """Keep them."""
        write_json(state.connections, asdict(self))

    @property
    def password(self) -> Path | None:
        """The password file, if there is one."""
        return Path(self.password_file) if self.password_file else None
