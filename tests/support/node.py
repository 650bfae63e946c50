"""A real node for tests as a process, and a consumer that follows a script: bid, seal, upload, check, countersign."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from suanli_protocol import wire
from suanli_protocol.archive import Source, UnpackLimits, pack, unpack
from suanli_protocol.devnet import set_balance
from suanli_protocol.documents import Evidence, JobDocument, LogLine, hex32, read_log_chunk, sha256
from suanli_protocol.errors import NotFoundError
from suanli_protocol.keystore import SCRYPT_N_DEVNET, create
from suanli_protocol.market_client import MarketClient
from suanli_protocol.messages import Receipt
from suanli_protocol.sealing import Context, open_bytes, open_stream, seal_bytes, seal_stream
from suanli_protocol.signing import Signer
from support.builders import CREDIT, a_job
from support.market import GAS_WEI, PASSWORD, World, bid_id, signed_bid
from support.service import start_service

WAIT_S = 90.0
T = TypeVar("T")


@dataclass
class NodeProcess:
    """A node that serves."""

    ready: dict[str, Any]
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The provider's account."""
        return str(self.ready["address"])

    def kill(self) -> None:
        """kill -9, as a crash would."""
        self.process.kill()
        self.process.wait(timeout=10)


@dataclass(frozen=True)
class NodeHome:
    """Keys, funds and state of one provider; outlives its processes."""

    folder: Path
    signer: Signer
    world: World

    @property
    def state(self) -> Path:
        """The node's state folder."""
        return self.folder / "state"

    def command(self, market: str, *options: str) -> list[str]:
        """The command line of `up`."""
        return [
            *(sys.executable, "-m", "suanli_node.cli", "up", *self.connections(market)),
            *("--name", "heron", "--region", "CN-GD"),
            *("--cpus", "2", "--memory", "2GiB", "--disk", "2GiB", *options),
        ]

    def connections(self, market: str) -> list[str]:
        """The options that `up` and `doctor` share."""
        return [
            *("--market", market, "--chain", self.world.url, "--escrow", self.world.escrow.address),
            *("--keystore", str(self.folder / "key.json"), "--password-file", str(self.folder / "password")),
            *("--state", str(self.state)),
        ]

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command of `suanli-node`, to its end."""
        command = [sys.executable, "-m", "suanli_node.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def down(self) -> str:
        """`suanli-node down`: what it said."""
        done = self.ask("down", "--state", str(self.state))
        assert done.returncode == 0, done.stderr
        return done.stdout


def a_node_home(world: World, folder: Path, *, money: int = 100 * CREDIT) -> NodeHome:
    """A provider with gas, and tokens in its wallet (the node deposits its bond itself)."""
    folder.mkdir(parents=True, exist_ok=True)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    signer = create(folder / "key.json", PASSWORD, scrypt_n=SCRYPT_N_DEVNET)
    set_balance(world.chain, signer.address, GAS_WEI)
    if money:
        world.escrow.faucet(world.deployer, signer.address, money)
    return NodeHome(folder, signer, world)


@contextmanager
def start_node(command: list[str], *, wait: bool = True) -> Iterator[NodeProcess]:
    """Runs a node while the context is open; RuntimeError with its stderr if it does not get ready."""
    with start_service(command, wait=wait) as service:
        yield NodeProcess(service.ready, service.process, service.log)


def eventually(look: Callable[[], T | None], what: str, timeout: float = WAIT_S) -> T:
    """The first result that is not None or False; AssertionError if there is none in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {timeout} s")


@dataclass
class Consumer:
    """A consumer by hand: it trusts its test, and checks what the test is about."""

    world: World
    signer: Signer
    market: MarketClient
    market_address: str

    def a_job(self, script: str = "", **fields: Any) -> JobDocument:
        """A shell job that answers to this consumer."""
        if script:
            fields["command"] = {"shell": script}
        return a_job(consumer_key=hex32(self.signer.encryption_public), **fields)

    def bid(self, job: JobDocument, **fields: Any) -> bytes:
        """Bids for the job; the bid's id."""
        signed = signed_bid(self.world, self.signer, self.market_address, job=job, **{"max_seconds": 600, **fields})
        self.market.post_bid(signed)
        return bid_id(signed)

    def lease_of(self, bid: bytes) -> wire.LeaseView:
        """The lease of a bid once it is open."""
        lease = eventually(lambda: self.market.bid(bid).lease, "the lease's opening")
        return eventually(lambda: self._lease(lease), "the lease's view")

    def _lease(self, lease: str) -> wire.LeaseView | None:
        try:
            return self.market.lease(bytes.fromhex(lease[2:]))
        except NotFoundError:
            return None

    def send(self, view: wire.LeaseView, job: JobDocument, archive: bytes = b"") -> None:
        """Seals and uploads job and archive."""
        lease = bytes.fromhex(view.id[2:])
        recipient = bytes.fromhex(view.attributes["encryptionKey"][2:])
        sealed = seal_bytes(job.canonical(), recipient, Context(lease, "job"))
        self.market.put_blob(lease, "job", io.BytesIO(sealed), len(sealed))
        if archive:
            out = io.BytesIO()
            seal_stream(io.BytesIO(archive), out, recipient, Context(lease, "inputs"))
            self.market.put_blob(lease, "inputs", io.BytesIO(out.getvalue()), len(out.getvalue()))

    def run(self, job: JobDocument, archive: bytes = b"", **fields: Any) -> wire.LeaseView:
        """Bid, lease, upload."""
        view = self.lease_of(self.bid(job, **fields))
        self.send(view, job, archive)
        return view

    def receipt(self, view: wire.LeaseView, timeout: float = WAIT_S) -> tuple[Receipt, Evidence, str]:
        """Receipt, evidence and the provider's signature, once they are there."""
        signed = eventually(lambda: self._receipt(view), "the receipt", timeout)
        return wire.paper_from_json(Receipt, signed.receipt), Evidence.parse(signed.evidence), signed.signature

    def _receipt(self, view: wire.LeaseView) -> wire.SignedReceipt | None:
        try:
            return self.market.receipt(bytes.fromhex(view.id[2:]))
        except NotFoundError:
            return None

    def countersign(self, view: wire.LeaseView, receipt: Receipt) -> None:
        """Signs the same receipt."""
        signature = wire.to_hex(self.signer.sign(self.world.escrow.domain, receipt))
        body = wire.Countersignature(receipt=wire.paper_to_json(receipt), signature=signature)
        self.market.countersign(bytes.fromhex(view.id[2:]), body)

    def log(self, view: wire.LeaseView) -> tuple[list[LogLine], str]:
        """The lines so far, and the digest over the plain chunks."""
        lease = bytes.fromhex(view.id[2:])
        digest, lines, after = hashlib.sha256(), [], -1
        while True:
            page = self.market.logs(lease, after=after)
            for chunk in page.chunks:
                context = Context(lease, "log", chunk.seq)
                plain = open_bytes(wire.from_hex(chunk.data), self.signer.encryption_key, context)
                digest.update(plain)
                lines += read_log_chunk(plain)
                after = chunk.seq
            if not page.chunks:
                return lines, hex32(digest.digest())

    def text(self, view: wire.LeaseView, *sources: str) -> str:
        """What the log has of these sources (none: all)."""
        lines, _ = self.log(view)
        return b"".join(line.content for line in lines if not sources or line.source in sources).decode()

    def outputs(self, view: wire.LeaseView, evidence: Evidence, into: Path) -> dict[str, bytes]:
        """The output files by name, after all digests were compared."""
        lease = bytes.fromhex(view.id[2:])
        assert evidence.outputs is not None
        sealed = b"".join(self.market.get_blob(lease, "outputs"))
        assert hex32(sha256(sealed)) == evidence.outputs.sealed
        plain = io.BytesIO()
        digest, _ = open_stream(io.BytesIO(sealed), plain, self.signer.encryption_key, Context(lease, "outputs"))
        assert hex32(digest) == evidence.outputs.archive.sha256
        plain.seek(0)
        files = unpack(plain, into, UnpackLimits())
        assert {file.path: file for file in files} == {file.path: file for file in evidence.outputs.files}
        return {file.path: (into / file.path).read_bytes() for file in files}


def an_archive(files: dict[str, bytes]) -> tuple[bytes, Any]:
    """A packed archive and its manifest."""
    out = io.BytesIO()
    manifest = pack([Source(name, content) for name, content in files.items()], out)
    return out.getvalue(), manifest
