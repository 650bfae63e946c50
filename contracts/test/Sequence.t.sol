// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {LeaseEscrow} from "../LeaseEscrow.sol";
import {ILeaseEscrow, Progress, Refusal, Signature} from "../interfaces/ILeaseEscrow.sol";
import {EscrowTest} from "./EscrowTest.sol";
import {VM} from "./Vm.sol";

/// @title Four people in every role, doing anything in any order; a model beside the escrow counts what must be there.
contract Ledger is EscrowTest {
    address[4] public people;
    Deal[] private running;
    uint256 public opened;
    uint256 public closed;
    mapping(bytes4 call => uint256) public made; // how often each way out was taken

    constructor() {
        EscrowTest.setUp();
        for (uint256 i = 0; i < 4; ++i) {
            people[i] = aPerson(0x1000 + i);
            fund(people[i], 5_000_000);
        }
    }

    function setUp() public override {}

    /* THINGS THAT HAPPEN */

    function openAny(uint256 seed) external {
        Deal memory deal = aDeal();
        deal.bid.consumer = people[seed % 4];
        deal.offer.provider = people[(seed >> 8) % 4];
        deal.bid.market = people[(seed >> 16) % 4];
        deal.bid.guard = people[(seed >> 24) % 4];
        deal.bid.arbiter = people[(seed >> 144) % 4];
        deal.offer.arbiter = deal.bid.arbiter;
        deal.bid.window = uint32(bound(seed >> 152, 0, 2 hours));
        deal.bid.counter = counterOf(deal.bid.consumer);
        deal.offer.counter = counterOf(deal.offer.provider);
        deal.bid.feeBps = uint16(bound(seed >> 32, 0, 10_000));
        deal.offer.bondBps = uint16(bound(seed >> 48, 1000, 10_000));
        deal.bid.need = lanes(bound(seed >> 64, 0, 4000), bound(seed >> 80, 0, 16384), 0, bound(seed >> 96, 0, 51200));
        deal.rate = uint96(bound(seed >> 112, 0, 1_000_000));
        deal.bid.validUntil = type(uint40).max;
        deal.offer.validUntil = type(uint40).max;
        if (openOne(deal) == Refusal.None) {
            running.push(deal);
            ++opened;
        }
    }

    function settleAny(uint256 seed, uint96 amount, uint8 kind) external {
        if (running.length == 0) return;
        uint256 index = seed % running.length;
        Deal memory deal = running[index];
        amount = uint96(bound(amount, 0, deal.lease.price));
        kind = uint8(bound(kind, 0, 2));
        if (settleOne(deal, amount, kind) != Refusal.None) return;
        if (kind == 0) running[index] = deal;
        else drop(index);
    }

    /// @dev The next thing that can happen to a lease once a receipt fails; after its window's end what waiting allows.
    function moveOn(uint256 seed) external {
        if (running.length == 0) return;
        uint256 index = seed % running.length;
        Deal memory deal = running[index];
        uint256 phase = phaseOf(deal);
        if (block.timestamp >= edgeOf(deal)) return phase < 2 ? reclaimOf(index) : finalizeOf(index);
        if (phase < 2) claimOf(index, uint96(seed >> 32), seed >> 128 & 1 == 0 ? 1 : 2);
        else if (phase == 2) disputeOf(index, seed >> 128 & 1 == 0);
        else resolveOf(index, uint96(seed >> 32), uint96(seed >> 128));
    }

    /// @dev A change at the wrong side of a window's end never goes through.
    function tryTooEarlyOrLate(uint256 seed) external {
        if (running.length == 0) return;
        Deal memory deal = running[seed % running.length];
        bool late = block.timestamp >= edgeOf(deal);
        if (phaseOf(deal) < 2) {
            VM.expectRevert();
            if (!late) reclaimAs(stranger, deal);
            else if (seed >> 255 == 0) claimAs(deal.lease.provider, deal, paidOf(deal), 1);
            else releaseAs(deal.lease.provider, deal);
        } else {
            VM.expectRevert();
            if (!late) finalizeAs(stranger, deal);
            else if (phaseOf(deal) == 2) disputeAs(deal.lease.consumer, deal);
            else resolveAs(deal.clauses.arbiter, deal, paidOf(deal), 0, Signature(0, 0));
        }
    }

    function stopAny(uint256 seed) external {
        if (running.length == 0) return;
        uint256 index = seed % running.length;
        Deal memory deal = running[index];
        if (phaseOf(deal) != 0) return;
        bool byConsumer = (seed >> 128) & 1 == 1;
        address sender = byConsumer ? deal.lease.consumer : deal.lease.provider;
        stopAs(sender, deal);
        markStopped(deal, sender == deal.lease.consumer || sender == deal.clauses.guard);
        running[index] = deal;
    }

    function releaseAny(uint256 seed) external {
        if (running.length == 0) return;
        uint256 index = seed % running.length;
        if (phaseOf(running[index]) < 2 && block.timestamp < edgeOf(running[index])) releaseOf(index);
    }

    function bumpAny(uint256 seed) external {
        VM.prank(people[seed % 4]);
        escrow.bump(people[seed % 4]);
    }

    function moveMoney(uint256 seed, uint96 amount) external {
        address person = people[seed % 4];
        if (seed >> 255 == 0) return fund(person, amount % 1_000_000);
        uint256 taken = bound(amount, 0, free(person));
        VM.prank(person);
        escrow.withdraw(person, taken);
    }

    function pass(uint16 seconds_) external {
        VM.warp(block.timestamp + seconds_);
    }

    /// @dev One side alone ends what is left: providers give back, or all wait and anyone ends; then everyone withdraws.
    function drain(bool byProviders) external {
        while (running.length != 0) {
            uint256 phase = phaseOf(running[0]);
            uint256 edge = edgeOf(running[0]);
            if (byProviders && phase < 2 && block.timestamp < edge) {
                releaseOf(0);
                continue;
            }
            if (block.timestamp < edge) VM.warp(edge);
            if (phase < 2) reclaimOf(0);
            else finalizeOf(0);
        }
        for (uint256 i = 0; i < 4; ++i) {
            uint256 all = free(people[i]);
            VM.prank(people[i]);
            escrow.withdraw(people[i], all);
        }
    }

    /* WHAT MUST HOLD */

    /// @dev The identity of money, to the unit, and capacity in use = the sum of needs.
    function check() external view {
        uint256 sum = free(consumer) + free(provider);
        for (uint256 i = 0; i < 4; ++i) sum += free(people[i]);
        for (uint256 i = 0; i < running.length; ++i) sum += locked(running[i]);
        assertEq(token.balanceOf(address(escrow)), sum, "balance = free + locked");

        for (uint256 i = 0; i < 4; ++i) {
            uint256 need = 0;
            for (uint256 j = 0; j < running.length; ++j) {
                bool occupies = phaseOf(running[j]) < 2;
                if (occupies && running[j].lease.provider == people[i]) need += running[j].lease.need;
            }
            assertEq(used(people[i]), need, "used = sum of needs");
        }
    }

    function checkDrained() external view {
        for (uint256 i = 0; i < 4; ++i) {
            assertEq(free(people[i]), 0, "nothing free");
            assertEq(used(people[i]), 0, "nothing in use");
        }
        assertEq(token.balanceOf(address(escrow)), free(consumer) + free(provider), "nothing left behind");
    }

    /* WAYS OUT */

    function releaseOf(uint256 index) private {
        releaseAs(running[index].lease.provider, running[index]);
        ++made[ILeaseEscrow.release.selector];
        drop(index);
    }

    function claimOf(uint256 index, uint96 amount, uint8 kind) private {
        Deal memory deal = running[index];
        amount = uint96(bound(amount, paidOf(deal), mostOf(deal)));
        claimAs(deal.lease.provider, deal, amount, kind);
        markClaimed(deal, amount, kind);
        running[index] = deal;
        ++made[ILeaseEscrow.claim.selector];
    }

    function disputeOf(uint256 index, bool byGuard) private {
        Deal memory deal = running[index];
        disputeAs(byGuard ? deal.clauses.guard : deal.lease.consumer, deal);
        markDisputed(deal);
        running[index] = deal;
        ++made[ILeaseEscrow.dispute.selector];
    }

    function resolveOf(uint256 index, uint96 award, uint96 slash) private {
        Deal memory deal = running[index];
        award = uint96(bound(award, paidOf(deal), claimedOf(deal)));
        slash = uint96(bound(slash, 0, deal.lease.bond));
        resolveAs(deal.clauses.arbiter, deal, award, slash, Signature(0, 0));
        ++made[ILeaseEscrow.resolve.selector];
        drop(index);
    }

    function finalizeOf(uint256 index) private {
        finalizeAs(stranger, running[index]);
        ++made[ILeaseEscrow.finalize.selector];
        drop(index);
    }

    function reclaimOf(uint256 index) private {
        Deal memory deal = running[index];
        uint256 before = free(deal.lease.consumer);
        reclaimAs(stranger, deal);
        assertEq(free(deal.lease.consumer) - before, locked(deal), "all that was locked");
        ++made[ILeaseEscrow.reclaim.selector];
        drop(index);
    }

    /* THE MODEL OF A LEASE */

    function phaseOf(Deal memory deal) private pure returns (uint256) {
        return uint8(Progress.unwrap(deal.progress) >> 16);
    }

    function paidOf(Deal memory deal) private pure returns (uint96) {
        return uint96(Progress.unwrap(deal.progress) >> 160);
    }

    function claimedOf(Deal memory deal) private pure returns (uint96) {
        return uint96(Progress.unwrap(deal.progress) >> 64);
    }

    function endOf(Deal memory deal) private pure returns (uint256) {
        if (phaseOf(deal) == 1) return uint40(Progress.unwrap(deal.progress) >> 24);
        return uint256(deal.clauses.openedAt) + deal.clauses.maxSeconds;
    }

    /// @dev The second that parts what one side may do from what anyone may do because it did not.
    function edgeOf(Deal memory deal) private pure returns (uint256) {
        uint256 window = deal.clauses.window;
        if (phaseOf(deal) < 2) return endOf(deal) + window;
        return uint40(Progress.unwrap(deal.progress) >> 24) + (phaseOf(deal) == 2 ? window : 3 * window);
    }

    function mostOf(Deal memory deal) private view returns (uint256 most) {
        uint256 end = endOf(deal);
        uint256 used_ = (block.timestamp < end ? block.timestamp : end) - deal.clauses.openedAt;
        if (used_ < deal.clauses.minSeconds) used_ = deal.clauses.minSeconds;
        most = deal.clauses.rate * used_ / 3600;
        if (most > deal.lease.price) most = deal.lease.price;
        if (most < paidOf(deal)) most = paidOf(deal);
    }

    function counterOf(address account) private view returns (uint32 counter) {
        (, counter,) = escrow.accountOf(account);
    }

    function drop(uint256 index) private {
        running[index] = running[running.length - 1];
        running.pop();
        ++closed;
    }
}

contract SequenceTest {
    Ledger private ledger;

    function setUp() public {
        ledger = new Ledger();
    }

    /// @notice Random sequences of 24 steps, the identities after each, then a full drain.
    function testFuzz_anythingInAnyOrder(uint256 seed) public {
        for (uint256 i = 0; i < 24; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            step(seed, seed >> 16);
            ledger.check();
        }
        ledger.drain(seed & 1 == 0);
        ledger.checkDrained();
    }

    /// @notice A long sequence finds every way out.
    function test_everyWayOutIsTaken() public {
        for (uint256 i = 0; i < 240; ++i) {
            uint256 seed = uint256(keccak256(abi.encode("way", i)));
            step(seed, seed >> 16);
        }
        bytes4[6] memory ways = [
            ILeaseEscrow.release.selector,
            ILeaseEscrow.claim.selector,
            ILeaseEscrow.dispute.selector,
            ILeaseEscrow.resolve.selector,
            ILeaseEscrow.finalize.selector,
            ILeaseEscrow.reclaim.selector
        ];
        for (uint256 i = 0; i < ways.length; ++i) {
            require(ledger.made(ways[i]) > 0, "each of them");
        }
        ledger.check();
    }

    function step(uint256 choice, uint256 seed) private {
        choice %= 20;
        if (choice < 5) ledger.openAny(seed);
        else if (choice < 8) ledger.settleAny(seed, uint96(seed >> 32), uint8(seed >> 8));
        else if (choice < 9) ledger.stopAny(seed);
        else if (choice < 10) ledger.releaseAny(seed);
        else if (choice < 15) ledger.moveOn(seed);
        else if (choice < 16) ledger.tryTooEarlyOrLate(seed);
        else if (choice < 17) ledger.moveMoney(seed, uint96(seed >> 32));
        else if (choice < 19) ledger.pass(uint16(seed) / 8);
        else ledger.bumpAny(seed);
    }

    /// @dev The runner's own search, over the handler's public calls.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(ledger);
    }

    function invariant_moneyAndCapacity() public view {
        ledger.check();
    }
}
