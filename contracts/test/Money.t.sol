// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {DevCredit} from "../DevCredit.sol";
import {LeaseEscrow} from "../LeaseEscrow.sol";
import {ILeaseEscrow, Refusal, Signature} from "../interfaces/ILeaseEscrow.sol";
import {CallbackToken, FalseToken, FeeToken, LyingToken, MintableToken, SilentToken} from "../mocks/BadTokens.sol";
import {Papers} from "../libraries/Papers.sol";
import {EscrowTest} from "./EscrowTest.sol";
import {VM} from "./Vm.sol";

contract MoneyTest is EscrowTest {
    Signature private NONE;

    /* DEPOSIT AND WITHDRAW */

    function testFuzz_depositAndWithdraw(uint96 amount, uint96 taken) public {
        amount = uint96(bound(amount, 0, type(uint96).max - 2 * FUNDS));
        taken = uint96(bound(taken, 0, amount));
        fund(stranger, amount);
        assertEq(free(stranger), amount, "credited");
        VM.prank(stranger);
        escrow.withdraw(stranger, taken);
        assertEq(free(stranger), amount - taken, "debited");
        assertEq(token.balanceOf(stranger), taken, "paid");
    }

    function test_depositRefusals() public {
        token.faucet(address(this), type(uint128).max);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TransferFailed.selector, address(token)));
        escrow.deposit(consumer, 1);
        token.approve(address(escrow), type(uint256).max);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_ZeroAddress.selector));
        escrow.deposit(address(0), 1);
        VM.expectRevert(
            abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_AmountTooLarge.selector, uint256(type(uint96).max) + 1)
        );
        escrow.deposit(consumer, type(uint96).max - 2 * FUNDS + 1);
    }

    function test_withdrawRefusals() public {
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, stranger, consumer));
        VM.prank(stranger);
        escrow.withdraw(consumer, 1);
        VM.expectRevert(
            abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_InsufficientFree.selector, consumer, FUNDS, FUNDS + 1)
        );
        VM.prank(consumer);
        escrow.withdraw(consumer, FUNDS + 1);
        anOpenLease();
        VM.expectRevert(
            abi.encodeWithSelector(
                ILeaseEscrow.LeaseEscrow_InsufficientFree.selector, consumer, FUNDS - 111_605, FUNDS
            )
        );
        VM.prank(consumer);
        escrow.withdraw(consumer, FUNDS);
    }

    function test_withdrawGoesToTheOwner() public {
        VM.prank(consumer);
        escrow.link(consumer, stranger, NONE);
        VM.prank(consumer);
        escrow.withdraw(consumer, 7);
        VM.prank(stranger);
        escrow.withdraw(consumer, 8);
        assertEq(token.balanceOf(stranger), 15, "both to the cold key");
        assertEq(token.balanceOf(consumer), 0, "none to the hot key");
    }

    /// @dev What an owner is not: whoever has the account's key can pay a provider of its own with all that is free.
    function test_anOwnerDoesNotKeepAnAccountFromSpending() public {
        VM.prank(consumer);
        escrow.link(consumer, market, NONE);
        Deal memory deal = aDeal();
        deal.bid.market = consumer;
        deal.offer.provider = stranger;
        fund(stranger, 10_100);
        assertTrue(openOne(deal) == Refusal.None, "opened by the account itself");
        assertEq(uint256(settleOne(deal, deal.lease.price, 1)), uint256(Refusal.None), "both keys sign for everything");
        assertEq(free(stranger), 10_100 + deal.lease.price, "paid");
    }

    /* PERMIT */

    function permitOf(uint256 amount) private view returns (uint8 v, bytes32 r, bytes32 s) {
        bytes32 permit = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                stranger,
                address(escrow),
                amount,
                token.nonces(stranger),
                START + 1
            )
        );
        bytes32 hash = keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), permit));
        return VM.sign(keys[stranger], hash);
    }

    function test_depositWithPermit() public {
        token.faucet(stranger, 100);
        (uint8 v, bytes32 r, bytes32 s) = permitOf(100);
        VM.prank(stranger);
        escrow.depositWithPermit(consumer, 100, START + 1, v, r, s);
        assertEq(free(consumer), FUNDS + 100, "credited");
    }

    function test_aFrontRunPermitStillDeposits() public {
        token.faucet(stranger, 100);
        (uint8 v, bytes32 r, bytes32 s) = permitOf(100);
        token.permit(stranger, address(escrow), 100, START + 1, v, r, s);
        VM.prank(stranger);
        escrow.depositWithPermit(stranger, 100, START + 1, v, r, s);
        assertEq(free(stranger), 100, "credited");
    }

    function test_aBadPermitTakesNothing() public {
        token.faucet(stranger, 100);
        (uint8 v, bytes32 r, bytes32 s) = permitOf(99);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TransferFailed.selector, address(token)));
        VM.prank(stranger);
        escrow.depositWithPermit(stranger, 100, START + 1, v, r, s);
    }

    function test_depositWithPermitRefusesWhatDepositRefuses() public {
        token.faucet(stranger, 100);
        (uint8 v, bytes32 r, bytes32 s) = permitOf(100);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_ZeroAddress.selector));
        VM.prank(stranger);
        escrow.depositWithPermit(address(0), 100, START + 1, v, r, s);

        FeeToken bad = new FeeToken(); // without permits: the call fails, the allowance is there
        LeaseEscrow other = escrowOf(bad);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_AmountMismatch.selector, 500, 495));
        other.depositWithPermit(address(this), 500, START + 1, v, r, s);

        token.faucet(address(this), type(uint96).max);
        token.approve(address(escrow), type(uint96).max);
        VM.expectRevert(
            abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_AmountTooLarge.selector, uint256(type(uint96).max) + 1)
        );
        escrow.depositWithPermit(consumer, type(uint96).max - 2 * FUNDS + 1, START + 1, v, r, s);
    }

    /* LINK, BUMP, CANCEL */

    function test_linkBySignature() public {
        Signature memory signature = sign(consumer, keccak256(abi.encode(Papers.LINK_TYPEHASH, consumer, stranger)));
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_BadSignature.selector, consumer));
        escrow.link(consumer, market, signature);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, address(this), consumer));
        escrow.link(consumer, stranger, NONE);
        escrow.link(consumer, stranger, signature);
        assertTrue(escrow.ownerOf(consumer) == stranger, "linked");

        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, address(this), consumer));
        escrow.link(consumer, stranger, signature);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, consumer, consumer));
        VM.prank(consumer);
        escrow.link(consumer, consumer, NONE);
        VM.prank(stranger);
        escrow.link(consumer, market, NONE);
        assertTrue(escrow.ownerOf(consumer) == market, "changed by the owner alone");
    }

    function test_noZeroInLinks() public {
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_ZeroAddress.selector));
        VM.prank(consumer);
        escrow.link(consumer, address(0), NONE);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_ZeroAddress.selector));
        escrow.link(address(0), consumer, NONE);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_ZeroAddress.selector));
        new LeaseEscrow(address(0));
    }

    function test_anOwnerIsNeverTakenBackToZero() public {
        VM.prank(consumer);
        escrow.link(consumer, stranger, NONE);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_ZeroAddress.selector));
        VM.prank(stranger);
        escrow.link(consumer, address(0), NONE);
        assertTrue(escrow.ownerOf(consumer) == stranger, "still linked");
    }

    function test_theZeroSenderActsForNobody() public {
        bytes memory refusal =
            abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, address(0), consumer);
        VM.expectRevert(refusal);
        VM.prank(address(0));
        escrow.withdraw(consumer, 1);
        VM.expectRevert(refusal);
        VM.prank(address(0));
        escrow.link(consumer, stranger, NONE);
        VM.expectRevert(refusal);
        VM.prank(address(0));
        escrow.bump(consumer);
        VM.expectRevert(refusal);
        VM.prank(address(0));
        escrow.cancel(consumer, bytes32(0), 0, "");
    }

    function test_bumpAndCancelNeedTheAccount() public {
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, stranger, consumer));
        VM.prank(stranger);
        escrow.bump(consumer);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_NotAuthorized.selector, stranger, consumer));
        VM.prank(stranger);
        escrow.cancel(consumer, bytes32(0), 0, "");

        VM.prank(consumer);
        escrow.link(consumer, stranger, NONE);
        VM.prank(stranger);
        escrow.bump(consumer);
        VM.prank(stranger);
        escrow.cancel(consumer, bytes32(0), 0, "");
        (, uint32 counter,) = escrow.accountOf(consumer);
        assertEq(counter, 1, "the owner may");
    }

    function test_anOpenSeatCannotBeCancelled() public {
        Deal memory deal = anOpenLease();
        bytes32 key = deal.lease.seatKey;
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_SeatTaken.selector, key));
        VM.prank(consumer);
        escrow.cancel(consumer, deal.bid.seat, 0, "");
    }

    /* TOKENS THAT BREAK THE ASSUMPTIONS */

    function escrowOf(MintableToken bad) private returns (LeaseEscrow other) {
        other = new LeaseEscrow(address(bad));
        bad.mint(address(this), 1000);
        bad.approve(address(other), type(uint256).max);
    }

    function test_falseTokenCreditsNothing() public {
        FalseToken bad = new FalseToken();
        LeaseEscrow other = escrowOf(bad);
        other.deposit(address(this), 10);
        bad.refuse(true);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TransferFailed.selector, address(bad)));
        other.deposit(address(this), 10);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_TransferFailed.selector, address(bad)));
        other.withdraw(address(this), 10);
        (uint96 amount,,) = other.accountOf(address(this));
        assertEq(amount, 10, "a refused payment leaves the account as it was");
    }

    function test_feeAndLyingTokensAreRefused() public {
        FeeToken bad = new FeeToken();
        LeaseEscrow other = escrowOf(bad);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_AmountMismatch.selector, 500, 495));
        other.deposit(address(this), 500);
        LyingToken lying = new LyingToken();
        other = escrowOf(lying);
        VM.expectRevert(abi.encodeWithSelector(ILeaseEscrow.LeaseEscrow_AmountMismatch.selector, 500, 0));
        other.deposit(address(this), 500);
    }

    function test_silentTokenWorks() public {
        SilentToken silent = new SilentToken();
        LeaseEscrow other = new LeaseEscrow(address(silent));
        silent.mint(address(this), 100);
        other.deposit(address(this), 100);
        other.withdraw(address(this), 40);
        assertEq(silent.balanceOf(address(this)), 40, "no answer is a yes");
    }

    function test_reentrantTokenGetsNothingTwice() public {
        CallbackToken bad = new CallbackToken();
        LeaseEscrow other = escrowOf(bad);
        other.deposit(address(bad), 100);
        other.deposit(address(this), 100);

        bytes[3] memory calls = [
            abi.encodeCall(LeaseEscrow.withdraw, (address(bad), 10)),
            abi.encodeCall(LeaseEscrow.deposit, (address(bad), 0)),
            abi.encodeCall(LeaseEscrow.depositWithPermit, (address(bad), 0, 0, 0, bytes32(0), bytes32(0)))
        ];
        for (uint256 i = 0; i < 3; ++i) {
            bad.arm(address(other), calls[i]);
            other.withdraw(address(this), 1);
            assertTrue(!bad.reentered(), "withdraw is closed while it pays");
            assertTrue(bytes4(bad.answer()) == bytes4(keccak256("ReentrancyGuardReentrantCall()")), "by the guard");
            other.deposit(address(this), 1);
            assertTrue(!bad.reentered(), "deposit is closed while it takes");
        }
        (uint96 mine,,) = other.accountOf(address(this));
        (uint96 its,,) = other.accountOf(address(bad));
        assertEq(uint256(mine) + its, bad.balanceOf(address(other)), "all that is credited is there");
    }

    /* THE DEVNET'S TOKEN */

    function test_devCredit() public {
        assertEq(token.decimals(), 6, "decimals");
        assertTrue(keccak256(bytes(token.symbol())) == keccak256("DEVC"), "symbol");
        VM.chainId(1337);
        token.faucet(stranger, 5);
        assertEq(token.balanceOf(stranger), 5, "on the other devnet id");
        VM.chainId(1);
        VM.expectRevert(abi.encodeWithSelector(DevCredit.DevCredit_NotADevnet.selector, 1));
        token.faucet(stranger, 5);
    }

    function test_domainIsStated() public view {
        (, string memory name, string memory version, uint256 chainId, address verifying,,) = escrow.eip712Domain();
        assertTrue(keccak256(bytes(name)) == keccak256("Suanli"), "name");
        assertTrue(keccak256(bytes(version)) == keccak256("1"), "version");
        assertEq(chainId, block.chainid, "chain");
        assertTrue(verifying == address(escrow), "contract");
    }
}
