"""A check of an audit: what the rules say beside what the ledger shows. A check that fails is a finding."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Subject:
    """What a check is about: a lease (by id), an account, a transaction; none of them: the whole escrow."""

    lease: bytes | None = None
    account: str = ""
    transaction: bytes | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. `code` is stable and names the rule, `member` what was looked at."""

    code: str
    member: str
    expected: str
    found: str
    ok: bool
    subject: Subject = field(default=Subject())

    def to_json(self) -> dict[str, Any]:
        """The check as JSON values."""
        about = {
            "lease": hex_of(self.subject.lease),
            "account": self.subject.account or None,
            "transaction": hex_of(self.subject.transaction),
        }
        named = {"code": self.code, "member": self.member, "expected": self.expected, "found": self.found}
        return named | {key: value for key, value in about.items() if value is not None}


class Checks:
    """The checks of one audit, in the order in which they were made."""

    def __init__(self) -> None:
        self.made: list[Check] = []

    def same(self, code: str, member: str, expected: Any, found: Any, subject: Subject) -> bool:
        """Both values are equal (addresses: whatever their case)."""
        wanted, seen = text_of(expected), text_of(found)
        return self.holds(code, member, wanted.lower() == seen.lower(), wanted, seen, subject)

    def holds(self, code: str, member: str, ok: bool, expected: Any, found: Any, subject: Subject) -> bool:
        """A condition, with what was wanted and what was found."""
        self.made.append(Check(code, member, text_of(expected), text_of(found), ok, subject))
        return ok

    def fail(self, code: str, member: str, expected: Any, found: Any, subject: Subject) -> None:
        """A condition that does not hold."""
        self.holds(code, member, False, expected, found, subject)


def hex_of(data: bytes | None) -> str | None:
    """0x and hex, or None."""
    return None if data is None else "0x" + data.hex()


def text_of(value: Any) -> str:
    """A value as a finding shows it: bytes in hex, enumerations by name, the rest as it reads."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, IntEnum):
        return value.name.lower()
    return str(value)
