"""The escrow on a chain: what it holds, what is sent to it, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from suanli_protocol import openings as calls
from suanli_protocol.capacity import Lanes
from suanli_protocol.chain import WAIT_TIMEOUT_S, BlockId, Chain
from suanli_protocol.chain_records import Block, Log, Transaction, TxReceipt
from suanli_protocol.contract_abi import contract_abi
from suanli_protocol.erc20 import Token, calldata, view, words
from suanli_protocol.errors import ConfigurationError, FundsError
from suanli_protocol.events import EscrowEvent, Opened, decode_event
from suanli_protocol.lease import CLOSED_WORD, Account, Clauses, Lease, Progress
from suanli_protocol.messages import Link, Verdict
from suanli_protocol.openings import Fill, Opening, Openings, Settlement
from suanli_protocol.signing import Domain, Signer, address_bytes, checksum_address

__all__ = [
    "Account",
    "Block",
    "Chain",
    "Deployment",
    "Escrow",
    "EscrowEvent",
    "Fill",
    "Log",
    "Opening",
    "Openings",
    "Settlement",
    "Token",
    "Transaction",
    "TxReceipt",
    "deploy",
]

PERMIT_SECONDS = 3600
CLOSED = CLOSED_WORD  # the word of a seat that is closed or cancelled
UNUSED = bytes(32)


class Escrow:
    """One deployed escrow. Amounts are base units; calls that send wait until they are mined unless they say not."""

    def __init__(self, chain: Chain, address: str) -> None:
        self.chain = chain
        self.address = address

    @cached_property
    def domain(self) -> Domain:
        """Where signatures for this escrow are good."""
        return Domain(self.chain.chain_id(), self.address)

    @cached_property
    def token(self) -> Token:
        """The token that it settles in; ConfigurationError if there is no escrow at the address."""
        if not self.chain.has_code(self.address):
            raise ConfigurationError(
                f"there is no escrow at {self.address} on {self.chain.url}",
                hint="check SUANLI_ESCROW and SUANLI_CHAIN; a devnet that was reset has lost it",
            )
        return Token(self.chain, _address(view(self.chain, self.address, "token()")[0]))

    # What it holds

    def account(self, account: str, *, block: BlockId = "latest") -> Account:
        """Free money, counter, capacity in use."""
        return _account(view(self.chain, self.address, "accountOf(address)", account, block=block))

    def accounts(self, accounts: Sequence[str], *, block: BlockId = "latest") -> dict[str, Account]:
        """The same of several, with few requests."""
        calls = [calldata("accountOf(address)", account) for account in accounts]
        answers = self.chain.call_all(self.address, calls, block=block)
        return {
            account: _account(words(self.chain, self.address, "accountOf(address)", answer))
            for account, answer in zip(accounts, answers, strict=True)
        }

    def owner_of(self, account: str, *, block: BlockId = "latest") -> str:
        """The owner of an account; the zero address if it has none."""
        return _address(view(self.chain, self.address, "ownerOf(address)", account, block=block)[0])

    def seat(self, seat_key: bytes, *, block: BlockId = "latest") -> bytes:
        """The word at a seat: UNUSED, CLOSED, lease.seat_word of the open lease, or lease.reopenable_word."""
        return view(self.chain, self.address, "seatOf(bytes32)", seat_key, block=block)[0].to_bytes(32, "big")

    def events(self, from_block: int, to_block: int) -> list[EscrowEvent]:
        """All events of blocks from..to, in order."""
        return _decoded(self.chain.logs(self.address, from_block, to_block))

    def events_of_lease(self, lease: bytes, from_block: int, to_block: int) -> list[EscrowEvent]:
        """The events of one lease, by its id, in blocks from..to, in order."""
        return _decoded(self.chain.logs(self.address, from_block, to_block, topics=(None, lease)))

    def openings_of(self, provider: str, from_block: int, to_block: int) -> list[Opened]:
        """The leases that were opened on a provider's offers in blocks from..to, in order."""
        topics = (contract_abi("LeaseEscrow").topics["Opened"], None, address_bytes(provider).rjust(32, b"\0"))
        events = _decoded(self.chain.logs(self.address, from_block, to_block, topics=topics))
        return [event for event in events if isinstance(event, Opened) and event.provider == provider]

    def events_of(self, receipt: TxReceipt) -> list[EscrowEvent]:
        """The escrow's events of one transaction: what became of each entry of a batch."""
        return _decoded([log for log in receipt.logs if log.address == self.address])

    # Calldata

    def encode_open(self, head: bytes, openings: Sequence[Opening]) -> bytes:
        """Calldata of `open`."""
        return calls.encode_open(head, openings)

    def encode_settle(self, settlements: Sequence[Settlement]) -> bytes:
        """Calldata of `settle`."""
        return calls.encode_settle(settlements)

    def decode_open(self, data: bytes) -> Openings:
        """The openings in hostile calldata; ProtocolError if it is no call of `open`."""
        return calls.decode_open(data)

    def decode_settle(self, data: bytes) -> tuple[Settlement, ...]:
        """The settlements in hostile calldata; ProtocolError if it is no call of `settle`."""
        return calls.decode_settle(data)

    def encode_way_out(self, function: str, lease: Lease, clauses: Clauses, progress: Progress, *rest: object) -> bytes:
        """Calldata of a way out, such as "finalize": the lease's terms and progress, then its own arguments."""
        return _with_terms(function, lease, clauses, progress, *rest)

    # Transactions

    def send(
        self,
        signer: Signer,
        data: bytes,
        *,
        to: str | None = None,
        gas: int | None = None,
        nonce: int | None = None,
        fees: tuple[int, int] | None = None,
    ) -> bytes:
        """Sends calldata to the escrow (or `to`) and returns the hash at once; see Chain.send."""
        return self.chain.send(signer, data, to=to or self.address, gas=gas, nonce=nonce, fees=fees)

    def wait(self, transaction: bytes, timeout_s: float = WAIT_TIMEOUT_S) -> TxReceipt:
        """The receipt once it is mined; see Chain.wait."""
        return self.chain.wait(transaction, timeout_s)

    def deposit(self, signer: Signer, account: str, amount: int) -> TxReceipt:
        """Credits the signer's tokens to an account, by permit where the token knows it; FundsError if too few."""
        held = self.token.balance_of(signer.address)
        if held < amount:
            raise FundsError(
                f"{signer.address} holds {held} base units of the token, {amount} were to be deposited",
                hint="get tokens first; on a devnet: suanli wallet fund AMOUNT",
            )
        data = calldata("deposit(address,uint256)", account, amount)
        if self.token.allowance(signer.address, self.address) < amount:
            deadline = self.chain.block("latest").timestamp + PERMIT_SECONDS
            permit = self.token.permit(signer, self.address, amount, deadline)
            if permit is None:
                self.token.approve(signer, self.address, amount)
            else:
                data = _deposit_with_permit(account, amount, deadline, permit)
        return self._transact(signer, data)

    def withdraw(self, signer: Signer, account: str, amount: int) -> TxReceipt:
        """Pays free money out to the account's owner, or to itself if it has none."""
        return self._transact(signer, calldata("withdraw(address,uint256)", account, amount))

    def link(self, signer: Signer, account: str, owner: str, signature: bytes = calls.NO_SIGNATURE) -> TxReceipt:
        """Gives an account an owner; the signature is the account's, unless the account or its owner sends."""
        halves = (signature[:32], signature[32:])
        return self._transact(signer, calldata("link(address,address,(bytes32,bytes32))", account, owner, *halves))

    def sign_link(self, account: Signer, owner: str) -> bytes:
        """The account's signature for `link` by somebody else."""
        return account.sign(self.domain, Link(account.address, owner))

    def bump(self, signer: Signer, account: str) -> TxReceipt:
        """Kills every older paper of the account."""
        return self._transact(signer, calldata("bump(address)", account))

    def cancel(self, signer: Signer, consumer: str, seat: bytes, index: int = 0, previous: bytes = b"") -> TxReceipt:
        """Closes a seat that was never used, or one that is reopenable by its last attempt's proof (see Previous)."""
        data = contract_abi("LeaseEscrow").encode("cancel", address_bytes(consumer), seat, index, previous)
        return self._transact(signer, data)

    def open(self, signer: Signer, head: bytes, openings: Sequence[Opening]) -> TxReceipt:
        """Opens leases; `events_of` the receipt says which."""
        return self._transact(signer, calls.encode_open(head, openings))

    def settle(self, signer: Signer, settlements: Sequence[Settlement]) -> TxReceipt:
        """Pays receipts; `events_of` the receipt says which."""
        return self._transact(signer, calls.encode_settle(settlements))

    def stop(self, signer: Signer, lease: Lease, clauses: Clauses, progress: Progress) -> TxReceipt:
        """Ends the billable time of a running lease."""
        return self._transact(signer, _with_terms("stop", lease, clauses, progress))

    def release(self, signer: Signer, lease: Lease, clauses: Clauses, progress: Progress) -> TxReceipt:
        """Gives a lease back (the provider)."""
        return self._transact(signer, _with_terms("release", lease, clauses, progress))

    def claim(
        self,
        signer: Signer,
        lease: Lease,
        clauses: Clauses,
        progress: Progress,
        amount: int,
        kind: int,
        evidence: bytes,
    ) -> TxReceipt:
        """Asks for the provider's due without the consumer; `amount` is a total."""
        return self._transact(signer, _with_terms("claim", lease, clauses, progress, amount, kind, evidence))

    def dispute(self, signer: Signer, lease: Lease, clauses: Clauses, progress: Progress) -> TxReceipt:
        """Calls the arbiter (consumer or guard)."""
        return self._transact(signer, _with_terms("dispute", lease, clauses, progress))

    def resolve(
        self,
        signer: Signer,
        lease: Lease,
        clauses: Clauses,
        progress: Progress,
        award: int,
        slash: int,
        evidence: bytes,
        arbiter: bytes = calls.NO_SIGNATURE,
    ) -> TxReceipt:
        """Ends a dispute; `arbiter` is its signature over the Verdict, unless it (or its owner) sends."""
        halves = (arbiter[:32], arbiter[32:])
        return self._transact(signer, _with_terms("resolve", lease, clauses, progress, award, slash, evidence, halves))

    def sign_verdict(self, arbiter: Signer, verdict: Verdict) -> bytes:
        """The arbiter's signature for `resolve` by somebody else."""
        return arbiter.sign(self.domain, verdict)

    def finalize(self, signer: Signer, lease: Lease, clauses: Clauses, progress: Progress) -> TxReceipt:
        """Ends a claim that nobody disputed, or a dispute that nobody judged (anyone)."""
        return self._transact(signer, _with_terms("finalize", lease, clauses, progress))

    def reclaim(self, signer: Signer, lease: Lease, clauses: Clauses, progress: Progress) -> TxReceipt:
        """Ends a lease whose provider has vanished (anyone)."""
        return self._transact(signer, _with_terms("reclaim", lease, clauses, progress))

    def faucet(self, signer: Signer, to: str, amount: int) -> TxReceipt:
        """Mints devnet money to an address."""
        return self.token.faucet(signer, to, amount)

    def _transact(self, signer: Signer, data: bytes) -> TxReceipt:
        return self.wait(self.send(signer, data))


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where a token and an escrow were deployed, and the block of the escrow."""

    token: str
    escrow: str
    block: int


def deploy(signer: Signer, chain: Chain, *, token: str | None = None) -> Deployment:
    """Deploys an escrow for a token; without one, for a DevCredit that is deployed first."""
    token = token or _create(signer, chain, contract_abi("DevCredit").constructor(())).contract
    code = contract_abi("LeaseEscrow").constructor(("address",), token)
    receipt = _create(signer, chain, code)
    return Deployment(token, receipt.contract, receipt.block)


def _create(signer: Signer, chain: Chain, code: bytes) -> TxReceipt:
    return chain.wait(chain.send(signer, code, to=None))


def _with_terms(function: str, lease: Lease, clauses: Clauses, progress: Progress, *rest: object) -> bytes:
    return contract_abi("LeaseEscrow").encode(function, *calls.term_values(lease, clauses, progress), *rest)


def _deposit_with_permit(account: str, amount: int, deadline: int, permit: bytes) -> bytes:
    vs = int.from_bytes(permit[32:], "big")
    v, s = 27 + (vs >> 255), vs & (1 << 255) - 1
    values = (account, amount, deadline, v, permit[:32], s)
    return calldata("depositWithPermit(address,uint256,uint256,uint8,bytes32,bytes32)", *values)


def _decoded(logs: Sequence[Log]) -> list[EscrowEvent]:
    return [event for event in map(decode_event, logs) if event is not None]


def _account(word: list[int]) -> Account:
    free, counter, used = word
    return Account(free, counter, Lanes.unpack(used))


def _address(value: int) -> str:
    return checksum_address((value & (1 << 160) - 1).to_bytes(20, "big"))
