"""`suanli stop|dispute|resolve|reclaim|finalize|settle` with consumer, guard and arbiter keys; no market answers."""

from __future__ import annotations

import io
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from suanli.cli import cli
from suanli.terminal.failure import exit_status
from suanli_protocol.escrow import Escrow, Settlement
from suanli_protocol.keystore import load
from suanli_protocol.lease import Kind, Progress, State, ask_up, lease_id, terms
from suanli_protocol.messages import ZERO32, Receipt
from suanli_protocol.openings import Fill, Opening
from suanli_protocol.signing import Signer
from support.builders import a_bid, an_offer
from support.consumer import Consumer, Done, a_consumer
from support.devnet import Anvil, start_anvil
from support.market import PASSWORD, Party, World, a_world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
NOWHERE = "http://127.0.0.1:9"
WINDOW, SECONDS = 30, 60
Ask = Callable[..., Done]


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    """A chain whose time only this file moves."""
    with start_anvil() as devnet:
        yield devnet


@dataclass
class Court:
    """A consumer, its guard and an arbiter at the command line; a provider by hand."""

    world: World
    people: dict[str, Consumer]
    provider: Party

    def signer(self, name: str) -> Signer:
        """The key of a person."""
        return load(self.people[name].home / "key.json", PASSWORD)

    def later(self, seconds: int) -> None:
        """The chain's next block is that much later."""
        self.world.chain.rpc("evm_increaseTime", seconds)
        self.world.chain.rpc("evm_mine")

    def lease(self, **fields: Any) -> State:
        """A lease that the consumer opened itself, on the provider's offer."""
        escrow, consumer = self.world.escrow, self.signer("consumer")
        arbiter = fields.pop("arbiter", self.signer("arbiter").address)
        valid_until = int(time.time()) + 86_400
        offer = an_offer(provider=self.provider.address, arbiter=arbiter, valid_until=valid_until)
        bid = a_bid(
            consumer=consumer.address,
            market=consumer.address,
            guard=self.signer("guard").address,
            arbiter=arbiter,
            seat=secrets.token_bytes(32),
            window=WINDOW,
            max_seconds=SECONDS,
            fee_bps=0,
            valid_until=valid_until,
        )
        rate = ask_up(bid, offer)
        fill = Fill(offer, self.provider.signer.sign(escrow.domain, offer), rate, 0, b"")
        mined = escrow.open(consumer, ZERO32, [Opening(bid, consumer.sign(escrow.domain, bid), (fill,))])
        at = self.world.chain.block(mined.block).timestamp
        return State(*terms(bid, offer, rate=rate, opened_at=at))

    def claim(self, state: State, amount: int) -> None:
        """The provider's claim, twenty seconds after now."""
        self.later(20)
        self.world.escrow.claim(
            self.provider.signer, state.lease, state.clauses, Progress(), amount, Kind.DONE, b"\x05" * 32
        )


@pytest.fixture(scope="module")
def court(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Court:
    world, folder = a_world(anvil), tmp_path_factory.mktemp("court")
    people = {name: a_consumer(world, NOWHERE, folder / name, money="") for name in ("consumer", "guard", "arbiter")}
    made = Court(world, people, world.party())
    from suanli_protocol.devnet import set_balance

    for name in people:
        set_balance(world.chain, made.signer(name).address, 10**20)
    consumer = made.signer("consumer")
    world.escrow.faucet(world.deployer, consumer.address, 5_000_000)
    world.escrow.deposit(consumer, consumer.address, 5_000_000)
    return made


@pytest.fixture
def ask(court: Court, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """A person's command line in this process."""

    def call(name: str, *arguments: str) -> Done:
        person = court.people[name]
        with monkeypatch.context() as changed:
            for variable in [name for name in os.environ if name.startswith(("SUANLI_", "XDG_"))]:
                changed.delenv(variable)
            for variable, value in person.environment().items():
                changed.setenv(variable, value)
            changed.chdir(person.home)
            changed.setattr("sys.stdin", io.StringIO())
            status = exit_status(cli, list(arguments))
        told = capsys.readouterr()
        return Done(status, told.out, told.err)

    return call


def id_of(state: State) -> str:
    return "0x" + lease_id(state.lease).hex()


def done(found: Done) -> dict[str, Any]:
    assert found.status == 0, found.err
    facts: dict[str, Any] = json.loads(found.out)
    return facts


def refused(found: Done, words: str) -> None:
    assert found.status != 0
    assert found.problem["code"] == "not_allowed"
    assert words in found.problem["detail"], found.problem


@pytest.mark.parametrize("who", ["consumer", "guard"])
def test_the_consumers_side_stops_a_lease(court: Court, ask: Ask, who: str) -> None:
    state = court.lease()
    facts = done(ask(who, "stop", id_of(state), "--json"))
    assert (facts["state"], facts["change"], facts["paid"]) == ("stopped", "stop", "0")
    assert court.world.escrow.seat(state.lease.seat_key) != state.word
    refused(ask(who, "stop", id_of(state), "--json"), "the lease is stopped")


def test_a_stranger_stops_nothing(court: Court, ask: Ask) -> None:
    state = court.lease()
    refused(
        ask("arbiter", "stop", id_of(state), "--json"),
        "stop is for the consumer, its guard or the provider; your key is 0x",
    )
    assert court.world.escrow.seat(state.lease.seat_key) == state.word


def test_a_dispute_is_resolved_by_its_arbiter_alone(court: Court, ask: Ask) -> None:
    state = court.lease()
    refused(ask("guard", "dispute", id_of(state), "--json"), "the lease is open")
    court.claim(state, 190)
    refused(ask("arbiter", "dispute", id_of(state), "--json"), "dispute is for the consumer or its guard")
    assert done(ask("guard", "dispute", id_of(state), "--json"))["state"] == "disputed"
    verdict = ("--award", "0.0001", "--slash", "0.000001", "--json")
    refused(ask("consumer", "resolve", id_of(state), *verdict), "resolve is for the lease's arbiter")
    free = court.world.escrow.account(court.signer("arbiter").address).free
    facts = done(ask("arbiter", "resolve", id_of(state), *verdict))
    assert (facts["state"], facts["paid"]) == ("resolved", "100")
    assert court.world.escrow.account(court.signer("arbiter").address).free == free + 19
    refused(ask("arbiter", "resolve", id_of(state), *verdict), "the lease is over: it was resolved")


def test_a_claim_is_finalized_from_its_window_on_and_disputed_before(court: Court, ask: Ask) -> None:
    state = court.lease()
    court.claim(state, 150)
    refused(ask("arbiter", "finalize", id_of(state), "--json"), "it is from ")
    court.later(WINDOW + 1)
    refused(ask("consumer", "dispute", id_of(state), "--json"), "it was until ")
    facts = done(ask("arbiter", "finalize", id_of(state), "--json"))  # anyone may
    assert (facts["state"], facts["paid"]) == ("finalized", "150")


def test_without_an_arbiter_nothing_is_disputed(court: Court, ask: Ask) -> None:
    state = court.lease(arbiter="0x" + "00" * 20)
    court.claim(state, 150)
    refused(ask("consumer", "dispute", id_of(state), "--json"), "names no arbiter")


def test_a_deposit_comes_back_once_end_and_window_are_over(court: Court, ask: Ask) -> None:
    state = court.lease()
    account = court.signer("consumer").address
    free = court.world.escrow.account(account).free
    court.later(SECONDS)
    refused(ask("consumer", "reclaim", id_of(state), "--json"), "it is from ")
    court.later(WINDOW + 1)
    told = ask("guard", "reclaim", id_of(state)[:18])
    assert told.status == 0, told.err
    assert "the lease is reclaimed; 0.00 " in told.out
    assert court.world.escrow.account(account).free == free + state.lease.deposit + state.lease.bond


def meanwhile(monkeypatch: pytest.MonkeyPatch, change: str, happens: Callable[[], object], *, times: int = 1) -> None:
    """While a call of the command is on its way, something else happens to the lease first."""
    sends, left = getattr(Escrow, change), [happens] * times

    def late(*arguments: Any, **named: Any) -> Any:
        if left:
            left.pop()()
        return sends(*arguments, **named)

    monkeypatch.setattr(Escrow, change, late)


def receipt_of(court: Court, state: State, amount: int, kind: int) -> Settlement:
    """A receipt with both signatures, on the lease as it was opened."""
    paper = Receipt(lease_id(state.lease), amount, kind, b"\x05" * 32)
    signers = (court.provider.signer, court.signer("consumer"))
    signatures = [signer.sign(court.world.escrow.domain, paper) for signer in signers]
    return Settlement(state.lease, Progress(), amount, kind, b"\x05" * 32, signatures[0], signatures[1])


def test_a_lease_that_settles_while_it_is_stopped_is_no_error(
    court: Court, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = court.lease()
    settlement = receipt_of(court, state, 90, Kind.DONE)
    meanwhile(monkeypatch, "stop", lambda: court.world.escrow.settle(court.provider.signer, [settlement]))
    facts = done(ask("consumer", "stop", id_of(state), "--json"))
    assert (facts["state"], facts["paid"], facts["transaction"]) == ("settled", "90", None)


def test_a_lease_that_is_claimed_while_it_is_stopped_names_what_is_possible_now(
    court: Court, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = court.lease()
    meanwhile(monkeypatch, "stop", lambda: court.claim(state, 150))
    found = ask("consumer", "stop", id_of(state))
    assert found.status == 0, found.err
    assert "nothing was left to do: the lease is claimed; 0.00 " in found.out
    assert f"suanli dispute {id_of(state)}" in found.err
    refused(ask("consumer", "stop", id_of(state), "--json"), "the lease is claimed")


def test_an_interim_payment_on_the_way_changes_nothing(court: Court, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    state = court.lease()
    interim = receipt_of(court, state, 7, Kind.INTERIM)
    meanwhile(monkeypatch, "stop", lambda: court.world.escrow.settle(court.provider.signer, [interim]))
    facts = done(ask("consumer", "stop", id_of(state), "--json"))
    assert (facts["state"], facts["paid"]) == ("stopped", "7")
    assert facts["transaction"] is not None


def test_who_finalizes_is_all_the_same(court: Court, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    court.provider = court.world.party()  # the capacity of the one before is leased
    state = court.lease()
    court.claim(state, 150)
    found = done(ask("consumer", "dispute", id_of(state), "--json"))
    assert found["state"] == "disputed"
    refused(ask("guard", "dispute", id_of(state), "--json"), "the lease is disputed")
    court.later(3 * WINDOW + 1)

    def finalized() -> None:
        done(ask("arbiter", "finalize", id_of(state), "--json"))

    meanwhile(monkeypatch, "finalize", finalized)
    facts = done(ask("consumer", "finalize", id_of(state), "--json"))
    assert (facts["state"], facts["paid"], facts["transaction"]) == ("finalized", "75", None)


def test_what_is_no_lease_and_no_job_is_said(court: Court, ask: Ask) -> None:
    for word in ("0x" + "77" * 32, "99999", "nothing"):
        found = ask("consumer", "stop", word, "--json")
        assert (found.status != 0, found.problem["code"]) == (True, "not_found"), found.err
    found = ask("consumer", "settle", id_of(court.lease()), "--json")
    assert found.problem["code"] == "not_found"
    assert "no job of this machine" in found.problem["detail"]
    found = ask("arbiter", "resolve", "1", "--award", "much", "--json")
    assert found.status == 2
