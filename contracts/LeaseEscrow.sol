// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

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
} from "./interfaces/ILeaseEscrow.sol";
import {AccountWord} from "./libraries/AccountWord.sol";
import {Lanes} from "./libraries/Lanes.sol";
import {LeaseMath} from "./libraries/LeaseMath.sol";
import {Papers} from "./libraries/Papers.sol";
import {ProgressWord} from "./libraries/ProgressWord.sol";

/// @title The escrow of Suanli. Its promises and assumptions stand in ILeaseEscrow.sol.
contract LeaseEscrow is ILeaseEscrow, EIP712, ReentrancyGuardTransient {
    using ProgressWord for Progress;
    using SafeERC20 for IERC20;

    bytes32 private constant UNUSED = bytes32(0);
    bytes32 private constant CLOSED = bytes32(uint256(1));
    Progress private constant STARTED = Progress.wrap(0);

    uint256 private constant MIN_BOND_BPS = 1000;
    uint256 private constant MAX_BOND_BPS = 10_000;
    uint256 private constant MAX_FEE_BPS = 10_000;

    address public immutable token;

    mapping(address account => AccountWord) private accounts;
    mapping(address account => address) public ownerOf;
    mapping(bytes32 seatKey => bytes32) private seats;

    /// @dev What the checks of one fill found out and its effects need; lives in memory only.
    struct Draft {
        bytes32 seatKey;
        AccountWord consumer;
        AccountWord provider;
        uint32 maxSeconds;
        uint256 price;
        uint256 deposit;
        uint256 bond;
    }

    constructor(address token_) EIP712("Suanli", "1") {
        if (token_ == address(0)) revert LeaseEscrow_ZeroAddress();
        token = token_;
    }

    /* MONEY IN AND OUT: the only calls that touch the token */

    function deposit(address account, uint256 amount) external nonReentrant {
        _deposit(account, amount);
    }

    function depositWithPermit(address account, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
    {
        try IERC20Permit(token).permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        _deposit(account, amount);
    }

    function withdraw(address account, uint256 amount) external nonReentrant {
        _requireActsFor(account);
        AccountWord word = accounts[account];
        if (amount > word.free()) revert LeaseEscrow_InsufficientFree(account, word.free(), amount);

        address owner = ownerOf[account];
        address to = owner == address(0) ? account : owner;
        accounts[account] = word.debit(amount);
        emit Withdrawn(account, to, amount);

        if (!IERC20(token).trySafeTransfer(to, amount)) revert LeaseEscrow_TransferFailed(token);
    }

    /// @dev The balance bounds the sum of all accounts, so that a sum that fits in uint96 keeps every credit inside.
    function _deposit(address account, uint256 amount) private {
        if (account == address(0)) revert LeaseEscrow_ZeroAddress();

        uint256 before = IERC20(token).balanceOf(address(this));
        if (!IERC20(token).trySafeTransferFrom(msg.sender, address(this), amount)) {
            revert LeaseEscrow_TransferFailed(token);
        }
        uint256 balance = IERC20(token).balanceOf(address(this));
        uint256 received = balance > before ? balance - before : 0;
        if (received != amount) revert LeaseEscrow_AmountMismatch(amount, received);
        if (balance > type(uint96).max) revert LeaseEscrow_AmountTooLarge(balance);

        accounts[account] = accounts[account].credit(amount);
        emit Deposited(account, msg.sender, amount);
    }

    /* ACCOUNTS AND SEATS */

    /// @dev An owner is never taken back to zero, so a signed link can never be used a second time.
    function link(address account, address owner, Signature calldata signature) external {
        if (account == address(0) || owner == address(0)) revert LeaseEscrow_ZeroAddress();

        address current = ownerOf[account];
        if (current != address(0)) {
            if (msg.sender != current) revert LeaseEscrow_NotAuthorized(msg.sender, account);
        } else if (msg.sender != account) {
            if (_isEmpty(signature)) revert LeaseEscrow_NotAuthorized(msg.sender, account);
            bool signed = _isSignedBy(account, Papers.hashLink(account, owner), signature);
            if (!signed) revert LeaseEscrow_BadSignature(account);
        }

        ownerOf[account] = owner;
        emit Linked(account, owner);
    }

    function bump(address account) external {
        _requireActsFor(account);
        AccountWord word = accounts[account].bumped();
        accounts[account] = word;
        emit Bumped(account, word.counter());
    }

    function cancel(address consumer, bytes32 seat, uint16 index) external {
        _requireActsFor(consumer);
        bytes32 key = Papers.seatKey(seat, consumer, index);
        if (seats[key] != UNUSED) revert LeaseEscrow_SeatTaken(key);
        seats[key] = CLOSED;
        emit Cancelled(key, consumer, seat, index);
    }

    /* OPEN */

    function open(bytes32 head, Opening[] calldata openings) external {
        emit Round(msg.sender, head);
        for (uint256 i = 0; i < openings.length; ++i) {
            _openFills(openings[i]);
        }
    }

    /// @dev The bid is hashed and its signature checked once, at the first fill that gets that far.
    function _openFills(Opening calldata opening) private {
        Bid calldata bid = opening.bid;
        Fill[] calldata fills = opening.fills;
        if (fills.length == 0) emit Refused(bid.seat, 0, Refusal.Unsupported);

        bytes32 bidHash = 0; // zero until proven
        for (uint256 i = 0; i < fills.length; ++i) {
            Fill calldata fill = fills[i];
            (Refusal code, Draft memory draft) = _checkTerms(bid, fill);
            bytes32 offerHash = 0;
            if (code == Refusal.None && bidHash == 0) (code, bidHash) = _checkBid(bid, opening.signature);
            if (code == Refusal.None) (code, offerHash) = _checkOffer(fill);

            if (code == Refusal.None) _lock(bid, fill, bidHash, offerHash, draft);
            else emit Refused(bid.seat, fill.index, code);
        }
    }

    /// @dev All but signatures, in the order of Refusal; cheap before dear. Nothing here reverts: each field has at most
    /// 128 bits (prices are split first), and all sums and products are taken in 256.
    function _checkTerms(Bid calldata bid, Fill calldata fill) private view returns (Refusal, Draft memory draft) {
        Offer calldata offer = fill.offer;
        address consumer = bid.consumer;
        address provider = offer.provider;

        if (!_actsFor(bid.market)) return (Refusal.NotTheMarket, draft);
        if (offer.market != address(0) && offer.market != bid.market) return (Refusal.OtherMarket, draft);
        if (consumer == provider || consumer == address(0) || provider == address(0)) {
            return (Refusal.SameParty, draft);
        }
        if (block.timestamp >= bid.validUntil) return (Refusal.BidExpired, draft);
        if (block.timestamp >= offer.validUntil) return (Refusal.OfferExpired, draft);

        draft.consumer = accounts[consumer];
        draft.provider = accounts[provider];
        if (bid.counter != draft.consumer.counter()) return (Refusal.BidCounter, draft);
        if (offer.counter != draft.provider.counter()) return (Refusal.OfferCounter, draft);
        draft.seatKey = Papers.seatKey(bid.seat, consumer, fill.index);
        if (seats[draft.seatKey] != UNUSED) return (Refusal.SeatTaken, draft);

        if (_isUnsupported(bid, fill)) return (Refusal.Unsupported, draft);
        if (bid.arbiter != address(0) || offer.arbiter != address(0)) return (Refusal.Arbiter, draft);

        uint32 maxSeconds = uint32(_min(bid.maxSeconds, offer.maxSeconds));
        if (maxSeconds == 0 || maxSeconds < offer.minSeconds) return (Refusal.Seconds, draft);
        uint128 need = bid.need;
        uint96 rate = fill.rate;
        if (rate < LeaseMath.askUp(need, offer.prices)) return (Refusal.RateBelowAsk, draft);
        if (rate > bid.maxRate) return (Refusal.RateAboveBid, draft);
        uint256 price = LeaseMath.priceUp(rate, maxSeconds);
        uint16 feeBps = bid.feeBps;
        if (price + LeaseMath.feeDown(price, feeBps) > bid.budget) return (Refusal.Budget, draft);
        if (bid.window > offer.maxWindow) return (Refusal.Window, draft);
        uint16 bondBps = offer.bondBps;
        if (bondBps < MIN_BOND_BPS || bondBps > MAX_BOND_BPS) return (Refusal.Bond, draft);
        if (feeBps > MAX_FEE_BPS) return (Refusal.Fee, draft);
        uint64 traits = offer.traits;
        if (bid.needs & ~traits != 0 || bid.refuses & traits != 0) return (Refusal.Traits, draft);

        uint128 capacity = offer.capacity;
        if (!Lanes.isValid(need) || !Lanes.isValid(capacity)) return (Refusal.Lanes, draft);
        if (!Lanes.fits(capacity, draft.provider.used(), need)) return (Refusal.Capacity, draft);

        draft.maxSeconds = maxSeconds;
        draft.price = price;
        draft.deposit = LeaseMath.depositOf(price, feeBps);
        draft.bond = LeaseMath.bondDown(price, bondBps);
        if (draft.deposit > draft.consumer.free()) return (Refusal.ConsumerFunds, draft);
        if (draft.bond > draft.provider.free()) return (Refusal.ProviderFunds, draft);
        return (Refusal.None, draft);
    }

    /// @dev Gangs, retries and several seats are in the papers already, but not in this version.
    function _isUnsupported(Bid calldata bid, Fill calldata fill) private pure returns (bool) {
        return bid.count != 1 || bid.attempts != 1 || bid.gang || fill.index != 0 || fill.previous.length != 0;
    }

    function _checkBid(Bid calldata bid, Signature calldata signature) private view returns (Refusal, bytes32) {
        bytes32 hash = Papers.hashBid(bid);
        if (!_isSignedBy(bid.consumer, hash, signature)) return (Refusal.BidSignature, bytes32(0));
        return (Refusal.None, hash);
    }

    function _checkOffer(Fill calldata fill) private view returns (Refusal, bytes32) {
        bytes32 hash = Papers.hashOffer(fill.offer);
        if (!_isSignedBy(fill.offer.provider, hash, fill.signature)) return (Refusal.OfferSignature, bytes32(0));
        return (Refusal.None, hash);
    }

    function _lock(Bid calldata bid, Fill calldata fill, bytes32 bidHash, bytes32 offerHash, Draft memory draft)
        private
    {
        Offer calldata offer = fill.offer;
        bytes32 clauses = Papers.hashClauses(
            Clauses({
                bid: bidHash,
                offer: offerHash,
                arbiter: bid.arbiter,
                guard: bid.guard,
                rate: fill.rate,
                budget: bid.budget,
                maxSeconds: draft.maxSeconds,
                minSeconds: offer.minSeconds,
                window: bid.window,
                attempt: 1,
                attempts: bid.attempts,
                openedAt: uint40(block.timestamp)
            })
        );
        bytes32 leaseId = Papers.hashLease(
            Lease({
                clauses: clauses,
                seatKey: draft.seatKey,
                consumer: bid.consumer,
                provider: offer.provider,
                market: bid.market,
                need: bid.need,
                price: uint96(draft.price),
                bond: uint96(draft.bond),
                feeBps: bid.feeBps
            })
        );

        seats[draft.seatKey] = Papers.leaseWord(leaseId, STARTED);
        accounts[bid.consumer] = draft.consumer.debit(draft.deposit);
        accounts[offer.provider] = draft.provider.debit(draft.bond).occupy(bid.need);

        uint256 terms = uint256(fill.rate) << 160 | uint256(fill.index) << 8 | 1;
        emit Opened(leaseId, offer.provider, bid.consumer, bidHash, offerHash, terms);
    }

    /* WAYS OUT */

    /// @dev Fees of one market in a row are credited by one write, after the parties' words: the market may be a party.
    function settle(Settlement[] calldata settlements) external {
        address market = address(0);
        uint256 fees = 0;
        for (uint256 i = 0; i < settlements.length; ++i) {
            Settlement calldata settlement = settlements[i];
            bytes32 leaseId = Papers.hashGivenLease(settlement.lease);
            Refusal code = _checkSettlement(leaseId, settlement);
            if (code != Refusal.None) {
                emit SettlementRefused(leaseId, code);
                continue;
            }
            if (settlement.lease.market != market) {
                _credit(market, fees);
                (market, fees) = (settlement.lease.market, 0);
            }
            fees += _pay(leaseId, settlement);
        }
        _credit(market, fees);
    }

    function _checkSettlement(bytes32 leaseId, Settlement calldata settlement) private view returns (Refusal) {
        Lease calldata lease = settlement.lease;
        uint96 paid = settlement.progress.paid();
        uint96 amount = settlement.amount;
        uint8 kind = settlement.kind;

        if (seats[lease.seatKey] != Papers.leaseWord(leaseId, settlement.progress)) return Refusal.UnknownLease;
        if (amount > lease.price || amount < paid || (kind == Papers.INTERIM && amount == paid)) return Refusal.Amount;
        if (kind > Papers.FAILED) return Refusal.Kind;

        bytes32 receipt = Papers.hashReceipt(leaseId, amount, kind, settlement.evidence);
        if (!_isSignedBy(lease.provider, receipt, settlement.provider)) return Refusal.ProviderSignature;
        if (!_isSignedBy(lease.consumer, receipt, settlement.consumer)) return Refusal.ConsumerSignature;
        return Refusal.None;
    }

    /// @dev Pays both parties and returns what is due to the market: the difference of two totals, so that many small
    /// receipts cost what one big one does.
    function _pay(bytes32 leaseId, Settlement calldata settlement) private returns (uint256) {
        Lease calldata lease = settlement.lease;
        uint96 amount = settlement.amount;
        uint96 paid = settlement.progress.paid();
        uint256 fee = LeaseMath.feeDown(amount, lease.feeBps);

        if (settlement.kind == Papers.INTERIM) {
            seats[lease.seatKey] = Papers.leaseWord(leaseId, settlement.progress.withPaid(amount));
            _credit(lease.provider, amount - paid);
        } else {
            _close(lease, amount, amount - paid, 0);
        }
        emit Settled(leaseId, amount, uint96(fee), settlement.kind, settlement.evidence);
        return fee - LeaseMath.feeDown(paid, lease.feeBps);
    }

    function stop(Lease calldata lease, Clauses calldata clauses, Progress progress) external {
        bytes32 leaseId = _requireOpen(lease, clauses, progress);
        if (progress.phase() != ProgressWord.RUNNING) revert LeaseEscrow_WrongPhase(leaseId, progress.phase());
        bool byConsumerSide = _actsFor(lease.consumer) || _actsFor(clauses.guard);
        if (!byConsumerSide) _requireActsFor(lease.provider);

        uint40 clock = uint40(_min(block.timestamp, uint256(clauses.openedAt) + clauses.maxSeconds));
        seats[lease.seatKey] = Papers.leaseWord(leaseId, progress.stopped(clock, byConsumerSide));
        emit Stopped(leaseId, msg.sender, clock, byConsumerSide);
    }

    function release(Lease calldata lease, Clauses calldata clauses, Progress progress) external {
        bytes32 leaseId = _requireOpen(lease, clauses, progress);
        if (progress.phase() > ProgressWord.STOPPED) revert LeaseEscrow_WrongPhase(leaseId, progress.phase());
        _requireActsFor(lease.provider);

        uint256 penalty = progress.stoppedByConsumerSide()
            ? 0
            : LeaseMath.penaltyDown(clauses.rate, clauses.minSeconds, lease.bond);
        _close(lease, progress.paid(), 0, penalty);
        emit Released(leaseId, progress.paid(), uint96(penalty));
    }

    /// @dev The seat dies; the consumer gets what `paid` in all leaves of its deposit, and the penalty; the provider
    /// gets `payout`, the rest of its bond and its capacity. The market's fee is the caller's business.
    function _close(Lease calldata lease, uint96 paid, uint256 payout, uint256 penalty) private {
        uint256 spent = paid + LeaseMath.feeDown(paid, lease.feeBps);
        uint256 refund = LeaseMath.depositOf(lease.price, lease.feeBps) - spent;

        seats[lease.seatKey] = CLOSED;
        _credit(lease.consumer, refund + penalty);
        accounts[lease.provider] =
            accounts[lease.provider].credit(payout + lease.bond - penalty).vacate(lease.need);
    }

    /// @dev Always from storage to storage: roles may share an account, and a stale copy would mint.
    function _credit(address account, uint256 amount) private {
        if (amount != 0) accounts[account] = accounts[account].credit(amount);
    }

    /* VIEWS */

    function accountOf(address account) external view returns (uint96 free, uint32 counter, uint128 used) {
        AccountWord word = accounts[account];
        return (word.free(), word.counter(), word.used());
    }

    function seatOf(bytes32 seatKey) external view returns (bytes32) {
        return seats[seatKey];
    }

    function eip712Domain()
        public
        view
        override(ILeaseEscrow, EIP712)
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        return EIP712.eip712Domain();
    }

    /* WHO MAY, AND WHAT WAS SIGNED */

    function _requireOpen(Lease calldata lease, Clauses calldata clauses, Progress progress)
        private
        view
        returns (bytes32 leaseId)
    {
        leaseId = Papers.hashGivenLease(lease);
        bytes32 stored = seats[lease.seatKey];
        bool proven = stored == Papers.leaseWord(leaseId, progress) && lease.clauses == Papers.hashClauses(clauses);
        if (!proven) revert LeaseEscrow_UnknownLease(leaseId, stored);
    }

    function _requireActsFor(address account) private view {
        if (!_actsFor(account)) revert LeaseEscrow_NotAuthorized(msg.sender, account);
    }

    /// @dev The zero sender (a simulated call that names none) is nobody, or it would be every unlinked account's owner.
    function _actsFor(address account) private view returns (bool) {
        return msg.sender != address(0) && (msg.sender == account || msg.sender == ownerOf[account]);
    }

    /// @dev EIP-2098, low s only, never the zero signer. No signature: good enough where the signer itself calls.
    function _isSignedBy(address signer, bytes32 structHash, Signature calldata signature) private view returns (bool) {
        if (_isEmpty(signature)) return _actsFor(signer);
        (address recovered, ECDSA.RecoverError failure,) =
            ECDSA.tryRecover(_hashTypedDataV4(structHash), signature.r, signature.vs);
        return failure == ECDSA.RecoverError.NoError && recovered == signer;
    }

    function _isEmpty(Signature calldata signature) private pure returns (bool) {
        return signature.r | signature.vs == 0;
    }

    function _min(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }
}
