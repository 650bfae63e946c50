"""Calls, answers, events and errors of a compiled contract, encoded and decoded by web3 from its ABI."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from suanli_protocol.abi import artifact
from suanli_protocol.errors import ProtocolError
from suanli_protocol.recursion import limit_kept

if TYPE_CHECKING:
    from eth_abi.codec import ABICodec


@dataclass(frozen=True, slots=True)
class Member:
    """A function, event or error of an ABI: its name, the types and names of what it takes, which are indexed."""

    name: str
    types: tuple[str, ...]
    names: tuple[str, ...]
    indexed: tuple[bool, ...]


class ContractAbi:
    """The ABI of one shipped contract. It imports web3 (1.5 s), so it is made late: `contract_abi(name)`."""

    def __init__(self, name: str) -> None:
        with limit_kept():
            from web3 import Web3
            from web3.utils import abi_to_signature

        self.bytecode = bytes.fromhex(artifact(name)["bytecode"].removeprefix("0x"))
        self._codec: ABICodec = Web3().codec
        self.selectors: dict[str, bytes] = {}
        self.topics: dict[str, bytes] = {}  # the first of each event
        self._functions: dict[str, Member] = {}
        self._events: dict[bytes, Member] = {}
        self._errors: dict[bytes, Member] = {}
        for element in artifact(name)["abi"]:
            if element["type"] not in ("function", "event", "error"):
                continue
            member, identity = _member(element), Web3.keccak(text=abi_to_signature(element))
            match element["type"]:
                case "function":
                    self._functions[member.name] = member
                    self.selectors[member.name] = bytes(identity[:4])
                case "event":
                    self._events[bytes(identity)] = member
                    self.topics[member.name] = bytes(identity)
                case "error":
                    self._errors[bytes(identity[:4])] = member

    def encode(self, function: str, *arguments: Any) -> bytes:
        """Calldata of a function."""
        types = self._functions[function].types
        return self.selectors[function] + self._codec.encode(types, arguments)

    def decode(self, function: str, calldata: bytes) -> tuple[Any, ...]:
        """A function's arguments from hostile calldata; ProtocolError if it is none of its."""
        if calldata[:4] != self.selectors[function]:
            raise ProtocolError(f"the calldata is no call of {function}")
        return self._decode(self._functions[function].types, calldata[4:], function)

    def constructor(self, types: tuple[str, ...], *arguments: Any) -> bytes:
        """The code that deploys the contract."""
        return self.bytecode + self._codec.encode(types, arguments)

    def event(self, topics: tuple[bytes, ...], data: bytes) -> tuple[str, dict[str, Any]] | None:
        """An event's name and members; None if the ABI has no such event."""
        member = self._events.get(topics[0]) if topics else None
        if member is None:
            return None
        values = iter(
            self._decode([t for t, i in zip(member.types, member.indexed, strict=True) if not i], data, member.name)
        )
        held = iter(topics[1:])
        try:
            return member.name, {
                name: self._decode([kind], next(held), member.name)[0] if indexed else next(values)
                for name, kind, indexed in zip(member.names, member.types, member.indexed, strict=True)
            }
        except StopIteration:
            raise ProtocolError(f"the event {member.name} has too few topics") from None

    def error(self, data: bytes) -> tuple[str, tuple[Any, ...]] | None:
        """A custom error's name and arguments; None if the ABI has no such error."""
        member = self._errors.get(data[:4])
        return None if member is None else (member.name, self._decode(member.types, data[4:], member.name))

    def _decode(self, types: Any, data: bytes, what: str) -> tuple[Any, ...]:
        """Padding of dynamic types is not looked at, as the compiler's own decoder does not."""
        try:
            return self._codec.decode(types, data, strict=False)
        except Exception as error:  # eth_abi raises many kinds, overflow and recursion among them
            raise ProtocolError(f"{what} cannot be decoded: {error!s:.200}") from None


def _member(element: dict[str, Any]) -> Member:
    with limit_kept():
        from web3.utils import collapse_if_tuple

    inputs = element["inputs"]
    return Member(
        name=element["name"],
        types=tuple(collapse_if_tuple(item) for item in inputs),
        names=tuple(item["name"] for item in inputs),
        indexed=tuple(bool(item.get("indexed")) for item in inputs),
    )


@cache
def contract_abi(name: str) -> ContractAbi:
    """The ABI of "LeaseEscrow" or "DevCredit", made once."""
    return ContractAbi(name)
