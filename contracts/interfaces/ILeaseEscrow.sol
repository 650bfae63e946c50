// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title The escrow of Suanli: what it holds, what it accepts, what it promises.
/// @notice Read this file first; it is the whole specification of the ledger. LeaseEscrow.sol implements it, and
/// suanli_protocol mirrors its arithmetic in Python (parity tests compare the two).
///
/// Units: money in base units of one ERC-20 token; time in seconds of Unix UTC; processors in milli-cores; memory and
/// disk in MiB; prices and rates per hour. Basis points (bps) are ten-thousandths.
///
/// Promises, after every call:
///   - token.balanceOf(escrow) >= sum of every account's `free` + sum over open leases of what is still locked;
///   - payout + fee + refund = deposit, exactly, for each closed lease;
///   - an account's capacity in use = the sum of the needs of its leases that are running or stopped; a claim frees it.
///   - from every state of a lease either side alone reaches its due, by block time alone, without the other side,
///     the market or the arbiter.
///
/// The times of a lease: end = phase stopped ? clock : openedAt + maxSeconds; W = window. All intervals are half-open,
/// so that no two ways of opposite effect are ever open together:
///   claim     phases 0, 1   before end + W          reclaim   phases 0, 1   from end + W
///   release   phases 0, 1   before end + W
///   dispute   phase 2       before clock + W        finalize  phase 2       from clock + W
///   resolve   phase 3       before clock + 3 W      finalize  phase 3       from clock + 3 W
/// settle is possible until a lease is closed: agreement beats procedure.
///
/// Assumptions about the token, fixed at deployment: transfers move exactly the stated amount (no fee on transfer, no
/// rebasing), revert or return false on failure, and balances fit in uint96. Deposits are credited by balance
/// difference and refused if it differs from the amount.
///
/// There is no owner, no upgrade and no pause. open and settle make no external call but signature recovery.

/// A compact signature (EIP-2098): the y-parity stands in the highest bit of `vs`. Both words zero: no signature,
/// which is good enough only where msg.sender is the signer or its owner.
struct Signature {
    bytes32 r;
    bytes32 vs;
}

/// What a provider sells: one homogeneous pool of capacity (signed, EIP-712).
struct Offer {
    address provider;
    address market; // the only market that may use it; 0 = any
    address arbiter; // who judges disputes; must be the bid's; 0 = nobody, and then nothing can be disputed
    uint128 capacity; // 4 lanes of uint32, high to low: cpu mCPU, memory MiB, accelerator milli, disk MiB
    uint256 prices; // 4 lanes of uint64, high to low, per hour: core, GiB of memory, accelerator, GiB of disk
    bytes32 attributes; // SHA-256 of the attributes document
    uint64 traits; // yes-or-no properties, one bit each
    uint40 validUntil; // good while block time < validUntil
    uint32 minSeconds; // the shortest time that is billed
    uint32 maxSeconds; // the longest lease that is taken
    uint16 bondBps; // the provider's bond, of the price; at least 1000
    uint32 maxWindow; // the longest window W that the provider accepts
    uint32 counter; // must equal the account's counter
}

/// What a consumer asks for (signed, EIP-712).
struct Bid {
    address consumer;
    address market; // the only one that may open, and the one that earns the fee
    address guard; // may stop and dispute for an absent consumer, at its risk; 0 = nobody
    address arbiter; // must be the offer's; 0 = nobody
    bytes32 seat; // 32 random bytes, one per job: replay guard and idempotency key
    uint16 count; // this version: 1
    uint8 attempts; // how often the seat may be opened in all; at least 1
    bool gang; // this version: false
    uint128 need; // lanes like Offer.capacity
    uint64 needs; // traits that the offer must have
    uint64 refuses; // traits that the offer must not have
    uint96 maxRate; // per hour
    uint96 budget; // per seat, fees and all attempts included
    uint32 maxSeconds;
    uint32 window; // W, in seconds
    uint16 feeBps; // exact, not a maximum
    bytes32 documents; // SHA-256 over the digests of job and constraints
    uint40 validUntil;
    uint32 counter;
}

/// Metered usage of one lease, signed by provider and consumer (EIP-712).
struct Receipt {
    bytes32 lease;
    uint96 amount; // cumulative, the provider's net
    uint8 kind; // 0 interim, 1 done, 2 failed: ended by the provider's fault, so that the seat may be opened again
    bytes32 evidence; // SHA-256 of the evidence document
}

/// What an arbiter decides about a disputed claim (EIP-712).
struct Verdict {
    bytes32 lease;
    uint96 award; // the provider's total: at least what was paid, at most what it claimed
    uint96 slash; // of the bond, to the consumer; at most what the dispute's cost leaves of it is taken
    bytes32 evidence; // SHA-256 of the reasons
}

/// An account gives itself an owner (signed by the account, EIP-712).
struct Link {
    address account;
    address owner;
}

/// The terms of a lease that only its rarer ways out need.
struct Clauses {
    bytes32 bid; // EIP-712 struct hash of the bid
    bytes32 offer; // EIP-712 struct hash of the offer
    address arbiter;
    address guard;
    uint96 rate;
    uint96 spent; // what earlier attempts at the seat cost, fees included; 0 for the first
    uint32 maxSeconds; // min(bid.maxSeconds, offer.maxSeconds)
    uint32 minSeconds;
    uint32 window;
    uint8 attempt; // 1 for the first
    uint8 attempts;
    uint40 openedAt;
}

/// The terms of a lease that every settlement needs. leaseId = keccak256(abi.encode(lease)).
struct Lease {
    bytes32 clauses; // keccak256(abi.encode(clauses))
    bytes32 seatKey; // keccak256(abi.encode(seat, consumer << 96 | index))
    address consumer;
    address provider;
    address market;
    uint128 need;
    uint96 price;
    uint96 bond;
    uint16 feeBps;
}

/// How far an open lease has come. Packed high to low: paid uint96 | claimed uint96 | clock uint40 | phase uint8 |
/// flags uint8 | 8 zero bits. Phases: 0 running, 1 stopped, 2 claimed, 3 disputed; clock is when the phase began (of
/// phase 1: the last second that is billable, at most the end). flags bit 0: the consumer's side stopped it; bits 1 and
/// 2: the claim's kind.
type Progress is uint256;

struct Fill {
    Offer offer;
    Signature signature;
    uint96 rate;
    uint16 index; // which of the bid's `count` seats; this version: 0
    bytes previous; // first attempt: empty; else abi.encode(Clauses, uint96 spent) of the previous one, as its seat holds it
}

struct Opening {
    Bid bid;
    Signature signature;
    Fill[] fills;
}

struct Settlement {
    Lease lease;
    Progress progress;
    uint96 amount;
    uint8 kind;
    bytes32 evidence;
    Signature provider;
    Signature consumer;
}

/// Why an entry of open or settle was left out. Its neighbours in the batch are not touched.
enum Refusal {
    None,
    NotTheMarket, // msg.sender is neither the bid's market nor its owner
    OtherMarket, // the offer is for another market
    SameParty, // consumer = provider, or a zero party
    BidExpired,
    OfferExpired,
    BidCounter,
    OfferCounter,
    SeatTaken, // used already, and not reopenable by what `previous` proves
    Attempts, // one more than the bid allows
    Unsupported, // a field that this version holds to its neutral value
    Arbiter, // the two papers name different ones
    Seconds, // min(maxSeconds) is zero or under the offer's minSeconds
    RateBelowAsk,
    RateAboveBid,
    Budget, // price, its fee and what earlier attempts cost are above it
    Window,
    Bond, // bondBps outside 1000..10000
    Fee, // feeBps above 10000
    Traits,
    Lanes, // a guard bit is set in need or capacity
    Capacity,
    ConsumerFunds,
    ProviderFunds,
    BidSignature,
    OfferSignature,
    UnknownLease, // the terms and progress are not the open lease at that seat
    Amount, // above the price, below what was paid, or an interim receipt that adds nothing
    Kind, // none of 0, 1, 2; or an interim receipt after a claim
    ProviderSignature,
    ConsumerSignature
}

interface ILeaseEscrow {
    event Deposited(address indexed account, address indexed from, uint256 amount);
    event Withdrawn(address indexed account, address indexed to, uint256 amount);
    event Linked(address indexed account, address indexed owner);
    event Bumped(address indexed account, uint32 counter);
    event Cancelled(bytes32 indexed seatKey, address indexed consumer, bytes32 seat, uint16 index);
    /// @dev Once per call of open; market = its caller (a market, or the owner of one); head = the hash of the newest
    /// round whose matches this call opens.
    event Round(address indexed market, bytes32 head);
    /// @dev terms = rate << 160 | index << 8 | attempt. Clauses and Lease follow from the papers in the calldata of
    /// the transaction and the time of the block.
    event Opened(
        bytes32 indexed leaseId,
        address indexed provider,
        address indexed consumer,
        bytes32 bidHash,
        bytes32 offerHash,
        uint256 terms
    );
    event Refused(bytes32 indexed seat, uint16 index, Refusal code);
    /// @dev paid and fee are totals over the lease; kind 0 leaves it open.
    event Settled(bytes32 indexed leaseId, uint96 paid, uint96 fee, uint8 kind, bytes32 evidence);
    event SettlementRefused(bytes32 indexed leaseId, Refusal code);
    event Stopped(bytes32 indexed leaseId, address indexed by, uint40 clock, bool byConsumerSide);
    /// @dev penalty went from the provider's bond to the consumer; paid is what earlier interim receipts paid.
    event Released(bytes32 indexed leaseId, uint96 paid, uint96 penalty);
    event Claimed(bytes32 indexed leaseId, uint96 amount, uint8 kind, bytes32 evidence, uint40 clock);
    event Disputed(bytes32 indexed leaseId, address indexed by, uint40 clock);
    /// @dev paid and fee are totals over the lease, here and below; slash is what was taken of the bond after the cost.
    event Resolved(
        bytes32 indexed leaseId,
        uint96 paid,
        uint96 fee,
        uint96 slash,
        uint96 costConsumer,
        uint96 costProvider,
        bytes32 evidence
    );
    event Finalized(bytes32 indexed leaseId, uint96 paid, uint96 fee, uint8 kind, bool disputed);
    /// @dev The whole bond went to the consumer.
    event Reclaimed(bytes32 indexed leaseId, uint96 paid, uint96 fee, uint96 bond);

    error LeaseEscrow_NotAuthorized(address caller, address account);
    error LeaseEscrow_ZeroAddress();
    error LeaseEscrow_AmountMismatch(uint256 asked, uint256 received);
    error LeaseEscrow_AmountTooLarge(uint256 amount);
    error LeaseEscrow_InsufficientFree(address account, uint256 free, uint256 asked);
    error LeaseEscrow_TransferFailed(address token);
    error LeaseEscrow_BadSignature(address signer);
    error LeaseEscrow_SeatTaken(bytes32 seatKey);
    error LeaseEscrow_UnknownLease(bytes32 leaseId, bytes32 stored);
    error LeaseEscrow_WrongPhase(bytes32 leaseId, uint8 phase);
    error LeaseEscrow_TooEarly(bytes32 leaseId, uint256 from);
    error LeaseEscrow_TooLate(bytes32 leaseId, uint256 until);
    error LeaseEscrow_AmountOutside(bytes32 leaseId, uint256 amount, uint256 least, uint256 most);
    error LeaseEscrow_WrongKind(bytes32 leaseId, uint8 kind);
    error LeaseEscrow_NoArbiter(bytes32 leaseId);

    /// @notice Credits `amount` to `account`, taken from msg.sender by transferFrom.
    function deposit(address account, uint256 amount) external;
    /// @notice The same after an ERC-2612 permit. A permit that fails (it may have been front-run) is ignored when the
    /// allowance is there anyway.
    function depositWithPermit(address account, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external;
    /// @notice Pays `amount` of the account's free money to its owner, or to itself if it has none. By either of them.
    function withdraw(address account, uint256 amount) external;
    /// @notice Gives `account` an owner; later only that owner may change it. By the account, its owner, or anyone
    /// with the account's signature (first time only).
    function link(address account, address owner, Signature calldata signature) external;
    /// @notice Raises the account's counter: every older paper dies, open leases go on. By account or owner.
    function bump(address account) external;
    /// @notice Tombstones a seat that is unused (`previous` empty) or reopenable (`previous` as in Fill). By the consumer
    /// or its owner.
    function cancel(address consumer, bytes32 seat, uint16 index, bytes calldata previous) external;

    /// @notice Opens leases from pairs of papers. A bad entry emits Refused and never touches its neighbours. Several
    /// fills of one bid are alternatives: the first that is good takes the seat. Checks run in the order of Refusal.
    function open(bytes32 head, Opening[] calldata openings) external;
    /// @notice Pays leases by receipts that both parties signed. By anyone, until the lease is closed. Interim receipts
    /// only before a claim. Kind 1 closes the seat; kind 2 leaves it reopenable. A bad entry emits SettlementRefused.
    function settle(Settlement[] calldata settlements) external;
    /// @notice Nothing after clock = min(now, end) is billable. By provider, consumer, guard or the owner of one; who
    /// acts for the consumer or the guard counts as the consumer's side, even if it acts for the provider as well.
    function stop(Lease calldata lease, Clauses calldata clauses, Progress progress) external;
    /// @notice The provider (or its owner) gives the lease back: refund; unless the consumer's side stopped it, the
    /// consumer also gets min(bond, floor(rate * minSeconds / 3600)) of the bond. Phases 0 and 1, before end + W.
    /// The seat is reopenable.
    function release(Lease calldata lease, Clauses calldata clauses, Progress progress) external;
    /// @notice The provider (or its owner) asks for its due without the consumer and frees its capacity. amount is a
    /// total: at least what was paid, at most min(price, floor(rate * max(minSeconds, min(now, end) - openedAt) / 3600))
    /// or what was paid, if that is more. kind 1 or 2, as in a receipt. Phases 0 and 1, before end + W.
    function claim(
        Lease calldata lease,
        Clauses calldata clauses,
        Progress progress,
        uint96 amount,
        uint8 kind,
        bytes32 evidence
    ) external;
    /// @notice Consumer, guard or the owner of one calls the arbiter. Phase 2, before clock + W. Without an arbiter the
    /// claim stands.
    function dispute(Lease calldata lease, Clauses calldata clauses, Progress progress) external;
    /// @notice The arbiter's verdict, by itself (or its owner), or by anyone with its signature. Of the disputed
    /// D = claimed - paid the dispute costs floor(D / 10), to the arbiter: the consumer bears the share of it that was
    /// awarded, out of its stake, the provider the rest, out of its bond. Phase 3, before clock + 3 W. Closes the seat.
    function resolve(
        Lease calldata lease,
        Clauses calldata clauses,
        Progress progress,
        uint96 award,
        uint96 slash,
        bytes32 evidence,
        Signature calldata arbiter
    ) external;
    /// @notice By anyone. Phase 2, from clock + W: pays the claim. Phase 3, from clock + 3 W (the arbiter was silent):
    /// pays what was paid and half of what was disputed; nobody bears a cost. Kind 2 leaves the seat reopenable.
    function finalize(Lease calldata lease, Clauses calldata clauses, Progress progress) external;
    /// @notice By anyone. Phases 0 and 1, from end + W: the provider has vanished; refund, and its whole bond to the
    /// consumer. The seat is reopenable.
    function reclaim(Lease calldata lease, Clauses calldata clauses, Progress progress) external;

    /// @notice free money, counter and the four lanes of capacity in use.
    function accountOf(address account) external view returns (uint96 free, uint32 counter, uint128 used);
    function ownerOf(address account) external view returns (address);
    /// @notice 0 never used; 1 closed or cancelled; open: keccak256(abi.encode(leaseId, progress)); reopenable:
    /// keccak256(abi.encode(hash of the last attempt's clauses, uint8(4), uint96 spent)), spent = what it paid with its fee.
    function seatOf(bytes32 seatKey) external view returns (bytes32);
    function token() external view returns (address);
    /// @notice EIP-5267.
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        );
}
