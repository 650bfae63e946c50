"""The escrow seen from outside: deployment, papers and signatures by web3 and eth_account alone.

Nothing here imports suanli_protocol but the compiled contracts, so that these tests check it from a second source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from eth_abi.abi import encode
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3 import Web3
from web3.contract import Contract
from web3.logs import DISCARD as DISCARD
from web3.types import TxReceipt

from suanli_protocol.abi import artifact

ZERO = "0x" + "00" * 20
NO_SIGNATURE = (b"\0" * 32, b"\0" * 32)
FAR = 2**40 - 1
GAS = 16_000_000

OFFER_FIELDS = [
    ("address", "provider"), ("address", "market"), ("address", "arbiter"), ("uint128", "capacity"),
    ("uint256", "prices"), ("bytes32", "attributes"), ("uint64", "traits"), ("uint40", "validUntil"),
    ("uint32", "minSeconds"), ("uint32", "maxSeconds"), ("uint16", "bondBps"), ("uint32", "maxWindow"),
    ("uint32", "counter"),
]  # fmt: skip
BID_FIELDS = [
    ("address", "consumer"), ("address", "market"), ("address", "guard"), ("address", "arbiter"),
    ("bytes32", "seat"), ("uint16", "count"), ("uint8", "attempts"), ("bool", "gang"), ("uint128", "need"),
    ("uint64", "needs"), ("uint64", "refuses"), ("uint96", "maxRate"), ("uint96", "budget"),
    ("uint32", "maxSeconds"), ("uint32", "window"), ("uint16", "feeBps"), ("bytes32", "documents"),
    ("uint40", "validUntil"), ("uint32", "counter"),
]  # fmt: skip
RECEIPT_FIELDS = [("bytes32", "lease"), ("uint96", "amount"), ("uint8", "kind"), ("bytes32", "evidence")]
LINK_FIELDS = [("address", "account"), ("address", "owner")]
PERMIT_FIELDS = [
    ("address", "owner"), ("address", "spender"), ("uint256", "value"), ("uint256", "nonce"), ("uint256", "deadline"),
]  # fmt: skip
CLAUSES_TYPES = ["bytes32", "bytes32", "address", "address", "uint96", "uint96", "uint32", "uint32", "uint32"]
CLAUSES_TYPES += ["uint8", "uint8", "uint40"]
LEASE_TYPES = ["bytes32", "bytes32", "address", "address", "address", "uint128", "uint96", "uint96", "uint16"]


def lanes(cpu: int = 0, memory: int = 0, accelerator: int = 0, disk: int = 0) -> int:
    """Four 32-bit lanes, high to low."""
    return cpu << 96 | memory << 64 | accelerator << 32 | disk


def prices(cpu: int = 0, memory: int = 0, accelerator: int = 0, disk: int = 0) -> int:
    """Four 64-bit lanes, high to low."""
    return cpu << 192 | memory << 128 | accelerator << 64 | disk


def deploy(web3: Web3, sender: str, name: str, *arguments: object) -> Contract:
    """Deploys a shipped contract from an unlocked account of the devnet."""
    compiled = artifact(name)
    factory = web3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
    receipt = mined(web3, factory.constructor(*arguments).transact({"from": sender, "gas": GAS}))
    return cast(Contract, web3.eth.contract(address=receipt["contractAddress"], abi=compiled["abi"]))


def mined(web3: Web3, transaction: bytes) -> TxReceipt:
    """Waits for a transaction; AssertionError when it reverted."""
    receipt = web3.eth.wait_for_transaction_receipt(transaction, timeout=30)  # type: ignore[arg-type]
    assert receipt["status"] == 1, receipt
    return receipt


@dataclass
class Ledger:
    """One escrow with its token on one devnet, and what tests do with them. Senders are unlocked accounts."""

    web3: Web3
    token: Contract
    escrow: Contract

    @classmethod
    def on(cls, url: str, sender: str) -> Ledger:
        """Deploys a token and an escrow for it."""
        web3 = Web3(Web3.HTTPProvider(url))
        token = deploy(web3, sender, "DevCredit")
        return cls(web3, token, deploy(web3, sender, "LeaseEscrow", token.address))

    def send(self, sender: str, function: Any) -> TxReceipt:
        """Sends one call from an unlocked account and waits for it."""
        return mined(self.web3, function.transact({"from": sender, "gas": GAS}))

    def fund(self, account: str, amount: int) -> None:
        """Faucet, approval, deposit."""
        self.send(account, self.token.functions.faucet(account, amount))
        self.send(account, self.token.functions.approve(self.escrow.address, amount))
        self.send(account, self.escrow.functions.deposit(account, amount))

    def free(self, account: str) -> int:
        """The account's free money."""
        free: int = self.escrow.functions.accountOf(account).call()[0]
        return free

    def used(self, account: str) -> int:
        """The account's capacity in use, as lanes."""
        used: int = self.escrow.functions.accountOf(account).call()[2]
        return used

    def time(self) -> int:
        """The newest block's time."""
        return int(self.web3.eth.get_block("latest")["timestamp"])

    def time_of(self, receipt: TxReceipt) -> int:
        """The time of the block that holds a transaction."""
        return int(self.web3.eth.get_block(receipt["blockNumber"])["timestamp"])

    def digest(self, kind: str, fields: Sequence[tuple[str, str]], message: dict[str, Any]) -> Any:
        """eth_account's signable form of a paper in the escrow's domain."""
        domain = {
            "name": "Suanli",
            "version": "1",
            "chainId": self.web3.eth.chain_id,
            "verifyingContract": self.escrow.address,
        }
        return signable(domain, kind, fields, message)

    def sign(self, key: LocalAccount, kind: str, fields: Sequence[tuple[str, str]], message: dict[str, Any]) -> Any:
        """A compact signature (r, vs)."""
        return compact(key.sign_message(self.digest(kind, fields, message)))

    def struct_hash(self, kind: str, fields: Sequence[tuple[str, str]], message: dict[str, Any]) -> bytes:
        """eth_account's hash of the paper without the domain."""
        return bytes(self.digest(kind, fields, message).body)


def signable(domain: dict[str, Any], kind: str, fields: Sequence[tuple[str, str]], message: dict[str, Any]) -> Any:
    """eth_account's signable form of a struct in any domain."""
    types = {kind: [{"name": name, "type": type_} for type_, name in fields]}
    return encode_typed_data(domain, types, message)


def sign_for(
    domain: dict[str, Any], key: LocalAccount, kind: str, fields: Sequence[tuple[str, str]], message: dict[str, Any]
) -> Any:
    """An eth_account signature (v, r, s) in any domain."""
    return key.sign_message(signable(domain, kind, fields, message))


def compact(signed: Any) -> tuple[bytes, bytes]:
    """EIP-2098 from an eth_account signature."""
    vs = signed.s | (signed.v - 27) << 255
    return signed.r.to_bytes(32, "big"), vs.to_bytes(32, "big")


def values(fields: Sequence[tuple[str, str]], message: dict[str, Any]) -> tuple[Any, ...]:
    """A paper as the tuple that web3 encodes."""
    return tuple(message[name] for _, name in fields)


def an_offer(provider: str, **changes: Any) -> dict[str, Any]:
    """8 cores, 32 GiB, 100 GiB of disk; 0.04 a core-hour, 0.005 a GiB-hour (6 decimals)."""
    offer = {
        "provider": provider, "market": ZERO, "arbiter": ZERO, "capacity": lanes(8000, 32768, 0, 102400),
        "prices": prices(40_000, 5_000, 0, 100), "attributes": b"\x01" * 32, "traits": 0b101, "validUntil": FAR,
        "minSeconds": 60, "maxSeconds": 86400, "bondBps": 1000, "maxWindow": 7200, "counter": 0,
    }  # fmt: skip
    return {**offer, **changes}


def a_bid(consumer: str, market: str, seat: bytes, **changes: Any) -> dict[str, Any]:
    """2 cores, 4 GiB, 10 GiB of disk for an hour at most; 0.5 % fee."""
    bid = {
        "consumer": consumer, "market": market, "guard": ZERO, "arbiter": ZERO, "seat": seat, "count": 1,
        "attempts": 1, "gang": False, "need": lanes(2000, 4096, 0, 10240), "needs": 0b001, "refuses": 0b010,
        "maxRate": 1_000_000, "budget": 10_000_000, "maxSeconds": 3600, "window": 3600, "feeBps": 50,
        "documents": b"\x02" * 32, "validUntil": FAR, "counter": 0,
    }  # fmt: skip
    return {**bid, **changes}


RATE = 101_000  # the ask of a_bid's need at an_offer's prices


@dataclass
class Deal:
    """Two papers that match, and the terms of the lease that they open."""

    ledger: Ledger
    consumer: LocalAccount
    provider: LocalAccount
    bid: dict[str, Any]
    offer: dict[str, Any]
    rate: int = RATE
    opened_at: int = 0
    progress: int = 0

    def opening(self) -> tuple[Any, ...]:
        """The entry of open()."""
        bid_signature = self.ledger.sign(self.consumer, "Bid", BID_FIELDS, self.bid)
        offer_signature = self.ledger.sign(self.provider, "Offer", OFFER_FIELDS, self.offer)
        fill = (values(OFFER_FIELDS, self.offer), offer_signature, self.rate, 0, b"")
        return values(BID_FIELDS, self.bid), bid_signature, [fill]

    @property
    def seconds(self) -> int:
        return int(min(self.bid["maxSeconds"], self.offer["maxSeconds"]))

    @property
    def price(self) -> int:
        return -(-self.rate * self.seconds // 3600)

    @property
    def bond(self) -> int:
        return int(self.price * self.offer["bondBps"] // 10000)

    def fee(self, amount: int) -> int:
        return int(amount * self.bid["feeBps"] // 10000)

    @property
    def deposit(self) -> int:
        return self.price + self.fee(self.price) + self.price // 10

    @property
    def clauses(self) -> tuple[Any, ...]:
        bid, offer = self.bid, self.offer
        return (
            self.ledger.struct_hash("Bid", BID_FIELDS, bid), self.ledger.struct_hash("Offer", OFFER_FIELDS, offer),
            bid["arbiter"], bid["guard"], self.rate, 0, self.seconds, offer["minSeconds"],
            bid["window"], 1, bid["attempts"], self.opened_at,
        )  # fmt: skip

    @property
    def seat_key(self) -> bytes:
        packed = int(self.bid["consumer"], 16) << 96
        return keccak(encode(["bytes32", "uint256"], [self.bid["seat"], packed]))

    @property
    def lease(self) -> tuple[Any, ...]:
        bid = self.bid
        return (
            keccak(encode(CLAUSES_TYPES, self.clauses)), self.seat_key, bid["consumer"], self.offer["provider"],
            bid["market"], bid["need"], self.price, self.bond, bid["feeBps"],
        )  # fmt: skip

    @property
    def lease_id(self) -> bytes:
        return keccak(encode(LEASE_TYPES, self.lease))

    def settlement(self, amount: int, kind: int = 1, evidence: bytes = b"\x03" * 32) -> tuple[Any, ...]:
        """The entry of settle(), signed by both."""
        receipt = {"lease": self.lease_id, "amount": amount, "kind": kind, "evidence": evidence}
        by_provider = self.ledger.sign(self.provider, "Receipt", RECEIPT_FIELDS, receipt)
        by_consumer = self.ledger.sign(self.consumer, "Receipt", RECEIPT_FIELDS, receipt)
        return self.lease, self.progress, amount, kind, evidence, by_provider, by_consumer
