"""The textbook service that takes signed offers: FastAPI, eth-account, SQLModel on SQLite, a row and a commit each.

Run as `python -m bench.peers.textbook DATABASE PORT CHAIN_ID ESCROW`.
"""

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import uvicorn
from eth_account import Account
from eth_account.messages import encode_typed_data
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlmodel import Field, Session, SQLModel, create_engine

FIELDS = (
    ("address", "provider"), ("address", "market"), ("address", "arbiter"), ("uint128", "capacity"),
    ("uint256", "prices"), ("bytes32", "attributes"), ("uint64", "traits"), ("uint40", "validUntil"),
    ("uint32", "minSeconds"), ("uint32", "maxSeconds"), ("uint16", "bondBps"), ("uint32", "maxWindow"),
    ("uint32", "counter"),
)  # fmt: skip
TYPES = {"Offer": [{"name": name, "type": kind} for kind, name in FIELDS]}


class SignedOffer(BaseModel):
    """What is posted."""

    offer: dict[str, Any]
    signature: str
    attributes: dict[str, Any]


class OfferRow(SQLModel, table=True):
    """What is kept."""

    id: str = Field(primary_key=True)
    provider: str = Field(index=True)
    paper: str
    signature: str
    attributes: str


def create_app(database: str, chain_id: int, escrow: str) -> FastAPI:
    """The service over one database file."""
    engine = create_engine(f"sqlite:///{database}", connect_args={"check_same_thread": False, "timeout": 30})
    SQLModel.metadata.create_all(engine)
    domain = {"name": "Suanli", "version": "1", "chainId": chain_id, "verifyingContract": escrow}
    app = FastAPI()

    def session() -> Iterator[Session]:
        with Session(engine) as opened:
            yield opened

    def post_offer(body: SignedOffer, db: Annotated[Session, Depends(session)]) -> dict[str, str]:
        values = {name: _value(kind, body.offer[name]) for kind, name in FIELDS}
        signable = encode_typed_data(domain, TYPES, values)
        compact = bytes.fromhex(body.signature[2:])
        vs = int.from_bytes(compact[32:], "big")
        signature = compact[:32] + (vs & (2**255 - 1)).to_bytes(32, "big") + bytes([27 + (vs >> 255)])
        if Account.recover_message(signable, signature=signature) != body.offer["provider"]:
            raise HTTPException(403, "not signed by the provider")
        row = OfferRow(id=signable.body.hex(), provider=body.offer["provider"], paper=str(body.offer),
                       signature=body.signature, attributes=str(body.attributes))  # fmt: skip
        db.add(row)
        db.commit()
        return {"id": row.id}

    app.post("/v1/offers")(post_offer)
    return app


def _value(kind: str, value: Any) -> Any:
    return int(value) if kind.startswith("uint") else value


if __name__ == "__main__":
    path, port, chain, address = sys.argv[1:]
    uvicorn.run(create_app(path, int(chain), address), host="127.0.0.1", port=int(port), log_level="error")
