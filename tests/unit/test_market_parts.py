"""Small parts of the market, each alone: pinned code, signed requests, limits, migrations, the hub, account reads."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel, col, select

from suanli_market import tables
from suanli_market.api.limits import LOG_BYTES_MAX, body_limit
from suanli_market.chain.accounts import Accounts
from suanli_market.events import events_after, note
from suanli_market.hub import Hub
from suanli_market.settings import FINALIZED, Settings
from suanli_market.store import Store
from suanli_protocol.bodies import CHUNK_BYTES_MAX, JSON_BYTES_MAX
from suanli_protocol.errors import ChainUnavailableError, ConfigurationError, SignatureError
from suanli_protocol.gate import CrowdedError, Gate
from suanli_protocol.lease import Account
from suanli_protocol.market_client import signed_headers
from support.builders import a_domain, consumer, market, provider


def test_migrations_give_the_tables_of_the_models(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.migrate()
    store.migrate()
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
    assert tables.OfferRow.__tablename__ in SQLModel.metadata.tables


def test_leases_that_were_closed_before_retention_count_from_the_migration(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.migrate("0001")
    old = "INSERT INTO lease VALUES ('0x01', 1, 'p', 'c', NULL, NULL, '1', '1', 0, 1, 5, 1, 'h', 't', '{}', 'x', '', \
'0', '0', 0, 0, NULL, 0)"
    with store.engine.begin() as connection:
        connection.exec_driver_sql(old.format("settled"))
        connection.exec_driver_sql(old.format("open").replace("'0x01'", "'0x02'"))
    before = int(time.time())
    store.migrate()
    with store.read() as session:
        closed = [
            (row.closed_at, row.swept)
            for row in session.exec(select(tables.LeaseRow).order_by(col(tables.LeaseRow.id)))
        ]
    assert closed[0][0] is not None
    assert before <= closed[0][0] <= time.time()
    assert closed == [(closed[0][0], False), (None, False)]


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "market.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(ConfigurationError, match=r"market\.sqlite"):
        Store(tmp_path).migrate()


def headers_of(target: str = "/v1/leases", body: bytes = b"") -> dict[str, str]:
    made = signed_headers(consumer(), a_domain(), market().address, "POST", target, body)
    return {name.lower(): value for name, value in made.items()}


def test_the_gate_knows_the_signer_and_takes_each_request_once() -> None:
    gate, headers = Gate(a_domain(), market().address), headers_of(body=b"{}")
    assert gate.check("POST", "/v1/leases", b"{}", headers) == consumer().address
    with pytest.raises(SignatureError, match="sent before"):
        gate.check("POST", "/v1/leases", b"{}", headers)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"target": "/v1/leases?state=open"},
        {"body": b"{ }"},
        {"headers": {"suanli-signer": provider().address}},
        {"headers": {"suanli-nonce": "0x" + "00" * 32}},
        {"headers": {"suanli-at": "1"}},
        {"headers": {"suanli-at": "+5"}},
        {"headers": {"suanli-at": "\u0665"}},
        {"headers": {"suanli-signature": "0x" + "00" * 64}},
        {"headers": {"suanli-signature": ""}},
    ],
)
def test_the_gate_refuses_what_was_not_signed(change: dict[str, Any]) -> None:
    gate = Gate(a_domain(), market().address)
    wanted = {"method": "POST", "target": "/v1/leases", "body": b"{}"} | change
    wanted["headers"] = headers_of(body=b"{}") | change.get("headers", {})
    with pytest.raises(SignatureError):
        gate.check(**wanted)


def test_a_request_for_another_market_or_escrow_is_refused() -> None:
    for gate in (Gate(a_domain(), provider().address), Gate(a_domain(chain_id=5), market().address)):
        with pytest.raises(SignatureError):
            gate.check("POST", "/v1/leases", b"{}", headers_of(body=b"{}"))


def test_limits_by_route() -> None:
    assert body_limit("PUT", "/v1/leases/0x00/blobs/job") == CHUNK_BYTES_MAX
    assert body_limit("POST", "/v1/leases/0x00/logs") == LOG_BYTES_MAX
    assert body_limit("POST", "/v1/offers") == JSON_BYTES_MAX


def test_only_a_devnet_needs_no_confirmations() -> None:
    settings = Settings("", "", Path(), Path(), Path())
    assert settings.confirmations_on(31337) == 0
    assert settings.confirmations_on(1) == FINALIZED


def test_the_least_fee_has_to_be_said_off_a_devnet() -> None:
    settings = Settings("", "", Path(), Path(), Path())
    assert settings.min_fee_on(31337) == 0
    with pytest.raises(ConfigurationError, match="chain 1 is no devnet") as error:
        settings.min_fee_on(1)
    assert "--min-fee" in (error.value.hint or "")
    assert replace(settings, min_fee=0).min_fee_on(1) == 0
    assert replace(settings, min_fee=900).min_fee_on(1) == 900


def test_a_least_fee_at_no_rate_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="rate is 0"):
        Settings("", "", Path(), Path(), Path(), fee_bps=0, min_fee=1).min_fee_on(31337)


def test_the_least_window_follows_the_chain() -> None:
    settings = Settings("", "", Path(), Path(), Path())
    assert (settings.min_window_on(31337), settings.min_window_on(1)) == (10, 600)
    assert replace(settings, min_window=60).min_window_on(1) == 60


def test_events_are_each_partys_own_and_ring_after_the_commit(tmp_path: Path) -> None:
    told: list[set[str]] = []
    store = Store(tmp_path)
    store.migrate()
    store.on_commit = told.append
    with store.write() as session:
        note(session, ["a", "b"], "lease.opened", lease="0x" + "00" * 32, data={"number": 1})
        note(session, ["*"], "chain.reset")
        assert told == []
    assert told == [{"a", "b", "*"}]
    with store.read() as session:
        kinds = [(event.seq, event.kind) for event in events_after(session, "a", 0, 10)]
        assert kinds == [(1, "lease.opened"), (3, "chain.reset")]
        assert [event.seq for event in events_after(session, "b", 2, 10)] == [3]
        assert len(events_after(session, "a", 0, 1)) == 1


def test_a_write_that_fails_tells_nobody(tmp_path: Path) -> None:
    told: list[set[str]] = []
    store = Store(tmp_path)
    store.migrate()
    store.on_commit = told.append

    def fail() -> None:
        with store.write() as session:
            note(session, ["a"], "bid.queued")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.read() as session:
        assert events_after(session, "a", 0, 10) == []
    assert told == []


def test_a_ring_between_look_and_wait_is_not_lost() -> None:
    async def run() -> tuple[bool, bool, bool]:
        hub = Hub()
        with hub.waiting("a") as waiter:
            waiter.reset()
            threading.Thread(target=hub.wake, args=({"a"},)).start()
            rung = await waiter.wait(10)
            waiter.reset()
            hub.wake({"b"})
            other = await waiter.wait(0.05)
            hub.wake({"*"})
            everybody = await waiter.wait(10)
        return rung, other, everybody

    assert asyncio.run(run()) == (True, False, True)


class ChangingEscrow:
    """An escrow whose accounts the test sets; counts reads and can move the chain during one."""

    def __init__(self) -> None:
        self.free = 5
        self.reads: list[tuple[str, int]] = []
        self.asked = 0
        self.during: Any = lambda: None

    def account(self, address: str, *, block: int) -> Account:
        return self.accounts([address], block=block)[address]

    def accounts(self, addresses: list[str], *, block: int) -> dict[str, Account]:
        self.asked += 1
        self.reads += [(address, block) for address in addresses]
        found = {address: Account(free=self.free) for address in addresses}
        self.during()
        return found


def test_accounts_are_kept_until_an_event_touches_them() -> None:
    escrow = ChangingEscrow()
    accounts = Accounts(escrow)  # type: ignore[arg-type]
    accounts.advance(7, None)
    assert accounts.get(["a"])["a"].free == 5
    escrow.free = 6
    accounts.advance(8, {"b"})
    assert accounts.get(["a"])["a"].free == 5
    accounts.advance(9, {"a"})
    assert accounts.get(["a"])["a"].free == 6
    assert escrow.reads == [("a", 7), ("a", 9)]


def test_an_account_that_changes_while_it_is_read_is_read_again() -> None:
    escrow = ChangingEscrow()
    accounts = Accounts(escrow)  # type: ignore[arg-type]

    def move() -> None:
        if len(escrow.reads) == 1:
            escrow.free = 9
            accounts.advance(2, {"a"})

    escrow.during = move
    assert accounts.get(["a"])["a"].free == 9
    escrow.during = lambda: accounts.advance(3, {"z"})
    with pytest.raises(ChainUnavailableError):
        accounts.get(["z"])


def test_accounts_are_read_together_and_the_longest_unused_are_forgotten() -> None:
    escrow = ChangingEscrow()
    accounts = Accounts(escrow, accounts_max=3)  # type: ignore[arg-type]
    assert set(accounts.get(["a", "b", "c"])) == {"a", "b", "c"}
    assert set(accounts.get(["a", "d"])) == {"a", "d"}
    assert escrow.asked == 2
    accounts.get(["a", "c", "d"])
    assert escrow.asked == 2, "b left"
    assert set(accounts.get("abcdef")) == set("abcdef"), "more than are kept"
    accounts.advance(2, {"a", "f"}, accounts.read(["f", "z"], 2))
    assert escrow.reads[-1] == ("f", 2), "what is not kept is not read ahead"


def test_one_process_alone_holds_a_folder(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    first.hold()
    with pytest.raises(ConfigurationError, match="another process"):
        second.hold()
    first.close()
    second.hold()
    second.close()


def test_a_gate_that_can_keep_no_more_nonces_says_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suanli_protocol.gate.NONCES_MAX", 1)
    gate = Gate(a_domain(), market().address)

    def ask() -> str:
        headers = signed_headers(consumer(), a_domain(), market().address, "GET", "/v1/leases", b"")
        return gate.check("GET", "/v1/leases", b"", {name.lower(): value for name, value in headers.items()})

    assert ask() == consumer().address
    with pytest.raises(CrowdedError) as error:
        ask()
    assert (error.value.http_status, error.value.retryable) == (429, True)
