"""A market and a provider that collude against a consumer's conditions: on the chain all is well, off it is not.

The escrow knows no regions: it opens the lease. The client finds the breach before it seals anything, and stops.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from suanli.session.agreement import read_agreement
from suanli.session.handover import agree
from suanli_protocol.errors import IntegrityError
from suanli_protocol.lease import BY_CONSUMER_SIDE, Phase, Progress, seat_word
from support.consumer_desk import a_desk, an_open_lease
from support.devnet import Anvil
from support.market import a_world

pytestmark = pytest.mark.e2e


def test_a_breach_is_stopped_on_the_chain_before_anything_is_sent(anvil: Anvil, tmp_path: Path) -> None:
    world = a_world(anvil)
    view, record, signer = an_open_lease(world, ("DE",))
    desk = a_desk(world, record, signer, tmp_path)
    with pytest.raises(IntegrityError, match="region") as caught:
        agree(desk, view)
    assert "stopped on the chain" in caught.value.hint
    assert record.delivered == []
    lease = read_agreement(view, desk.domain, signer.address)
    now = world.chain.block("latest").timestamp
    word = world.escrow.seat(lease.lease.seat_key)
    stops = [Progress(clock=now - back, phase=Phase.STOPPED, flags=BY_CONSUMER_SIDE) for back in range(5)]
    assert word in [seat_word(lease.id, stop) for stop in stops]
    told = view.model_copy(update={"state": "stopped"})
    assert agree(desk, told)[1] is False  # followed to its end, never handed anything
