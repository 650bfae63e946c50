// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Progress} from "../interfaces/ILeaseEscrow.sol";

/// @title How far a lease has come, in one word: paid uint96 | claimed uint96 | clock uint40 | phase uint8 | flags uint8 | 0.
library ProgressWord {
    uint8 internal constant RUNNING = 0;
    uint8 internal constant STOPPED = 1;
    uint8 internal constant BY_CONSUMER_SIDE = 1;

    uint256 private constant PAID = 160;
    uint256 private constant CLOCK = 24;
    uint256 private constant PHASE = 16;
    uint256 private constant FLAGS = 8;

    function paid(Progress progress) internal pure returns (uint96) {
        return uint96(Progress.unwrap(progress) >> PAID);
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
}
