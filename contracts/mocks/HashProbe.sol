// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {Bid, Clauses, Lease, Link, Offer, Progress, Receipt, Verdict} from "../interfaces/ILeaseEscrow.sol";
import {AccountWord} from "../libraries/AccountWord.sol";
import {Lanes} from "../libraries/Lanes.sol";
import {LeaseMath} from "../libraries/LeaseMath.sol";
import {Papers} from "../libraries/Papers.sol";
import {ProgressWord} from "../libraries/ProgressWord.sol";

/// @title The libraries' inside, laid open for tests that compare it with Python. Never deployed for use.
/// @notice Its EIP-712 domain is the escrow's with the probe's own address.
contract HashProbe is EIP712("Suanli", "1") {
    using ProgressWord for Progress;

    /* TYPE HASHES, STRUCT HASHES, DIGESTS */

    function offerTypeHash() external pure returns (bytes32) {
        return Papers.OFFER_TYPEHASH;
    }

    function bidTypeHash() external pure returns (bytes32) {
        return Papers.BID_TYPEHASH;
    }

    function receiptTypeHash() external pure returns (bytes32) {
        return Papers.RECEIPT_TYPEHASH;
    }

    function verdictTypeHash() external pure returns (bytes32) {
        return Papers.VERDICT_TYPEHASH;
    }

    function linkTypeHash() external pure returns (bytes32) {
        return Papers.LINK_TYPEHASH;
    }

    function hashOffer(Offer calldata offer) external pure returns (bytes32) {
        return Papers.hashOffer(offer);
    }

    function hashBid(Bid calldata bid) external pure returns (bytes32) {
        return Papers.hashBid(bid);
    }

    function hashReceipt(Receipt calldata receipt) external pure returns (bytes32) {
        return Papers.hashReceipt(receipt.lease, receipt.amount, receipt.kind, receipt.evidence);
    }

    function hashVerdict(Verdict calldata verdict) external pure returns (bytes32) {
        return Papers.hashVerdict(verdict.lease, verdict.award, verdict.slash, verdict.evidence);
    }

    function hashLink(Link calldata link) external pure returns (bytes32) {
        return Papers.hashLink(link.account, link.owner);
    }

    function hashClauses(Clauses calldata clauses) external pure returns (bytes32) {
        return Papers.hashClauses(clauses);
    }

    function hashLease(Lease calldata lease) external pure returns (bytes32) {
        return Papers.hashLease(lease);
    }

    function hashGivenLease(Lease calldata lease) external pure returns (bytes32) {
        return Papers.hashGivenLease(lease);
    }

    function seatKey(bytes32 seat, address consumer, uint16 index) external pure returns (bytes32) {
        return Papers.seatKey(seat, consumer, index);
    }

    function leaseWord(bytes32 leaseId, Progress progress) external pure returns (bytes32) {
        return Papers.leaseWord(leaseId, progress);
    }

    function reopenableWord(bytes32 clauses, uint96 spent) external pure returns (bytes32) {
        return Papers.reopenableWord(clauses, spent);
    }

    function provenWord(bytes calldata previous) external pure returns (bytes32) {
        return Papers.provenWord(previous);
    }

    function afterAttempt(bytes calldata previous) external pure returns (uint256 attempt, uint256 spent) {
        return Papers.afterAttempt(previous);
    }

    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    function digest(bytes32 structHash) external view returns (bytes32) {
        return _hashTypedDataV4(structHash);
    }

    /* ARITHMETIC */

    function askUp(uint128 need, uint256 prices) external pure returns (uint256) {
        return LeaseMath.askUp(need, prices);
    }

    function priceUp(uint96 rate, uint32 seconds_) external pure returns (uint256) {
        return LeaseMath.priceUp(rate, seconds_);
    }

    function feeDown(uint96 amount, uint16 feeBps) external pure returns (uint256) {
        return LeaseMath.feeDown(amount, feeBps);
    }

    function stakeDown(uint96 price) external pure returns (uint256) {
        return LeaseMath.stakeDown(price);
    }

    function depositOf(uint96 price, uint16 feeBps) external pure returns (uint256) {
        return LeaseMath.depositOf(price, feeBps);
    }

    function bondDown(uint96 price, uint16 bondBps) external pure returns (uint256) {
        return LeaseMath.bondDown(price, bondBps);
    }

    function penaltyDown(uint96 rate, uint32 minSeconds, uint96 bond) external pure returns (uint256) {
        return LeaseMath.penaltyDown(rate, minSeconds, bond);
    }

    function earnedDown(uint96 rate, uint64 seconds_) external pure returns (uint256) {
        return LeaseMath.earnedDown(rate, seconds_);
    }

    function disputeCosts(uint96 amount, uint96 awarded) external pure returns (uint256 consumer, uint256 provider) {
        return LeaseMath.disputeCosts(amount, awarded);
    }

    function silenceDown(uint96 paid, uint96 claimed) external pure returns (uint256) {
        return LeaseMath.silenceDown(paid, claimed);
    }

    function lanesValid(uint128 lanes) external pure returns (bool) {
        return Lanes.isValid(lanes);
    }

    function lanesFit(uint128 capacity, uint128 used, uint128 need) external pure returns (bool) {
        return Lanes.fits(capacity, used, need);
    }

    /* WORDS */

    function accountParts(uint256 word) external pure returns (uint96 free, uint32 counter, uint128 used) {
        AccountWord account = AccountWord.wrap(word);
        return (account.free(), account.counter(), account.used());
    }

    function progressParts(Progress progress)
        external
        pure
        returns (uint96 paid, uint96 claimed, uint40 clock, uint8 phase, uint8 kind, bool byConsumerSide)
    {
        (paid, claimed, clock) = (progress.paid(), progress.claimed(), progress.clock());
        (phase, kind, byConsumerSide) = (progress.phase(), progress.kind(), progress.stoppedByConsumerSide());
    }

    function progressWithPaid(Progress progress, uint96 amount) external pure returns (Progress) {
        return progress.withPaid(amount);
    }

    function progressStopped(Progress progress, uint40 clock, bool byConsumerSide) external pure returns (Progress) {
        return progress.stopped(clock, byConsumerSide);
    }

    function progressClaimed(Progress progress, uint96 amount, uint40 clock, uint8 kind) external pure returns (Progress) {
        return progress.claimedBy(amount, clock, kind);
    }

    function progressDisputed(Progress progress, uint40 clock) external pure returns (Progress) {
        return progress.disputed(clock);
    }
}
