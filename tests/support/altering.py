"""One alteration at a time: every value inside frozen facts, changed by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from enum import IntEnum
from typing import Any

from suanli_protocol.signing import checksum_address


def alterations(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(where, the same facts with that one value changed) for every value inside dataclasses, tuples and dicts."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            for where, changed in alterations(getattr(value, field.name), f"{path}.{field.name}"):
                yield where, replace(value, **{field.name: changed})
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            for where, changed in alterations(item, f"{path}[{index}:{type(item).__name__}]"):
                yield where, (*value[:index], changed, *value[index + 1 :])
    elif isinstance(value, dict):
        for index, (key, item) in enumerate(value.items()):
            for where, changed in alterations(item, f"{path}[{index}]"):
                yield where, {**value, key: changed}
    else:
        yield path, altered(value)


def altered(value: Any) -> Any:
    """The smallest change of a value that keeps its type."""
    match value:
        case bool():
            return not value
        case IntEnum():
            members = list(type(value))
            return members[(members.index(value) + 1) % len(members)]
        case int():
            return value ^ 1
        case bytes():
            return value[:-1] + bytes([value[-1] ^ 1]) if value else b"\x01"
        case str() if value.startswith("0x") and len(value) == 42:
            raw = bytearray.fromhex(value[2:])
            raw[-1] ^= 1
            return checksum_address(bytes(raw))
        case str():
            return value + "x"
        case _:
            raise TypeError(f"{value!r} cannot be altered")
