// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev free money uint96 | counter uint32 | capacity in use 4 x uint32, high to low.
type AccountWord is uint256;

using AccountWords for AccountWord global;

/// @title An account in one storage word.
/// @notice The words of all accounts together hold at most the token's balance, which fits in uint96; so credits stay
/// inside their lane. `free` is the highest lane, so whatever a lying token does, no credit reaches another lane.
library AccountWords {
    uint256 private constant FREE = 160;
    uint256 private constant COUNTER = 128;

    function free(AccountWord word) internal pure returns (uint96) {
        return uint96(AccountWord.unwrap(word) >> FREE);
    }

    function counter(AccountWord word) internal pure returns (uint32) {
        return uint32(AccountWord.unwrap(word) >> COUNTER);
    }

    function used(AccountWord word) internal pure returns (uint128) {
        return uint128(AccountWord.unwrap(word));
    }

    /// @notice Adds to `free`. `amount` must be below 2^96.
    function credit(AccountWord word, uint256 amount) internal pure returns (AccountWord) {
        return AccountWord.wrap(AccountWord.unwrap(word) + (amount << FREE));
    }

    /// @notice Takes from `free`. `amount` must be at most free.
    function debit(AccountWord word, uint256 amount) internal pure returns (AccountWord) {
        return AccountWord.wrap(AccountWord.unwrap(word) - (amount << FREE));
    }

    /// @notice Takes capacity. `need` must fit (Lanes.fits).
    function occupy(AccountWord word, uint128 need) internal pure returns (AccountWord) {
        return AccountWord.wrap(AccountWord.unwrap(word) + need);
    }

    /// @notice Gives capacity back. `need` must have been taken before.
    function vacate(AccountWord word, uint128 need) internal pure returns (AccountWord) {
        return AccountWord.wrap(AccountWord.unwrap(word) - need);
    }

    /// @notice Raises the counter; reverts at its end rather than carry into `free`.
    function bumped(AccountWord word) internal pure returns (AccountWord) {
        uint32 next = counter(word) + 1;
        uint256 rest = AccountWord.unwrap(word) & ~(uint256(type(uint32).max) << COUNTER);
        return AccountWord.wrap(rest | (uint256(next) << COUNTER));
    }
}
