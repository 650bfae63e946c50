"""A change that is made on a lease as it is when the escrow looks at it.

A lease may move while a call is on its way: the market settles it, the provider claims. The escrow then refuses the
call, and what was wanted is looked at again, on the lease as it is now. A reorganisation may even move it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from suanli_protocol.errors import ChainError, ChainRevertedError
from suanli_protocol.escrow import Escrow, TxReceipt
from suanli_protocol.events import SettlementRefused

TRIES = 5  # of a call that meets another state of the lease each time
PAUSE_S = 0.2  # before one on a lease that is again as it was
# The seat's word was not that of the state that was sent; or a mined call was refused by a state that is gone by now.
MET_ANOTHER = ("LeaseEscrow_UnknownLease", "Reverted")
S = TypeVar("S")


class LeaseMovesError(ChainError):
    """The lease was in another state at each try."""

    code, title, retryable = "lease_moves", "The lease does not stand still", True


def change_lease(
    escrow: Escrow, state: S, *, read: Callable[[], S], wants: Callable[[S], bool], send: Callable[[S], TxReceipt]
) -> tuple[S, TxReceipt | None]:
    """Sends until the escrow takes it; the state after that, and the transaction (None: `wants` it no more).

    The escrow's own refusal is raised if the lease stayed as it was and the refusal is about something else.
    """
    for _ in range(TRIES):
        if not wants(state):
            return state, None
        mined, refusal = _try(escrow, state, send)
        now = read()
        if refusal is None:
            return now, mined
        if now == state:
            if not _met_another(refusal):
                raise refusal
            time.sleep(PAUSE_S)
        state = now
    raise LeaseMovesError(f"the lease moved {TRIES} times while this was on its way", hint="try again")


def _met_another(refusal: ChainError) -> bool:
    return isinstance(refusal, ChainRevertedError) and refusal.name in MET_ANOTHER


def _try(escrow: Escrow, state: S, send: Callable[[S], TxReceipt]) -> tuple[TxReceipt | None, ChainError | None]:
    """The transaction, and why the escrow refused if it did; a settlement is left out without a revert."""
    try:
        mined = send(state)
    except ChainRevertedError as error:
        return None, error
    for event in escrow.events_of(mined):
        if isinstance(event, SettlementRefused):
            reason = event.refusal.name.lower().replace("_", " ")
            return mined, ChainError(f"the escrow left the receipt out: {reason}", code="refused")
    return mined, None
