"""The audit's pure core on facts made by hand: what it accepts, and the name under which it reports each breach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from suanli.audit.books import Books
from suanli.audit.facts import (
    AccountCall,
    Call,
    CancelCall,
    History,
    Holding,
    Indirect,
    LinkCall,
    ReleaseCall,
    SentSettlement,
    SettleCall,
    Snapshot,
    StopCall,
    Transaction,
    Unreadable,
    addresses_of,
)
from suanli.audit.replay import replay
from suanli.audit.report import find_lease, report_all, report_some
from suanli.audit.view import lines
from suanli_protocol.capacity import Lanes
from suanli_protocol.errors import NotFoundError, UsageError
from suanli_protocol.escrow import CLOSED
from suanli_protocol.events import (
    Bumped,
    Cancelled,
    Deposited,
    EscrowEvent,
    Linked,
    Opened,
    Refused,
    Released,
    RoundCommitted,
    Settled,
    SettlementRefused,
    Stopped,
    Withdrawn,
)
from suanli_protocol.lease import (
    Account,
    Kind,
    Progress,
    Refusal,
    State,
    ask_up,
    fee_down,
    lease_id,
    penalty_down,
    seat_key,
)
from suanli_protocol.messages import Link, Receipt
from suanli_protocol.openings import NO_SIGNATURE, Fill, Opening, Openings
from suanli_protocol.signing import Signer, struct_hash
from support import builders
from support.altering import alterations

DOMAIN = builders.a_domain()
FUNDS = 10 * builders.CREDIT
OPENED_AT, PAID = builders.NOW + 5, 500


def place(block: int) -> dict[str, Any]:
    """Where an event of a block's only transaction stands."""
    return {
        "block": block,
        "block_hash": bytes([block] * 32),
        "transaction": bytes([0xA0 + block] * 32),
        "log_index": 0,
    }


def transaction(block: int, sender: str, call: Call, *events: EscrowEvent) -> Transaction:
    """A block's only transaction."""
    at = place(block)
    return Transaction(at["transaction"], block, at["block_hash"], OPENED_AT, sender, call, events)


def deposit(block: int, account: str) -> Transaction:
    """An account pays its funds in."""
    return transaction(
        block, account, AccountCall("deposit"), Deposited(**place(block), account=account, sender=account, amount=FUNDS)
    )


def opening(**fields: Any) -> Opening:
    """A signed bid with one signed offer."""
    bid, offer = builders.a_bid(**fields), builders.an_offer()
    fill = Fill(offer, builders.provider().sign(DOMAIN, offer), ask_up(bid, offer))
    return Opening(bid, builders.consumer().sign(DOMAIN, bid), (fill,))


def state_of(one: Opening) -> State:
    """The lease that it opens."""
    return builders.a_state(bid=one.bid, offer=one.fills[0].offer, opened_at=OPENED_AT)


def opened(block: int, one: Opening) -> Transaction:
    """The market opens it."""
    state, fill = state_of(one), one.fills[0]
    event = Opened(
        **place(block),
        lease_id=lease_id(state.lease),
        provider=fill.offer.provider,
        consumer=one.bid.consumer,
        bid_hash=struct_hash(one.bid),
        offer_hash=struct_hash(fill.offer),
        rate=fill.rate,
        index=0,
        attempt=1,
    )
    head = bytes([7] * 32)
    round_ = RoundCommitted(**place(block), market=one.bid.market, head=head)
    return transaction(block, one.bid.market, Openings(head, (one,)), round_, event)


def claim(one: Opening, amount: int = PAID, kind: int = 1, signers: tuple[Signer, ...] = ()) -> SentSettlement:
    """A receipt that both sides signed."""
    lease = state_of(one).lease
    receipt = Receipt(lease_id(lease), amount, kind, b"\x05" * 32)
    by = signers or (builders.provider(), builders.consumer())
    return SentSettlement(lease, 0, amount, kind, receipt.evidence, *(signer.sign(DOMAIN, receipt) for signer in by))


def settled(block: int, one: SentSettlement) -> Transaction:
    """The market brings it to the escrow, which pays."""
    event = Settled(
        **place(block),
        lease_id=lease_id(one.lease),
        paid=one.amount,
        fee=fee_down(one.amount, one.lease.fee_bps),
        kind=Kind(one.kind),
        evidence=one.evidence,
    )
    return transaction(block, builders.market().address, SettleCall((one,)), event)


def history_of(*transactions: Transaction) -> History:
    """A whole history, deposits first."""
    parties = (builders.consumer().address, builders.provider().address, builders.market().address)
    deposits = tuple(deposit(block, party) for block, party in enumerate(parties, 1))
    return History(DOMAIN, "DEVC", 6, 99, bytes(32), deposits + transactions)


def snapshot_of(history: History) -> Snapshot:
    """What an escrow that followed the rules would show: the books of the same history."""
    books = replay(history, Snapshot({}, {}, 10**18))
    holdings = {address: Holding(books.account(address), books.owner(address)) for address in addresses_of(history)}
    locked = sum(life.state.locked for life in books.lives)
    free = sum(holding.account.free for holding in holdings.values())
    return Snapshot(holdings, dict(books.seats), free + locked)


def found(books: Books) -> dict[str, str]:
    """Code → member of what does not match."""
    return {check.code: check.member for check in books.checks.made if not check.ok}


def audit(*transactions: Transaction) -> dict[str, str]:
    """Findings of a history, beside the state that would follow from it."""
    history = history_of(*transactions)
    return found(replay(history, snapshot_of(history)))


@pytest.fixture(scope="module")
def honest() -> tuple[History, Snapshot]:
    """One lease, opened and settled."""
    one = opening()
    history = history_of(opened(4, one), settled(5, claim(one)))
    return history, snapshot_of(history)


def test_an_honest_history_matches_and_conserves_the_money(honest: tuple[History, Snapshot]) -> None:
    """No finding; what left the deposit and the bond went somewhere, to the unit; the lanes are free again."""
    history, snapshot = honest
    books = replay(history, snapshot)
    assert found(books) == {}
    (life,) = books.lives
    assert life.status == "settled"
    assert (life.split.to_provider, life.split.to_market) == (PAID, 2)
    assert life.split.total == life.state.lease.deposit + life.state.lease.bond
    assert sum(account.free for account in books.accounts.values()) == 3 * FUNDS
    assert books.account(builders.provider().address).used == Lanes()
    assert books.seats[life.state.lease.seat_key] == CLOSED


def test_every_value_matters(honest: tuple[History, Snapshot]) -> None:
    """Each value of call, event and state, altered by itself, is a finding."""
    history, snapshot = honest
    neutral = (".symbol", ".decimals", ".block", ".block_hash", ".log_index")
    missed = [
        where
        for where, changed in alterations(history)
        if not where.endswith(neutral)
        and not (where.endswith(".timestamp") and "[3:" not in where)  # only opening depends on the time
        and not (where.endswith("].sender") and "[4:" in where)  # anybody may bring a receipt that both signed
        and not found(replay(changed, snapshot))
    ]
    missed += [
        where
        for where, changed in alterations(snapshot)
        if ".balance" not in where and not found(replay(history, changed))
    ]
    assert missed == []
    assert set(found(replay(history, replace(snapshot, balance=snapshot.balance - 1)))) == {"token_balance"}


def test_terms_that_a_caller_made_up_are_named_field_by_field(honest: tuple[History, Snapshot]) -> None:
    """A settlement under a higher price than was signed names the price."""
    history, snapshot = honest
    last = history.transactions[-1]
    assert isinstance(last.call, SettleCall)
    dearer = replace(last.call.settlements[0], lease=replace(last.call.settlements[0].lease, price=10**9))
    changed = replace(history, transactions=(*history.transactions[:-1], replace(last, call=SettleCall((dearer,)))))
    books = replay(changed, snapshot)
    assert {check.member for check in books.checks.made if not check.ok and check.code == "terms"} == {"lease.price"}


@pytest.mark.parametrize(
    ("amount", "kind", "signers", "code"),
    [
        (10**9, 1, (), "amount"),
        (PAID, 3, (), "kind"),
        (PAID, 1, (builders.consumer(), builders.consumer()), "provider_signature"),
        (PAID, 1, (builders.provider(), builders.provider()), "consumer_signature"),
    ],
)
def test_a_payment_that_the_rules_forbid_is_named(amount: int, kind: int, signers: Any, code: str) -> None:
    """An escrow that paid it all the same is found out."""
    one = opening()
    paid = settled(5, claim(one, amount, 1, signers))
    if kind != 1:
        forged = replace(claim(one, amount, 1), kind=kind)
        paid = replace(paid, call=SettleCall((forged,)))
    assert code in audit(opened(4, one), paid)


def test_a_receipt_is_paid_once() -> None:
    """A second final settlement of one lease is named."""
    one = opening()
    assert "lease_closed" in audit(opened(4, one), settled(5, claim(one)), settled(6, claim(one)))


def test_two_leases_at_one_seat_are_named() -> None:
    """A seat is taken once."""
    one = opening()
    assert "seat_taken" in audit(opened(4, one), opened(5, one))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"max_rate": 1}, "rate_above_bid"),
        ({"budget": 1}, "budget"),
        ({"valid_until": OPENED_AT}, "bid_expired"),
        ({"counter": 3}, "bid_counter"),
        ({"window": 10**6}, "window"),
        ({"needs": 1 << 60}, "traits"),
        ({"count": 2}, "unsupported"),
        ({"guard": builders.market().address, "arbiter": builders.market().address}, "arbiter"),
        ({"consumer": builders.provider().address}, "same_party"),
    ],
)
def test_a_lease_that_the_rules_forbid_is_named(fields: dict[str, Any], code: str) -> None:
    """An escrow that opened it all the same is found out, under the rule's name."""
    assert code in audit(opened(4, opening(**fields)))


def test_a_refusal_has_the_reason_that_the_rules_give() -> None:
    """The right code passes, another one and a refusal without a reason are findings."""

    def refused(one: Opening, code: Refusal) -> Transaction:
        round_ = RoundCommitted(**place(4), market=one.bid.market, head=bytes(32))
        event = Refused(**place(4), seat=one.bid.seat, index=0, refusal=code)
        return transaction(4, one.bid.market, Openings(bytes(32), (one,)), round_, event)

    assert audit(refused(opening(max_rate=1), Refusal.RATE_ABOVE_BID)) == {}
    assert audit(refused(opening(max_rate=1), Refusal.BUDGET)) == {"refused_event": "code"}
    assert audit(refused(opening(), Refusal.CAPACITY)) == {"refused_event": "code"}
    forged = replace(opening(), signature=bytes(63) + b"\x01")
    assert audit(refused(forged, Refusal.BID_SIGNATURE)) == {}


def test_a_settlement_of_nonsense_is_refused_and_harms_nobody() -> None:
    """A stranger's entry with a progress that means nothing stands beside an honest one; both are understood."""
    one = opening()
    good = claim(one)
    nonsense = replace(good, progress=2**256 - 1)
    refusal = SettlementRefused(**place(5), lease_id=lease_id(one_lease := good.lease), refusal=Refusal.UNKNOWN_LEASE)
    assert one_lease == good.lease
    paid = settled(5, good)
    both = replace(paid, call=SettleCall((nonsense, good)), events=(refusal, *paid.events))
    assert audit(opened(4, one), both) == {}
    tampered = replace(good, amount=PAID + 1)
    wrong = SettlementRefused(**place(5), lease_id=lease_id(good.lease), refusal=Refusal.PROVIDER_SIGNATURE)
    assert audit(opened(4, one), replace(paid, call=SettleCall((tampered,)), events=(wrong,))) == {}


def test_stop_and_release_follow_the_clauses() -> None:
    """A stop by a stranger, another clock, another penalty: each is named."""
    one = opening()
    state, provider = state_of(one), builders.provider().address
    call = (state.lease, state.clauses)
    stop = Stopped(**place(5), lease_id=lease_id(state.lease), by=provider, clock=OPENED_AT, by_consumer_side=False)
    stopped = transaction(5, provider, StopCall(*call, 0), stop)
    at = Progress(clock=OPENED_AT, phase=type(state.progress.phase)(1))
    penalty = penalty_down(state.clauses.rate, state.clauses.min_seconds, state.lease.bond)
    release = Released(**place(6), lease_id=lease_id(state.lease), paid=0, penalty=penalty)
    released = transaction(6, provider, ReleaseCall(*call, at.pack()), release)
    assert audit(opened(4, one), stopped, released) == {}
    assert audit(opened(4, one), stopped, replace(released, events=(replace(release, penalty=0),))) == {
        "released_event": "penalty"
    }
    late = replace(stopped, events=(replace(stop, clock=OPENED_AT + 9),))
    assert audit(opened(4, one), late) == {"stopped_event": "clock"}
    stranger = builders.a_signer(9).address
    by = replace(stopped, sender=stranger, events=(replace(stop, by=stranger),))
    assert "stop_authority" in audit(opened(4, one), by)
    assert "release_authority" in audit(opened(4, one), stopped, replace(released, sender=builders.consumer().address))


def test_silence_counts_only_from_the_party_itself() -> None:
    """An empty signature is the market's only where the market is the signer."""
    one = opening()
    silent = replace(one, signature=NO_SIGNATURE)
    made = replace(opened(4, one), call=Openings(bytes([7] * 32), (silent,)))
    assert "bid_signature" in audit(made)


def test_what_has_no_papers_is_not_passed() -> None:
    """A lease opened through another contract is numbered and named; the other one's audit does not suffer."""
    hidden, plain = opening(seat=builders.a_seat(5)), opening()
    made = opened(4, hidden)
    unread = replace(made, call=Indirect("the transaction calls another contract"))
    history = history_of(opened(5, plain), unread)
    books = replay(history, snapshot_of(history))
    assert set(found(books)) == {"papers_missing"}
    assert [lease.number for lease in books.leases] == [1, 2]
    assert report_some(history, books, [books.leases[0]], {}).ok
    second = report_some(history, books, [books.leases[1]], {})
    assert not second.ok
    assert second.leases[0].status == "unread"
    assert any("papers_missing" in line for line in lines(second))


def test_an_event_that_is_none_is_named() -> None:
    """A log that the escrow does not declare."""
    garbled = Unreadable(**place(4), why="what is this")
    made = transaction(4, builders.market().address, AccountCall("deposit"), garbled)
    assert "event_unreadable" in audit(made)


def test_leases_are_found_by_number_and_prefix(honest: tuple[History, Snapshot]) -> None:
    """Numbers and prefixes name one lease; anything else says what there is."""
    history, snapshot = honest
    books = replay(history, snapshot)
    (life,) = books.lives
    assert find_lease(books, "1") is life
    assert find_lease(books, "0x" + life.id.hex()[:6]) is life
    for unknown in ("0", "2", "0x" + "f" * 64):
        with pytest.raises(NotFoundError, match="one lease, number 1"):
            find_lease(books, unknown)
    for nonsense in ("", "0x", "one", "-1"):
        with pytest.raises(UsageError):
            find_lease(books, nonsense)


def test_the_report_says_it_all(honest: tuple[History, Snapshot]) -> None:
    """As data and in words."""
    history, snapshot = honest
    report = report_all(history, replay(history, snapshot), {})
    data = report.to_json()
    assert data["ok"] is True
    assert data["leases"][0]["toProvider"] == str(PAID)
    shown = "\n".join(lines(report))
    assert "✓ lease 1 matches" in shown
    assert builders.consumer().address in shown
    assert "✗" not in shown


def test_accounts_must_replay() -> None:
    """Money that appears from nowhere is found, by account and member."""
    history = history_of()
    snapshot = snapshot_of(history)
    rich = Holding(Account(FUNDS + 1, 0, Lanes()))
    changed = replace(snapshot, holdings={**snapshot.holdings, builders.market().address: rich})
    checks = [check for check in replay(history, changed).checks.made if not check.ok]
    assert [(check.code, check.member, check.found) for check in checks] == [
        ("account", "free", str(FUNDS + 1)),
        ("token_balance", "balance", str(snapshot.balance)),
    ]


def test_accounts_move_only_by_those_who_may() -> None:
    """Withdrawing too much or to a stranger, owners and counters set by strangers, seats closed by them: all named."""
    consumer, provider, stranger = (builders.a_signer(n).address for n in (1, 2, 9))

    def made(sender: str, name: str, event: EscrowEvent) -> dict[str, str]:
        return audit(transaction(4, sender, AccountCall(name), event))

    def cancelled(sender: str, event: Cancelled, **call: Any) -> dict[str, str]:
        asked: dict[str, Any] = {
            "consumer": event.consumer,
            "seat": event.seat,
            "index": event.index,
            "previous": b"",
        } | call
        return audit(transaction(4, sender, CancelCall(**asked), event))

    paid_out = Withdrawn(**place(4), account=provider, to=provider, amount=FUNDS)
    assert made(provider, "withdraw", paid_out) == {}
    assert made(provider, "withdraw", replace(paid_out, amount=FUNDS + 1)) == {"withdrawn_event": "amount"}
    assert made(provider, "withdraw", replace(paid_out, to=stranger)) == {"withdrawn_event": "to"}
    assert made(stranger, "withdraw", paid_out) == {"authority": "sender"}
    bumped = Bumped(**place(4), account=provider, counter=1)
    assert made(provider, "bump", bumped) == {}
    assert made(stranger, "bump", bumped) == {"authority": "sender"}
    assert made(provider, "bump", replace(bumped, counter=2)) == {"bumped_event": "counter"}
    seat = builders.a_seat(1)
    closed = Cancelled(**place(4), seat_key=seat_key(seat, consumer, 0), consumer=consumer, seat=seat, index=0)
    assert cancelled(consumer, closed) == {}
    assert cancelled(stranger, closed) == {"authority": "sender"}
    assert cancelled(consumer, closed, seat=builders.a_seat(2)) == {"cancelled_event": "seat"}
    assert cancelled(consumer, closed, previous=bytes(416)) == {"cancelled_event": "seat"}
    assert made(consumer, "deposit", closed) == {"event_unexpected": "Cancelled"}


def test_an_owner_is_given_once_by_the_account() -> None:
    """By the account's signature or its own call; later by the owner alone; the owner may then withdraw, to itself."""
    account, owner, stranger = builders.a_signer(2), builders.a_signer(8).address, builders.a_signer(9).address
    link = Link(account.address, owner)
    linked = Linked(**place(4), account=account.address, owner=owner)
    signed = LinkCall(link, account.sign(DOMAIN, link))
    unsigned = LinkCall(link, NO_SIGNATURE)
    given = transaction(4, stranger, signed, linked)
    assert audit(given) == {}
    assert audit(transaction(4, account.address, unsigned, linked)) == {}
    assert audit(transaction(4, stranger, unsigned, linked)) == {"link_authority": "signer"}
    forged = LinkCall(link, builders.a_signer(9).sign(DOMAIN, link))
    assert audit(transaction(4, stranger, forged, linked)) == {"link_authority": "signer"}
    taken = Linked(**place(5), account=account.address, owner=stranger)
    again = Link(account.address, stranger)
    by_account = transaction(5, account.address, LinkCall(again, NO_SIGNATURE), taken)
    assert audit(given, by_account) == {"link_authority": "signer"}
    assert audit(given, replace(by_account, sender=owner)) == {}
    out = Withdrawn(**place(5), account=account.address, to=owner, amount=1)
    assert audit(given, transaction(5, owner, AccountCall("withdraw"), out)) == {}
    home = replace(out, to=account.address)
    assert audit(given, transaction(5, owner, AccountCall("withdraw"), home)) == {"withdrawn_event": "to"}
