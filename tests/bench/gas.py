"""Gas: one lease, and a lease within batches, opened and settled with fee, bond and both receipt signatures."""

from __future__ import annotations

from collections.abc import Iterator

from bench.rows import Beside, Row, Target
from support.devnet import start_anvil
from support.gas import LifeGas, lives, ways_out
from support.solidity import Ledger

ELSEWHERE = "measured elsewhere on such a chain"
PEERS = (
    Beside("commerce-payments (one signature)", 196_000, source=ELSEWHERE),
    Beside("Sablier Lockup", 317_000, source=ELSEWHERE),
    Beside("Sablier Flow", 321_000, source=ELSEWHERE),
    Beside("Ocean Escrow", 329_000, source=ELSEWHERE),
    Beside("iExec PoCo Boost", 537_000, source=ELSEWHERE),
    Beside("iExec PoCo classic", 1_623_000, source=ELSEWHERE),
    Beside("Akash's EVM plan", 2_160_000, source="its own estimate"),
)
BATCH_PEERS = (Beside("Ocean Escrow, at best", 184_000, source=ELSEWHERE),)
SINGLE = Target("at most", 210_000, 140_000)
BATCH = Target("at most", 100_000, 72_000)


def measure() -> Iterator[Row]:
    """One row a size and kind of batch, then one a way out."""
    with start_anvil() as anvil:
        ledger = Ledger.on(anvil.url, anvil.accounts[0].address)
        yield from (_row(life) for life in lives(ledger, anvil))
        yield from (Row(f"{way.change} of one lease", "gas", way.gas) for way in ways_out(ledger, anvil))


def _row(life: LifeGas) -> Row:
    note = f"open {life.opened:,} + settle {life.settled:,}."
    if life.size == 1:
        return Row("one lease, capacity, bond, fee", "gas", life.total, beside=PEERS, target=SINGLE, note=note)
    who = "distinct parties" if life.is_distinct else "one consumer, one provider"
    target, peers = (BATCH, BATCH_PEERS) if life.size == 100 else (None, ())
    name = f"a lease in a batch of {life.size}, {who}"
    return Row(name, "gas", life.total, beside=peers, target=target, note=note)
