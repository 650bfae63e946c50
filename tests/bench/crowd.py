"""A consumer with many jobs in flight: it bids, seals, checks signatures and countersigns, on one event stream.

It does what a session does for a job without files, from what the events bring, and keeps no record on disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bench.street import Street
from suanli_protocol import wire
from suanli_protocol.documents import Evidence
from suanli_protocol.errors import SuanliError
from suanli_protocol.messages import Receipt
from suanli_protocol.signing import verify
from support.builders import a_need
from support.node import Consumer

SMALL = a_need(cpu_milli=250, memory_mib=128, disk_mib=64).pack()
THREADS = 6
COMMAND = ("/bin/sh", "-c", "true")


@dataclass
class Crowd:
    """Keeps so many jobs in flight, and counts those that are settled."""

    street: Street
    in_flight: int
    settled: list[float] = field(default_factory=list)  # when, monotonic
    failures: list[str] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Submits and serves until the time is over."""
        signer = self.street.party().signer
        market = self.street.market.client(signer)
        self._consumer = Consumer(self.street.world, signer, market, self.street.market.address)
        self._over = threading.Event()
        with ThreadPoolExecutor(THREADS) as self._pool:
            threading.Thread(target=self._follow, name="events", daemon=True).start()
            for _ in range(self.in_flight):
                self._pool.submit(self._guarded, self._bid)
            time.sleep(seconds)
            self._over.set()
            self._pool.shutdown(cancel_futures=True)

    def _follow(self) -> None:
        after = 0
        while not self._over.is_set():
            try:
                for event in self._consumer.market.events(after):
                    after = event.seq
                    self._handle(event)
                    if self._over.is_set():
                        return
            except (SuanliError, RuntimeError) as error:  # the pool may be closed meanwhile
                if not self._over.is_set():
                    self.failures.append(str(error))
                    time.sleep(0.2)

    def _handle(self, event: wire.Event) -> None:
        match event.kind:
            case "lease.opened":
                self._pool.submit(self._guarded, lambda: self._send(event))
            case "lease.receipt":
                self._pool.submit(self._guarded, lambda: self._countersign(event))
            case "lease.settled":
                self.settled.append(time.monotonic())
                self._pool.submit(self._guarded, self._bid)

    def _guarded(self, step: Callable[[], None]) -> None:
        if self._over.is_set():
            return
        try:
            step()
        except (SuanliError, ValueError, AssertionError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")

    def _bid(self) -> None:
        job = self._consumer.a_job(command={"argv": COMMAND})
        self._consumer.bid(job, need=SMALL, max_seconds=60)

    def _send(self, event: wire.Event) -> None:
        view = wire.LeaseView.model_validate(event.data["view"])
        self._consumer.send(view, self._consumer.a_job(command={"argv": COMMAND}))

    def _countersign(self, event: wire.Event) -> None:
        lease, signed = wire.from_hex(event.lease or ""), wire.SignedReceipt.model_validate(event.data)
        receipt, evidence = wire.paper_from_json(Receipt, signed.receipt), Evidence.parse(signed.evidence)
        verify(self.street.world.escrow.domain, receipt, wire.from_hex(signed.signature), self.street.node.address)
        assert receipt.evidence == evidence.digest()
        assert evidence.reason == "ok", evidence.reason
        mine = wire.to_hex(self._consumer.signer.sign(self.street.world.escrow.domain, receipt))
        self._consumer.market.countersign(lease, wire.Countersignature(receipt=signed.receipt, signature=mine))
