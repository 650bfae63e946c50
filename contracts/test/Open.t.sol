// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Bid, Fill, ILeaseEscrow, Offer, Opening, Refusal, Signature} from "../interfaces/ILeaseEscrow.sol";
import {EscrowTest} from "./EscrowTest.sol";
import {VM, Vm} from "./Vm.sol";

contract OpenTest is EscrowTest {
    Signature private NONE;

    /* WHAT OPENING DOES */

    function test_locksMoneyAndCapacity() public {
        Deal memory deal = anOpenLease();
        assertEq(deal.lease.price, 101_000, "price of one hour");
        assertEq(depositOf(deal), 101_000 + 505 + 10_100, "price, fee, stake");
        assertEq(free(consumer), FUNDS - depositOf(deal), "consumer");
        assertEq(free(provider), FUNDS - 10_100, "provider's bond");
        assertEq(used(provider), deal.bid.need, "capacity in use");
        assertEq(used(consumer), 0, "a consumer sells nothing");
        assertEq(free(market), 0, "no fee before a payment");
    }

    function test_eventsNameTheLeaseAndTheRound() public {
        Deal memory deal = signed(aDeal());
        describe(deal);
        Opening[] memory openings = new Opening[](1);
        openings[0] = openingOf(deal);
        VM.recordLogs();
        VM.prank(market);
        escrow.open(keccak256("head"), openings);
        Vm.Log[] memory logs = VM.getRecordedLogs();
        assertTrue(logs[0].topics[0] == ILeaseEscrow.Round.selector, "Round first");
        assertTrue(logs[0].topics[1] == bytes32(uint256(uint160(market))), "by the market");
        assertTrue(keccak256(logs[0].data) == keccak256(abi.encode(keccak256("head"))), "its head");
        assertTrue(logs[1].topics[1] == deal.id, "lease id");
        assertTrue(logs[1].topics[2] == bytes32(uint256(uint160(provider))), "provider");
        assertTrue(logs[1].topics[3] == bytes32(uint256(uint160(consumer))), "consumer");
        bytes memory wanted = abi.encode(bidHash(deal), offerHash(deal), uint256(RATE) << 160 | 1);
        assertTrue(keccak256(logs[1].data) == keccak256(wanted), "hashes and terms");
    }

    function test_consumerDealsWithoutAMarket() public {
        Deal memory deal = aDeal();
        deal.bid.market = consumer;
        deal = signed(deal);
        deal.bidSignature = NONE;
        assertEq(uint256(openAs(consumer, openingOf(deal))), uint256(Refusal.None), "its own call is its signature");
    }

    function test_ownerCallsForAccount() public {
        VM.prank(market);
        escrow.link(market, stranger, NONE);
        VM.prank(consumer);
        escrow.link(consumer, stranger, NONE);
        VM.prank(provider);
        escrow.link(provider, stranger, NONE);
        Deal memory deal = aDeal();
        assertEq(uint256(openAs(stranger, openingOf(deal))), uint256(Refusal.None), "the owner of all three");
    }

    /* EVERY REFUSAL */

    function test_refusals() public {
        Deal memory deal = aDeal();
        assertEq(uint256(openAs(stranger, openingOf(signed(deal)))), uint256(Refusal.NotTheMarket), "stranger");
        deal.bid.market = address(0);
        assertEq(uint256(openAs(stranger, openingOf(signed(deal)))), uint256(Refusal.NotTheMarket), "no market");
        assertEq(uint256(openAs(address(0), openingOf(signed(deal)))), uint256(Refusal.NotTheMarket), "nobody");

        deal = aDeal();
        deal.offer.market = stranger;
        assertRefused(deal, Refusal.OtherMarket, "offer for another market");

        deal = aDeal();
        deal.offer.provider = consumer;
        assertRefused(deal, Refusal.SameParty, "with itself");
        deal.offer.provider = address(0);
        assertEq(uint256(openAs(market, openingOf(deal))), uint256(Refusal.SameParty), "nobody provides");
        deal = aDeal();
        deal.bid.consumer = address(0);
        assertEq(uint256(openAs(market, openingOf(deal))), uint256(Refusal.SameParty), "nobody consumes");

        deal = aDeal();
        deal.bid.validUntil = uint40(block.timestamp);
        assertRefused(deal, Refusal.BidExpired, "until is exclusive");
        deal.bid.validUntil += 1;
        assertRefused(deal, Refusal.None, "the last second");
        deal = aDeal();
        deal.offer.validUntil = uint40(block.timestamp);
        assertRefused(deal, Refusal.OfferExpired, "until is exclusive");

        deal = aDeal();
        deal.bid.counter = 1;
        assertRefused(deal, Refusal.BidCounter, "counter of the future");
        deal = aDeal();
        deal.offer.counter = 1;
        assertRefused(deal, Refusal.OfferCounter, "counter of the future");
    }

    function test_refusalsOfWhatThisVersionLacks() public {
        Deal memory deal = aDeal();
        deal.bid.count = 2;
        assertRefused(deal, Refusal.Unsupported, "count 2");
        deal.bid.count = 0;
        assertRefused(deal, Refusal.Unsupported, "count 0");
        deal = aDeal();
        deal.bid.attempts = 0;
        assertRefused(deal, Refusal.Attempts, "attempts");
        deal = aDeal();
        deal.bid.gang = true;
        assertRefused(deal, Refusal.Unsupported, "gang");

        Opening memory opening = openingOf(signed(aDeal()));
        opening.fills[0].index = 1;
        assertEq(uint256(openAs(market, opening)), uint256(Refusal.Unsupported), "index");
        opening.fills[0].index = 0;
        opening.fills[0].previous = hex"00";
        assertEq(uint256(openAs(market, opening)), uint256(Refusal.SeatTaken), "previous attempt");
        opening.fills = new Fill[](0);
        assertEq(uint256(openAs(market, opening)), uint256(Refusal.Unsupported), "no fill at all");

        deal = aDeal();
        deal.bid.arbiter = stranger;
        assertRefused(deal, Refusal.Arbiter, "arbiter of the bid");
        deal = aDeal();
        deal.offer.arbiter = stranger;
        assertRefused(deal, Refusal.Arbiter, "arbiter of the offer");
    }

    function test_refusalsOfTerms() public {
        Deal memory deal = aDeal();
        deal.bid.maxSeconds = 0;
        deal.offer.minSeconds = 0;
        assertRefused(deal, Refusal.Seconds, "no time at all");
        deal.bid.maxSeconds = 59;
        deal.offer.minSeconds = 60;
        assertRefused(deal, Refusal.Seconds, "too short");

        deal = aDeal();
        deal.rate = RATE - 1;
        assertRefused(deal, Refusal.RateBelowAsk, "below the ask");
        deal.rate = 1_000_001;
        assertRefused(deal, Refusal.RateAboveBid, "above the bid");

        deal = aDeal();
        deal.bid.budget = 101_504;
        assertRefused(deal, Refusal.Budget, "a unit short of price and fee");
        deal.bid.budget = 101_505;
        assertRefused(deal, Refusal.None, "price and fee exactly");

        deal = aDeal();
        deal.bid.window = deal.offer.maxWindow + 1;
        assertRefused(deal, Refusal.Window, "window");
        deal = aDeal();
        deal.offer.bondBps = 999;
        assertRefused(deal, Refusal.Bond, "bond too small");
        deal.offer.bondBps = 10_001;
        assertRefused(deal, Refusal.Bond, "bond too big");
        deal = aDeal();
        deal.bid.feeBps = 10_001;
        assertRefused(deal, Refusal.Fee, "fee above the price");
        deal.bid.feeBps = 10_000;
        assertRefused(deal, Refusal.None, "fee as high as the price");

        deal = aDeal();
        deal.bid.needs = 8;
        assertRefused(deal, Refusal.Traits, "lacks a trait");
        deal = aDeal();
        deal.bid.refuses = 4;
        assertRefused(deal, Refusal.Traits, "has a refused trait");
    }

    function test_refusalsOfLanesAndFunds() public {
        Deal memory deal = aDeal();
        deal.offer.capacity |= 1 << 127;
        assertRefused(deal, Refusal.Lanes, "guard bit in capacity");
        deal = aDeal();
        deal.bid.need |= 1 << 63; // the accelerator, free of charge here
        assertRefused(deal, Refusal.Lanes, "guard bit in need");
        deal = aDeal();
        deal.bid.need = lanes(1, 1, 1, 1);
        assertRefused(deal, Refusal.Capacity, "no accelerator there");

        deal = aDeal();
        withdrawAllBut(consumer, 101_000 + 505 + 10_100 - 1);
        assertRefused(deal, Refusal.ConsumerFunds, "a unit short of the deposit");
        fund(consumer, 1);
        withdrawAllBut(provider, 10_099);
        assertRefused(deal, Refusal.ProviderFunds, "a unit short of the bond");
        fund(provider, 1);
        assertRefused(deal, Refusal.None, "both to the last unit");
        assertEq(free(consumer) + free(provider), 0, "nothing is left");
    }

    function withdrawAllBut(address account, uint256 rest) private {
        uint256 amount = free(account) - rest;
        VM.prank(account);
        escrow.withdraw(account, amount);
    }

    /* SIGNATURES */

    function test_refusalsOfSignatures() public {
        Deal memory deal = signed(aDeal());
        deal.bidSignature = NONE;
        assertEq(uint256(openAs(market, openingOf(deal))), uint256(Refusal.BidSignature), "unsigned bid");
        deal = signed(aDeal());
        deal.bidSignature = sign(stranger, bidHash(deal));
        assertEq(uint256(openAs(market, openingOf(deal))), uint256(Refusal.BidSignature), "another signer");
        deal = signed(aDeal());
        deal.offerSignature = NONE;
        assertEq(uint256(openAs(market, openingOf(deal))), uint256(Refusal.OfferSignature), "unsigned offer");
        deal.offerSignature = Signature(bytes32(0), bytes32(uint256(1)));
        assertEq(uint256(openAs(market, openingOf(deal))), uint256(Refusal.OfferSignature), "recovers to nobody");
    }

    function testFuzz_highSIsRefused(uint256 salt) public {
        Deal memory deal = aDeal();
        deal.bid.documents = bytes32(salt);
        deal = signed(deal);
        uint256 order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
        uint256 vs = uint256(deal.bidSignature.vs);
        uint256 twin = order - (vs & type(uint256).max >> 1);
        deal.bidSignature.vs = bytes32(twin);
        assertEq(uint256(openAs(market, openingOf(deal))), uint256(Refusal.BidSignature), "as it is");
        deal.bidSignature.vs = bytes32(twin | ~vs & 1 << 255);
        assertEq(uint256(openAs(market, openingOf(deal))), uint256(Refusal.BidSignature), "with the other parity");
    }

    function testFuzz_oneFlippedBitIsRefused(uint256 place, uint8 paper) public {
        Deal memory deal = signed(aDeal());
        place %= 512;
        if (paper % 4 == 0) flip(deal.bidSignature, place);
        else if (paper % 4 == 1) flip(deal.offerSignature, place);
        else if (paper % 4 == 2) deal.bid = abi.decode(flipField(abi.encode(deal.bid), bidWidths(), place), (Bid));
        else deal.offer = abi.decode(flipField(abi.encode(deal.offer), offerWidths(), place), (Offer));

        bool opened = openAs(market, openingOf(deal)) == Refusal.None;
        assertTrue(!opened, "a changed paper or signature opens nothing");
        assertEq(free(consumer) + free(provider), 2 * FUNDS, "and moves nothing");
    }

    function test_papersOfAnotherChainAreRefused() public {
        Deal memory deal = signed(aDeal());
        VM.chainId(1);
        assertEq(uint256(openAs(market, openingOf(deal))), uint256(Refusal.BidSignature), "signed before the fork");
        deal = signed(deal);
        assertEq(uint256(openAs(market, openingOf(deal))), uint256(Refusal.None), "the domain follows the chain id");
    }

    /* REPLAYS AND COUNTERS */

    function test_aSeatIsTakenOnce() public {
        Deal memory deal = anOpenLease();
        assertRefused(deal, Refusal.SeatTaken, "while open");
        Deal memory worse = aDeal();
        worse.bid.seat = deal.bid.seat;
        worse.bid.maxRate = RATE;
        assertRefused(worse, Refusal.SeatTaken, "an alternative bid of the same seat");
        describe(deal);
        settleOne(deal, 0, 1);
        assertRefused(deal, Refusal.SeatTaken, "and after it is closed");
    }

    function test_firstFillTakesTheSeat() public {
        Deal memory deal = signed(aDeal());
        Opening memory opening = openingOf(deal);
        opening.fills = new Fill[](2);
        opening.fills[0] = Fill(deal.offer, deal.offerSignature, deal.rate, 0, "");
        opening.fills[1] = opening.fills[0];
        Opening[] memory openings = new Opening[](1);
        openings[0] = opening;
        VM.recordLogs();
        VM.prank(market);
        escrow.open(bytes32(0), openings);
        Vm.Log[] memory logs = VM.getRecordedLogs();
        assertTrue(logs[1].topics[0] == ILeaseEscrow.Opened.selector, "the first opens");
        (, Refusal code) = abi.decode(logs[2].data, (uint16, Refusal));
        assertEq(uint256(code), uint256(Refusal.SeatTaken), "the second does not");
    }

    function test_aLaterFillTakesTheSeat() public {
        Opening memory opening = openingOf(signed(aDeal()));
        Fill memory good = opening.fills[0];
        opening.fills = new Fill[](2);
        opening.fills[0] = Fill(good.offer, good.signature, RATE - 1, 0, "");
        opening.fills[1] = good;
        Vm.Log[] memory logs = openingLogs(opening);
        (, Refusal code) = abi.decode(logs[1].data, (uint16, Refusal));
        assertEq(uint256(code), uint256(Refusal.RateBelowAsk), "the first does not open");
        assertTrue(logs[2].topics[0] == ILeaseEscrow.Opened.selector, "the second does");
    }

    function test_anUnsignedBidIsRefusedForEachFill() public {
        Opening memory opening = openingOf(signed(aDeal()));
        Fill memory good = opening.fills[0];
        opening.signature = NONE;
        opening.fills = new Fill[](2);
        (opening.fills[0], opening.fills[1]) = (good, good);
        Vm.Log[] memory logs = openingLogs(opening);
        assertEq(logs.length, 3, "Round and an outcome each");
        for (uint256 i = 1; i < 3; ++i) {
            (, Refusal code) = abi.decode(logs[i].data, (uint16, Refusal));
            assertEq(uint256(code), uint256(Refusal.BidSignature), "each fill");
        }
    }

    function openingLogs(Opening memory opening) private returns (Vm.Log[] memory) {
        Opening[] memory openings = new Opening[](1);
        openings[0] = opening;
        VM.recordLogs();
        VM.prank(market);
        escrow.open(bytes32(0), openings);
        return VM.getRecordedLogs();
    }

    function test_bumpKillsOlderPapersAndLeavesLeases() public {
        Deal memory open_ = anOpenLease();
        VM.prank(provider);
        escrow.bump(provider);
        assertRefused(aDeal(), Refusal.OfferCounter, "old offer");
        Deal memory fresh = aDeal();
        fresh.offer.counter = 1;
        assertRefused(fresh, Refusal.None, "new offer");
        VM.prank(consumer);
        escrow.bump(consumer);
        fresh = aDeal();
        fresh.offer.counter = 1;
        assertRefused(fresh, Refusal.BidCounter, "old bid");
        assertEq(uint256(settleOne(open_, 5, 1)), uint256(Refusal.None), "open leases go on");
    }

    function test_cancelledSeatOpensNothing() public {
        Deal memory deal = aDeal();
        VM.prank(consumer);
        escrow.cancel(consumer, deal.bid.seat, 0, "");
        assertRefused(deal, Refusal.SeatTaken, "cancelled");
    }

    /* CAPACITY: one account, whatever the papers */

    function testFuzz_twoMarketsShareOneMachine(uint256 order, uint32 cores) public {
        uint256 cpu = bound(cores, 500, 8000);
        uint256 room = 8000 / cpu;
        uint256 opened = 0;
        Deal memory last;
        for (uint256 i = 0; i < 18; ++i) {
            Deal memory deal = aDeal();
            deal.bid.need = lanes(cpu, 1, 0, 1);
            deal.rate = 500_000;
            deal.bid.market = order >> i & 1 == 0 ? market : stranger;
            deal.offer.market = deal.bid.market;
            deal.offer.minSeconds = uint32(1 + i); // renewed papers, same machine
            Refusal code = openOne(deal);
            assertEq(uint256(code), uint256(opened < room ? Refusal.None : Refusal.Capacity), "sold once");
            if (code == Refusal.None) {
                ++opened;
                last = deal;
            }
        }
        assertEq(used(provider), lanes(opened * cpu, opened, 0, opened), "the sum of needs");
        settleOne(last, 1, 1);
        Deal memory next = aDeal();
        next.bid.need = last.bid.need;
        next.rate = 500_000;
        assertRefused(next, Refusal.None, "what was freed can be sold again");
    }

    function test_smallerOfferAfterBiggerOne() public {
        Deal memory deal = aDeal();
        deal.bid.need = lanes(0x7fffffff, 0, 0, 0);
        deal.offer.capacity = lanes(0x7fffffff, 0, 0, 0);
        deal.offer.prices = 0;
        assertRefused(deal, Refusal.None, "the whole lane");
        Deal memory second = aDeal();
        second.bid.need = lanes(0x7fffffff, 0, 0, 0);
        second.offer.capacity = 0;
        second.offer.prices = 0;
        assertRefused(second, Refusal.Capacity, "the sum passes the guard bit");
    }

    /* HOSTILE ENTRIES */

    function testFuzz_anyPapersNeverRevert(Bid memory bid, Offer memory offer, uint96 rate, Signature memory s) public {
        bid.market = market;
        Deal memory deal;
        (deal.bid, deal.offer, deal.rate, deal.bidSignature, deal.offerSignature) = (bid, offer, rate, s, s);
        assertTrue(openAs(market, openingOf(deal)) != Refusal.None, "nobody signed this");
    }

    /// @dev Good papers with up to three fields driven to an edge or anywhere, and signed as they are.
    function testFuzz_signedExtremesNeverRevertNorMint(uint256 seed) public {
        Deal memory deal = aDeal();
        bytes memory bid = abi.encode(deal.bid);
        bytes memory offer = abi.encode(deal.offer);
        for (uint256 i = 0; i < 3; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            if (seed % 3 == 0) bid = setField(bid, bidWidths(), seed >> 8);
            else if (seed % 3 == 1) offer = setField(offer, offerWidths(), seed >> 8);
            else deal.rate = uint96(extreme(seed >> 8, 96));
        }
        deal.bid = abi.decode(bid, (Bid));
        deal.offer = abi.decode(offer, (Offer));
        (deal.bid.market, deal.bid.consumer, deal.offer.provider) = (market, consumer, provider);

        bool opened = openOne(deal) == Refusal.None;
        assertEq(free(consumer) + free(provider) + (opened ? locked(deal) : 0), 2 * FUNDS, "conserved");
        assertEq(used(provider), opened ? deal.bid.need : 0, "capacity");
    }

    function test_namedExtremes() public {
        Deal memory deal = aDeal();
        deal.bid.maxRate = type(uint96).max;
        deal.bid.budget = type(uint96).max;
        deal.bid.need = lanes(0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff);
        deal.offer.capacity = deal.bid.need;
        deal.offer.prices = type(uint256).max;
        deal.rate = type(uint96).max;
        deal.bid.maxSeconds = type(uint32).max;
        deal.offer.maxSeconds = type(uint32).max;
        assertRefused(deal, Refusal.Budget, "the price passes uint96");
        deal.rate = 1 << 84;
        assertRefused(deal, Refusal.RateBelowAsk, "the highest ask of all is above");
        deal.rate = type(uint96).max;
        deal.bid.maxSeconds = 3600;
        deal.bid.feeBps = 0;
        assertRefused(deal, Refusal.ConsumerFunds, "the deposit passes uint96");
    }

    /* BATCHES */

    function testFuzz_badEntriesLeaveTheirNeighboursAlone(uint8 bad, uint256 seed) public {
        Opening[] memory openings = new Opening[](6);
        Deal[] memory deals = new Deal[](6);
        for (uint256 i = 0; i < 6; ++i) {
            Deal memory deal = aDeal();
            deal.bid.need = lanes(1000, 1, 0, 1);
            deals[i] = signed(deal);
            if (bad >> i & 1 == 1) deals[i] = spoiled(deal, uint256(keccak256(abi.encode(seed, i))) % 6);
            openings[i] = openingOf(deals[i]);
        }
        VM.recordLogs();
        VM.prank(market);
        escrow.open(bytes32(0), openings);
        Vm.Log[] memory logs = VM.getRecordedLogs();
        assertEq(logs.length, 7, "a Round and an outcome each");
        uint256 opened = 0;
        for (uint256 i = 0; i < 6; ++i) {
            bool isBad = bad >> i & 1 == 1;
            bytes32 wanted = isBad ? ILeaseEscrow.Refused.selector : ILeaseEscrow.Opened.selector;
            assertTrue(logs[i + 1].topics[0] == wanted, "each on its own");
            assertTrue((escrow.seatOf(seatKeyOf(deals[i].bid)) == 0) == isBad, "its seat too");
            if (!isBad) ++opened;
        }
        assertEq(used(provider), lanes(1000 * opened, opened, 0, opened), "only the good ones");
    }

    function spoiled(Deal memory deal, uint256 how) private view returns (Deal memory) {
        if (how == 0) deal.rate = 0;
        if (how == 1) deal.bid.need = type(uint128).max;
        if (how == 2) (deal.rate, deal.bid.maxRate, deal.bid.budget) = (type(uint96).max, type(uint96).max, type(uint96).max);
        if (how == 3) deal.bid.validUntil = 0;
        deal = signed(deal);
        if (how == 4) deal.bidSignature.r = bytes32(type(uint256).max);
        if (how == 5) deal.offerSignature = NONE;
        return deal;
    }

    function test_noOpeningsAreARoundAlone() public {
        VM.recordLogs();
        VM.prank(stranger);
        escrow.open(keccak256("head"), new Opening[](0));
        Vm.Log[] memory logs = VM.getRecordedLogs();
        assertEq(logs.length, 1, "one event");
        assertTrue(logs[0].topics[0] == ILeaseEscrow.Round.selector, "Round");
        assertTrue(logs[0].topics[1] == bytes32(uint256(uint160(stranger))), "in its caller's name");
    }

    /// @dev What a caller encodes is not an entry's fault: bits above a field's width stop the whole call.
    function test_strayBitsRevertTheCall() public {
        Opening[] memory openings = new Opening[](2);
        (openings[0], openings[1]) = (openingOf(signed(aDeal())), openingOf(signed(aDeal())));
        bytes memory data = abi.encodeCall(ILeaseEscrow.open, (bytes32(0), openings));
        uint256 first = 4 + 32 * (3 + openings.length); // selector; head, offset, length; an offset each
        data[first + 32 * 17] = 0x01; // bid.validUntil
        VM.prank(market);
        (bool done,) = address(escrow).call(data);
        assertTrue(!done, "the neighbour does not open either");
        data[first + 32 * 17] = 0x00;
        VM.prank(market);
        (done,) = address(escrow).call(data);
        assertTrue(done && used(provider) == 2 * openings[0].bid.need, "as it was encoded both do");
    }

    /* FIELDS OF ENCODED PAPERS */

    function bidWidths() private pure returns (uint16[19] memory) {
        return [uint16(160), 160, 160, 160, 256, 16, 8, 1, 128, 64, 64, 96, 96, 32, 32, 16, 256, 40, 32];
    }

    /// @dev As long as the bid's, so that both go through one function; the last six are never reached.
    function offerWidths() private pure returns (uint16[19] memory) {
        return [uint16(160), 160, 160, 128, 256, 256, 64, 40, 32, 32, 16, 32, 32, 0, 0, 0, 0, 0, 0];
    }

    function flip(Signature memory signature, uint256 place) private pure {
        if (place < 256) signature.r ^= bytes32(1 << place);
        else signature.vs ^= bytes32(1 << (place - 256));
    }

    function flipField(bytes memory paper, uint16[19] memory widths, uint256 place) private pure returns (bytes memory) {
        uint256 field = place % (paper.length / 32);
        return withWord(paper, field, wordOf(paper, field) ^ 1 << (place / 19 % widths[field]));
    }

    function setField(bytes memory paper, uint16[19] memory widths, uint256 seed) private pure returns (bytes memory) {
        uint256 field = seed % (paper.length / 32);
        return withWord(paper, field, extreme(seed >> 8, widths[field]));
    }

    function extreme(uint256 seed, uint256 width) private pure returns (uint256) {
        uint256 most = type(uint256).max >> (256 - width);
        uint256 choice = seed % 5;
        if (choice == 0) return 0;
        if (choice == 1) return most;
        if (choice == 2) return most - 1;
        if (choice == 3) return most >> 1;
        return uint256(keccak256(abi.encode(seed))) & most;
    }

    function wordOf(bytes memory paper, uint256 index) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(add(paper, 0x20), mul(index, 0x20)))
        }
    }

    function withWord(bytes memory paper, uint256 index, uint256 word) private pure returns (bytes memory) {
        assembly ("memory-safe") {
            mstore(add(add(paper, 0x20), mul(index, 0x20)), word)
        }
        return paper;
    }
}
