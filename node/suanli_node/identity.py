"""Identity: which chain, escrow, market and account this node deals with, pinned at its first start.

The market says which chain and escrow it works on; the operator's own settings and endpoint must say the same, and the
state folder remembers both, so that neither a reset devnet nor another market is ever taken for the old one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from suanli_node.engine.runs import write_json
from suanli_protocol import wire
from suanli_protocol.chain import Chain
from suanli_protocol.devnet import DEVNET_CHAIN_IDS
from suanli_protocol.documents import hex32
from suanli_protocol.errors import ChainError, ConfigurationError
from suanli_protocol.pinning import check_escrow_code
from suanli_protocol.signing import Domain


@dataclass(frozen=True)
class ChainFacts:
    """What the node's own endpoint says."""

    chain_id: int
    genesis: str
    code_hash: str  # of the code at the escrow's address

    @classmethod
    def read(cls, chain: Chain, escrow: str) -> ChainFacts:
        """From the endpoint; ConfigurationError if the escrow's address holds another contract or none."""
        code_hash = check_escrow_code(chain, wire.read_address(escrow))
        return cls(chain.chain_id(), hex32(chain.genesis()), hex32(code_hash))


@dataclass(frozen=True)
class Identity:
    """Whom this node deals with."""

    chain_id: int
    genesis: str
    escrow: str
    code_hash: str
    market: str
    account: str

    @property
    def domain(self) -> Domain:
        """Where signatures of this node are good."""
        return Domain(self.chain_id, self.escrow)

    @property
    def trusted_block(self) -> str:
        """The block tag at which the chain is believed: an automining devnet has no reorganisations to wait out."""
        return "latest" if self.chain_id in DEVNET_CHAIN_IDS else "finalized"


def identify(info: wire.MarketInfo, facts: ChainFacts, escrow: str, account: str) -> Identity:
    """The identity if market, settings and chain agree; ConfigurationError names what does not."""
    wanted = {
        "chain id": (info.chain_id, facts.chain_id),
        "genesis block": (info.genesis, facts.genesis),
        "escrow": (wire.read_address(info.escrow), wire.read_address(escrow)),
        "escrow code": (info.code_hash, facts.code_hash),
    }
    for name, (market_says, own) in wanted.items():
        if market_says != own:
            raise ConfigurationError(
                f"the market works with {name} {market_says}, this node with {own}",
                hint="check --market, --chain and --escrow (SUANLI_MARKET, SUANLI_CHAIN, SUANLI_ESCROW)",
            )
    market = wire.read_address(info.address)
    return Identity(facts.chain_id, facts.genesis, wire.read_address(escrow), facts.code_hash, market, account)


def remembered(path: Path) -> Identity:
    """The identity of an earlier start."""
    return Identity(**json.loads(path.read_bytes()))


def pin(path: Path, identity: Identity) -> None:
    """Remember the identity at the first start; later ConfigurationError, or ChainError for a reset devnet."""
    if not path.exists():
        write_json(path, asdict(identity))
        return
    known = json.loads(path.read_bytes())
    for name, value in asdict(identity).items():
        if known.get(name) == value:
            continue
        if name == "genesis":
            raise ChainError(
                f"this is another chain than before: genesis {value}, not {known.get(name)}",
                code="chain_reset",
                hint=f"a devnet that was reset has forgotten its leases: name a new --state, or delete {path.parent}",
            )
        raise ConfigurationError(
            f"{path.parent} belongs to {name.replace('_', ' ')} {known.get(name)}, not to {value}",
            hint="use one --state folder for each account, market and escrow",
        )
