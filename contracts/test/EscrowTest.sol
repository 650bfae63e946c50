// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {DevCredit} from "../DevCredit.sol";
import {LeaseEscrow} from "../LeaseEscrow.sol";
import {
    Bid,
    Clauses,
    Fill,
    ILeaseEscrow,
    Lease,
    Offer,
    Opening,
    Progress,
    Refusal,
    Settlement,
    Signature
} from "../interfaces/ILeaseEscrow.sol";
import {Papers} from "../libraries/Papers.sol";
import {VM, Vm} from "./Vm.sol";

/// @title A market with a consumer and a provider, and the words to speak about them.
/// @notice Hashes are taken by abi.encode from memory, so that they check the escrow's own way of hashing.
abstract contract EscrowTest {
    error NotEqual(uint256 got, uint256 wanted, string what);
    error NotTrue(string what);

    /// @dev A pair of papers, and the lease that they open.
    struct Deal {
        Bid bid;
        Offer offer;
        uint96 rate;
        Signature bidSignature;
        Signature offerSignature;
        Clauses clauses;
        Lease lease;
        bytes32 id;
        Progress progress;
    }

    bytes32 internal constant EVIDENCE = keccak256("evidence");
    uint256 internal constant FUNDS = 1e15;
    uint256 internal constant START = 1_800_000_000;
    uint96 internal constant RATE = 101_000; // the ask of aBid's need at anOffer's prices

    mapping(address account => uint256) internal keys;
    address internal consumer = aPerson(0xC0);
    address internal provider = aPerson(0xB0);
    address internal market = aPerson(0xA0);
    address internal stranger = aPerson(0x50);

    DevCredit internal token;
    LeaseEscrow internal escrow;
    uint256 private seats;

    function setUp() public virtual {
        VM.warp(START);
        VM.chainId(31337);
        token = new DevCredit();
        escrow = new LeaseEscrow(address(token));
        fund(consumer, FUNDS);
        fund(provider, FUNDS);
    }

    /* ASSERTIONS */

    function assertEq(uint256 got, uint256 wanted, string memory what) internal pure {
        if (got != wanted) revert NotEqual(got, wanted, what);
    }

    function assertTrue(bool truth, string memory what) internal pure {
        if (!truth) revert NotTrue(what);
    }

    function assertRefused(Deal memory deal, Refusal wanted, string memory what) internal {
        assertEq(uint256(openOne(deal)), uint256(wanted), what);
    }

    /* NUMBERS */

    function bound(uint256 x, uint256 low, uint256 high) internal pure returns (uint256) {
        uint256 span = high - low + 1;
        return span == 0 ? x : low + x % span;
    }

    function lanes(uint256 cpu, uint256 memory_, uint256 accelerator, uint256 disk) internal pure returns (uint128) {
        return uint128(cpu << 96 | memory_ << 64 | accelerator << 32 | disk);
    }

    function prices(uint256 cpu, uint256 memory_, uint256 accelerator, uint256 disk) internal pure returns (uint256) {
        return cpu << 192 | memory_ << 128 | accelerator << 64 | disk;
    }

    /* ACCOUNTS */

    function aPerson(uint256 key) internal returns (address person) {
        person = VM.addr(key);
        keys[person] = key;
    }

    function fund(address account, uint256 amount) internal {
        token.faucet(address(this), amount);
        token.approve(address(escrow), amount);
        escrow.deposit(account, amount);
    }

    function free(address account) internal view returns (uint256 amount) {
        (amount,,) = escrow.accountOf(account);
    }

    function used(address account) internal view returns (uint256 amount) {
        (,, amount) = escrow.accountOf(account);
    }

    /* PAPERS */

    function anOffer() internal view returns (Offer memory) {
        return Offer({
            provider: provider,
            market: address(0),
            arbiter: address(0),
            capacity: lanes(8000, 32768, 0, 102400),
            prices: prices(40_000, 5_000, 0, 100),
            attributes: keccak256("attributes"),
            traits: 5,
            validUntil: uint40(START + 1 days),
            minSeconds: 60,
            maxSeconds: 1 days,
            bondBps: 1000,
            maxWindow: 2 hours,
            counter: 0
        });
    }

    function aBid() internal returns (Bid memory) {
        return Bid({
            consumer: consumer,
            market: market,
            guard: address(0),
            arbiter: address(0),
            seat: keccak256(abi.encode("seat", ++seats)),
            count: 1,
            attempts: 1,
            gang: false,
            need: lanes(2000, 4096, 0, 10240),
            needs: 1,
            refuses: 2,
            maxRate: 1_000_000,
            budget: 10_000_000,
            maxSeconds: 1 hours,
            window: 1 hours,
            feeBps: 50,
            documents: keccak256("documents"),
            validUntil: uint40(START + 1 days),
            counter: 0
        });
    }

    function aDeal() internal returns (Deal memory deal) {
        deal.bid = aBid();
        deal.offer = anOffer();
        deal.rate = RATE;
    }

    function signed(Deal memory deal) internal view returns (Deal memory) {
        deal.bidSignature = sign(deal.bid.consumer, bidHash(deal));
        deal.offerSignature = sign(deal.offer.provider, offerHash(deal));
        return deal;
    }

    function bidHash(Deal memory deal) internal pure returns (bytes32) {
        return keccak256(abi.encode(Papers.BID_TYPEHASH, deal.bid));
    }

    function offerHash(Deal memory deal) internal pure returns (bytes32) {
        return keccak256(abi.encode(Papers.OFFER_TYPEHASH, deal.offer));
    }

    function seatKeyOf(Bid memory bid) internal pure returns (bytes32) {
        return keccak256(abi.encode(bid.seat, uint256(uint160(bid.consumer)) << 96));
    }

    function digest(bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Suanli"),
                keccak256("1"),
                block.chainid,
                address(escrow)
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }

    function sign(address signer, bytes32 structHash) internal view returns (Signature memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(keys[signer], digest(structHash));
        return Signature(r, bytes32(uint256(v - 27) << 255 | uint256(s)));
    }

    /* OPEN */

    function openingOf(Deal memory deal) internal pure returns (Opening memory opening) {
        opening.bid = deal.bid;
        opening.signature = deal.bidSignature;
        opening.fills = new Fill[](1);
        opening.fills[0] = Fill(deal.offer, deal.offerSignature, deal.rate, 0, "");
    }

    /// @dev Signs nothing, calls as `sender`, returns the code of the one entry (None: opened).
    function openAs(address sender, Opening memory opening) internal returns (Refusal) {
        Opening[] memory openings = new Opening[](1);
        openings[0] = opening;
        VM.recordLogs();
        VM.prank(sender);
        escrow.open(bytes32(0), openings);
        Vm.Log[] memory logs = VM.getRecordedLogs();
        assertEq(logs.length, 2, "Round and one outcome");
        if (logs[1].topics[0] == ILeaseEscrow.Opened.selector) return Refusal.None;
        assertTrue(logs[1].topics[0] == ILeaseEscrow.Refused.selector, "Opened or Refused");
        (, Refusal code) = abi.decode(logs[1].data, (uint16, Refusal));
        return code;
    }

    /// @dev Signs both papers, opens as the market, fills in the lease.
    function openOne(Deal memory deal) internal returns (Refusal) {
        Refusal code = openAs(deal.bid.market, openingOf(signed(deal)));
        if (code == Refusal.None) {
            describe(deal);
            assertTrue(
                escrow.seatOf(deal.lease.seatKey) == keccak256(abi.encode(deal.id, deal.progress)), "the seat holds the lease"
            );
        }
        return code;
    }

    function anOpenLease() internal returns (Deal memory deal) {
        deal = aDeal();
        assertRefused(deal, Refusal.None, "the model deal opens");
    }

    /// @dev The terms as the specification has them.
    function describe(Deal memory deal) internal view {
        Bid memory bid = deal.bid;
        Offer memory offer = deal.offer;
        uint256 maxSeconds = bid.maxSeconds < offer.maxSeconds ? bid.maxSeconds : offer.maxSeconds;
        uint256 price = (uint256(deal.rate) * maxSeconds + 3599) / 3600;
        deal.clauses = Clauses(
            bidHash(deal),
            offerHash(deal),
            bid.arbiter,
            bid.guard,
            deal.rate,
            0,
            uint32(maxSeconds),
            offer.minSeconds,
            bid.window,
            1,
            bid.attempts,
            uint40(block.timestamp)
        );
        deal.lease = Lease(
            keccak256(abi.encode(deal.clauses)),
            seatKeyOf(bid),
            bid.consumer,
            offer.provider,
            bid.market,
            bid.need,
            uint96(price),
            uint96(price * offer.bondBps / 10_000),
            bid.feeBps
        );
        deal.id = keccak256(abi.encode(deal.lease));
        deal.progress = Progress.wrap(0);
    }

    function fee(Deal memory deal, uint256 amount) internal pure returns (uint256) {
        return amount * deal.bid.feeBps / 10_000;
    }

    function depositOf(Deal memory deal) internal pure returns (uint256) {
        return deal.lease.price + fee(deal, deal.lease.price) + deal.lease.price / 10;
    }

    /// @dev What the escrow still holds for an open lease.
    function locked(Deal memory deal) internal pure returns (uint256) {
        uint256 paid = Progress.unwrap(deal.progress) >> 160;
        return depositOf(deal) + deal.lease.bond - paid - fee(deal, paid);
    }

    /* WAYS OUT */

    function settlementOf(Deal memory deal, uint96 amount, uint8 kind) internal view returns (Settlement memory) {
        bytes32 receipt = keccak256(abi.encode(Papers.RECEIPT_TYPEHASH, deal.id, amount, kind, EVIDENCE));
        Signature memory byProvider = sign(deal.lease.provider, receipt);
        Signature memory byConsumer = sign(deal.lease.consumer, receipt);
        return Settlement(deal.lease, deal.progress, amount, kind, EVIDENCE, byProvider, byConsumer);
    }

    function settleAs(address sender, Settlement memory settlement) internal returns (Refusal) {
        Settlement[] memory settlements = new Settlement[](1);
        settlements[0] = settlement;
        VM.recordLogs();
        VM.prank(sender);
        escrow.settle(settlements);
        Vm.Log[] memory logs = VM.getRecordedLogs();
        assertEq(logs.length, 1, "one outcome");
        if (logs[0].topics[0] == ILeaseEscrow.Settled.selector) return Refusal.None;
        return abi.decode(logs[0].data, (Refusal));
    }

    /// @dev Settles by both signatures; an interim receipt moves the deal's progress on.
    function settleOne(Deal memory deal, uint96 amount, uint8 kind) internal returns (Refusal code) {
        code = settleAs(stranger, settlementOf(deal, amount, kind));
        if (code == Refusal.None && kind == 0) {
            uint256 rest = Progress.unwrap(deal.progress) & (1 << 160) - 1;
            deal.progress = Progress.wrap(uint256(amount) << 160 | rest);
        }
    }

    function stopAs(address sender, Deal memory deal) internal {
        VM.prank(sender);
        escrow.stop(deal.lease, deal.clauses, deal.progress);
    }

    /// @dev What the progress must be after a stop now.
    function markStopped(Deal memory deal, bool byConsumerSide) internal view {
        uint256 end = uint256(deal.clauses.openedAt) + deal.clauses.maxSeconds;
        uint256 clock = block.timestamp < end ? block.timestamp : end;
        uint256 rest = Progress.unwrap(deal.progress) >> 160 << 160;
        deal.progress = Progress.wrap(rest | clock << 24 | 1 << 16 | (byConsumerSide ? 1 << 8 : 0));
    }

    function claimAs(address sender, Deal memory deal, uint96 amount, uint8 kind) internal {
        VM.prank(sender);
        escrow.claim(deal.lease, deal.clauses, deal.progress, amount, kind, EVIDENCE);
    }

    /// @dev What the progress must be after a claim now.
    function markClaimed(Deal memory deal, uint96 amount, uint8 kind) internal view {
        uint256 word = Progress.unwrap(deal.progress);
        uint256 kept = word >> 160 << 160 | word & 1 << 8;
        deal.progress = Progress.wrap(kept | uint256(amount) << 64 | block.timestamp << 24 | 2 << 16 | uint256(kind) << 9);
    }

    function disputeAs(address sender, Deal memory deal) internal {
        VM.prank(sender);
        escrow.dispute(deal.lease, deal.clauses, deal.progress);
    }

    /// @dev What the progress must be after a dispute now.
    function markDisputed(Deal memory deal) internal view {
        uint256 word = Progress.unwrap(deal.progress);
        uint256 kept = word >> 64 << 64 | word & 0xff00;
        deal.progress = Progress.wrap(kept | block.timestamp << 24 | 3 << 16);
    }

    function resolveAs(address sender, Deal memory deal, uint96 award, uint96 slash, Signature memory arbiter) internal {
        VM.prank(sender);
        escrow.resolve(deal.lease, deal.clauses, deal.progress, award, slash, EVIDENCE, arbiter);
    }

    function finalizeAs(address sender, Deal memory deal) internal {
        VM.prank(sender);
        escrow.finalize(deal.lease, deal.clauses, deal.progress);
    }

    function reclaimAs(address sender, Deal memory deal) internal {
        VM.prank(sender);
        escrow.reclaim(deal.lease, deal.clauses, deal.progress);
    }

    /// @dev What the seat of a lease holds that ended with `paid` so that another attempt may follow.
    function reopenable(Deal memory deal, uint256 paid) internal pure returns (bytes32) {
        return keccak256(abi.encode(deal.lease.clauses, uint8(4), uint96(paid + fee(deal, paid))));
    }

    function releaseAs(address sender, Deal memory deal) internal {
        VM.prank(sender);
        escrow.release(deal.lease, deal.clauses, deal.progress);
    }
}
