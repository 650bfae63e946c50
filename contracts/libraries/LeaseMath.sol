// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title The money of a lease, in integers; the direction of rounding stands in each name.
/// @notice Results are uint256 and callers compare them with bounds. Unchecked, because nothing can overflow: an ask is
/// below 2^89, a price below 2^118, and amounts are below 2^118 times at most 2^16.
library LeaseMath {
    uint256 internal constant HOUR = 3600;
    uint256 internal constant BPS = 10_000;
    uint256 internal constant STAKE_DIVISOR = 10;
    uint256 internal constant DISPUTE_DIVISOR = 10;

    /// @notice What `need` costs per hour at `prices`: each lane rounded up by itself (units 1000 milli, 1024 MiB).
    function askUp(uint256 need, uint256 prices) internal pure returns (uint256) {
        unchecked {
            return _laneUp(uint32(need >> 96), uint64(prices >> 192), 1000)
                + _laneUp(uint32(need >> 64), uint64(prices >> 128), 1024)
                + _laneUp(uint32(need >> 32), uint64(prices >> 64), 1000)
                + _laneUp(uint32(need), uint64(prices), 1024);
        }
    }

    /// @notice The highest sum that `seconds_` at `rate` per hour can cost.
    function priceUp(uint96 rate, uint32 seconds_) internal pure returns (uint256) {
        unchecked {
            return _divUp(uint256(rate) * seconds_, HOUR);
        }
    }

    /// @notice The market's fee on a cumulative payment. Fees of a step are differences of this, never a fee of a difference.
    function feeDown(uint256 amount, uint16 feeBps) internal pure returns (uint256) {
        unchecked {
            return amount * feeBps / BPS;
        }
    }

    /// @notice What the consumer locks beside price and fee, so that it can always afford a dispute.
    function stakeDown(uint256 price) internal pure returns (uint256) {
        return price / STAKE_DIVISOR;
    }

    /// @notice What the consumer locks in all: price, its fee, its stake.
    function depositOf(uint256 price, uint16 feeBps) internal pure returns (uint256) {
        unchecked {
            return price + feeDown(price, feeBps) + stakeDown(price);
        }
    }

    /// @notice What the provider locks.
    function bondDown(uint256 price, uint16 bondBps) internal pure returns (uint256) {
        unchecked {
            return price * bondBps / BPS;
        }
    }

    /// @notice What `seconds_` at `rate` per hour earn: whole units only.
    function earnedDown(uint96 rate, uint256 seconds_) internal pure returns (uint256) {
        unchecked {
            return uint256(rate) * seconds_ / HOUR;
        }
    }

    /// @notice What giving a lease back costs the provider: the shortest billed time, at most its bond.
    function penaltyDown(uint96 rate, uint32 minSeconds, uint96 bond) internal pure returns (uint256) {
        unchecked {
            uint256 due = earnedDown(rate, minSeconds);
            return due < bond ? due : bond;
        }
    }

    /// @notice What an arbiter's verdict on `amount` costs, in all. Never above the stake, nor above a bond of 10 %.
    function disputeCostDown(uint256 amount) internal pure returns (uint256) {
        return amount / DISPUTE_DIVISOR;
    }

    /// @notice How the cost of a verdict on `amount` is borne, of which `awarded` went to the provider: the consumer by
    /// the awarded share, rounded down, the provider by the rest; so each pays by how far it was wrong.
    function disputeCosts(uint256 amount, uint256 awarded) internal pure returns (uint256 consumer, uint256 provider) {
        unchecked {
            uint256 cost = disputeCostDown(amount);
            consumer = amount == 0 ? 0 : cost * awarded / amount;
            provider = cost - consumer;
        }
    }

    /// @notice What a disputed lease pays in all when the arbiter stays silent.
    function silenceDown(uint256 paid, uint256 claimed) internal pure returns (uint256) {
        unchecked {
            return paid + (claimed - paid) / 2;
        }
    }

    function _laneUp(uint256 need, uint256 price, uint256 unit) private pure returns (uint256) {
        unchecked {
            return _divUp(need * price, unit);
        }
    }

    function _divUp(uint256 a, uint256 b) private pure returns (uint256) {
        unchecked {
            return (a + b - 1) / b;
        }
    }
}
