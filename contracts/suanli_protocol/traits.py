"""Traits: yes-or-no properties of an offer, one bit each, that a bid needs or refuses."""

from __future__ import annotations

from enum import IntFlag


class Trait(IntFlag):
    """Bits of Offer.traits, Bid.needs and Bid.refuses."""

    SANDBOX_A = 1 << 0  # jobs run under a user-space kernel
    SANDBOX_B = 1 << 1  # at least namespaces, a read-only root, no network, limits
    SANDBOX_C = 1 << 2  # at least access control under an own user
    PYTHON = 1 << 8  # a Python interpreter is there for jobs
    ENVIRONMENTS = 1 << 9  # Python environments are prepared from hashed requirements


SANDBOX_TRAITS = {
    "A": Trait.SANDBOX_A | Trait.SANDBOX_B | Trait.SANDBOX_C,
    "B": Trait.SANDBOX_B | Trait.SANDBOX_C,
    "C": Trait.SANDBOX_C,
}


def names(bits: int) -> list[str]:
    """The known traits among the bits, for a person to read."""
    return [str(trait.name).lower().replace("_", " ") for trait in Trait if bits & trait]
