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
///   - an account's capacity in use = the sum of the needs of its running leases.
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
    address arbiter; // this version: 0 (no disputes yet)
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
    address guard; // may stop for an absent consumer; 0 = nobody
    address arbiter; // this version: 0
    bytes32 seat; // 32 random bytes, one per job: replay guard and idempotency key
    uint16 count; // this version: 1
    uint8 attempts; // this version: 1
    bool gang; // this version: false
    uint128 need; // lanes like Offer.capacity
    uint64 needs; // traits that the offer must have
    uint64 refuses; // traits that the offer must not have
    uint96 maxRate; // per hour
    uint96 budget; // per seat, fee included
    uint32 maxSeconds;
    uint32 window;
    uint16 feeBps; // exact, not a maximum
    bytes32 documents; // SHA-256 over the digests of job and constraints
    uint40 validUntil;
    uint32 counter;
}

/// Metered usage of one lease, signed by provider and consumer (EIP-712).
struct Receipt {
    bytes32 lease;
    uint96 amount; // cumulative, the provider's net
    uint8 kind; // 0 interim, 1 done, 2 failed
    bytes32 evidence; // SHA-256 of the evidence document
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
    uint96 budget;
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
/// flags uint8 | 8 zero bits. Phases: 0 running, 1 stopped (2 claimed, 3 disputed, 4 reopenable: not in this version).
/// flags bit 0: the consumer's side stopped it.
type Progress is uint256;

struct Fill {
    Offer offer;
    Signature signature;
    uint96 rate;
    uint16 index; // which of the bid's `count` seats; this version: 0
    bytes previous; // proof of the previous attempt; this version: empty
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
    SeatTaken,
    Unsupported, // a field that this version holds to its neutral value
    Arbiter,
    Seconds, // min(maxSeconds) is zero or under the offer's minSeconds
    RateBelowAsk,
    RateAboveBid,
    Budget,
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
    Kind,
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
    /// @notice Tombstones an unused seat. By the consumer or its owner.
    function cancel(address consumer, bytes32 seat, uint16 index) external;

    /// @notice Opens leases from pairs of papers. A bad entry emits Refused and never touches its neighbours. Several
    /// fills of one bid are alternatives: the first that is good takes the seat. Checks run in the order of Refusal.
    function open(bytes32 head, Opening[] calldata openings) external;
    /// @notice Pays leases by receipts that both parties signed. By anyone. A bad entry emits SettlementRefused.
    function settle(Settlement[] calldata settlements) external;
    /// @notice Nothing after clock = min(now, end) is billable. By provider, consumer, guard or the owner of one; who
    /// acts for the consumer or the guard counts as the consumer's side, even if it acts for the provider as well.
    function stop(Lease calldata lease, Clauses calldata clauses, Progress progress) external;
    /// @notice The provider (or its owner) gives the lease back: refund; unless the consumer's side stopped it, the
    /// consumer also gets min(bond, floor(rate * minSeconds / 3600)) of the bond. Phases 0 and 1.
    function release(Lease calldata lease, Clauses calldata clauses, Progress progress) external;

    /// @notice free money, counter and the four lanes of capacity in use.
    function accountOf(address account) external view returns (uint96 free, uint32 counter, uint128 used);
    function ownerOf(address account) external view returns (address);
    /// @notice 0 never used, 1 closed or cancelled, else the hash of the open lease: keccak256(abi.encode(leaseId, progress)).
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
