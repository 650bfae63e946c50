// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeaseEscrow, Opening, Progress, Refusal, Signature} from "../interfaces/ILeaseEscrow.sol";
import {Papers} from "../libraries/Papers.sol";
import {EscrowTest} from "./EscrowTest.sol";
import {VM} from "./Vm.sol";

/// @title claim, dispute, resolve, finalize, reclaim, and the seat again.
contract DisputeTest is EscrowTest {
    bytes32 private constant CLOSED = bytes32(uint256(1));
    Signature private NONE;
    address private guard = aPerson(0x60);
    address private arbiter = aPerson(0x61);

    /// @dev Opened with any money terms; `paid` of it by interim receipts.
    function anyLease(uint256 seed, uint256 paid) private returns (Deal memory deal) {
        deal = aDeal();
        deal.bid.need = lanes(1, 1, 0, 1);
        deal.bid.maxRate = type(uint96).max;
        deal.bid.budget = type(uint96).max;
        deal.bid.guard = guard;
        deal.bid.arbiter = arbiter;
        deal.offer.arbiter = arbiter;
        deal.bid.attempts = 2;
        deal.rate = uint96(bound(seed, 3600, 1e9));
        deal.bid.maxSeconds = uint32(bound(seed >> 32, 60, 1 days));
        deal.offer.minSeconds = uint32(bound(seed >> 64, 0, 60));
        deal.offer.bondBps = uint16(bound(seed >> 96, 1000, 10_000));
        deal.bid.feeBps = uint16(bound(seed >> 128, 0, 10_000));
        deal.bid.window = uint32(bound(seed >> 144, 1, 2 hours));
        assertRefused(deal, Refusal.None, "opens");
        paid = bound(paid, 0, deal.lease.price / 2);
        if (paid != 0) assertEq(uint256(settleOne(deal, uint96(paid), 0)), uint256(Refusal.None), "interim");
    }

    function end(Deal memory deal) private pure returns (uint256) {
        return uint256(deal.clauses.openedAt) + deal.clauses.maxSeconds;
    }

    function paidOf(Deal memory deal) private pure returns (uint256) {
        return Progress.unwrap(deal.progress) >> 160;
    }

    /// @dev Claimed at the end over everything: the price, rounded down.
    function claimed(uint256 seed, uint256 paid, uint8 kind) private returns (Deal memory deal, uint96 amount) {
        deal = anyLease(seed, paid);
        VM.warp(end(deal));
        uint256 most = uint256(deal.rate) * deal.clauses.maxSeconds / 3600;
        amount = uint96(most < deal.lease.price ? most : deal.lease.price);
        claimAs(provider, deal, amount, kind);
        markClaimed(deal, amount, kind);
        assertTrue(escrow.seatOf(deal.lease.seatKey) == keccak256(abi.encode(deal.id, deal.progress)), "claimed");
        assertEq(used(provider), 0, "a claim frees capacity");
        assertEq(free(consumer) + free(provider) + free(market) + locked(deal), 2 * FUNDS, "nothing moved");
    }

    function assertPaid(Deal memory deal, uint256 paid, bool again) private view {
        assertEq(free(market), fee(deal, paid), "fee of the whole");
        assertTrue(escrow.seatOf(deal.lease.seatKey) == (again ? reopenable(deal, paid) : CLOSED), "seat");
        assertEq(used(provider), 0, "capacity");
        assertEq(
            free(consumer) + free(provider) + free(market) + free(arbiter), token.balanceOf(address(escrow)), "all is free"
        );
    }

    /* CLAIM AND FINALIZE */

    function testFuzz_aClaimIsPaidAfterTheWindow(uint256 seed, uint256 paid, bool failed) public {
        (Deal memory deal, uint96 amount) = claimed(seed, paid, failed ? 2 : 1);
        uint256 from = block.timestamp + deal.clauses.window;
        VM.warp(from - 1);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TooEarly.selector, deal.id, from));
        finalizeAs(stranger, deal);
        VM.warp(from);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TooLate.selector, deal.id, from));
        disputeAs(consumer, deal);
        finalizeAs(stranger, deal);
        assertPaid(deal, amount, failed);
        assertEq(free(provider), FUNDS + amount, "payout and bond");
        assertEq(free(consumer), FUNDS - amount - fee(deal, amount), "refund");
    }

    function testFuzz_noClaimAboveTheClock(uint256 seed, uint256 paid, uint32 later) public {
        Deal memory deal = anyLease(seed, paid);
        VM.warp(START + bound(later, 0, deal.clauses.maxSeconds));
        uint256 time = block.timestamp - START;
        if (time < deal.clauses.minSeconds) time = deal.clauses.minSeconds;
        uint256 most = uint256(deal.rate) * time / 3600;
        if (most > deal.lease.price) most = deal.lease.price;
        uint256 before = paidOf(deal);
        if (most < before) most = before;
        VM.expectRevert(
            abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_AmountOutside.selector, deal.id, most + 1, before, most)
        );
        claimAs(provider, deal, uint96(most + 1), 1);
        claimAs(provider, deal, uint96(most), 1);
    }

    function testFuzz_claimOrReleaseAndReclaimMeetAtOneSecond(uint256 seed, uint256 paid, bool stopped) public {
        Deal memory deal = anyLease(seed, paid);
        uint256 ends = end(deal);
        if (stopped) {
            VM.warp(START + 7);
            stopAs(guard, deal);
            markStopped(deal, true);
            ends = START + 7;
        }
        uint256 edge = ends + deal.clauses.window;
        VM.warp(edge - 1);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TooEarly.selector, deal.id, edge));
        reclaimAs(stranger, deal);
        VM.warp(edge);
        uint256 before = paidOf(deal);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TooLate.selector, deal.id, edge));
        claimAs(provider, deal, uint96(before), 1);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TooLate.selector, deal.id, edge));
        releaseAs(provider, deal);
        reclaimAs(stranger, deal);
        assertPaid(deal, before, true);
        assertEq(free(consumer), FUNDS - before - fee(deal, before) + deal.lease.bond, "refund and the whole bond");
    }

    /// @dev What an offer does not bound from below: without a window the provider has no second to claim in.
    function test_aWindowOfNothing() public {
        Deal memory deal = aDeal();
        (deal.bid.window, deal.bid.arbiter, deal.offer.arbiter) = (0, arbiter, arbiter);
        assertRefused(deal, Refusal.None, "opens");
        claimAs(provider, deal, 1000, 1);
        markClaimed(deal, 1000, 1);
        VM.expectRevert(
            abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TooLate.selector, deal.id, block.timestamp)
        );
        disputeAs(consumer, deal);
        finalizeAs(stranger, deal);

        uint256 before = free(consumer);
        deal = aDeal();
        deal.bid.window = 0;
        assertRefused(deal, Refusal.None, "opens");
        stopAs(consumer, deal);
        markStopped(deal, true);
        reclaimAs(consumer, deal);
        assertEq(free(consumer), before + deal.lease.bond, "the bond, in the second of the open");
    }

    /* DISPUTE */

    function testFuzz_disputeMoney(uint256 seed, uint256 paid, uint256 award, uint256 slash, bool bySignature) public {
        (Deal memory deal, uint96 amount) = claimed(seed, paid, 2);
        disputeAs(guard, deal);
        markDisputed(deal);
        paid = paidOf(deal);
        award = bound(award, paid, amount);
        slash = bound(slash, 0, deal.lease.bond);
        VM.warp(block.timestamp + 3 * uint256(deal.clauses.window) - 1);
        bytes32 verdict = keccak256(abi.encode(Papers.VERDICT_TYPEHASH, deal.id, award, slash, EVIDENCE));
        if (bySignature) resolveAs(stranger, deal, uint96(award), uint96(slash), sign(arbiter, verdict));
        else resolveAs(arbiter, deal, uint96(award), uint96(slash), NONE);

        uint256 cost = (amount - paid) / 10;
        uint256 ofConsumer = amount == paid ? 0 : cost * (award - paid) / (amount - paid);
        uint256 left = deal.lease.bond - (cost - ofConsumer);
        uint256 taken = slash < left ? slash : left;
        assertPaid(deal, award, false);
        assertEq(free(arbiter), cost, "cost");
        assertEq(free(provider), FUNDS + award - (cost - ofConsumer) - taken, "provider");
        assertEq(free(consumer), FUNDS - award - fee(deal, award) - ofConsumer + taken, "consumer");
    }

    function testFuzz_silence(uint256 seed, uint256 paid, bool failed) public {
        (Deal memory deal, uint96 amount) = claimed(seed, paid, failed ? 2 : 1);
        disputeAs(consumer, deal);
        markDisputed(deal);
        uint256 from = block.timestamp + 3 * uint256(deal.clauses.window);
        VM.warp(from - 1);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TooEarly.selector, deal.id, from));
        finalizeAs(stranger, deal);
        VM.warp(from);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TooLate.selector, deal.id, from));
        resolveAs(arbiter, deal, amount, 0, NONE);
        finalizeAs(stranger, deal);
        uint256 before = paidOf(deal);
        assertPaid(deal, before + (amount - before) / 2, failed);
        assertEq(free(arbiter), 0, "no cost");
    }

    function test_whoMayDisputeAndResolve() public {
        (Deal memory deal, uint96 amount) = claimed(1e6, 0, 1);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, provider, consumer));
        disputeAs(provider, deal);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_WrongPhase.selector, deal.id, uint8(2)));
        resolveAs(arbiter, deal, amount, 0, NONE);
        disputeAs(consumer, deal);
        markDisputed(deal);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_BadSignature.selector, arbiter));
        resolveAs(stranger, deal, amount, 0, NONE);
    }

    function test_whoMayClaim() public {
        Deal memory deal = anyLease(7, 0);
        address[3] memory others = [consumer, guard, market];
        for (uint256 i = 0; i < 3; ++i) {
            VM.expectRevert(
                abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, others[i], provider)
            );
            claimAs(others[i], deal, 0, 1);
        }
        VM.prank(provider);
        escrow.link(provider, stranger, NONE);
        claimAs(stranger, deal, 0, 1);
        markClaimed(deal, 0, 1);
        assertTrue(escrow.seatOf(deal.lease.seatKey) == keccak256(abi.encode(deal.id, deal.progress)), "its owner may");
    }

    function test_kindsAndLeastOfAClaim() public {
        Deal memory deal = anyLease(7, 10);
        for (uint8 kind = 0; kind < 4; kind += 3) {
            VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_WrongKind.selector, deal.id, kind));
            claimAs(provider, deal, 10, kind);
        }
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_AmountOutside.selector, deal.id, 9, 10, 10));
        claimAs(provider, deal, 9, 1);
        claimAs(provider, deal, 10, 1);
    }

    function test_withoutAnArbiterTheClaimStands() public {
        Deal memory deal = anOpenLease();
        claimAs(provider, deal, 1000, 1);
        markClaimed(deal, 1000, 1);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NoArbiter.selector, deal.id));
        disputeAs(consumer, deal);
        VM.warp(block.timestamp + deal.clauses.window);
        finalizeAs(stranger, deal);
        assertPaid(deal, 1000, false);
    }

    function test_boundsOfAVerdict() public {
        (Deal memory deal, uint96 amount) = claimed(1e6, 5, 1);
        disputeAs(consumer, deal);
        markDisputed(deal);
        bytes4 outside = ILeaseEscrow.LeaseEscrow_AmountOutside.selector;
        VM.expectRevert(abi.encodeWithSelector(outside, deal.id, 4, 5, amount));
        resolveAs(arbiter, deal, 4, 0, NONE);
        VM.expectRevert(abi.encodeWithSelector(outside, deal.id, amount + 1, 5, amount));
        resolveAs(arbiter, deal, amount + 1, 0, NONE);
        VM.expectRevert(abi.encodeWithSelector(outside, deal.id, deal.lease.bond + 1, 0, deal.lease.bond));
        resolveAs(arbiter, deal, amount, deal.lease.bond + 1, NONE);

        bytes32 verdict = keccak256(abi.encode(Papers.VERDICT_TYPEHASH, deal.id, amount, 0, EVIDENCE));
        Signature memory signature = sign(arbiter, verdict);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_BadSignature.selector, arbiter));
        resolveAs(stranger, deal, amount - 1, 0, signature);
        VM.prank(arbiter);
        escrow.link(arbiter, stranger, NONE);
        resolveAs(stranger, deal, 5, 0, NONE);
        assertPaid(deal, 5, false);
    }

    function test_agreementBeatsProcedure() public {
        for (uint256 i = 0; i < 2; ++i) {
            (Deal memory deal,) = claimed(1e6, 5, 1);
            if (i == 1) {
                disputeAs(consumer, deal);
                markDisputed(deal);
            }
            uint256 before = free(provider);
            assertEq(uint256(settleOne(deal, 6, 0)), uint256(Refusal.Kind), "no interim receipt after a claim");
            assertEq(uint256(settleOne(deal, 4, 2)), uint256(Refusal.Amount), "less than was paid");
            assertEq(uint256(settleOne(deal, 7, 2)), uint256(Refusal.None), "a final one");
            assertTrue(escrow.seatOf(deal.lease.seatKey) == reopenable(deal, 7), "its kind, not the claim's");
            assertEq(free(provider) - before, 2 + deal.lease.bond, "what is new of it, and the bond");
            assertEq(used(provider), 0, "freed once, by the claim");
        }
    }

    /* THE PHASES, AND WHAT PROVES A LEASE */

    /// @dev Calls as whoever may: stop, release, claim, dispute, resolve, finalize, reclaim.
    function take(Deal memory deal, uint256 way) private {
        if (way == 0) stopAs(consumer, deal);
        else if (way == 1) releaseAs(provider, deal);
        else if (way == 2) claimAs(provider, deal, 0, 1);
        else if (way == 3) disputeAs(consumer, deal);
        else if (way == 4) resolveAs(arbiter, deal, 0, 0, NONE);
        else if (way == 5) finalizeAs(stranger, deal);
        else reclaimAs(stranger, deal);
    }

    /// @dev `ways`: one bit for each of take's, lowest first.
    function assertWrongPhase(Deal memory deal, uint256 ways) private {
        uint8 phase = uint8(Progress.unwrap(deal.progress) >> 16);
        for (uint256 way = 0; way < 7; ++way) {
            if (ways >> way & 1 == 0) continue;
            VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_WrongPhase.selector, deal.id, phase));
            take(deal, way);
        }
    }

    function assertUnknown(Deal memory deal) private {
        bytes32 stored = escrow.seatOf(deal.lease.seatKey);
        bytes32 id = keccak256(abi.encode(deal.lease));
        for (uint256 way = 0; way < 7; ++way) {
            VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_UnknownLease.selector, id, stored));
            take(deal, way);
        }
    }

    function test_thePhasesHaveTheirWays() public {
        Deal memory deal = anyLease(7, 0);
        assertWrongPhase(deal, 1 << 3 | 1 << 4 | 1 << 5);
        stopAs(consumer, deal);
        markStopped(deal, true);
        assertWrongPhase(deal, 1 << 0 | 1 << 3 | 1 << 4 | 1 << 5);
        claimAs(provider, deal, 0, 1);
        markClaimed(deal, 0, 1);
        assertWrongPhase(deal, 1 << 0 | 1 << 1 | 1 << 2 | 1 << 4 | 1 << 6);
        disputeAs(consumer, deal);
        markDisputed(deal);
        assertWrongPhase(deal, 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6);
    }

    function test_aClosedLeaseHasNoWay() public {
        Deal memory deal = anyLease(7, 0);
        assertEq(uint256(settleOne(deal, 5, 1)), uint256(Refusal.None), "closed for good");
        assertUnknown(deal);
        deal = anyLease(7, 0);
        assertEq(uint256(settleOne(deal, 5, 2)), uint256(Refusal.None), "reopenable");
        assertUnknown(deal);
    }

    function test_everyWayProvesTheTermsAndTheProgress() public {
        Deal memory deal = anyLease(7, 0);
        deal.progress = Progress.wrap(1);
        assertUnknown(deal);
        deal.progress = Progress.wrap(0);
        deal.lease.bond += 1;
        assertUnknown(deal);
        deal.lease.bond -= 1;
        deal.clauses.window += 1;
        assertUnknown(deal);
    }

    /* THE SEAT AGAIN */

    function testFuzz_anotherAttempt(uint256 seed, uint256 paid, uint96 less) public {
        Deal memory deal = anyLease(seed, paid);
        paid = paidOf(deal);
        releaseAs(provider, deal);
        bytes memory proof = abi.encode(deal.clauses, uint96(paid + fee(deal, paid)));
        uint256 needed = paid + fee(deal, paid) + deal.lease.price + fee(deal, deal.lease.price);
        deal.bid.budget = uint96(needed - 1 - bound(less, 0, needed - 1));
        assertEq(uint256(reopen(deal, proof)), uint256(Refusal.Budget), "beyond the budget");
        deal.bid.budget = uint96(needed);
        assertEq(uint256(reopen(deal, "")), uint256(Refusal.SeatTaken), "without proof");
        bytes memory forged = abi.encode(deal.clauses, uint96(paid + fee(deal, paid) + 1));
        assertEq(uint256(reopen(deal, forged)), uint256(Refusal.SeatTaken), "forged");
        deal.bid.attempts = 1;
        assertEq(uint256(reopen(deal, proof)), uint256(Refusal.Attempts), "no attempt left");
        deal.bid.attempts = 2;
        assertEq(uint256(reopen(deal, proof)), uint256(Refusal.None), "again");
        assertEq(uint256(reopen(deal, proof)), uint256(Refusal.SeatTaken), "once");
    }

    function reopen(Deal memory deal, bytes memory proof) private returns (Refusal) {
        Opening memory opening = openingOf(signed(deal));
        opening.fills[0].previous = proof;
        return openAs(deal.bid.market, opening);
    }

    function test_doneIsDone() public {
        Deal memory deal = anyLease(7, 0);
        assertEq(uint256(settleOne(deal, 5, 1)), uint256(Refusal.None), "done");
        bytes memory proof = abi.encode(deal.clauses, uint96(5 + fee(deal, 5)));
        assertEq(uint256(reopen(deal, proof)), uint256(Refusal.SeatTaken), "never again");
    }

    function test_cancelOfAReopenableSeat() public {
        Deal memory deal = anyLease(7, 0);
        assertEq(uint256(settleOne(deal, 5, 2)), uint256(Refusal.None), "failed");
        bytes memory proof = abi.encode(deal.clauses, uint96(5 + fee(deal, 5)));
        VM.prank(consumer);
        escrow.cancel(consumer, deal.bid.seat, 0, proof);
        assertTrue(escrow.seatOf(deal.lease.seatKey) == CLOSED, "tombstone");
        assertEq(uint256(reopen(deal, proof)), uint256(Refusal.SeatTaken), "never again");
    }
    function test_cancelRefusals() public {
        Deal memory deal = anyLease(7, 5);
        uint256 spent = 5 + fee(deal, 5);
        bytes memory proof = abi.encode(deal.clauses, uint96(spent));
        assertSeatTaken(deal, "");
        assertSeatTaken(deal, proof); // of a lease that is open

        releaseAs(provider, deal);
        assertSeatTaken(deal, "");
        assertSeatTaken(deal, abi.encode(deal.clauses, uint96(spent + 1)));
        assertSeatTaken(deal, abi.encode(deal.clauses));
        Deal memory unused = aDeal();
        describe(unused);
        assertSeatTaken(unused, proof);
        assertSeatTaken(unused, hex"00"); // proves 0, which is what an unused seat holds

        VM.prank(consumer);
        escrow.cancel(consumer, deal.bid.seat, 0, proof);
        assertSeatTaken(deal, proof);
        assertSeatTaken(deal, "");
    }

    function assertSeatTaken(Deal memory deal, bytes memory previous) private {
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_SeatTaken.selector, deal.lease.seatKey));
        VM.prank(consumer);
        escrow.cancel(consumer, deal.bid.seat, 0, previous);
    }
}
