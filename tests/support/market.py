"""A real market for tests: an escrow deployed on a devnet, funded keys, and `suanli-market serve` as a process."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suanli_protocol import wire
from suanli_protocol.devnet import set_balance
from suanli_protocol.documents import Attributes, Constraints, JobDocument, documents_digest
from suanli_protocol.escrow import Chain, Escrow, deploy
from suanli_protocol.keystore import SCRYPT_N_DEVNET, create
from suanli_protocol.market_client import MarketClient
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.signing import Signer, struct_hash
from support.builders import CREDIT, a_bid, a_job, an_offer, some_attributes, some_constraints
from support.devnet import Anvil
from support.service import start_service

GAS_WEI = 10**20
PASSWORD = "correct horse"


@dataclass
class Party:
    """A funded key."""

    signer: Signer

    @property
    def address(self) -> str:
        """Its account."""
        return self.signer.address


@dataclass
class World:
    """One escrow on one devnet."""

    url: str
    chain: Chain
    escrow: Escrow
    deployer: Signer

    def party(self, money: int = 100 * CREDIT) -> Party:
        """A new key with gas and free money in the escrow."""
        signer = Signer(secrets.token_bytes(32))
        set_balance(self.chain, signer.address, GAS_WEI)
        if money:
            self.escrow.faucet(self.deployer, signer.address, money)
            self.escrow.deposit(signer, signer.address, money)
        return Party(signer)


def a_world(anvil: Anvil) -> World:
    """Deploys token and escrow on a devnet, from a key of its own (tests may share the devnet)."""
    chain = Chain(anvil.url)
    deployer = Signer(secrets.token_bytes(32))
    set_balance(chain, deployer.address, GAS_WEI)
    deployment = deploy(deployer, chain)
    return World(anvil.url, chain, Escrow(chain, deployment.escrow), deployer)


@dataclass
class MarketProcess:
    """A running market."""

    url: str
    address: str
    pid: int
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    def client(self, signer: Signer | None = None) -> MarketClient:
        """A connection."""
        return MarketClient(self.url, signer=signer)


def market_key(world: World, folder: Path) -> tuple[Path, Path, Signer]:
    """A key file and password file for a market, with gas."""
    folder.mkdir(parents=True, exist_ok=True)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    signer = create(folder / "key.json", PASSWORD, scrypt_n=SCRYPT_N_DEVNET)
    set_balance(world.chain, signer.address, GAS_WEI)
    return folder / "key.json", password, signer


def serve_command(world: World, key: Path, password: Path, data: Path, *options: str) -> list[str]:
    """The command line of a market."""
    return [
        *(sys.executable, "-m", "suanli_market.cli", "serve"),
        *("--chain", world.url, "--escrow", world.escrow.address),
        *("--keystore", str(key), "--password-file", str(password)),
        *("--data", str(data), "--port", "0", *options),
    ]


@contextmanager
def start_market(command: list[str]) -> Iterator[MarketProcess]:
    """Runs a market while the context is open; RuntimeError with its stderr if it does not get ready."""
    with start_service(command) as service:
        ready = service.ready
        yield MarketProcess(ready["url"], ready["address"], service.process.pid, service.process, service.log)


def signed_offer(
    world: World, provider: Signer, *, attributes: Attributes | None = None, **fields: Any
) -> wire.SignedOffer:
    """An offer by the provider as it is posted."""
    attributes = attributes or some_attributes()
    offer = an_offer(
        **{
            "provider": provider.address,
            "attributes": attributes.digest(),
            "valid_until": int(time.time()) + 600,
            **fields,
        }
    )
    return sign_offer(world, provider, offer, attributes)


def sign_offer(world: World, provider: Signer, offer: Offer, attributes: Attributes) -> wire.SignedOffer:
    """The offer with its signature and document."""
    signature = provider.sign(world.escrow.domain, offer)
    return wire.SignedOffer(
        offer=wire.paper_to_json(offer), signature=wire.to_hex(signature), attributes=attributes.to_json()
    )


def signed_bid(
    world: World,
    consumer: Signer,
    market: str,
    *,
    constraints: Constraints | None = None,
    job: JobDocument | None = None,
    **fields: Any,
) -> wire.SignedBid:
    """A bid by the consumer as it is posted, with a new seat."""
    constraints, job = constraints or some_constraints(), job or a_job()
    bid = a_bid(
        **{
            "consumer": consumer.address,
            "market": market,
            "seat": secrets.token_bytes(32),
            "valid_until": int(time.time()) + 600,
            "documents": documents_digest(job.digest(), constraints.digest()),
            **fields,
        }
    )
    signature = consumer.sign(world.escrow.domain, bid)
    return wire.SignedBid(
        bid=wire.paper_to_json(bid),
        signature=wire.to_hex(signature),
        constraints=constraints.to_json(),
        job_digest=wire.to_hex(job.digest()),
    )


def offer_id(signed: wire.SignedOffer) -> bytes:
    """The struct hash of a posted offer."""
    return struct_hash(wire.paper_from_json(Offer, signed.offer))


def bid_id(signed: wire.SignedBid) -> bytes:
    """The struct hash of a posted bid."""
    return struct_hash(wire.paper_from_json(Bid, signed.bid))


def with_member(signed: Any, paper: str, **members: Any) -> Any:
    """The same body with members of its paper altered after signing."""
    return signed.model_copy(update={paper: {**getattr(signed, paper), **members}})
