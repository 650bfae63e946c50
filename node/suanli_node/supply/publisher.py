"""The publisher keeps one offer of this node on the market's book: signed anew before it expires or when it changes."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from suanli_node.engine.runs import write_json
from suanli_node.retry import pauses
from suanli_node.supply.offers import SignedOffer, Terms, build_offer, sign_offer
from suanli_protocol import faults, wire
from suanli_protocol.capacity import Lanes
from suanli_protocol.documents import Attributes
from suanli_protocol.errors import MarketError, NotFoundError, SuanliError
from suanli_protocol.log import EntryKind, ReasonCode, verify_acknowledgement
from suanli_protocol.market_client import MarketClient
from suanli_protocol.signing import Domain, Signer

LOOK_S = 15.0  # the account's counter is read this often
GAP_S = 1.0  # between two renewals, whatever a market says of offers
LOST_KEPT = 16
EXPIRED_S = 120  # beyond its time, by our clock, no offer can be leased any more, whatever a market says of it
REFUSED, TOO_LATE = "offer_refused", "too_late"
log = logging.getLogger(__name__)


class Publisher:
    """Publishes to one market; `counter` reads the account's counter from the chain."""

    def __init__(
        self,
        signer: Signer,
        domain: Domain,
        market: MarketClient,
        counter: Callable[[], int],
        *,
        capacity: Lanes,
        terms: Terms,
        attributes: Attributes,
        valid_s: int,
        ledger: Path,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._signer, self._domain, self._market, self._counter = signer, domain, market, counter
        self._capacity, self._terms, self._attributes, self._valid_s = capacity, terms, attributes, valid_s
        self._prepare = prepare  # what a fresh offer needs first: money for its bonds
        self._ledger = ledger  # ids of offers that may stand on the book, written before they are posted
        self._lock, self._halt, self._wake = threading.Lock(), threading.Event(), threading.Event()
        self._selling = True
        self._lost: deque[str] = deque(maxlen=LOST_KEPT)  # offers that left the book without our doing
        self.current: SignedOffer | None = None

    def sell(self, wanted: bool) -> None:
        """Whether an offer shall stand on the book; `keep` sees to it, for as long as it takes."""
        if wanted != self._selling:
            self._selling = wanted
            self._wake.set()

    def lost(self, offer: str) -> None:
        """The market says that an offer (0x and hex) left its book: if it is the one that should stand, sign anew."""
        self._lost.append(offer)
        self._wake.set()

    def publish(self) -> SignedOffer:
        """Put a fresh offer on the book in place of all earlier ones; MarketError with the reason if it is refused."""
        with self._lock:
            if self._halt.is_set() or not self._selling:
                raise MarketError("nothing is for sale any more")
            return self._publish()

    def _publish(self) -> SignedOffer:
        market = wire.read_address(self._market.info().address)
        valid_until = int(time.time()) + self._valid_s
        if self.current is not None and valid_until == self.current.offer.valid_until:
            valid_until += 1  # or it would be the same paper
        offer = build_offer(
            self._signer.address,
            market,
            self._capacity,
            self._terms,
            self._attributes,
            valid_until=valid_until,
            counter=self._counter(),
        )
        signed = sign_offer(self._signer, self._domain, offer, self._attributes)
        former, fresh = self._standing(), {wire.to_hex(signed.id): offer.valid_until}
        self._write({**former, **fresh})
        faults.reach("node.offer.recorded")
        acknowledgement = self._market.post_offer(signed.body())
        faults.reach("node.offer.posted")
        try:
            check_acknowledgement(acknowledgement, self._domain, market, signed)
        except MarketError as error:
            if error.code == REFUSED:
                self._write(former)
            raise
        self.current = signed
        self._write({**self._left_of(former), **fresh})
        return signed

    def keep(self) -> None:
        """Renew at half of the validity, at once when the counter was raised or the offer was lost; until `withdraw`.

        While nothing is to be sold, take off what stands.
        """
        waits = pauses()
        while not self._halt.is_set():
            try:
                if not self._selling:
                    self._take_all_off()
                elif self._is_due():
                    self._prepare()
                    self.publish()
                    waits = pauses()
                    self._halt.wait(GAP_S)
            except SuanliError as error:
                log.warning("the offer could not be renewed: %s %s", error.detail, error.hint)
            settled = self.current is not None if self._selling else not self._standing()
            self._wake.wait(LOOK_S if settled else next(waits))
            self._wake.clear()

    @property
    def selling(self) -> bool:
        """Whether anything is for sale."""
        return self._selling and not self._halt.is_set()

    @property
    def off(self) -> bool:
        """Whether no offer of this node can be on the book."""
        return self.current is None and not self._standing()

    def _take_all_off(self) -> None:
        with self._lock:
            self.current = None
            standing = self._standing()
            left = self._left_of(standing)
            if left != standing:
                self._write(left)

    def withdraw(self) -> None:
        """Take all offers off the book, if the market can be reached, and stop renewing."""
        self._halt.set()
        self._wake.set()
        self._take_all_off()

    def _is_due(self) -> bool:
        if self.current is None:
            return True
        if wire.to_hex(self.current.id) in self._lost:
            return True
        offer = self.current.offer
        return time.time() >= offer.valid_until - self._valid_s / 2 or offer.counter != self._counter()

    def _standing(self) -> dict[str, int]:
        """Offers that may stand on the book, and until when (seconds of Unix UTC) the escrow would take them."""
        try:
            offers = json.loads(self._ledger.read_bytes())["offers"]
        except FileNotFoundError:
            return {}
        if isinstance(offers, list):  # of a version that did not write down until when
            offers = dict.fromkeys(offers, int(time.time()) + self._valid_s)
        return {str(offer): int(until) for offer, until in offers.items() if time.time() < until + EXPIRED_S}

    def _write(self, offers: dict[str, int]) -> None:
        write_json(self._ledger, {"offers": offers})

    def _left_of(self, offers: dict[str, int]) -> dict[str, int]:
        """Those of the offers that could not be taken off the book."""
        return {offer: until for offer, until in offers.items() if not self._take_off(offer)}

    def _take_off(self, offer: str) -> bool:
        """Whether the offer is off the book now: taken off, or not known there, or not open there any more."""
        try:
            self._market.withdraw_offer(wire.from_hex(offer, size=32))
        except SuanliError as error:
            if isinstance(error, NotFoundError) or error.code == TOO_LATE:
                return True
            log.warning("an offer could not be withdrawn: %s", error.detail)
            return False
        return True


def check_acknowledgement(
    acknowledgement: wire.Acknowledgement, domain: Domain, market: str, signed: SignedOffer
) -> None:
    """Passes if the market proved to have admitted this offer; MarketError names the reason if it refused it."""
    entry = verify_acknowledgement(acknowledgement, domain, market)
    if entry.paper != signed.id:
        raise MarketError(f"the market acknowledged {wire.to_hex(entry.paper)}, not the offer that was sent")
    if entry.kind != EntryKind.OFFER or entry.reason:
        raise MarketError(f"the market refused the offer: {reason_name(entry.reason)}", code=REFUSED)


def reason_name(code: int) -> str:
    """The name of a log's reason code, or its number."""
    try:
        return ReasonCode(code).name.lower()
    except ValueError:
        return f"code {code}"
