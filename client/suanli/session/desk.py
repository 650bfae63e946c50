"""What the parts of a session share: the job's record, the parties' connections, and who is told."""

from __future__ import annotations

import time
from pathlib import Path

from suanli.jobs.record import Record
from suanli.jobs.store import Store
from suanli.network import Network
from suanli.plan import Money
from suanli.session.moving import Moving
from suanli.session.progress import Change, Deafened, Watcher
from suanli_protocol.signing import Signer


class Desk:
    """One job's papers and connections. `output_dir` is where outputs go (None: into the job's folder)."""

    def __init__(
        self,
        network: Network,
        store: Store,
        record: Record,
        signer: Signer,
        watcher: Watcher,
        output_dir: Path | None,
    ) -> None:
        self.network, self.store, self.record, self.signer = network, store, record, signer
        self.watcher, self.output_dir = Deafened(watcher), output_dir
        self.market, self.domain, self.escrow = network.market, network.domain, network.escrow
        self.money = Money(record.symbol, record.decimals)
        self.folder = store.folder(record.id)
        self.phase_began = time.time()
        self._said: set[str] = set()

    def save(self, **changes: object) -> None:
        """Changes the record; on the disk when this returns."""
        for name, value in changes.items():
            if name in ("phase", "countersignature") and value != getattr(self.record, name):
                self.phase_began = time.time()
            setattr(self.record, name, value)
        self.store.save(self.record)

    def tell(self, kind: str, text: str, **figures: object) -> None:
        """Tells the watcher of a step."""
        self.watcher.changed(self.record, Change(kind, text, dict(figures)))

    def tell_once(self, key: str, kind: str, text: str, **figures: object) -> None:
        """The same, once per key."""
        if key not in self._said:
            self._said.add(key)
            self.tell(kind, text, **figures)

    def moving(self, what: str, total: int) -> Moving:
        """A counter of bytes whose progress the watcher is told."""
        return Moving(lambda change: self.watcher.changed(self.record, change), what, total)

    def forget(self, key: str) -> None:
        """What was said once may be said again."""
        self._said.discard(key)
