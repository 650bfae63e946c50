"""The offer that needs no market: signed anew when it is asked for and the last one is half over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict

from suanli_node.supply.offers import SignedOffer, Terms, build_offer, sign_offer
from suanli_protocol import wire
from suanli_protocol.capacity import Lanes
from suanli_protocol.documents import Attributes
from suanli_protocol.lease import Account
from suanli_protocol.messages import ZERO_ADDRESS, to_camel
from suanli_protocol.signing import Domain, Signer

Read = Callable[[], Account]


class DirectOffers:
    """One node's offers to whoever comes. `sells` says whether anything is for sale now. Thread-safe."""

    def __init__(
        self,
        signer: Signer,
        domain: Domain,
        read_account: Read,
        sells: Callable[[], bool],
        *,
        capacity: Lanes,
        terms: Terms,
        attributes: Attributes,
        valid_s: int,
    ) -> None:
        self._signer, self._domain, self._read_account, self._sells = signer, domain, read_account, sells
        self._capacity, self._terms, self._attributes, self._valid_s = capacity, terms, attributes, valid_s
        self._lock = threading.Lock()
        self._current: SignedOffer | None = None

    def views(self) -> list[wire.OfferView]:
        """The offer as a market would list it; none while nothing is for sale."""
        if not self._sells():
            return []
        account = self._read_account()
        signed = self._fresh(account.counter)
        body, left = signed.body(), asdict(self._capacity - account.used)
        free = {to_camel(name): max(0, value) for name, value in left.items()}
        view = wire.OfferView(
            id=wire.to_hex(signed.id),
            offer=body.offer,
            signature=body.signature,
            attributes=body.attributes,
            free=free,
            seen_at=int(time.time()),
        )
        return [view]

    def _fresh(self, counter: int) -> SignedOffer:
        with self._lock:
            now = int(time.time())
            held = self._current
            if held is None or held.offer.counter != counter or now >= held.offer.valid_until - self._valid_s / 2:
                offer = build_offer(
                    self._signer.address,
                    ZERO_ADDRESS,
                    self._capacity,
                    self._terms,
                    self._attributes,
                    valid_until=now + self._valid_s,
                    counter=counter,
                )
                held = self._current = sign_offer(self._signer, self._domain, offer, self._attributes)
            return held
