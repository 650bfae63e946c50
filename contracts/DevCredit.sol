// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title The devnet's money: an ERC-20 with permits and an open faucet. Worth nothing, on purpose.
/// @notice 6 decimals. The faucet gives anyone any amount, but only on the chain ids of devnets (31337, 1337).
contract DevCredit is ERC20Permit {
    error DevCredit_NotADevnet(uint256 chainId);

    constructor() ERC20("Suanli Dev Credit", "DEVC") ERC20Permit("Suanli Dev Credit") {}

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    /// @notice Mints `amount` base units to `to`.
    function faucet(address to, uint256 amount) external {
        if (block.chainid != 31337 && block.chainid != 1337) revert DevCredit_NotADevnet(block.chainid);
        _mint(to, amount);
    }
}
