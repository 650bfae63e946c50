// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {Bid, Clauses, Lease, Offer, Progress} from "../interfaces/ILeaseEscrow.sol";

/// @title What is signed (EIP-712 struct hashes) and what is stored (hashes of terms).
library Papers {
    /// @dev Kinds of receipts.
    uint8 internal constant INTERIM = 0;
    uint8 internal constant DONE = 1;
    uint8 internal constant FAILED = 2;

    bytes32 internal constant OFFER_TYPEHASH = keccak256(
        "Offer(address provider,address market,address arbiter,uint128 capacity,uint256 prices,bytes32 attributes,"
        "uint64 traits,uint40 validUntil,uint32 minSeconds,uint32 maxSeconds,uint16 bondBps,uint32 maxWindow,"
        "uint32 counter)"
    );
    bytes32 internal constant BID_TYPEHASH = keccak256(
        "Bid(address consumer,address market,address guard,address arbiter,bytes32 seat,uint16 count,uint8 attempts,"
        "bool gang,uint128 need,uint64 needs,uint64 refuses,uint96 maxRate,uint96 budget,uint32 maxSeconds,"
        "uint32 window,uint16 feeBps,bytes32 documents,uint40 validUntil,uint32 counter)"
    );
    bytes32 internal constant RECEIPT_TYPEHASH =
        keccak256("Receipt(bytes32 lease,uint96 amount,uint8 kind,bytes32 evidence)");
    bytes32 internal constant VERDICT_TYPEHASH =
        keccak256("Verdict(bytes32 lease,uint96 award,uint96 slash,bytes32 evidence)");
    bytes32 internal constant LINK_TYPEHASH = keccak256("Link(address account,address owner)");

    /// @dev Sizes of the structs. Each field is one word, in calldata and in memory alike, so a struct's words are its
    /// abi.encode, and hashing them in place is hashing that. Who calls with stray high bits hashes what nobody signed.
    uint256 private constant OFFER_BYTES = 416; // 13 words
    uint256 private constant BID_BYTES = 608; // 19 words
    uint256 private constant CLAUSES_BYTES = 384; // 12 words
    uint256 private constant LEASE_BYTES = 288; // 9 words
    uint256 private constant PREVIOUS_BYTES = 416; // the words of Clauses, and one of money

    uint8 private constant REOPENABLE = 4; // beside the phases of an open lease

    function hashOffer(Offer calldata offer) internal pure returns (bytes32 hash) {
        bytes32 typeHash = OFFER_TYPEHASH;
        assembly ("memory-safe") {
            let words := mload(0x40)
            mstore(words, typeHash)
            calldatacopy(add(words, 0x20), offer, OFFER_BYTES)
            hash := keccak256(words, add(0x20, OFFER_BYTES))
        }
    }

    function hashBid(Bid calldata bid) internal pure returns (bytes32 hash) {
        bytes32 typeHash = BID_TYPEHASH;
        assembly ("memory-safe") {
            let words := mload(0x40)
            mstore(words, typeHash)
            calldatacopy(add(words, 0x20), bid, BID_BYTES)
            hash := keccak256(words, add(0x20, BID_BYTES))
        }
    }

    /// @notice The hash of a Receipt.
    function hashReceipt(bytes32 lease, uint96 amount, uint8 kind, bytes32 evidence) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPEHASH, lease, amount, kind, evidence));
    }

    /// @notice The hash of a Verdict.
    function hashVerdict(bytes32 lease, uint96 award, uint96 slash, bytes32 evidence) internal pure returns (bytes32) {
        return keccak256(abi.encode(VERDICT_TYPEHASH, lease, award, slash, evidence));
    }

    /// @notice The hash of a Link.
    function hashLink(address account, address owner) internal pure returns (bytes32) {
        return keccak256(abi.encode(LINK_TYPEHASH, account, owner));
    }

    function hashClauses(Clauses memory clauses) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            hash := keccak256(clauses, CLAUSES_BYTES)
        }
    }

    /// @notice The id of a lease that is being made.
    function hashLease(Lease memory lease) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            hash := keccak256(lease, LEASE_BYTES)
        }
    }

    /// @notice The id of a lease that a caller brings.
    function hashGivenLease(Lease calldata lease) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let words := mload(0x40)
            calldatacopy(words, lease, LEASE_BYTES)
            hash := keccak256(words, LEASE_BYTES)
        }
    }

    /// @notice Where a run of a job has its place: one storage word, replay guard and idempotency key.
    function seatKey(bytes32 seat, address consumer, uint16 index) internal pure returns (bytes32) {
        return Hashes.efficientKeccak256(seat, bytes32(uint256(uint160(consumer)) << 96 | index));
    }

    /// @notice What a seat holds while its lease is open.
    function leaseWord(bytes32 leaseId, Progress progress) internal pure returns (bytes32) {
        return Hashes.efficientKeccak256(leaseId, bytes32(Progress.unwrap(progress)));
    }

    /// @notice What a seat holds whose last attempt ended so that it may be opened again; `clauses` is their hash.
    function reopenableWord(bytes32 clauses, uint256 spent) internal pure returns (bytes32) {
        return keccak256(abi.encode(clauses, REOPENABLE, spent));
    }

    /// @notice The seat's word that abi.encode(Clauses, uint96 spent) proves; 0 if the bytes are not of that size.
    /// @dev The words are hashed as they stand. Only clean ones were ever stored, so none with stray bits is found.
    function provenWord(bytes calldata previous) internal pure returns (bytes32) {
        if (previous.length != PREVIOUS_BYTES) return bytes32(0);
        bytes32 clauses = keccak256(previous[:CLAUSES_BYTES]);
        return reopenableWord(clauses, uint256(bytes32(previous[CLAUSES_BYTES:])));
    }

    /// @notice The number of the attempt after a proven one, and what all before it cost. Below 2^8 + 1 and 2^97.
    function afterAttempt(bytes calldata previous) internal pure returns (uint256 attempt, uint256 spent) {
        Clauses calldata clauses;
        assembly ("memory-safe") {
            clauses := previous.offset
        }
        attempt = uint256(clauses.attempt) + 1;
        spent = uint256(clauses.spent) + uint256(bytes32(previous[CLAUSES_BYTES:]));
    }
}
