// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Progress} from "../interfaces/ILeaseEscrow.sol";

/// @title How far a lease has come, in one word: paid uint96 | claimed uint96 | clock uint40 | phase uint8 | flags uint8 | 0.
library ProgressWord {
    uint8 internal constant RUNNING = 0;
    uint8 internal constant STOPPED = 1;
    uint8 internal constant CLAIMED = 2;
    uint8 internal constant DISPUTED = 3;
    uint8 internal constant BY_CONSUMER_SIDE = 1;

    uint256 private constant PAID = 160;
    uint256 private constant CLAIM = 64;
    uint256 private constant CLOCK = 24;
    uint256 private constant PHASE = 16;
    uint256 private constant FLAGS = 8;
    uint256 private constant KIND = 9; // above the first flag

    function paid(Progress progress) internal pure returns (uint96) {
        return uint96(Progress.unwrap(progress) >> PAID);
    }

    function claimed(Progress progress) internal pure returns (uint96) {
        return uint96(Progress.unwrap(progress) >> CLAIM);
    }

    function clock(Progress progress) internal pure returns (uint40) {
        return uint40(Progress.unwrap(progress) >> CLOCK);
    }

    function phase(Progress progress) internal pure returns (uint8) {
        return uint8(Progress.unwrap(progress) >> PHASE);
    }

    function stoppedByConsumerSide(Progress progress) internal pure returns (bool) {
        return uint8(Progress.unwrap(progress) >> FLAGS) & BY_CONSUMER_SIDE != 0;
    }

    /// @notice The kind of the claim; 0 before there is one.
    function kind(Progress progress) internal pure returns (uint8) {
        return uint8(Progress.unwrap(progress) >> KIND) & 3;
    }

    /// @notice Whether the lease still occupies its capacity: a claim frees it.
    function isOccupying(Progress progress) internal pure returns (bool) {
        return phase(progress) < CLAIMED;
    }

    /// @notice The same progress with more paid.
    function withPaid(Progress progress, uint96 amount) internal pure returns (Progress) {
        uint256 rest = Progress.unwrap(progress) & ((1 << PAID) - 1);
        return Progress.wrap(uint256(amount) << PAID | rest);
    }

    /// @notice A running lease's progress, stopped at `clock_`.
    function stopped(Progress progress, uint40 clock_, bool byConsumerSide) internal pure returns (Progress) {
        uint256 flags = byConsumerSide ? BY_CONSUMER_SIDE : 0;
        return Progress.wrap(
            Progress.unwrap(progress) | uint256(clock_) << CLOCK | uint256(STOPPED) << PHASE | flags << FLAGS
        );
    }

    /// @notice The progress after a claim; of what was before, `paid` and who stopped it stay.
    function claimedBy(Progress progress, uint96 amount, uint40 clock_, uint8 kind_) internal pure returns (Progress) {
        uint256 kept = Progress.unwrap(progress) & (uint256(type(uint96).max) << PAID | uint256(BY_CONSUMER_SIDE) << FLAGS);
        return Progress.wrap(
            kept | uint256(amount) << CLAIM | uint256(clock_) << CLOCK | uint256(CLAIMED) << PHASE | uint256(kind_) << KIND
        );
    }

    /// @notice A claimed lease's progress, disputed at `clock_`.
    function disputed(Progress progress, uint40 clock_) internal pure returns (Progress) {
        uint256 rest = Progress.unwrap(progress) & ~(uint256(type(uint40).max) << CLOCK | uint256(type(uint8).max) << PHASE);
        return Progress.wrap(rest | uint256(clock_) << CLOCK | uint256(DISPUTED) << PHASE);
    }
}
