"""The Python binding against the escrow on a real chain: reads, transactions, events, refusals, reverts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from suanli_protocol import devnet, events
from suanli_protocol.chain import Chain
from suanli_protocol.errors import (
    ChainError,
    ChainRevertedError,
    ChainUnavailableError,
    ConfigurationError,
    FundsError,
    NotFoundError,
    TimedOutError,
)
from suanli_protocol.escrow import CLOSED, Escrow, Fill, Opening, Settlement, deploy
from suanli_protocol.lease import Kind, Progress, Refusal, State, Stop, apply, lease_id, seat_key, seat_word, terms
from suanli_protocol.messages import ZERO32, ZERO_ADDRESS, Bid, Offer, Receipt
from suanli_protocol.signing import Domain, Signer, keccak256, struct_hash
from support import builders
from support.devnet import Anvil, free_port

HEAD = b"\x07" * 32


@pytest.fixture(scope="module")
def chain(anvil: Anvil) -> Iterator[Chain]:
    with Chain(anvil.url) as chain:
        for n in range(1, 6):
            devnet.set_balance(chain, builders.a_signer(n).address, 10**20)
        yield chain


@pytest.fixture(scope="module")
def escrow(chain: Chain) -> Escrow:
    deployment = deploy(builders.market(), chain)
    escrow = Escrow(chain, deployment.escrow)
    for signer in (builders.consumer(), builders.provider()):
        escrow.faucet(signer, signer.address, 1000 * builders.CREDIT)
        escrow.deposit(signer, signer.address, 900 * builders.CREDIT)
    return escrow


_seats = iter(range(1, 10_000))


def papers(escrow: Escrow, **bid: object) -> tuple[Bid, Offer]:
    """A fresh pair that is valid at the chain's time."""
    until = escrow.chain.block().timestamp + 600
    fields = {"seat": builders.a_seat(next(_seats)), "valid_until": until, **bid}
    return builders.a_bid(**fields), builders.an_offer(valid_until=until)


def opening(escrow: Escrow, bid: Bid, offer: Offer, rate: int = 40_000) -> Opening:
    fill = Fill(offer, builders.provider().sign(escrow.domain, offer), rate)
    return Opening(bid, builders.consumer().sign(escrow.domain, bid), (fill,))


def opened(escrow: Escrow, rate: int = 40_000, **fields: object) -> State:
    """A lease that was just opened on the chain."""
    bid, offer = papers(escrow, **fields)
    receipt = escrow.open(builders.market(), HEAD, [opening(escrow, bid, offer, rate)])
    at = escrow.chain.block(receipt.block).timestamp
    return State(*terms(bid, offer, rate=rate, opened_at=at))


def settlement(escrow: Escrow, state: State, amount: int, kind: Kind) -> Settlement:
    receipt = Receipt(lease_id(state.lease), amount, kind, b"\x05" * 32)
    signed = [signer.sign(escrow.domain, receipt) for signer in (builders.provider(), builders.consumer())]
    return Settlement(state.lease, state.progress, amount, kind, receipt.evidence, signed[0], signed[1])


def frees(escrow: Escrow) -> list[int]:
    return [escrow.account(builders.a_signer(n).address).free for n in (2, 3, 1)]


def test_a_lease_opens_pays_and_closes_as_python_says(escrow: Escrow) -> None:
    before = frees(escrow)
    state = opened(escrow)
    assert escrow.seat(state.lease.seat_key) == seat_word(lease_id(state.lease), Progress())
    assert escrow.account(state.lease.provider).used.pack() == state.need

    (event,) = escrow.events_of(escrow.settle(builders.market(), [settlement(escrow, state, 10_000, Kind.INTERIM)]))
    assert isinstance(event, events.Settled)
    assert (event.paid, event.fee, event.kind) == (10_000, 50, Kind.INTERIM)
    state = replace(state, progress=Progress(paid=10_000))
    assert escrow.seat(state.lease.seat_key) == seat_word(lease_id(state.lease), state.progress)

    escrow.settle(builders.a_signer(4), [settlement(escrow, state, 30_001, Kind.DONE)])
    assert escrow.seat(state.lease.seat_key) == CLOSED
    assert [after - was for was, after in zip(before, frees(escrow), strict=True)] == [30_001, 150, -30_151]
    assert escrow.account(state.lease.provider).used.pack() == 0


def test_events_tell_the_whole_story(escrow: Escrow) -> None:
    bid, offer = papers(escrow)
    refused_bid = replace(bid, seat=b"\x01" * 32, fee_bps=10_001)
    batch = [opening(escrow, bid, offer), opening(escrow, refused_bid, offer)]
    receipt = escrow.open(builders.market(), HEAD, batch)
    committed, first, second = escrow.events_of(receipt)
    assert isinstance(committed, events.RoundCommitted)
    assert (committed.market, committed.head) == (builders.market().address, HEAD)
    assert isinstance(first, events.Opened)
    assert (first.bid_hash, first.offer_hash) == (struct_hash(bid), struct_hash(offer))
    assert (first.rate, first.index, first.attempt) == (40_000, 0, 1)
    at = escrow.chain.block(first.block_hash).timestamp
    lease, clauses = terms(bid, offer, rate=first.rate, opened_at=at)
    assert first.lease_id == lease_id(lease)
    assert isinstance(second, events.Refused)
    assert (second.seat, second.refusal) == (refused_bid.seat, Refusal.FEE)

    sent = escrow.chain.transaction(receipt.transaction)
    assert sent.to == escrow.address
    decoded = escrow.decode_open(sent.data)
    assert (decoded.head, decoded.openings) == (HEAD, tuple(batch))

    stopped = escrow.events_of(escrow.stop(builders.consumer(), lease, clauses, Progress()))[0]
    assert isinstance(stopped, events.Stopped)
    now = escrow.chain.block(stopped.block).timestamp
    state, _ = apply(State(lease, clauses), Stop(by_consumer_side=True), now)
    assert (stopped.clock, stopped.by_consumer_side) == (state.progress.clock, True)
    released = escrow.events_of(escrow.release(builders.provider(), lease, clauses, state.progress))[0]
    assert isinstance(released, events.Released)
    assert (released.paid, released.penalty) == (0, 0)
    assert [type(e).__name__ for e in escrow.events(receipt.block, released.block)] == [
        "RoundCommitted",
        "Opened",
        "Refused",
        "Stopped",
        "Released",
    ]


def test_settle_calldata_reads_back_and_a_bad_entry_spares_its_neighbour(escrow: Escrow) -> None:
    good, other = opened(escrow), opened(escrow)
    tampered = replace(settlement(escrow, other, 5, Kind.DONE), amount=6)
    batch = [settlement(escrow, good, 5, Kind.FAILED), tampered]
    receipt = escrow.settle(builders.market(), batch)
    assert escrow.decode_settle(escrow.chain.transaction(receipt.transaction).data) == tuple(batch)
    settled, refused = escrow.events_of(receipt)
    assert isinstance(settled, events.Settled)
    assert isinstance(refused, events.SettlementRefused)
    assert (refused.lease_id, refused.refusal) == (lease_id(other.lease), Refusal.PROVIDER_SIGNATURE)
    escrow.settle(builders.market(), [settlement(escrow, other, 5, Kind.DONE)])


def test_money_in_and_out(escrow: Escrow) -> None:
    signer, account = builders.a_signer(4), builders.a_signer(5)
    escrow.faucet(signer, signer.address, 100)
    with pytest.raises(FundsError):
        escrow.deposit(signer, account.address, 101)
    deposited = escrow.events_of(escrow.deposit(signer, account.address, 60))[0]
    assert isinstance(deposited, events.Deposited)
    assert (deposited.account, deposited.sender, deposited.amount) == (account.address, signer.address, 60)
    escrow.token.approve(signer, escrow.address, 40)
    escrow.deposit(signer, account.address, 40)  # by the allowance that is there
    assert escrow.account(account.address).free == 100

    escrow.link(signer, account.address, signer.address, escrow.sign_link(account, signer.address))
    assert escrow.owner_of(account.address) == signer.address
    escrow.withdraw(signer, account.address, 30)
    assert escrow.token.balance_of(signer.address) == 30
    bumped = escrow.events_of(escrow.bump(account, account.address))[0]
    assert isinstance(bumped, events.Bumped)
    assert escrow.account(account.address).counter == bumped.counter == 1


def test_cancel_closes_a_seat(escrow: Escrow) -> None:
    seat = builders.a_seat(next(_seats))
    cancelled = escrow.events_of(escrow.cancel(builders.consumer(), builders.consumer().address, seat))[0]
    assert isinstance(cancelled, events.Cancelled)
    key = seat_key(seat, builders.consumer().address)
    assert cancelled.seat_key == key
    assert escrow.seat(key) == CLOSED
    with pytest.raises(ChainRevertedError) as refused:
        escrow.cancel(builders.consumer(), builders.consumer().address, seat)
    assert (refused.value.name, refused.value.arguments) == ("LeaseEscrow_SeatTaken", ("0x" + key.hex(),))
    assert refused.value.hint


def test_a_revert_names_the_contracts_error(escrow: Escrow) -> None:
    account, stranger = builders.consumer().address, builders.a_signer(4)
    with pytest.raises(ChainRevertedError) as refused:
        escrow.withdraw(builders.consumer(), account, 10**12)
    free = escrow.account(account).free
    assert (refused.value.name, refused.value.arguments) == ("LeaseEscrow_InsufficientFree", (account, free, 10**12))
    with pytest.raises(ChainRevertedError, match="NotAuthorized"):
        escrow.withdraw(stranger, account, 1)
    state = opened(escrow)
    with pytest.raises(ChainRevertedError, match="UnknownLease"):
        escrow.stop(builders.consumer(), state.lease, state.clauses, Progress(paid=1))
    escrow.release(builders.provider(), state.lease, state.clauses, state.progress)


def test_a_mined_revert_is_explained(escrow: Escrow) -> None:
    """With the gas stated nothing is estimated, so the transaction is mined and fails."""
    data = escrow.encode_settle([])[:3] + b"\xff"
    with pytest.raises(ChainRevertedError):
        escrow.wait(escrow.send(builders.consumer(), data, gas=100_000))
    spent = escrow.send(builders.consumer(), _withdraw_data(builders.consumer().address), gas=100_000)
    with pytest.raises(ChainRevertedError, match="InsufficientFree"):
        escrow.wait(spent)


def _withdraw_data(account: str) -> bytes:
    return (
        keccak256(b"withdraw(address,uint256)")[:4] + bytes(12) + bytes.fromhex(account[2:]) + b"\0" * 20 + b"\xff" * 12
    )


def test_own_nonces_and_taken_ones(escrow: Escrow) -> None:
    signer = builders.a_signer(4)
    nonce = escrow.chain.nonce(signer.address)
    data = escrow.encode_settle([])
    for offset in range(3):
        escrow.wait(escrow.send(signer, data, nonce=nonce + offset))
    with pytest.raises(ChainError) as taken:
        escrow.send(signer, data, nonce=nonce)
    assert taken.value.code == "nonce"


def test_no_coin_for_gas_is_said(escrow: Escrow) -> None:
    with pytest.raises(FundsError, match="gas"):
        escrow.send(Signer(keccak256(b"poor")), escrow.encode_settle([]), gas=50_000)


def test_reads_of_the_chain(chain: Chain, escrow: Escrow) -> None:
    assert chain.chain_id() == 31337
    assert devnet.is_devnet(chain)
    assert chain.genesis() == chain.block(0).hash
    latest = chain.block()
    assert chain.block(latest.hash) == latest
    assert chain.block(latest.number - 1).hash == latest.parent
    assert chain.block("finalized").number <= latest.number
    assert chain.code_hash(escrow.address) != keccak256(b"") == chain.code_hash(builders.a_signer(9).address)
    assert (escrow.token.symbol, escrow.token.decimals) == ("DEVC", 6)
    assert escrow.domain == Domain(31337, escrow.address)
    number = latest.number
    devnet.mine(chain, 2)
    assert chain.block().number == number + 2
    assert escrow.account(builders.consumer().address, block=number) == escrow.account(builders.consumer().address)
    with pytest.raises(NotFoundError):
        chain.block(10**9)
    with pytest.raises(NotFoundError):
        chain.transaction(ZERO32)
    with pytest.raises(TimedOutError):
        chain.wait(ZERO32, timeout_s=0)


def test_an_address_without_an_escrow_is_a_wrong_setting(chain: Chain) -> None:
    nobody = Escrow(chain, builders.a_signer(9).address)
    with pytest.raises(ConfigurationError):
        _ = nobody.token
    with pytest.raises(ChainUnavailableError):
        nobody.account(ZERO_ADDRESS)


def test_an_endpoint_that_is_gone_is_unavailable() -> None:
    with pytest.raises(ChainUnavailableError) as gone:
        Chain(f"http://127.0.0.1:{free_port()}").chain_id()
    assert gone.value.retryable
    with pytest.raises(ChainUnavailableError):
        Chain("not a url").chain_id()


def test_an_endpoint_behind_its_peers_is_one_to_wait_for(chain: Chain, escrow: Escrow) -> None:
    """What a caller knows of a later block from another endpoint, this one does not have yet."""
    ahead, unknown = chain.block().number + 100, b"\x12" * 32
    seat = seat_key(unknown, builders.consumer().address, 0)
    asks = [
        lambda: escrow.seat(seat, block=ahead),
        lambda: escrow.seat(seat, block=unknown),
        lambda: escrow.events(ahead, ahead + 1),
        lambda: chain.nonce(builders.consumer().address, ahead),
        lambda: chain.block(ahead),
        lambda: chain.block(unknown),
        lambda: chain.transaction(unknown),
    ]
    for ask in asks:
        with pytest.raises(ChainUnavailableError) as lacking:
            ask()
        assert lacking.value.retryable
