"""The market as a process: full disks, restarts, kills, a chain that was reset, settings that are wrong."""

from __future__ import annotations

import re
import resource
import secrets
import socket
import subprocess
import threading
import time
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from suanli_protocol import wire
from suanli_protocol.documents import sha256
from suanli_protocol.errors import (
    MarketError,
    UnreachableError,
)
from suanli_protocol.lease import Progress, terms
from suanli_protocol.market_client import MarketClient
from suanli_protocol.messages import Bid, Delivered, Offer, Receipt
from suanli_protocol.openings import Fill, Opening, Settlement, encode_open, encode_settle
from support.devnet import Anvil, free_port, start_anvil
from support.market import (
    Party,
    World,
    a_world,
    market_key,
    serve_command,
    start_market,
)
from support.market_scene import (
    WAIT_S,
    Market,
    a_pair,
    countersigned,
    events_until,
    eventually,
    opened_lease,
    put_raw,
    raw_problem,
    signed_receipt,
)

pytestmark = pytest.mark.e2e


def test_a_full_disk_is_named_and_nothing_is_lost(market: Market, provider: Party, consumer: Party) -> None:
    """No file of the market can grow for a while: writes are refused, reads go on, and then all goes on."""
    lease = opened_lease(market, provider, consumer)
    id_ = wire.from_hex(lease.id)
    client, node = market.client(consumer), market.client(provider)
    chunk = wire.LogPage(chunks=[wire.LogChunk(seq=0, data="0x" + "ab" * 1000)])
    target = f"/v1/leases/{lease.id}/blobs/inputs"
    put_raw(market, consumer, target, "size=8", b"", method="POST")
    offer, bid = a_pair(market, provider, consumer)
    limits = resource.prlimit(market.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        refused = put_raw(market, consumer, target, "offset=0", b"half")
        assert (refused.status_code, refused.json()["code"], refused.json()["retryable"]) == (507, "storage", True)
        problem = raw_problem(market, "/v1/bids", bid)
        assert (problem["code"], problem["hint"]) == ("storage", "free some disk space")
        with pytest.raises(MarketError, match="refused"):
            node.post_logs(id_, chunk)
        market.world.escrow.bump(market.world.deployer, market.world.deployer.address)  # an event to be indexed
        eventually(lambda: any("a step along the chain failed" in line for line in market.process.log))
        assert client.lease(id_).id == lease.id
        assert [lease.id for lease in node.leases()] == [lease.id]
    finally:
        resource.prlimit(market.process.pid, resource.RLIMIT_FSIZE, limits)
    client.post_bid(bid)
    node.post_logs(id_, chunk)
    assert client.logs(id_).chunks == chunk.chunks
    assert client.put_blob(id_, "inputs", BytesIO(b"halfrest"), 8).delivered is not None
    node.post_offer(offer)
    eventually(lambda: len(client.leases()) == 2)


def test_a_restart_goes_on_where_it_was(world: World, tmp_path: Path) -> None:
    key, password, _ = market_key(world, tmp_path / "key")
    provider, consumer = world.party(), world.party()
    command = serve_command(world, key, password, tmp_path / "data")
    with start_market(command) as process:
        market = Market(world, process, tmp_path / "data")
        lease = opened_lease(market, provider, consumer)
        id_ = wire.from_hex(lease.id)
        offer, bid = a_pair(market, provider, consumer)
        ack = market.client(consumer).post_bid(bid)
        seen = events_until(market.client(consumer), "bid.unmatched")
        target = f"/v1/leases/{lease.id}/blobs/inputs"
        put_raw(market, consumer, target, "size=8", b"", method="POST")
        put_raw(market, consumer, target, "offset=0", b"half")
        process.process.kill()
        process.process.wait(10)
    signed = signed_receipt(market, provider, lease, amount=5)
    world.escrow.faucet(world.deployer, provider.address, 1)  # the chain goes on meanwhile
    with start_market(command) as process:
        market = Market(world, process, tmp_path / "data")
        client = market.client(consumer)
        assert client.post_bid(bid) == ack
        view = client.put_blob(id_, "inputs", BytesIO(b"halfrest"), 8)
        assert wire.paper_from_json(Delivered, view.delivered).digest == sha256(b"halfrest")
        market.client(provider).post_offer(offer)
        rest = events_until(client, "lease.opened", after=seen[-1].seq)
        assert [event.kind for event in rest] == ["bid.matched", "lease.opened"]
        market.client(provider).post_receipt(id_, signed)
        client.countersign(id_, countersigned(market, consumer, signed.receipt))
        events_until(client, "lease.settled", after=seen[-1].seq)
        numbers = [lease.number for lease in client.leases()]
        assert numbers == sorted(numbers, reverse=True)
        assert len(numbers) == 2


def test_a_match_that_was_written_but_not_sent_is_sent_after_a_restart(tmp_path: Path) -> None:
    """The chain is away when the match is made, and the market is killed: the intent lies in the database."""
    with start_anvil() as anvil:
        world = a_world(anvil)
        key, password, signer = market_key(world, tmp_path / "key")
        provider, consumer = world.party(), world.party()
        command = serve_command(world, key, password, tmp_path / "data")
        with start_market(command) as process:
            market = Market(world, process, tmp_path / "data")
            offer, bid = a_pair(market, provider, consumer)
            market.client(provider).post_offer(offer)
            anvil.rpc("anvil_setBalance", signer.address, "0x0")  # nothing can be sent
            market.client(consumer).post_bid(bid)
            events_until(market.client(consumer), "bid.matched")
            eventually(lambda: any("no coin for gas" in line for line in process.log))
            process.process.kill()
            process.process.wait(10)
        anvil.rpc("anvil_setBalance", signer.address, hex(10**18))
        with start_market(command) as process:
            client = Market(world, process, tmp_path / "data").client(consumer)
            events_until(client, "lease.opened")
            assert len(client.leases()) == 1


FORWARDER = bytes.fromhex("6019600c60003960196000f3602036038060206000376000600082600060006000355af100")


def test_a_match_that_was_sent_but_not_mined_opens_once_whatever_strangers_send(
    world: World, anvil: Anvil, tmp_path: Path
) -> None:
    """The market is killed while its opening waits to be mined; strangers bring the same papers first, and nonsense."""
    key, password, signer = market_key(world, tmp_path / "key")
    provider, consumer, stranger = world.party(), world.party(), world.party(money=0)
    escrow, chain = world.escrow, world.chain
    forwarder = chain.wait(chain.send(stranger.signer, FORWARDER, to=None)).contract
    command = serve_command(world, key, password, tmp_path / "data")

    def send(data: bytes) -> None:
        target = bytes(12) + bytes.fromhex(escrow.address[2:])
        escrow.send(stranger.signer, data, gas=2_000_000)
        escrow.send(stranger.signer, target + data, to=forwarder, gas=2_000_000)

    def is_sent(count: int) -> bool:
        return chain.nonce(signer.address) == count

    anvil.rpc("evm_setAutomine", False)
    try:
        with start_market(command) as process:
            market = Market(world, process, tmp_path / "data")
            offer, bid = a_pair(market, provider, consumer)
            market.client(provider).post_offer(offer)
            market.client(consumer).post_bid(bid)
            eventually(lambda: is_sent(1))
            process.process.kill()
            process.process.wait(10)
        fill = Fill(wire.paper_from_json(Offer, offer.offer), wire.from_hex(offer.signature), 35_100)
        send(encode_open(bytes(32), [Opening(wire.paper_from_json(Bid, bid.bid), bytes(64), (fill,))]))
        anvil.rpc("evm_mine")
        with start_market(command) as process:
            market = Market(world, process, tmp_path / "data")
            client, node = market.client(consumer), market.client(provider)
            anvil.rpc("evm_setAutomine", True)
            anvil.rpc("evm_mine")
            kinds = [event.kind for event in events_until(client, "lease.opened")]
            assert kinds == ["bid.queued", "bid.matched", "lease.opened"]
            (lease,) = client.leases()
            id_ = wire.from_hex(lease.id)
            signed = signed_receipt(market, provider, lease, amount=5)
            node.post_receipt(id_, signed)
            held, _ = terms(
                wire.paper_from_json(Bid, lease.bid), fill.offer, rate=int(lease.rate), opened_at=lease.opened_at
            )
            paper = wire.paper_from_json(Receipt, signed.receipt)
            for kind, signature in ((1, bytes(64)), (255, b"\x11" * 64)):
                junk = Settlement(held, Progress(), 5, kind, paper.evidence, signature, signature)
                send(encode_settle([junk, junk]))
            word = Progress(paid=7, clock=9).pack().to_bytes(32, "big")
            data = encode_settle([Settlement(held, Progress(7, 0, 9), 5, 1, paper.evidence, bytes(64), bytes(64))])
            assert data.count(word) == 1
            send(data.replace(word, b"\xff" * 32))
            send(escrow.encode_settle([])[:4] + secrets.token_bytes(200))
            client.countersign(id_, countersigned(market, consumer, signed.receipt))
            events_until(client, "lease.settled")
            assert len(client.leases()) == 1
            assert not [line for line in process.log if "Traceback" in line or "step along" in line]
    finally:
        anvil.rpc("evm_setAutomine", True)


def test_a_devnet_that_was_reset_is_noticed(tmp_path: Path) -> None:
    port = free_port()
    with start_anvil(port=port) as anvil:
        world = a_world(anvil)
        key, password, _ = market_key(world, tmp_path / "key")
        command = serve_command(world, key, password, tmp_path / "data")
        with start_market(command) as process:
            consumer = world.party()
            client = Market(world, process, tmp_path / "data").client(consumer)
            client.info()
            told: list[list[wire.Event]] = []
            reader = threading.Thread(target=lambda: told.append(events_until(client, "chain.reset")))
            reader.start()
            time.sleep(0.3)
            anvil.rpc("anvil_reset")
            answer = eventually(lambda: refused(process.url))
            assert (answer["code"], answer["retryable"]) == ("chain_reset", False)
            assert "--data" in answer["hint"]
            assert process.process.poll() is None
            reader.join(WAIT_S)
            assert told[0][-1].kind == "chain.reset"
    with start_anvil(port=port):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr


def refused(url: str) -> wire.Json | None:
    """The problem of a market that answers 503."""
    answer = httpx.get(f"{url}/v1/offers")
    return answer.json() if answer.status_code == 503 else None


def test_a_market_that_is_away_is_unreachable(consumer: Party) -> None:
    with pytest.raises(UnreachableError):
        MarketClient(f"http://127.0.0.1:{free_port()}", signer=consumer.signer).info()


def test_a_stream_breaks_when_the_market_ends(world: World, consumer: Party, tmp_path: Path) -> None:
    key, password, _ = market_key(world, tmp_path / "key")
    with start_market(serve_command(world, key, password, tmp_path / "data")) as process:
        client = process.client(consumer.signer)
        stream = client.events()
        ended: list[Exception] = []

        def read() -> None:
            try:
                list(stream)
            except UnreachableError as error:
                ended.append(error)

        client.info()
        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.3)
        process.process.terminate()
        assert process.process.wait(10) == 0
        reader.join(WAIT_S)
        assert len(ended) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--escrow": "0x" + "12" * 20}, "no contract"),
        ({"--escrow": "token"}, "not the escrow of this version"),
        ({"--escrow": "0x12"}, "--escrow"),
        ({"--chain": "dead"}, "cannot be used"),
        ({"--keystore": "/nonexistent"}, "does not exist"),
        ({"--port": "taken"}, "cannot be listened on"),
        ({"--data": "file"}, "cannot be used"),
    ],
)
def test_a_wrong_setting_is_named(world: World, tmp_path: Path, change: dict[str, str], message: str) -> None:
    key, password, _ = market_key(world, tmp_path / "key")
    command = serve_command(world, key, password, tmp_path / "data")
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {
            "token": world.escrow.token.address,
            "dead": f"http://127.0.0.1:{free_port()}",
            "taken": str(taken.getsockname()[1]),
            "file": str(tmp_path / "file"),
        }
        for option, value in change.items():
            command[command.index(option) + 1] = values.get(value, value)
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_market_without_gas_money_says_so(world: World, tmp_path: Path) -> None:
    key, password, signer = market_key(world, tmp_path / "key")
    world.chain.rpc("anvil_setBalance", signer.address, "0x0")
    command = serve_command(world, key, password, tmp_path / "data")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert re.search(r"holds 0 wei", ended.stderr)
