"""Everything is wired here, once: from settings to the services of a market that is ready to start."""

from __future__ import annotations

import logging
import time
from importlib.metadata import version

from sqlmodel import select

from suanli_market.admission.checks import MarketTerms
from suanli_market.admission.desk import Admission
from suanli_market.admission.log import AdmissionLog, tip_of
from suanli_market.admission.papers import standing_bid, standing_offer
from suanli_market.api.limits import RequestLimits, buckets
from suanli_market.chain.accounts import Accounts
from suanli_market.chain.indexer import Indexer
from suanli_market.chain.pinning import check_escrow, check_gas_money, pin
from suanli_market.chain.projection import Projection
from suanli_market.chain.writer import ChainWriter
from suanli_market.clearing.book import Change, Entered, Proposed
from suanli_market.clearing.conditions import StandingBid, StandingOffer, terms_of
from suanli_market.clearing.keeper import Keeper
from suanli_market.clearing.matching import CheapestFirst, Proposal
from suanli_market.clearing.rounds import Rounds
from suanli_market.figures import COUNTERS, Figures
from suanli_market.health import Health
from suanli_market.hub import Hub
from suanli_market.leasing.receipts import Receipts
from suanli_market.leasing.relay import BLOB_BYTES_MAX, Relay
from suanli_market.leasing.retention import Retention
from suanli_market.metrics import Counters
from suanli_market.services import Services
from suanli_market.settings import Settings
from suanli_market.store import FILE, Store
from suanli_market.tables import BidRow, MatchRow, OfferRow
from suanli_protocol import wire
from suanli_protocol.bodies import CHUNK_BYTES_MAX
from suanli_protocol.contract_abi import contract_abi
from suanli_protocol.errors import ChainUnavailableError, ConfigurationError
from suanli_protocol.escrow import Chain, Escrow
from suanli_protocol.gate import Gate
from suanli_protocol.keystore import load, read_password
from suanli_protocol.signing import Signer

CHAIN_AWAY_S, PAUSE_S = 300.0, 1.0
log = logging.getLogger(__name__)


def build_patiently(settings: Settings) -> Services:
    """The same as `build`; a market that has served before waits CHAIN_AWAY_S for a chain that cannot be reached."""
    deadline = time.monotonic() + CHAIN_AWAY_S
    while True:
        try:
            return build(settings)
        except ChainUnavailableError as error:
            if not (settings.data / FILE).is_file() or time.monotonic() > deadline:
                raise
            log.warning("%s; the market waits for it", error.detail)
        time.sleep(PAUSE_S)


def build(settings: Settings) -> Services:
    """A market, checked against the chain and caught up with it; SuanliError says what keeps it from starting."""
    contract_abi("LeaseEscrow")  # imported now (it costs a second), not at the first event
    signer = load(settings.keystore, read_password(settings.password_file))
    chain = Chain(settings.chain_url)
    escrow = Escrow(chain, settings.escrow)
    check_escrow(chain, escrow)
    check_gas_money(chain, signer.address)
    store = _open_store(settings)
    try:
        store.migrate()
        pin(store, chain, settings, signer.address)
        info = _info(settings, chain, escrow, signer)
        return _wire(settings, store, chain, escrow, signer, info)
    except BaseException:
        store.close()
        raise


def _wire(
    settings: Settings, store: Store, chain: Chain, escrow: Escrow, signer: Signer, info: wire.MarketInfo
) -> Services:
    hub = Hub()
    store.on_commit = hub.wake
    keeper = Keeper(Accounts(escrow), signer.address, min_fee=int(info.min_fee))
    load_book(store, keeper)
    paper_money = max(1, 10**info.decimals // 100)
    terms = MarketTerms(
        signer.address, escrow.domain, info.fee_bps, int(info.min_fee), info.min_window, paper_money=paper_money
    )
    indexer = Indexer(
        store,
        keeper,
        chain,
        escrow,
        Projection(),
        confirmations=settings.confirmations_on(chain.chain_id()),
        poll_s=settings.poll_ms / 1000,
        on_undone=lambda: start_anew(),
        on_lost=lambda: chain_writer.start_anew(),
    )
    chain_writer = ChainWriter(store, keeper, chain, escrow, signer, on_mined=indexer.wake, catch_up=indexer.catch_up)

    def start_anew() -> None:
        load_book(store, keeper)
        chain_writer.start_anew()

    indexer.begin()
    rounds = Rounds(
        store,
        keeper,
        CheapestFirst(),
        market=signer.address,
        round_ms=settings.round_ms,
        decimals=info.decimals,
        symbol=info.symbol,
        on_match=chain_writer.wake,
    )
    blobs = settings.data / "blobs"
    relay = Relay(
        store,
        blobs,
        signer,
        escrow.domain,
        bytes_max=settings.relay_gib * 2**30,
        reserve_bytes=settings.reserve_mib * 2**20,
    )
    admission = Admission(
        store,
        keeper,
        AdmissionLog(signer, escrow.domain),
        terms,
        catch_up=indexer.catch_up,
        papers=buckets(settings.rate_per_key),
    )
    counters = Counters(COUNTERS)
    limits = RequestLimits(counters, settings.rate_per_key, settings.rate_per_address)
    health = Health(store, keeper, settings.chain_url, settings.confirmations_on(chain.chain_id()))
    return Services(
        info=info,
        store=store,
        hub=hub,
        keeper=keeper,
        gate=Gate(escrow.domain, signer.address),
        admission=admission,
        rounds=rounds,
        chain_writer=chain_writer,
        indexer=indexer,
        receipts=Receipts(store, terms),
        relay=relay,
        retention=Retention(store, blobs, keeper.now, on_swept=relay.recount),
        counters=counters,
        limits=limits,
        health=health,
        figures=Figures(store, counters, health, admission, relay, limits.streams, market=signer.address),
    )


def _open_store(settings: Settings) -> Store:
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the folder {settings.data} cannot be used: {error.strerror}", hint="--data"
        ) from None
    store = Store(settings.data)
    store.hold()
    return store


def _info(settings: Settings, chain: Chain, escrow: Escrow, signer: Signer) -> wire.MarketInfo:
    return wire.MarketInfo(
        name=settings.name,
        version=version("suanli"),
        address=signer.address,
        chain_id=chain.chain_id(),
        genesis=wire.to_hex(chain.genesis()),
        escrow=escrow.address,
        code_hash=wire.to_hex(chain.code_hash(escrow.address)),
        token=escrow.token.address,
        symbol=escrow.token.symbol,
        decimals=escrow.token.decimals,
        fee_bps=settings.fee_bps,
        min_fee=str(settings.min_fee_on(chain.chain_id())),
        min_window=settings.min_window_on(chain.chain_id()),
        confirmations=settings.confirmations_on(chain.chain_id()),
        round_ms=settings.round_ms,
        blob_bytes_max=BLOB_BYTES_MAX,
        chunk_bytes_max=CHUNK_BYTES_MAX,
        time=0,
    )


def load_book(store: Store, keeper: Keeper) -> None:
    """The book as the tables have it: open offers, waiting and matched bids, pending matches, chain cursor.

    Nothing is written meanwhile: what is committed before is in it, what comes after enters it.
    """
    with store.write() as session:
        tip = tip_of(session)
        offers = [standing_offer(row) for row in session.exec(select(OfferRow).where(OfferRow.state == "open"))]
        rows = session.exec(select(BidRow).where((BidRow.state == "queued") | (BidRow.state == "matched")))
        bids = {bid.id: bid for bid in map(standing_bid, rows)}
        found = session.exec(select(MatchRow).where(MatchRow.state == "pending")).all()
        pending = [match for match in found if wire.from_hex(match.bid) in bids]
        matched = {match.offer: standing_offer(session.get_one(OfferRow, match.offer)) for match in pending}
        proposals = [_proposal(bids[wire.from_hex(match.bid)], matched[match.offer]) for match in pending]
        changes: list[Change] = [*map(Entered, offers), *map(Entered, bids.values())]
        keeper.replace([*changes, *map(Proposed, proposals)], last_seq=tip.seq)


def _proposal(bid: StandingBid, offer: StandingOffer) -> Proposal:
    return Proposal(bid, offer, terms_of(bid, offer))
