"""Whether the market can serve now: its database, the chain, how far the chain is followed, whether it is halted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from sqlalchemy import text

from suanli_market.clearing.keeper import Keeper
from suanli_market.settings import FINALIZED
from suanli_market.store import Store
from suanli_protocol.errors import SuanliError
from suanli_protocol.escrow import Chain
from suanli_protocol.wire import Json

CHAIN_TIMEOUT_S = 2.0
LAG_BLOCKS_MAX = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One look: what is so, and what to do if it is not well."""

    name: str
    ok: bool
    detail: str
    hint: str = ""

    def to_json(self) -> Json:
        """As it is answered."""
        return asdict(self)


class Health:
    """Looks with an endpoint of its own, which waits for at most two seconds."""

    def __init__(self, store: Store, keeper: Keeper, chain_url: str, confirmations: int) -> None:
        self._store, self._keeper = store, keeper
        self._chain = Chain(chain_url, timeout_s=CHAIN_TIMEOUT_S)
        self._confirmations = confirmations

    def findings(self) -> list[Finding]:
        """All looks; the market is ready if all are well."""
        return [self._database(), *self._ledger(), self.is_open()]

    def counted_block(self) -> int:
        """The newest block that counts for this market; ChainUnavailableError."""
        if self._confirmations == FINALIZED:
            return self._chain.block("finalized").number
        return max(0, self._chain.block("latest").number - self._confirmations)

    def known_block(self) -> int:
        """The block up to which the chain is in the database."""
        return self._keeper.block()[0]

    def gas_wei(self, address: str) -> int:
        """The native coin of an address; ChainUnavailableError."""
        return self._chain.balance_wei(address)

    def close(self) -> None:
        """Closes the connections."""
        self._chain.close()

    def _database(self) -> Finding:
        return _look("database", self._read, "see that the disk is there, and not full")

    def _read(self) -> str:
        with self._store.read() as session:
            session.connection().execute(text("SELECT count(*) FROM cursor"))
        return "answers"

    def _ledger(self) -> list[Finding]:
        try:
            head = self.counted_block()
        except SuanliError as error:
            unknown = Finding("indexer", False, "how far it is behind is not known", "see the chain")
            return [Finding("chain", False, error.detail, error.hint), unknown]
        lag = head - self.known_block()
        behind = f"{max(0, lag)} blocks behind block {head}"
        return [
            Finding("chain", True, f"block {head} counts"),
            Finding("indexer", lag <= LAG_BLOCKS_MAX, behind, "" if lag <= LAG_BLOCKS_MAX else "wait, or see the log"),
        ]

    def is_open(self) -> Finding:
        """Whether the market is halted, and why."""
        halted = self._keeper.halted
        return Finding("open", True, "takes papers") if halted is None else _failed("open", halted)


def _look(name: str, look: Callable[[], str], hint: str) -> Finding:
    """What the look says; a failed one is a finding, whatever failed."""
    try:
        return Finding(name, True, look())
    except SuanliError as error:
        return _failed(name, error)
    except Exception as error:
        return Finding(name, False, f"{type(error).__name__}: {error}"[:300], hint)


def _failed(name: str, error: SuanliError) -> Finding:
    return Finding(name, False, error.detail, error.hint)
