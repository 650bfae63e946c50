"""Offers: what this node sells, as the papers say it. Pure but for the signature; publishing is `publisher`'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from suanli_protocol import traits, wire
from suanli_protocol.capacity import Lanes, Prices
from suanli_protocol.documents import Attributes
from suanli_protocol.messages import ZERO_ADDRESS, Offer
from suanli_protocol.signing import Domain, Signer, struct_hash
from suanli_protocol.units import BPS, SECONDS_PER_HOUR, ceil_div


@dataclass(frozen=True)
class Terms:
    """What the operator asks and allows, in the units of the papers."""

    prices: Prices
    min_seconds: int
    max_seconds: int
    bond_bps: int
    max_window: int
    arbiter: str = ZERO_ADDRESS


@dataclass(frozen=True)
class SignedOffer:
    """An offer with its signature and the attributes that it names."""

    offer: Offer
    signature: bytes
    attributes: Attributes

    @property
    def id(self) -> bytes:
        """The offer's struct hash."""
        return struct_hash(self.offer)

    def body(self) -> wire.SignedOffer:
        """The body of POST /v1/offers."""
        return wire.SignedOffer(
            offer=wire.paper_to_json(self.offer),
            signature=wire.to_hex(self.signature),
            attributes=self.attributes.to_json(),
        )


def traits_of(tier: str, pythons: Sequence[str], environments: bool) -> int:
    """The trait bits of a node with this sandbox tier and these interpreters."""
    bits = int(traits.SANDBOX_TRAITS[tier])
    bits |= traits.Trait.PYTHON if pythons else 0
    return bits | (traits.Trait.ENVIRONMENTS if environments else 0)


def build_offer(
    provider: str, market: str, capacity: Lanes, terms: Terms, attributes: Attributes, *, valid_until: int, counter: int
) -> Offer:
    """The offer of one account's whole capacity to one market."""
    return Offer(
        provider=provider,
        market=market,
        arbiter=terms.arbiter,
        capacity=capacity.pack(),
        prices=terms.prices.pack(),
        attributes=attributes.digest(),
        traits=traits_of(attributes.sandbox, attributes.pythons, attributes.environments),
        valid_until=valid_until,
        min_seconds=terms.min_seconds,
        max_seconds=terms.max_seconds,
        bond_bps=terms.bond_bps,
        max_window=terms.max_window,
        counter=counter,
    )


def sign_offer(signer: Signer, domain: Domain, offer: Offer, attributes: Attributes) -> SignedOffer:
    """The offer with the account's signature."""
    return SignedOffer(offer, signer.sign(domain, offer), attributes)


def bond_needed_up(capacity: Lanes, terms: Terms) -> int:
    """Base units that the account must hold free so that all its capacity can be leased for the longest time."""
    price = ceil_div(terms.prices.ask_up(capacity) * terms.max_seconds, SECONDS_PER_HOUR)
    return ceil_div(price * terms.bond_bps, BPS)
