"""An escrow's bytecode with the Python model beside it: each call is made on both, and both must agree on all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from eth_abi.abi import encode

from suanli_protocol import events
from suanli_protocol.capacity import Lanes
from suanli_protocol.contract_abi import contract_abi
from suanli_protocol.errors import ProtocolError
from suanli_protocol.escrow import UNUSED
from suanli_protocol.lease import (
    CLOSED_WORD,
    Account,
    Change,
    Claim,
    Dispute,
    Finalize,
    Kind,
    Previous,
    Reclaim,
    Refusal,
    Release,
    Resolve,
    Settle,
    Split,
    State,
    Stop,
    acts_for,
    apply,
    attempt_after,
    lease_id,
    refusal,
    seat_key,
    settle_refusal,
    terms,
)
from suanli_protocol.messages import ZERO32, ZERO_ADDRESS, Bid, Offer, Receipt, Verdict
from suanli_protocol.openings import (
    NO_SIGNATURE,
    Fill,
    Opening,
    Settlement,
    encode_open,
    encode_settle,
    term_values,
)
from suanli_protocol.signing import Signer, address_bytes, keccak256
from support import builders
from support.evm import Evm, LocalEscrow
from support.told import event_of, opened_event, without_place

FUNDS = 10**9
EVIDENCE = b"\x05" * 32


def escrow_call(function: str, state: State, *rest: object) -> bytes:
    """Calldata of a way out."""
    values = term_values(state.lease, state.clauses, state.progress)
    return contract_abi("LeaseEscrow").encode(function, *values, *rest)


@dataclass
class World:
    """Five people in any role, an escrow, and what must be in it."""

    escrow: LocalEscrow
    now: int = builders.NOW
    people: tuple[Signer, ...] = field(default_factory=lambda: tuple(builders.a_signer(n) for n in range(10, 15)))
    accounts: dict[str, Account] = field(default_factory=dict)
    seats: dict[bytes, bytes] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)
    bids: dict[bytes, Bid] = field(default_factory=dict)  # by lease
    outcomes: dict[str, int] = field(default_factory=dict)  # how often what happened
    funds: int = FUNDS  # of each of the people

    @classmethod
    def begin(cls, evm: Evm) -> World:
        """Everybody has money; the escrow holds the tokens for it."""
        world = cls(LocalEscrow(evm))
        world.endow()
        return world

    def endow(self) -> None:
        """Gives everybody money, and the escrow the tokens for it."""
        for person in self.people:
            self.set_account(person.address, Account(self.funds))
        total = self.funds * len(self.people)
        faucet = contract_abi("DevCredit").encode("faucet", address_bytes(self.escrow.address), total)
        self.escrow.evm.call(self.escrow.token, faucet)

    def set_account(self, address: str, account: Account) -> None:
        """An account's word on both sides."""
        self.accounts[address] = account
        self.escrow.set_account(address, account)

    def key(self, address: str) -> Signer:
        """The key of one of the people."""
        return next(person for person in self.people if person.address == address)

    def balance(self, address: str) -> int:
        """Tokens outside the escrow (or its own)."""
        data = keccak256(b"balanceOf(address)")[:4] + encode(["address"], [address])
        return int.from_bytes(self.escrow.evm.call(self.escrow.token, data), "big")

    def pass_time(self, seconds: int) -> None:
        """The next block's time."""
        self.now += seconds
        self.escrow.evm.at(self.now)

    def _send(self, caller: str, data: bytes) -> list[events.EscrowEvent] | None:
        self.escrow.evm.at(self.now)
        try:
            return self.escrow.send(caller, data)
        except RuntimeError:
            return None

    def _note(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    # Opening

    def open(self, bid: Bid, offer: Offer, rate: int, previous: bytes = b"") -> State | None:
        """Opens by the bid's market; the state, or None if both sides refuse for the same reason."""
        market, domain = bid.market, self.escrow.domain
        code = refusal(
            bid,
            offer,
            rate=rate,
            previous=previous,
            caller=market,
            now=self.now,
            consumer=self.accounts[bid.consumer],
            provider=self.accounts[offer.provider],
            seat=self.seats.get(seat_key(bid.seat, bid.consumer), UNUSED),
        )
        fill = Fill(offer, self.key(offer.provider).sign(domain, offer), rate, 0, previous)
        opening = Opening(bid, self.key(bid.consumer).sign(domain, bid), (fill,))
        sent = self._send(market, encode_open(ZERO32, [opening]))
        assert sent is not None, "open never reverts"
        head, got = sent
        self._note(f"open {code.name.lower()}")
        assert without_place(head) == ("RoundCommitted", {"market": market, "head": ZERO32})
        if code is not Refusal.NONE:
            assert without_place(got) == ("Refused", {"seat": bid.seat, "index": 0, "refusal": code})
            return None
        attempt, spent = attempt_after(previous)
        state = State(*terms(bid, offer, rate=rate, attempt=attempt, spent=spent, opened_at=self.now))
        assert without_place(got) == without_place(opened_event(state, bid, offer))
        self._credit(bid.consumer, -state.lease.deposit)
        self._credit(offer.provider, -state.lease.bond)
        self._occupy(offer.provider, Lanes.unpack(state.need))
        self.states.append(state)
        self.bids[lease_id(state.lease)] = bid
        self._see(state)
        return state

    def cancel(self, caller: str, bid: Bid, previous: bytes = b"") -> bool:
        """Tombstones the bid's seat, on both sides or on neither."""
        key = seat_key(bid.seat, bid.consumer)
        word = self.seats.get(key, UNUSED)
        free = word == (UNUSED if not previous else Previous.decode(previous).word)
        abi = contract_abi("LeaseEscrow")
        sent = self._send(caller, abi.encode("cancel", address_bytes(bid.consumer), bid.seat, 0, previous))
        assert (sent is not None) == (free and acts_for(caller, bid.consumer))
        if sent is not None:
            named = {"seat_key": key, "consumer": bid.consumer, "seat": bid.seat, "index": 0}
            assert [without_place(event) for event in sent] == [("Cancelled", named)]
            self.seats[key] = CLOSED_WORD
            assert self.escrow.seat(key) == CLOSED_WORD
        self._note("cancel" if sent is not None else "cancel refused")
        return sent is not None

    # Ways out

    def change(self, index: int, change: Change, caller: str, *, signed: bool = False) -> Split | None:
        """Makes a change on both sides; None where both refuse. `signed`: by the arbiter's signature."""
        before = self.states[index]
        expected = self._expected(before, change, caller, signed=signed)
        got = self._sent(before, change, caller, signed=signed)
        name = type(change).__name__.lower()
        assert (got is not None) == (expected is not None), (before, change, caller, self.now)
        self._note(name if expected is not None else f"{name} refused")
        if expected is None:
            self._see(before)
            return None
        after, split = expected
        assert got is not None
        told = event_of(before, change, after, split, caller, EVIDENCE)
        assert [without_place(event) for event in got] == [without_place(told)]
        assert split.total == before.locked - after.locked
        lease = before.lease
        self._credit(lease.provider, split.to_provider + split.bond_back)
        self._credit(lease.market, split.to_market)
        self._credit(lease.consumer, split.to_consumer + split.penalty)
        if split.to_arbiter:
            self._credit(before.clauses.arbiter, split.to_arbiter)
        self._occupy(lease.provider, Lanes.unpack(after.need) - Lanes.unpack(before.need))
        self.states[index] = after
        self._see(after)
        return split

    def _expected(self, state: State, change: Change, caller: str, *, signed: bool) -> tuple[State, Split] | None:
        """What the model says, with who may."""
        lease, clauses = state.lease, state.clauses
        consumer_side = acts_for(caller, lease.consumer) or acts_for(caller, clauses.guard)
        provider = acts_for(caller, lease.provider)
        match change:
            case Stop(by_consumer_side):
                may = (consumer_side or provider) and by_consumer_side == consumer_side
            case Release() | Claim():
                may = provider
            case Dispute():
                may = consumer_side
            case Resolve():
                may = signed or acts_for(caller, clauses.arbiter)
            case _:
                may = True
        try:
            return apply(state, change, self.now) if may else None
        except ProtocolError:
            return None

    def _sent(self, state: State, change: Change, caller: str, *, signed: bool) -> list[events.EscrowEvent] | None:
        match change:
            case Settle(amount, kind):
                return self._settled(state, amount, kind, caller)
            case Stop():
                data = escrow_call("stop", state)
            case Release():
                data = escrow_call("release", state)
            case Claim(amount, kind):
                data = escrow_call("claim", state, amount, kind, EVIDENCE)
            case Dispute():
                data = escrow_call("dispute", state)
            case Resolve(award, slash):
                proof = self._verdict(state, award, slash) if signed else NO_SIGNATURE
                data = escrow_call("resolve", state, award, slash, EVIDENCE, (proof[:32], proof[32:]))
            case Finalize():
                data = escrow_call("finalize", state)
            case Reclaim():
                data = escrow_call("reclaim", state)
        return self._send(caller, data)

    def _verdict(self, state: State, award: int, slash: int) -> bytes:
        if state.clauses.arbiter == ZERO_ADDRESS:
            return NO_SIGNATURE
        verdict = Verdict(lease_id(state.lease), award, slash, EVIDENCE)
        return self.key(state.clauses.arbiter).sign(self.escrow.domain, verdict)

    def _settled(self, state: State, amount: int, kind: Kind, caller: str) -> list[events.EscrowEvent] | None:
        lease = state.lease
        receipt = Receipt(lease_id(lease), amount, kind, EVIDENCE)
        signed = [self.key(who).sign(self.escrow.domain, receipt) for who in (lease.provider, lease.consumer)]
        sent = self._send(caller, encode_settle([Settlement(lease, state.progress, amount, kind, EVIDENCE, *signed)]))
        assert sent is not None, "settle never reverts"
        if isinstance(sent[0], events.SettlementRefused):
            code = settle_refusal(state, amount, kind) if state.is_open else Refusal.UNKNOWN_LEASE
            refused = {"lease_id": lease_id(lease), "refusal": code}
            assert [without_place(event) for event in sent] == [("SettlementRefused", refused)]
            return None
        return sent

    # The model

    def _credit(self, address: str, amount: int) -> None:
        account = self.accounts[address]
        self.accounts[address] = replace(account, free=account.free + amount)

    def _occupy(self, address: str, need: Lanes) -> None:
        account = self.accounts[address]
        self.accounts[address] = replace(account, used=account.used + need)

    def _see(self, state: State) -> None:
        """The seat of a lease is as the model says, unless a later attempt took it."""
        key = state.lease.seat_key
        newest = [other for other in self.states if other.lease.seat_key == key][-1]
        if lease_id(newest.lease) == lease_id(state.lease) and self.seats.get(key) != CLOSED_WORD:
            self.seats[key] = state.word
        assert self.escrow.seat(key) == self.seats[key]

    def check(self) -> None:
        """Accounts are equal on both sides; money is conserved; capacity in use is the sum of needs."""
        locked = sum(state.locked for state in self.states)
        for address, account in self.accounts.items():
            assert self.escrow.account(address) == (account.free, account.counter, account.used.pack())
            needs = [Lanes.unpack(state.need) for state in self.states if state.lease.provider == address]
            assert account.used == sum(needs, Lanes())
        free = sum(account.free for account in self.accounts.values())
        assert self.balance(self.escrow.address) >= free + locked
        outside = sum(self.balance(address) for address in self.accounts)
        assert free + locked + outside == self.funds * len(self.people)

    def withdraw_all(self, address: str) -> int:
        """Takes everything out of an account; what arrived."""
        amount, before = self.accounts[address].free, self.balance(address)
        data = contract_abi("LeaseEscrow").encode("withdraw", address_bytes(address), amount)
        assert self._send(address, data) is not None
        self._credit(address, -amount)
        assert self.balance(address) - before == amount
        return amount


def a_random_deal(world: World, random: Random) -> tuple[Bid, Offer, int]:
    """Papers of any two people, with the others in any role, and a rate; nearly always good."""
    consumer, provider = random.sample(world.people, 2)
    people = [person.address for person in world.people]
    arbiter = random.choice([ZERO_ADDRESS, *people, *people])
    seconds = random.randint(1, 200)
    offer = builders.an_offer(
        provider=provider.address,
        arbiter=arbiter if random.random() < 0.97 else random.choice(people),
        prices=0,
        min_seconds=random.randint(0, seconds),
        max_seconds=seconds + random.randint(0, 50),
        bond_bps=random.randint(1000, 10_000),
        valid_until=2**40 - 1,
    )
    bid = builders.a_bid(
        consumer=consumer.address,
        market=random.choice(people),
        guard=random.choice([ZERO_ADDRESS, *people]),
        arbiter=arbiter,
        seat=random.randbytes(32),
        attempts=random.choice([1, 2, 3]),
        need=builders.a_need(cpu_milli=random.randint(0, 700)).pack(),
        max_seconds=seconds,
        window=random.randint(0, 60),
        fee_bps=random.choice([0, 50, 3_333, 10_000]),
        max_rate=2**96 - 1,
        budget=random.choice([2**96 - 1, random.randint(0, 20_000)]),
        valid_until=2**40 - 1,
    )
    return bid, offer, random.choice([random.randint(0, 5_000), random.randint(0, 10**8)])
