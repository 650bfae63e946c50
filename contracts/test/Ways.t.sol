// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeaseEscrow, Progress, Refusal, Settlement, Signature} from "../interfaces/ILeaseEscrow.sol";
import {EscrowTest} from "./EscrowTest.sol";
import {VM, Vm} from "./Vm.sol";

contract WaysTest is EscrowTest {
    Signature private NONE;

    /// @dev A lease with any money terms; its need is little, so that any rate is above the ask.
    function anyLease(uint256 seed) private returns (Deal memory deal) {
        deal = aDeal();
        deal.bid.need = lanes(1, 1, 0, 1);
        deal.bid.maxRate = type(uint96).max;
        deal.bid.budget = type(uint96).max;
        deal.rate = uint96(bound(seed, 46, 1e9));
        deal.bid.maxSeconds = uint32(bound(seed >> 32, 60, 1 days));
        deal.offer.minSeconds = uint32(bound(seed >> 64, 0, 60));
        deal.offer.bondBps = uint16(bound(seed >> 96, 1000, 10_000));
        deal.bid.feeBps = uint16(bound(seed >> 128, 0, 10_000));
        assertRefused(deal, Refusal.None, "opens");
    }

    function assertClosed(Deal memory deal, bytes32 seat) private view {
        assertTrue(escrow.seatOf(deal.lease.seatKey) == seat, "the seat");
        assertEq(used(provider), 0, "capacity is free");
        assertEq(free(consumer) + free(provider) + free(market), token.balanceOf(address(escrow)), "all money is free");
    }

    /* PAYOUT + FEE + REFUND = DEPOSIT, for each way out */

    function testFuzz_finalReceipt(uint256 seed, uint256 share, bool failed) public {
        Deal memory deal = anyLease(seed);
        uint256 amount = bound(share, 0, deal.lease.price);
        assertEq(uint256(settleOne(deal, uint96(amount), failed ? 2 : 1)), uint256(Refusal.None), "settles");
        assertClosed(deal, failed ? reopenable(deal, amount) : bytes32(uint256(1)));
        assertEq(free(provider), FUNDS + amount, "payout");
        assertEq(free(market), fee(deal, amount), "fee");
        assertEq(free(consumer), FUNDS - amount - fee(deal, amount), "refund");
    }

    function testFuzz_interimReceiptsOfOneUnit(uint256 seed, uint8 steps, uint256 way) public {
        Deal memory deal = anyLease(seed);
        uint256 paid = bound(steps, 0, deal.lease.price < 12 ? deal.lease.price : 12);
        for (uint96 i = 1; i <= paid; ++i) {
            assertEq(uint256(settleOne(deal, i, 0)), uint256(Refusal.None), "interim");
            assertEq(
                free(consumer) + free(provider) + free(market) + locked(deal), 2 * FUNDS, "conserved while it runs"
            );
        }
        uint256 penalty = wayOut(deal, way, uint96(paid));
        assertClosed(deal, reopenable(deal, paid));
        assertEq(free(provider), FUNDS + paid - penalty, "payout");
        assertEq(free(market), fee(deal, paid), "the fee of the whole, not of the steps");
        assertEq(free(consumer), FUNDS - paid - fee(deal, paid) + penalty, "refund");
    }

    /// @dev Takes one of the ways out; returns what the provider forfeits.
    function wayOut(Deal memory deal, uint256 way, uint96 paid) private returns (uint256) {
        if (way % 4 == 0) {
            assertEq(uint256(settleOne(deal, paid, 2)), uint256(Refusal.None), "final receipt that adds nothing");
            return 0;
        }
        if (way % 4 == 1) {
            stopAs(consumer, deal);
            markStopped(deal, true);
        }
        if (way % 4 == 2) {
            stopAs(provider, deal);
            markStopped(deal, deal.bid.guard == provider);
        }
        releaseAs(provider, deal);
        if (way % 4 == 1 || (way % 4 == 2 && deal.bid.guard == provider)) return 0;
        uint256 due = uint256(deal.rate) * deal.offer.minSeconds / 3600;
        return due < deal.lease.bond ? due : deal.lease.bond;
    }

    function test_penaltyIsAtMostTheBond() public {
        Deal memory deal = aDeal();
        deal.offer.minSeconds = 3600;
        assertRefused(deal, Refusal.None, "opens");
        releaseAs(provider, deal);
        assertEq(free(provider), FUNDS - 10_100, "the whole bond");
        assertEq(free(consumer), FUNDS + 10_100, "to the consumer");
        assertClosed(deal, reopenable(deal, 0));
    }

    /* SETTLE */

    function test_settlementRefusals() public {
        Deal memory deal = anOpenLease();
        assertEq(uint256(settleOne(deal, deal.lease.price + 1, 1)), uint256(Refusal.Amount), "above the price");
        assertEq(uint256(settleOne(deal, 0, 0)), uint256(Refusal.Amount), "an interim that adds nothing");
        assertEq(uint256(settleOne(deal, 5, 3)), uint256(Refusal.Kind), "no such kind");
        assertEq(uint256(settleOne(deal, 5, 0)), uint256(Refusal.None), "interim");
        assertEq(uint256(settleOne(deal, 4, 1)), uint256(Refusal.Amount), "less than was paid");
        assertEq(uint256(settleOne(deal, 5, 0)), uint256(Refusal.Amount), "the same receipt again");

        Deal memory other = anOpenLease();
        Progress now_ = other.progress;
        other.progress = Progress.wrap(1);
        assertEq(uint256(settleOne(other, 5, 1)), uint256(Refusal.UnknownLease), "another progress");
        other.progress = now_;
        other.lease.price += 1;
        other.id = keccak256(abi.encode(other.lease));
        assertEq(uint256(settleOne(other, 5, 1)), uint256(Refusal.UnknownLease), "other terms");
        other.lease.price -= 1;
        other.id = keccak256(abi.encode(other.lease));
        assertEq(uint256(settleOne(other, 5, 1)), uint256(Refusal.None), "the lease as it is");
        assertEq(uint256(settleOne(other, 5, 1)), uint256(Refusal.UnknownLease), "closed");
    }

    function test_bothMustSign() public {
        Deal memory deal = anOpenLease();
        Settlement memory settlement = settlementOf(deal, 9, 1);
        (settlement.provider, settlement.consumer) = (settlement.consumer, settlement.provider);
        assertEq(uint256(settleAs(market, settlement)), uint256(Refusal.ProviderSignature), "swapped");
        settlement = settlementOf(deal, 9, 1);
        settlement.consumer = settlement.provider;
        assertEq(uint256(settleAs(market, settlement)), uint256(Refusal.ConsumerSignature), "the provider twice");
        settlement.consumer = NONE;
        assertEq(uint256(settleAs(provider, settlement)), uint256(Refusal.ConsumerSignature), "the provider alone");
        settlement = settlementOf(deal, 9, 1);
        settlement.provider = NONE;
        assertEq(uint256(settleAs(market, settlement)), uint256(Refusal.ProviderSignature), "the consumer alone");
        assertEq(uint256(settleAs(provider, settlement)), uint256(Refusal.None), "the provider's call signs");
    }

    function testFuzz_tamperedReceiptIsRefused(uint256 place, uint96 amount, uint8 what) public {
        Deal memory deal = anOpenLease();
        Settlement memory settlement = settlementOf(deal, 1000, 1);
        if (what % 4 == 0) settlement.amount = amount == 1000 ? 1001 : amount;
        if (what % 4 == 1) settlement.kind = 2;
        if (what % 4 == 2) settlement.evidence ^= bytes32(1 << place % 256);
        if (what % 4 == 3) settlement.consumer.r ^= bytes32(1 << place % 256);
        assertTrue(settleAs(market, settlement) != Refusal.None, "refused");
        assertEq(free(consumer) + free(provider) + locked(deal), 2 * FUNDS, "nothing moved");
    }

    function testFuzz_badSettlementsLeaveTheirNeighboursAlone(uint8 bad) public {
        Deal[] memory deals = new Deal[](4);
        Settlement[] memory settlements = new Settlement[](4);
        for (uint256 i = 0; i < 4; ++i) {
            deals[i] = anOpenLease();
            settlements[i] = settlementOf(deals[i], uint96(1000 * (i + 1)), 1);
            if (bad >> i & 1 == 1) settlements[i].amount = type(uint96).max - uint96(i);
        }
        escrow.settle(settlements);
        uint256 paid = 0;
        uint256 fees = 0;
        for (uint256 i = 0; i < 4; ++i) {
            bool isBad = bad >> i & 1 == 1;
            assertTrue((escrow.seatOf(deals[i].lease.seatKey) == bytes32(uint256(1))) == !isBad, "each on its own");
            if (isBad) continue;
            paid += 1000 * (i + 1);
            fees += fee(deals[i], 1000 * (i + 1));
        }
        assertEq(free(market), fees, "fees of the good ones, summed");
        uint256 bonds = used(provider) / uint256(deals[0].bid.need) * deals[0].lease.bond;
        assertEq(free(provider), FUNDS + paid - bonds, "payouts of the good ones");
    }

    function test_feesOfSeveralMarketsInOneCall() public {
        Settlement[] memory settlements = new Settlement[](4);
        uint256[2] memory fees;
        for (uint256 i = 0; i < 4; ++i) {
            Deal memory deal = aDeal();
            deal.bid.market = i % 3 == 0 ? market : stranger; // market, stranger, stranger, market
            assertRefused(deal, Refusal.None, "opens");
            settlements[i] = settlementOf(deal, uint96(10_000 * (i + 1)), 1);
            fees[i % 3 == 0 ? 0 : 1] += 50 * (i + 1);
        }
        escrow.settle(settlements);
        assertEq(free(market), fees[0], "first and last");
        assertEq(free(stranger), fees[1], "the two between");
    }

    function test_twoReceiptsOfOneLeaseInOneCall() public {
        Deal memory deal = anOpenLease();
        Settlement[] memory settlements = new Settlement[](3);
        settlements[0] = settlementOf(deal, 1000, 0);
        settlements[1] = settlementOf(deal, 2000, 0); // on the progress before the first
        deal.progress = Progress.wrap(uint256(1000) << 160);
        settlements[2] = settlementOf(deal, 3000, 1);
        VM.recordLogs();
        escrow.settle(settlements);
        Vm.Log[] memory logs = VM.getRecordedLogs();
        assertTrue(logs[1].topics[0] == ILeaseEscrow.SettlementRefused.selector, "one progress, one receipt");
        assertClosed(deal, bytes32(uint256(1)));
        assertEq(free(provider), FUNDS + 3000, "payout");
        assertEq(free(market), fee(deal, 3000), "fee");
    }

    function test_noSettlementsDoNothing() public {
        VM.recordLogs();
        escrow.settle(new Settlement[](0));
        assertEq(VM.getRecordedLogs().length, 0, "no event");
    }

    function test_receiptAfterStopIsByAgreementOnly() public {
        Deal memory deal = anOpenLease();
        VM.warp(block.timestamp + 10);
        stopAs(consumer, deal);
        markStopped(deal, true);
        assertEq(uint256(settleOne(deal, 500, 0)), uint256(Refusal.None), "interim in phase 1");
        assertEq(uint256(settleOne(deal, deal.lease.price, 1)), uint256(Refusal.None), "both agreed to more");
        assertClosed(deal, bytes32(uint256(1)));
    }

    /* STOP */

    function test_stopInTheSecondOfTheOpen() public {
        Deal memory deal = anOpenLease();
        stopAs(consumer, deal);
        markStopped(deal, true);
        assertTrue(
            escrow.seatOf(deal.lease.seatKey) == keccak256(abi.encode(deal.id, deal.progress)), "clock = openedAt"
        );
        assertEq(uint40(Progress.unwrap(deal.progress) >> 24), deal.clauses.openedAt, "no second is billable");
    }

    function testFuzz_clockIsNowOrTheEnd(uint32 later, bool byProvider) public {
        Deal memory deal = anOpenLease();
        VM.warp(START + later);
        VM.recordLogs();
        stopAs(byProvider ? provider : consumer, deal);
        (uint40 clock, bool byConsumerSide) = abi.decode(VM.getRecordedLogs()[0].data, (uint40, bool));
        assertEq(clock, START + (later < 3600 ? later : 3600), "clock");
        assertTrue(byConsumerSide != byProvider, "side");
        markStopped(deal, !byProvider);
        assertTrue(escrow.seatOf(deal.lease.seatKey) == keccak256(abi.encode(deal.id, deal.progress)), "stored");
    }

    function test_whoMayStop() public {
        address guard = aPerson(0x60);
        address cold = aPerson(0x61);
        address[4] memory accounts = [consumer, provider, guard, address(0)];
        for (uint256 i = 0; i < 3; ++i) {
            Deal memory deal = aDeal();
            deal.bid.guard = guard;
            assertRefused(deal, Refusal.None, "opens");
            VM.expectRevert(
                abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, stranger, provider)
            );
            stopAs(stranger, deal);
            stopAs(accounts[i], deal);
            markStopped(deal, i != 1);
            VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_WrongPhase.selector, deal.id, 1));
            stopAs(consumer, deal);
            settleOne(deal, 0, 2);
        }
        VM.prank(guard);
        escrow.link(guard, cold, NONE);
        Deal memory last = aDeal();
        last.bid.guard = guard;
        assertRefused(last, Refusal.None, "opens");
        stopAs(cold, last);
        markStopped(last, true);
        releaseAs(provider, last);
        assertClosed(last, reopenable(last, 0));
    }

    function test_ownersStopForTheirSide() public {
        address cold = aPerson(0x62);
        VM.prank(provider);
        escrow.link(provider, cold, NONE);
        Deal memory deal = anOpenLease();
        stopAs(cold, deal);
        markStopped(deal, false);
        releaseAs(cold, deal);
        assertClosed(deal, reopenable(deal, 0));
        assertEq(free(consumer), FUNDS + 1683, "stopped by the provider's side: the penalty is due");
    }

    function test_noGuardMeansNobody() public {
        Deal memory deal = anOpenLease();
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, address(0), provider));
        stopAs(address(0), deal);
    }

    /* RELEASE */

    function test_onlyTheProviderReleases() public {
        Deal memory deal = anOpenLease();
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, consumer, provider));
        releaseAs(consumer, deal);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, market, provider));
        releaseAs(market, deal);
        releaseAs(provider, deal);
        bytes32 closed = reopenable(deal, 0);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_UnknownLease.selector, deal.id, closed));
        releaseAs(provider, deal);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_UnknownLease.selector, deal.id, closed));
        stopAs(provider, deal);
    }

    function testFuzz_forgedTermsAreUnknown(uint256 which, uint256 change) public {
        Deal memory deal = anOpenLease();
        bytes32 stored = escrow.seatOf(deal.lease.seatKey);
        bytes32 id = deal.id;
        change = change == 0 ? 1 : change;
        if (which % 4 == 0) deal.clauses.minSeconds ^= uint32(change % 0xffffffff + 1);
        if (which % 4 == 1) deal.clauses.rate ^= uint96(change % type(uint96).max + 1);
        if (which % 4 == 2) deal.progress = Progress.wrap(change);
        if (which % 4 == 3) {
            deal.lease.bond ^= uint96(change % type(uint96).max + 1);
            id = keccak256(abi.encode(deal.lease));
        }
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_UnknownLease.selector, id, stored));
        releaseAs(provider, deal);
    }

    /* COLLIDING ROLES NEVER MINT */

    function testFuzz_collidingRoles(uint256 seed, uint256 roles, uint256 way, uint256 share) public {
        Deal memory deal = aDeal();
        address[3] memory people = [consumer, provider, stranger];
        deal.bid.market = people[roles % 3];
        deal.bid.guard = people[roles / 3 % 3];
        deal.bid.feeBps = uint16(bound(seed, 0, 10_000));
        assertRefused(deal, Refusal.None, "opens");
        uint96 amount = uint96(bound(share, 1, deal.lease.price));
        assertEq(uint256(settleOne(deal, amount, 0)), uint256(Refusal.None), "interim");
        uint256 held = free(consumer) + free(provider) + free(stranger) + locked(deal);
        assertEq(held, token.balanceOf(address(escrow)), "while it runs");
        wayOut(deal, way, amount);
        held = free(consumer) + free(provider) + free(stranger);
        assertEq(held, token.balanceOf(address(escrow)), "and after");
        assertEq(used(provider), 0, "capacity");
    }
}
