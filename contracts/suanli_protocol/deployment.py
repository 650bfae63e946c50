"""Since when an escrow is on its chain: what looks for its events need not look before."""

from __future__ import annotations

from suanli_protocol.chain import Chain
from suanli_protocol.errors import ChainError, ChainUnavailableError
from suanli_protocol.escrow import Escrow
from suanli_protocol.rpc_errors import LackingError


def deployment_block(escrow: Escrow, head: int) -> int:
    """The block that put the escrow on the chain, looked for up to block `head`; 0 if the endpoint cannot tell.

    An endpoint that has dropped old states may show none where it should refuse: so its word counts only if it shows
    the token, which was there before the escrow, in the block before. ChainUnavailableError if it cannot be reached.
    """
    chain, token = escrow.chain, escrow.token.address
    try:
        found = _first_with_code(chain, escrow.address, head)
        return found if found and chain.code(token, block=found - 1) else 0
    except LackingError:
        return 0
    except ChainUnavailableError:
        raise
    except ChainError:  # each has its own words for a state that it keeps no more
        return 0


def _first_with_code(chain: Chain, address: str, head: int) -> int:
    """By halving: the escrow cannot be taken away again."""
    first, last = 0, head
    while first < last:
        middle = (first + last) // 2
        if chain.code(address, block=middle):
            last = middle
        else:
            first = middle + 1
    return last
