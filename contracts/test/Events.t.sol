// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Fill, ILeaseEscrow, Opening, Progress, Refusal, Settlement, Signature} from "../interfaces/ILeaseEscrow.sol";
import {EscrowTest} from "./EscrowTest.sol";
import {VM, Vm} from "./Vm.sol";

/// @title Every event in full: its topics and its data. Of Round and Opened: Open.t.sol.
contract EventsTest is EscrowTest {
    Signature private NONE;
    address private arbiter = aPerson(0x61);

    /// @dev The newest log since recordLogs is the escrow's and says this.
    function assertTold(bytes memory topics, bytes memory data, string memory what) private {
        Vm.Log[] memory logs = VM.getRecordedLogs();
        assertLog(logs[logs.length - 1], topics, data, what);
    }

    function assertLog(Vm.Log memory log, bytes memory topics, bytes memory data, string memory what) private view {
        assertTrue(log.emitter == address(escrow), what);
        assertTrue(keccak256(abi.encodePacked(log.topics)) == keccak256(topics), what);
        assertTrue(keccak256(log.data) == keccak256(data), what);
    }

    /// @dev With an arbiter, and 20000 paid by an interim receipt; its fee is 100.
    function aPaidLease() private returns (Deal memory deal) {
        deal = aDeal();
        (deal.bid.arbiter, deal.offer.arbiter) = (arbiter, arbiter);
        assertRefused(deal, Refusal.None, "opens");
        assertEq(uint256(settleOne(deal, 20_000, 0)), uint256(Refusal.None), "interim");
    }

    function aClaimedLease(uint96 amount) private returns (Deal memory deal) {
        deal = aPaidLease();
        VM.warp(block.timestamp + 1 hours);
        claimAs(provider, deal, amount, 2);
        markClaimed(deal, amount, 2);
    }

    function test_moneyIsTold() public {
        token.faucet(address(this), 10);
        token.approve(address(escrow), 10);
        VM.recordLogs();
        escrow.deposit(stranger, 10);
        assertTold(abi.encode(ILeaseEscrow.Deposited.selector, stranger, address(this)), abi.encode(10), "Deposited");

        VM.prank(stranger);
        escrow.link(stranger, market, NONE);
        VM.recordLogs();
        VM.prank(stranger);
        escrow.withdraw(stranger, 4);
        assertLog( // before the token's own
            VM.getRecordedLogs()[0],
            abi.encode(ILeaseEscrow.Withdrawn.selector, stranger, market),
            abi.encode(4),
            "Withdrawn"
        );
    }

    function test_accountsAndSeatsAreTold() public {
        VM.recordLogs();
        VM.prank(stranger);
        escrow.link(stranger, market, NONE);
        assertTold(abi.encode(ILeaseEscrow.Linked.selector, stranger, market), "", "Linked");
        VM.recordLogs();
        VM.prank(market);
        escrow.bump(stranger);
        assertTold(abi.encode(ILeaseEscrow.Bumped.selector, stranger), abi.encode(1), "Bumped");

        bytes32 seat = keccak256("a seat");
        bytes32 key = keccak256(abi.encode(seat, uint256(uint160(stranger)) << 96 | 3));
        VM.recordLogs();
        VM.prank(market);
        escrow.cancel(stranger, seat, 3, "");
        assertTold(abi.encode(ILeaseEscrow.Cancelled.selector, key, stranger), abi.encode(seat, 3), "Cancelled");
        assertTrue(escrow.seatOf(key) == bytes32(uint256(1)), "its seat");
    }

    function test_refusalsAreTold() public {
        Deal memory deal = anOpenLease();
        Opening[] memory openings = new Opening[](2);
        openings[0] = openingOf(deal);
        openings[0].fills = new Fill[](0);
        openings[1] = openingOf(deal);
        openings[1].fills[0].index = 7;
        VM.recordLogs();
        VM.prank(market);
        escrow.open(bytes32(0), openings);
        Vm.Log[] memory logs = VM.getRecordedLogs();
        bytes memory topics = abi.encode(ILeaseEscrow.Refused.selector, deal.bid.seat);
        assertLog(logs[1], topics, abi.encode(0, Refusal.Unsupported), "no fill");
        assertLog(logs[2], topics, abi.encode(7, Refusal.Unsupported), "the fill's index");

        Settlement[] memory settlements = new Settlement[](1);
        settlements[0] = settlementOf(deal, deal.lease.price + 1, 1);
        VM.recordLogs();
        escrow.settle(settlements);
        topics = abi.encode(ILeaseEscrow.SettlementRefused.selector, deal.id);
        assertTold(topics, abi.encode(Refusal.Amount), "SettlementRefused");
    }

    function test_receiptsAreTold() public {
        Deal memory deal = aPaidLease();
        Settlement[] memory settlements = new Settlement[](2);
        settlements[0] = settlementOf(deal, 30_000, 0);
        deal.progress = Progress.wrap(uint256(30_000) << 160);
        settlements[1] = settlementOf(deal, 40_000, 2);
        VM.recordLogs();
        escrow.settle(settlements);
        Vm.Log[] memory logs = VM.getRecordedLogs();
        bytes memory topics = abi.encode(ILeaseEscrow.Settled.selector, deal.id);
        assertLog(logs[0], topics, abi.encode(30_000, 150, 0, EVIDENCE), "totals of an interim receipt");
        assertLog(logs[1], topics, abi.encode(40_000, 200, 2, EVIDENCE), "totals of a final one");
    }

    function test_releaseAndReclaimAreTold() public {
        Deal memory deal = aPaidLease();
        VM.warp(block.timestamp + 10);
        VM.recordLogs();
        stopAs(provider, deal);
        assertTold(
            abi.encode(ILeaseEscrow.Stopped.selector, deal.id, provider), abi.encode(block.timestamp, false), "Stopped"
        );
        markStopped(deal, false);
        VM.recordLogs();
        releaseAs(provider, deal);
        assertTold(abi.encode(ILeaseEscrow.Released.selector, deal.id), abi.encode(20_000, 1683), "Released");

        deal = aPaidLease();
        VM.warp(block.timestamp + 2 hours);
        VM.recordLogs();
        reclaimAs(stranger, deal);
        assertTold(abi.encode(ILeaseEscrow.Reclaimed.selector, deal.id), abi.encode(20_000, 100, 10_100), "Reclaimed");
    }

    function test_claimsAreTold() public {
        Deal memory deal = aPaidLease();
        VM.warp(block.timestamp + 30 minutes);
        VM.recordLogs();
        claimAs(provider, deal, 50_000, 1);
        bytes memory topics = abi.encode(ILeaseEscrow.Claimed.selector, deal.id);
        assertTold(topics, abi.encode(50_000, 1, EVIDENCE, block.timestamp), "Claimed");
        markClaimed(deal, 50_000, 1);
        VM.warp(block.timestamp + 1 hours);
        VM.recordLogs();
        finalizeAs(stranger, deal);
        topics = abi.encode(ILeaseEscrow.Finalized.selector, deal.id);
        assertTold(topics, abi.encode(50_000, 250, 1, false), "Finalized");
    }

    /// @dev 80000 are disputed, 20000 of them awarded: each side bears its share of 8000, and the slash what is left.
    function test_disputesAreTold() public {
        Deal memory deal = aClaimedLease(100_000);
        VM.recordLogs();
        disputeAs(consumer, deal);
        assertTold(abi.encode(ILeaseEscrow.Disputed.selector, deal.id, consumer), abi.encode(block.timestamp), "Disputed");
        markDisputed(deal);
        VM.recordLogs();
        resolveAs(arbiter, deal, 40_000, 10_100, NONE);
        bytes memory topics = abi.encode(ILeaseEscrow.Resolved.selector, deal.id);
        assertTold(topics, abi.encode(40_000, 200, 10_100 - 6_000, 2_000, 6_000, EVIDENCE), "Resolved");

        deal = aClaimedLease(100_000);
        disputeAs(consumer, deal);
        markDisputed(deal);
        VM.warp(block.timestamp + 3 hours);
        VM.recordLogs();
        finalizeAs(stranger, deal);
        topics = abi.encode(ILeaseEscrow.Finalized.selector, deal.id);
        assertTold(topics, abi.encode(60_000, 300, 2, true), "Finalized in silence");
    }
}
