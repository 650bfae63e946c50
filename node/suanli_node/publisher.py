"""The publisher keeps one offer of this node on the market's book: signed anew before it expires or when it changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from suanli_protocol import wire
from suanli_protocol.capacity import Lanes
from suanli_protocol.documents import Attributes
from suanli_protocol.errors import MarketError, NotFoundError, SuanliError
from suanli_protocol.log import EntryKind, ReasonCode, verify_acknowledgement
from suanli_protocol.market_client import MarketClient
from suanli_protocol.signing import Domain, Signer

from suanli_node.offers import SignedOffer, Terms, build_offer, sign_offer
from suanli_node.retry import pauses

LOOK_S = 15.0  # the account's counter is read this often
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
    ) -> None:
        self._signer, self._domain, self._market, self._counter = signer, domain, market, counter
        self._capacity, self._terms, self._attributes, self._valid_s = capacity, terms, attributes, valid_s
        self._halt = threading.Event()
        self.current: SignedOffer | None = None

    def publish(self) -> SignedOffer:
        """Put a fresh offer on the book in place of the last one; MarketError with the reason if it is refused."""
        market = self._market.info().address
        valid_until = int(time.time()) + self._valid_s
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
        acknowledgement = self._market.post_offer(signed.body())
        check_acknowledgement(acknowledgement, self._domain, market, signed)
        former, self.current = self.current, signed
        if former is not None:
            self._take_off(former)
        return signed

    def keep(self) -> None:
        """Renew at half of the validity, and at once when the counter was raised; until `withdraw`."""
        waits = pauses()
        while not self._halt.wait(LOOK_S if self.current else next(waits)):
            try:
                if self._is_due():
                    self.publish()
                    waits = pauses()
            except SuanliError as error:
                log.warning("the offer could not be renewed: %s %s", error.detail, error.hint)

    def withdraw(self) -> None:
        """Take the offer off the book, if the market can be reached, and stop renewing it."""
        self._halt.set()
        if self.current is not None:
            self._take_off(self.current)
            self.current = None

    def _is_due(self) -> bool:
        if self.current is None:
            return True
        offer = self.current.offer
        return time.time() >= offer.valid_until - self._valid_s / 2 or offer.counter != self._counter()

    def _take_off(self, signed: SignedOffer) -> None:
        try:
            self._market.withdraw_offer(signed.id)
        except NotFoundError:
            return
        except SuanliError as error:
            log.warning("an offer could not be withdrawn and stays until it expires: %s", error.detail)


def check_acknowledgement(
    acknowledgement: wire.Acknowledgement, domain: Domain, market: str, signed: SignedOffer
) -> None:
    """Passes if the market proved to have admitted this offer; MarketError names the reason if it refused it."""
    entry = verify_acknowledgement(acknowledgement, domain, market)
    if entry.paper != signed.id:
        raise MarketError(f"the market acknowledged {wire.to_hex(entry.paper)}, not the offer that was sent")
    if entry.kind != EntryKind.OFFER or entry.reason:
        raise MarketError(f"the market refused the offer: {reason_name(entry.reason)}", code="offer_refused")


def reason_name(code: int) -> str:
    """The name of a log's reason code, or its number."""
    try:
        return ReasonCode(code).name.lower()
    except ValueError:
        return f"code {code}"
