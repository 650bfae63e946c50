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
        uint256 attempt;
        uint256 spent; // by earlier attempts
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

    function cancel(address consumer, bytes32 seat, uint16 index, bytes calldata previous) external {
        _requireActsFor(consumer);
        bytes32 key = Papers.seatKey(seat, consumer, index);
        if (!_isVacant(seats[key], previous)) revert LeaseEscrow_SeatTaken(key);
        seats[key] = CLOSED;
        emit Cancelled(key, consumer, seat, index);
    }

    /// @dev Never used, and nothing is said of a previous attempt; or what is said is what the seat holds.
    function _isVacant(bytes32 stored, bytes calldata previous) private pure returns (bool) {
        if (previous.length == 0) return stored == UNUSED;
        return stored != UNUSED && stored == Papers.provenWord(previous);
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
        if (!_isVacant(seats[draft.seatKey], fill.previous)) return (Refusal.SeatTaken, draft);
        (draft.attempt, draft.spent) = fill.previous.length == 0 ? (1, 0) : Papers.afterAttempt(fill.previous);
        if (draft.attempt > bid.attempts) return (Refusal.Attempts, draft);

        if (bid.count != 1 || bid.gang || fill.index != 0) return (Refusal.Unsupported, draft); // not in this version
        if (bid.arbiter != offer.arbiter) return (Refusal.Arbiter, draft);

        uint32 maxSeconds = uint32(_min(bid.maxSeconds, offer.maxSeconds));
        if (maxSeconds == 0 || maxSeconds < offer.minSeconds) return (Refusal.Seconds, draft);
        uint128 need = bid.need;
        uint96 rate = fill.rate;
        if (rate < LeaseMath.askUp(need, offer.prices)) return (Refusal.RateBelowAsk, draft);
        if (rate > bid.maxRate) return (Refusal.RateAboveBid, draft);
        uint256 price = LeaseMath.priceUp(rate, maxSeconds);
        uint16 feeBps = bid.feeBps;
        if (draft.spent + price + LeaseMath.feeDown(price, feeBps) > bid.budget) return (Refusal.Budget, draft);
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
                spent: uint96(draft.spent),
                maxSeconds: draft.maxSeconds,
                minSeconds: offer.minSeconds,
                window: bid.window,
                attempt: uint8(draft.attempt),
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

        uint256 terms = uint256(fill.rate) << 160 | uint256(fill.index) << 8 | draft.attempt;
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
        if (kind > Papers.FAILED || (kind == Papers.INTERIM && !settlement.progress.isOccupying())) return Refusal.Kind;

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
        uint8 kind = settlement.kind;
        uint256 fee = LeaseMath.feeDown(amount, lease.feeBps);
        uint256 fees = fee - LeaseMath.feeDown(settlement.progress.paid(), lease.feeBps);

        if (kind == Papers.INTERIM) {
            seats[lease.seatKey] = Papers.leaseWord(leaseId, settlement.progress.withPaid(amount));
            _credit(lease.provider, amount - settlement.progress.paid());
        } else {
            _close(lease, settlement.progress, amount, 0, kind == Papers.FAILED);
        }
        emit Settled(leaseId, amount, uint96(fee), kind, settlement.evidence);
        return fees;
    }

    function stop(Lease calldata lease, Clauses calldata clauses, Progress progress) external {
        bytes32 leaseId = _requireOpen(lease, clauses, progress);
        _requirePhase(leaseId, progress, ProgressWord.RUNNING);
        bool byConsumerSide = _actsFor(lease.consumer) || _actsFor(clauses.guard);
        if (!byConsumerSide) _requireActsFor(lease.provider);

        uint40 clock = uint40(_min(block.timestamp, _endOf(clauses, progress)));
        seats[lease.seatKey] = Papers.leaseWord(leaseId, progress.stopped(clock, byConsumerSide));
        emit Stopped(leaseId, msg.sender, clock, byConsumerSide);
    }

    function release(Lease calldata lease, Clauses calldata clauses, Progress progress) external {
        bytes32 leaseId = _requireOpen(lease, clauses, progress);
        _requireOccupying(leaseId, progress);
        _requireActsFor(lease.provider);
        _requireBefore(leaseId, _endOf(clauses, progress) + clauses.window);

        uint256 penalty = progress.stoppedByConsumerSide()
            ? 0
            : LeaseMath.penaltyDown(clauses.rate, clauses.minSeconds, lease.bond);
        _close(lease, progress, progress.paid(), penalty, true);
        emit Released(leaseId, progress.paid(), uint96(penalty));
    }

    function reclaim(Lease calldata lease, Clauses calldata clauses, Progress progress) external {
        bytes32 leaseId = _requireOpen(lease, clauses, progress);
        _requireOccupying(leaseId, progress);
        _requireFrom(leaseId, _endOf(clauses, progress) + clauses.window);

        uint96 paid = progress.paid();
        _close(lease, progress, paid, lease.bond, true);
        emit Reclaimed(leaseId, paid, uint96(LeaseMath.feeDown(paid, lease.feeBps)), lease.bond);
    }

    /* CLAIM AND DISPUTE */

    function claim(
        Lease calldata lease,
        Clauses calldata clauses,
        Progress progress,
        uint96 amount,
        uint8 kind,
        bytes32 evidence
    ) external {
        bytes32 leaseId = _requireOpen(lease, clauses, progress);
        _requireOccupying(leaseId, progress);
        _requireActsFor(lease.provider);
        uint256 end = _endOf(clauses, progress);
        _requireBefore(leaseId, end + clauses.window);
        if (kind != Papers.DONE && kind != Papers.FAILED) revert LeaseEscrow_WrongKind(leaseId, kind);

        uint256 billed = _max(clauses.minSeconds, _min(block.timestamp, end) - clauses.openedAt);
        uint256 most = _min(lease.price, LeaseMath.earnedDown(clauses.rate, billed));
        _requireWithin(leaseId, amount, progress.paid(), _max(most, progress.paid()));

        uint40 clock = uint40(block.timestamp);
        seats[lease.seatKey] = Papers.leaseWord(leaseId, progress.claimedBy(amount, clock, kind));
        accounts[lease.provider] = accounts[lease.provider].vacate(lease.need);
        emit Claimed(leaseId, amount, kind, evidence, clock);
    }

    function dispute(Lease calldata lease, Clauses calldata clauses, Progress progress) external {
        bytes32 leaseId = _requireOpen(lease, clauses, progress);
        _requirePhase(leaseId, progress, ProgressWord.CLAIMED);
        if (!_actsFor(clauses.guard)) _requireActsFor(lease.consumer);
        _requireBefore(leaseId, uint256(progress.clock()) + clauses.window);
        if (clauses.arbiter == address(0)) revert LeaseEscrow_NoArbiter(leaseId);

        uint40 clock = uint40(block.timestamp);
        seats[lease.seatKey] = Papers.leaseWord(leaseId, progress.disputed(clock));
        emit Disputed(leaseId, msg.sender, clock);
    }

    /// @dev First the lease is closed as if the verdict had been agreed, then both sides pay the arbiter out of what
    /// that gave them: a stake covers the whole cost, and so does a bond after the slash that is taken here.
    function resolve(
        Lease calldata lease,
        Clauses calldata clauses,
        Progress progress,
        uint96 award,
        uint96 slash,
        bytes32 evidence,
        Signature calldata arbiter
    ) external {
        bytes32 leaseId = _requireOpen(lease, clauses, progress);
        _requirePhase(leaseId, progress, ProgressWord.DISPUTED);
        _requireBefore(leaseId, _silenceAfter(clauses, progress));
        bytes32 verdict = Papers.hashVerdict(leaseId, award, slash, evidence);
        if (!_isSignedBy(clauses.arbiter, verdict, arbiter)) revert LeaseEscrow_BadSignature(clauses.arbiter);
        uint96 paid = progress.paid();
        _requireWithin(leaseId, award, paid, progress.claimed());
        _requireWithin(leaseId, slash, 0, lease.bond);

        (uint256 costConsumer, uint256 costProvider) = LeaseMath.disputeCosts(progress.claimed() - paid, award - paid);
        uint256 taken = _min(slash, lease.bond - costProvider);
        _credit(lease.market, _close(lease, progress, award, taken, false));
        accounts[lease.consumer] = accounts[lease.consumer].debit(costConsumer);
        accounts[lease.provider] = accounts[lease.provider].debit(costProvider);
        _credit(clauses.arbiter, costConsumer + costProvider);
        _emitResolved(leaseId, lease.feeBps, award, taken, costConsumer, costProvider, evidence);
    }

    function _emitResolved(
        bytes32 leaseId,
        uint16 feeBps,
        uint96 award,
        uint256 slash,
        uint256 costConsumer,
        uint256 costProvider,
        bytes32 evidence
    ) private {
        uint96 fee = uint96(LeaseMath.feeDown(award, feeBps));
        emit Resolved(leaseId, award, fee, uint96(slash), uint96(costConsumer), uint96(costProvider), evidence);
    }

    function finalize(Lease calldata lease, Clauses calldata clauses, Progress progress) external {
        bytes32 leaseId = _requireOpen(lease, clauses, progress);
        bool disputed = progress.phase() == ProgressWord.DISPUTED;
        if (!disputed) _requirePhase(leaseId, progress, ProgressWord.CLAIMED);
        _requireFrom(
            leaseId, disputed ? _silenceAfter(clauses, progress) : uint256(progress.clock()) + clauses.window
        );

        uint96 claimed = progress.claimed();
        uint96 paid = disputed ? uint96(LeaseMath.silenceDown(progress.paid(), claimed)) : claimed;
        uint8 kind = progress.kind();
        _credit(lease.market, _close(lease, progress, paid, 0, kind == Papers.FAILED));
        emit Finalized(leaseId, paid, uint96(LeaseMath.feeDown(paid, lease.feeBps)), kind, disputed);
    }

    /* THE END OF A LEASE */

    /// @dev Every way out ends here. The seat dies, or may be opened again; the consumer gets what `paid` in all leaves
    /// of its deposit, and the penalty; the provider gets what is new of `paid`, the rest of its bond, and its capacity
    /// unless a claim freed it. Returns what is due to the market, which is the caller's to credit, last.
    function _close(Lease calldata lease, Progress progress, uint96 paid, uint256 penalty, bool reopenable)
        private
        returns (uint256 fees)
    {
        uint256 fee = LeaseMath.feeDown(paid, lease.feeBps);
        uint256 refund = LeaseMath.depositOf(lease.price, lease.feeBps) - paid - fee;

        seats[lease.seatKey] = reopenable ? Papers.reopenableWord(lease.clauses, paid + fee) : CLOSED;
        _credit(lease.consumer, refund + penalty);
        uint256 earned = paid - progress.paid();
        AccountWord provider = accounts[lease.provider].credit(earned + lease.bond - penalty);
        accounts[lease.provider] = progress.isOccupying() ? provider.vacate(lease.need) : provider;
        return fee - LeaseMath.feeDown(progress.paid(), lease.feeBps);
    }

    /// @dev The second from which nothing more is billable.
    function _endOf(Clauses calldata clauses, Progress progress) private pure returns (uint256) {
        bool stopped = progress.phase() == ProgressWord.STOPPED;
        return stopped ? progress.clock() : uint256(clauses.openedAt) + clauses.maxSeconds;
    }

    /// @dev The second from which a disputed lease goes on without its arbiter.
    function _silenceAfter(Clauses calldata clauses, Progress progress) private pure returns (uint256) {
        return uint256(progress.clock()) + 3 * uint256(clauses.window);
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

    function _requirePhase(bytes32 leaseId, Progress progress, uint8 phase) private pure {
        if (progress.phase() != phase) revert LeaseEscrow_WrongPhase(leaseId, progress.phase());
    }

    function _requireOccupying(bytes32 leaseId, Progress progress) private pure {
        if (!progress.isOccupying()) revert LeaseEscrow_WrongPhase(leaseId, progress.phase());
    }

    function _requireBefore(bytes32 leaseId, uint256 until) private view {
        if (block.timestamp >= until) revert LeaseEscrow_TooLate(leaseId, until);
    }

    function _requireFrom(bytes32 leaseId, uint256 from) private view {
        if (block.timestamp < from) revert LeaseEscrow_TooEarly(leaseId, from);
    }

    function _requireWithin(bytes32 leaseId, uint256 amount, uint256 least, uint256 most) private pure {
        if (amount < least || amount > most) revert LeaseEscrow_AmountOutside(leaseId, amount, least, most);
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

    function _max(uint256 a, uint256 b) private pure returns (uint256) {
        return a > b ? a : b;
    }
}
