"""Lease lives a second on the devnet: opened and settled, one lease a transaction and a hundred.

Papers and receipts are signed before the clock starts; transactions are signed and sent, with the nonces in a row,
while it runs, and it stops when the last one is mined.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from bench.rows import Row, Target, measured
from suanli_protocol.escrow import Opening
from suanli_protocol.events import Opened, RoundCommitted, Settled
from suanli_protocol.lease import terms
from suanli_protocol.openings import encode_open, encode_settle
from support.builders import CREDIT, a_capacity, a_need
from support.devnet import start_anvil
from support.lease_lives import LeaseLives, Live

LEASES, BATCH, ROUNDS = 100, 100, 5
GAS_SINGLE, GAS_BATCH = 400_000, 16_000_000
ROOMY = a_capacity(cpu_milli=4_000_000, memory_mib=4_000_000, disk_mib=4_000_000).pack()
SMALL = a_need(cpu_milli=100, memory_mib=64, disk_mib=64).pack()
HEAD = b"\x09" * 32


def measure() -> Iterator[Row]:
    """Single and batched."""
    with start_anvil() as anvil:
        scene = LeaseLives(anvil.url, "bench")
        for party in (scene.consumer, scene.provider):
            scene.escrow.faucet(party, party.address, 10_000 * CREDIT)
            scene.escrow.deposit(party, party.address, 10_000 * CREDIT)
        seconds(scene, 1, 1)
        singles = [LEASES / seconds(scene, LEASES, 1) for _ in range(ROUNDS)]
        yield measured("one lease a transaction", "lives/s", singles, target=Target("at least", goal=500))
        batched = [BATCH / seconds(scene, BATCH, BATCH) for _ in range(ROUNDS)]
        yield measured(f"{BATCH} leases a transaction", "lives/s", batched, target=Target("at least", goal=3_000))


def seconds(scene: LeaseLives, count: int, size: int) -> float:
    """From sending to settled for `count` leases, `size` a transaction."""
    gas = GAS_SINGLE if size == 1 else GAS_BATCH
    papers = [scene.papers(need=SMALL, max_seconds=60, offer_capacity=ROOMY) for _ in range(count)]
    openings = [scene.opening(bid, offer) for bid, offer in papers]
    begun = time.perf_counter()
    blocks = mined(scene, [encode_open(HEAD, openings[at : at + size]) for at in range(0, count, size)], gas)
    opened = time.perf_counter() - begun
    lives = [live(opening, blocks[number // size]) for number, opening in enumerate(openings)]
    settlements = [scene.settlement(one, 1) for one in lives]
    begun = time.perf_counter()
    mined(scene, [encode_settle(settlements[at : at + size]) for at in range(0, count, size)], gas)
    return opened + time.perf_counter() - begun


def mined(scene: LeaseLives, calls: Sequence[bytes], gas: int) -> list[int]:
    """Sends all, waits for all; the times of their blocks. AssertionError if an entry was refused."""
    escrow, chain, market = scene.escrow, scene.chain, scene.market
    nonce, fees = chain.nonce(market.address), chain.fees()
    sent = []
    for number, data in enumerate(calls):
        signed = chain.sign(market, data, to=escrow.address, gas=gas, nonce=nonce + number, fees=fees)
        chain.submit(signed.raw)
        sent.append(signed.hash)
    receipts = [escrow.wait(one) for one in sent]
    entries = [event for one in receipts for event in escrow.events_of(one) if not isinstance(event, RoundCommitted)]
    assert all(isinstance(event, Opened | Settled) for event in entries), entries[:3]
    return [chain.block(one.block).timestamp for one in receipts]


def live(opening: Opening, opened_at: int) -> Live:
    """The lease of an opening."""
    (fill,) = opening.fills
    return Live(opening.bid, fill.offer, *terms(opening.bid, fill.offer, rate=fill.rate, opened_at=opened_at))
