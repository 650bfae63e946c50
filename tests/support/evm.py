"""An in-process chain (pyrevm): thousands of calls a second, any block time, and accounts set to any word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode, encode

pytest.importorskip("pyrevm", reason="pyrevm has no wheel for this Python")
from pyrevm import EVM, BlockEnv, CfgEnv, Env
from web3.utils import abi_to_signature, collapse_if_tuple

from suanli_protocol.chain_records import Log
from suanli_protocol.contract_abi import contract_abi
from suanli_protocol.escrow import Account
from suanli_protocol.events import EscrowEvent, decode_event
from suanli_protocol.lease import seat_key
from suanli_protocol.messages import ZERO32
from suanli_protocol.signing import Domain, address_bytes, checksum_address, keccak256
from support.builders import CHAIN_ID, NOW

DEPLOYER = "0x" + "de" * 20
PROBE = Path(__file__).parent / "abi" / "HashProbe.json"
ACCOUNTS_SLOT, OWNERS_SLOT, SEATS_SLOT = 2, 3, 4  # of LeaseEscrow's mappings


class Evm:
    """One virtual machine at a block time."""

    def __init__(self) -> None:
        self._evm = EVM(Env(cfg=CfgEnv(chain_id=CHAIN_ID), block=BlockEnv(timestamp=NOW, number=1)), spec_id="CANCUN")

    def at(self, timestamp: int) -> None:
        """Moves the block time."""
        self._evm.set_block_env(BlockEnv(timestamp=timestamp, number=1))

    def deploy(self, code: bytes) -> str:
        """The address of a new contract."""
        return checksum_address(address_bytes(self._evm.deploy(DEPLOYER, code)))

    def call(self, to: str, data: bytes, *, caller: str = DEPLOYER) -> bytes:
        """Executes a call and keeps its effects; RuntimeError if it reverts."""
        self._evm.reset_transient_storage()
        return bytes(self._evm.message_call(caller, to, data))

    def logs(self) -> list[Log]:
        """The logs of the last call."""
        result = self._evm.result
        assert result is not None
        found = []
        for place, log in enumerate(result.logs):
            topics, data = log.data
            raw = tuple(
                bytes.fromhex(topic.removeprefix("0x")) if isinstance(topic, str) else bytes(topic) for topic in topics
            )
            address = checksum_address(address_bytes(log.address))
            found.append(Log(address, raw, bytes(data), 1, ZERO32, ZERO32, place))
        return found

    def store(self, contract: str, slot: int, value: int) -> None:
        """Writes a storage word."""
        self._evm.insert_account_storage(contract, slot, value)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Takes everything back at the end."""
        mark = self._evm.snapshot()
        try:
            yield
        finally:
            self._evm.revert(mark)


class Probe:
    """HashProbe: the libraries' inside, called by function name."""

    def __init__(self, evm: Evm) -> None:
        artifact = json.loads(PROBE.read_text())
        self._evm = evm
        self.address = evm.deploy(bytes.fromhex(artifact["bytecode"].removeprefix("0x")))
        self._functions = {item["name"]: item for item in artifact["abi"] if item["type"] == "function"}

    def __call__(self, function: str, *arguments: Any) -> Any:
        """The function's answer, a tuple if it gives several values."""
        abi = self._functions[function]
        types = [collapse_if_tuple(item) for item in abi["inputs"]]
        data = keccak256(abi_to_signature(abi).encode())[:4] + encode(types, arguments)
        values = decode([collapse_if_tuple(item) for item in abi["outputs"]], self._evm.call(self.address, data))
        return values[0] if len(values) == 1 else values


class LocalEscrow:
    """A deployed LeaseEscrow whose accounts and seats a test writes directly."""

    def __init__(self, evm: Evm) -> None:
        self.evm = evm
        self.token = evm.deploy(contract_abi("DevCredit").constructor(()))
        self.address = evm.deploy(contract_abi("LeaseEscrow").constructor(("address",), self.token))

    @cached_property
    def domain(self) -> Domain:
        """Where signatures are good."""
        return Domain(CHAIN_ID, self.address)

    def send(self, caller: str, data: bytes) -> list[EscrowEvent]:
        """Calls the escrow and returns the events."""
        self.evm.call(self.address, data, caller=caller)
        return [event for event in map(decode_event, self.evm.logs()) if event is not None]

    def set_account(self, address: str, account: Account) -> None:
        """Writes an account's word."""
        word = account.free << 160 | account.counter << 128 | account.used.pack()
        self.evm.store(self.address, _slot(_key(address), ACCOUNTS_SLOT), word)

    def set_owner(self, address: str, owner: str) -> None:
        """Writes an account's owner."""
        self.evm.store(self.address, _slot(_key(address), OWNERS_SLOT), int(owner, 16))

    def set_seat(self, seat: bytes, consumer: str, word: bytes) -> None:
        """Writes the word at a seat."""
        slot = _slot(seat_key(seat, consumer), SEATS_SLOT)
        self.evm.store(self.address, slot, int.from_bytes(word, "big"))

    def account(self, address: str) -> tuple[int, int, int]:
        """Free money, counter, lanes in use, as the contract answers."""
        answer = self.evm.call(self.address, keccak256(b"accountOf(address)")[:4] + _key(address))
        free, counter, used = decode(["uint96", "uint32", "uint128"], answer)
        return free, counter, used

    def owner_of(self, address: str) -> str:
        """An account's owner, as the contract answers."""
        answer = self.evm.call(self.address, keccak256(b"ownerOf(address)")[:4] + _key(address))
        return checksum_address(answer[12:])

    def seat(self, key: bytes) -> bytes:
        """The word at a seat, as the contract answers."""
        return self.evm.call(self.address, keccak256(b"seatOf(bytes32)")[:4] + key)


def _key(address: str) -> bytes:
    return bytes(12) + address_bytes(address)


def _slot(key: bytes, mapping: int) -> int:
    return int.from_bytes(keccak256(key + mapping.to_bytes(32, "big")), "big")
