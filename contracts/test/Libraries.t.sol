// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Progress} from "../interfaces/ILeaseEscrow.sol";
import {AccountWord} from "../libraries/AccountWord.sol";
import {Lanes} from "../libraries/Lanes.sol";
import {LeaseMath} from "../libraries/LeaseMath.sol";
import {ProgressWord} from "../libraries/ProgressWord.sol";
import {EscrowTest} from "./EscrowTest.sol";
import {VM} from "./Vm.sol";

contract LibrariesTest is EscrowTest {
    using ProgressWord for Progress;

    uint128 private constant VALID = ~Lanes.GUARD;

    function setUp() public override {}

    function lane(uint256 word, uint256 index) private pure returns (uint256) {
        return uint32(word >> (32 * index));
    }

    /* LANES: one subtraction says what four comparisons say */

    function testFuzz_fitsIsLaneByLane(uint128 capacity, uint128 used_, uint128 need) public pure {
        (capacity, used_, need) = (capacity & VALID, used_ & VALID, need & VALID);
        bool every = true;
        for (uint256 i = 0; i < 4; ++i) {
            every = every && lane(used_, i) + lane(need, i) <= lane(capacity, i);
        }
        assertTrue(Lanes.fits(capacity, used_, need) == every, "fits");
    }

    function testFuzz_fitsAtTheEdge(uint128 capacity, uint128 used_, uint8 index) public pure {
        capacity &= VALID;
        used_ &= VALID;
        for (uint256 i = 0; i < 4; ++i) {
            if (lane(used_, i) > lane(capacity, i)) used_ &= ~(uint128(type(uint32).max) << uint128(32 * i));
        }
        uint128 rest = capacity - used_; // lane by lane, since no lane borrows
        assertTrue(Lanes.fits(capacity, used_, rest), "exactly full fits");
        uint128 one = uint128(1) << uint128(32 * (index % 4));
        if ((rest + one) & Lanes.GUARD == 0) assertTrue(!Lanes.fits(capacity, used_, rest + one), "one more does not");
    }

    /// @dev Without its test of the sum, the guard bits would call this a fit: 0 - (2^32 - 2) wraps.
    function test_fitsWhenTheSumPassesTheGuard() public pure {
        uint128 most = lanes(0x7fffffff, 0, 0, 0);
        assertTrue(!Lanes.fits(0, most, most), "highest lane");
        assertTrue(!Lanes.fits(lanes(5, 0, 0, 0), lanes(0, 0, 0, 0x7fffffff), lanes(0, 0, 0, 0x7fffffff)), "lowest lane");
    }

    function testFuzz_guardBits(uint128 word) public pure {
        bool clear = lane(word, 0) >> 31 | lane(word, 1) >> 31 | lane(word, 2) >> 31 | lane(word, 3) >> 31 == 0;
        assertTrue(Lanes.isValid(word) == clear, "guard");
    }

    /* ARITHMETIC */

    function testFuzz_ask(uint128 need, uint256 prices_) public pure {
        uint256 sum = 0;
        for (uint256 i = 0; i < 4; ++i) {
            uint256 product = lane(need, i) * uint256(uint64(prices_ >> (64 * i)));
            uint256 unit = i % 2 == 0 ? 1024 : 1000;
            sum += product / unit + (product % unit == 0 ? 0 : 1);
        }
        assertEq(LeaseMath.askUp(need, prices_), sum, "ask");
        assertTrue(sum < 1 << 89, "the stated bound");
    }

    function testFuzz_price(uint96 rate, uint32 seconds_) public pure {
        uint256 price = LeaseMath.priceUp(rate, seconds_);
        uint256 exact = uint256(rate) * seconds_;
        assertTrue(price * 3600 >= exact, "never less");
        assertTrue(price == 0 || (price - 1) * 3600 < exact, "never a unit more than needed");
        assertTrue(price < 1 << 118, "the stated bound");
    }

    function testFuzz_feesOfStepsAreTheFeeOfTheWhole(uint96 a, uint96 b, uint16 feeBps) public pure {
        uint256 low = a < b ? a : b;
        uint256 high = a < b ? b : a;
        uint256 first = LeaseMath.feeDown(low, feeBps);
        uint256 second = LeaseMath.feeDown(high, feeBps) - first;
        assertEq(first + second, high * feeBps / 10_000, "fee");
    }

    function testFuzz_penalty(uint96 rate, uint32 minSeconds, uint96 bond) public pure {
        uint256 penalty = LeaseMath.penaltyDown(rate, minSeconds, bond);
        uint256 due = uint256(rate) * minSeconds / 3600;
        assertEq(penalty, due < bond ? due : bond, "penalty");
    }

    /* WORDS */

    function testFuzz_accountFieldsDoNotTouchEachOther(uint256 word, uint96 amount, uint128 need) public pure {
        AccountWord account = AccountWord.wrap(word);
        need &= VALID;
        VM.assume(uint256(account.free()) + amount <= type(uint96).max);
        VM.assume(uint256(account.used()) + need <= type(uint128).max);
        AccountWord changed = account.credit(amount).occupy(need);
        assertEq(changed.free(), uint256(account.free()) + amount, "free");
        assertEq(changed.counter(), account.counter(), "counter");
        assertEq(changed.used(), uint256(account.used()) + need, "used");
        assertEq(AccountWord.unwrap(changed.debit(amount).vacate(need)), word, "and back");
    }

    function testFuzz_bumpTouchesTheCounterAlone(uint256 word) public pure {
        AccountWord account = AccountWord.wrap(word);
        VM.assume(account.counter() != type(uint32).max);
        AccountWord bumped = account.bumped();
        assertEq(bumped.counter(), uint256(account.counter()) + 1, "counter");
        assertEq(bumped.free(), account.free(), "free");
        assertEq(bumped.used(), account.used(), "used");
    }

    function bumpExternally(AccountWord word) external pure returns (AccountWord) {
        return word.bumped();
    }

    function creditExternally(AccountWord word, uint256 amount) external pure returns (AccountWord) {
        return word.credit(amount);
    }

    function test_theLastCounterNeverCarriesIntoFree() public {
        VM.expectRevert();
        this.bumpExternally(AccountWord.wrap(uint256(type(uint32).max) << 128));
    }

    function test_creditNeverWraps() public {
        VM.expectRevert();
        this.creditExternally(AccountWord.wrap(uint256(type(uint96).max) << 160), 1);
    }

    function testFuzz_progress(uint96 paid, uint40 clock, bool byConsumerSide, uint96 more) public pure {
        Progress running = Progress.wrap(0).withPaid(paid);
        Progress stopped = running.stopped(clock, byConsumerSide).withPaid(more);
        assertEq(running.paid(), paid, "paid");
        assertEq(stopped.paid(), more, "paid more");
        assertEq(stopped.clock(), clock, "clock");
        assertEq(stopped.phase(), 1, "phase");
        assertTrue(stopped.stoppedByConsumerSide() == byConsumerSide, "side");
        uint256 word = uint256(more) << 160 | uint256(clock) << 24 | 1 << 16 | (byConsumerSide ? 1 << 8 : 0);
        assertEq(Progress.unwrap(stopped), word, "the stated layout");
    }
}
