// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {LeaseEscrow} from "../LeaseEscrow.sol";
import {Progress, Refusal} from "../interfaces/ILeaseEscrow.sol";
import {EscrowTest} from "./EscrowTest.sol";
import {VM} from "./Vm.sol";

/// @title Four people in every role, doing anything in any order; a model beside the escrow counts what must be there.
contract Ledger is EscrowTest {
    address[4] public people;
    Deal[] private running;
    uint256 public opened;
    uint256 public closed;

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

    function stopAny(uint256 seed) external {
        if (running.length == 0) return;
        uint256 index = seed % running.length;
        Deal memory deal = running[index];
        if (uint8(Progress.unwrap(deal.progress) >> 16) != 0) return;
        bool byConsumer = (seed >> 128) & 1 == 1;
        address sender = byConsumer ? deal.lease.consumer : deal.lease.provider;
        stopAs(sender, deal);
        markStopped(deal, sender == deal.lease.consumer || sender == deal.clauses.guard);
        running[index] = deal;
    }

    function releaseAny(uint256 seed) external {
        if (running.length == 0) return;
        uint256 index = seed % running.length;
        releaseAs(running[index].lease.provider, running[index]);
        drop(index);
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

    /// @dev Each provider gives back what it still has; then everyone withdraws.
    function drain() external {
        while (running.length != 0) {
            releaseAs(running[0].lease.provider, running[0]);
            drop(0);
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
                if (running[j].lease.provider == people[i]) need += running[j].lease.need;
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
        ledger.drain();
        ledger.checkDrained();
    }

    function step(uint256 choice, uint256 seed) private {
        choice %= 16;
        if (choice < 5) ledger.openAny(seed);
        else if (choice < 9) ledger.settleAny(seed, uint96(seed >> 32), uint8(seed >> 8));
        else if (choice < 11) ledger.stopAny(seed);
        else if (choice < 13) ledger.releaseAny(seed);
        else if (choice < 14) ledger.moveMoney(seed, uint96(seed >> 32));
        else if (choice < 15) ledger.pass(uint16(seed));
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
