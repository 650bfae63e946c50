// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Four amounts in one word: 4 lanes of uint32, of which 31 bits count and the highest is a guard.
/// @notice Valid lanes have every guard bit clear, so that a sum of two of them never carries into its neighbour.
library Lanes {
    uint128 internal constant GUARD = 0x80000000_80000000_80000000_80000000;

    /// @notice Whether no guard bit is set.
    function isValid(uint128 lanes) internal pure returns (bool) {
        return lanes & GUARD == 0;
    }

    /// @notice Whether used + need <= capacity in every lane; all three must be valid.
    /// @dev The sum is tested first: were a lane of it 2^31 or more, the difference below could borrow from its
    /// neighbour and wrap to a guard bit that says "fits". With both in 31 bits, capacity + 2^31 - sum lies in
    /// 1..2^32-1, and its guard bit says exactly that capacity >= sum.
    function fits(uint128 capacity, uint128 used, uint128 need) internal pure returns (bool) {
        unchecked {
            uint128 sum = used + need;
            return sum & GUARD == 0 && ((capacity | GUARD) - sum) & GUARD == GUARD;
        }
    }
}
