// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

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
    bytes32 internal constant LINK_TYPEHASH = keccak256("Link(address account,address owner)");

    function hashOffer(Offer calldata offer) internal pure returns (bytes32) {
        return keccak256(abi.encode(OFFER_TYPEHASH, offer));
    }

    function hashBid(Bid calldata bid) internal pure returns (bytes32) {
        return keccak256(abi.encode(BID_TYPEHASH, bid));
    }

    /// @notice The hash of a Receipt.
    function hashReceipt(bytes32 lease, uint96 amount, uint8 kind, bytes32 evidence) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPEHASH, lease, amount, kind, evidence));
    }

    /// @notice The hash of a Link.
    function hashLink(address account, address owner) internal pure returns (bytes32) {
        return keccak256(abi.encode(LINK_TYPEHASH, account, owner));
    }

    function hashClauses(Clauses memory clauses) internal pure returns (bytes32) {
        return keccak256(abi.encode(clauses));
    }

    /// @notice The lease's id.
    function hashLease(Lease memory lease) internal pure returns (bytes32) {
        return keccak256(abi.encode(lease));
    }

    /// @notice Where a run of a job has its place: one storage word, replay guard and idempotency key.
    function seatKey(bytes32 seat, address consumer, uint16 index) internal pure returns (bytes32) {
        return keccak256(abi.encode(seat, uint256(uint160(consumer)) << 96 | index));
    }

    /// @notice What a seat holds while its lease is open.
    function leaseWord(bytes32 leaseId, Progress progress) internal pure returns (bytes32) {
        return keccak256(abi.encode(leaseId, progress));
    }
}
