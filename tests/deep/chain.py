"""A devnet that is reorganised, and that can be killed and comes back as its last dump has it.

It mines one block a second, as a chain does, and keeps the transactions of blocks that a reorganisation takes out: a
real chain's nodes would offer them again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from deep.services import Service
from support.devnet import CHAIN_ID, anvil_path, call, free_port

START_S = 30.0
DUMP_S = 1
SETUP_S = 120
STATES = 128  # that are kept of former blocks, as a full node does


class Devnet:
    """Anvil with a state file. `block_s` 0: a block for each transaction, at once."""

    def __init__(self, folder: Path, *, block_s: int = 1) -> None:
        self.state, self._good = folder / "chain.json", folder / "chain.good.json"
        self.block_s = block_s
        self._first = 0  # the height at which the present life began
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [str(anvil_path()), "--silent", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--chain-id", str(CHAIN_ID), "--hardfork", "osaka"]
        command += ["--state", str(self.state), "--state-interval", str(DUMP_S), "--preserve-historical-states"]
        command += ["--prune-history", str(STATES)]
        # The genesis block is made of it in every life; each block of the setup adds a second to the clock.
        command += ["--timestamp", str(int(time.time()) - SETUP_S)]
        self.service = Service("anvil", command, {}, folder)

    def start(self) -> None:
        """Runs it, from its last dump if there is one."""
        self.service.start()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError, ValueError):
                call(self.url, "eth_chainId")
                if self.service.lives > 1:
                    self.keep_time()
                self._first = self.height()
                return
            time.sleep(0.05)
        raise TimeoutError("the devnet does not answer")

    def keep_time(self) -> None:
        """The setup is over: the chain's clock is everybody's, and blocks come at their time."""
        self.rpc("evm_setTime", int(time.time()))
        if self.block_s:
            self.rpc("evm_setAutomine", False)
            self.rpc("evm_setIntervalMining", self.block_s)

    def rpc(self, method: str, *params: object) -> Any:
        """One JSON-RPC request."""
        return call(self.url, method, *params)

    def height(self) -> int:
        """The number of the newest block."""
        return int(self.rpc("eth_blockNumber"), 16)

    def wait_dumped(self) -> None:
        """Until everything up to now is in a dump."""
        height, deadline = self.height(), time.monotonic() + START_S
        while time.monotonic() < deadline:
            if _height_of(self._keep_good()) >= height:
                return
            time.sleep(0.2)
        raise TimeoutError("the devnet writes no dump")

    def kill(self) -> int:
        """kill -9 soon after a whole dump; the number of blocks that are gone.

        If the dump that it leaves is not whole the last whole one takes its place.
        """
        height = self.height()
        self.wait_dumped()
        newest = self.height()
        self.service.kill()
        self.service.noticed_dead()
        kept = _height_of(self._keep_good())
        if kept < height:
            shutil.copy(self._good, self.state)
            kept = _height_of(self._good.read_bytes())
        return newest - kept

    def _keep_good(self) -> bytes:
        """The present dump, which is the good one if it is whole; it is read once, for Anvil may write it meanwhile."""
        try:
            data = self.state.read_bytes()
        except OSError:
            return b""
        if _height_of(data) >= 0:
            self._good.write_bytes(data)
        return data

    def reorganise(self, depth: int, *, forget: frozenset[str] = frozenset()) -> tuple[int, int]:
        """Replaces the newest blocks; their transactions come again but for those of the senders to `forget`.

        How many blocks and transactions were taken out: none of a former life (Anvil loses the state behind those).
        """
        with self._between_blocks():
            height = self.height()
            depth = min(depth, height - self._first - 1)
            if depth < 1:
                return 0, 0
            taken = [
                (transaction["from"].lower(), self.rpc("eth_getRawTransactionByHash", transaction["hash"]))
                for number in range(height - depth + 1, height + 1)
                for transaction in self.rpc("eth_getBlockByNumber", hex(number), True)["transactions"]
            ]
            self.rpc("anvil_reorg", depth, [])
            for sender, raw in taken:
                if sender not in forget:
                    with suppress(RuntimeError):  # one that does not hold on the new blocks
                        self.rpc("eth_sendRawTransaction", raw)
            return depth, len(taken)

    @contextmanager
    def _between_blocks(self) -> Iterator[None]:
        """No block is mined meanwhile: Anvil would put it on those that it is about to take out."""
        if not self.block_s:
            yield
            return
        self.rpc("evm_setIntervalMining", 0)
        try:
            before = -1
            while (height := self.height()) != before:
                before = height
                time.sleep(0.1)  # one may have begun
            yield
        finally:
            self.rpc("evm_setIntervalMining", self.block_s)


def _height_of(dump: bytes) -> int:
    """The height that a dump holds, or -1 if it is no whole dump.

    Anvil reads blocks, transactions and accounts one after the other, and may mine or reorganise in between: then a
    block is missing or another's, or a key's nonce is not the number of its transactions.
    """
    try:
        state = json.loads(dump)
        height = int(str(state["best_block_number"]), 0)
        blocks = {int(block["header"]["number"], 16): len(block["transactions"]) for block in state["blocks"]}
        mined = Counter(int(entry["block_number"]) for entry in state["transactions"])
        sent = Counter(entry["info"]["from"].lower() for entry in state["transactions"])
        nonces = {address.lower(): account["nonce"] for address, account in state["accounts"].items()}
    except (ValueError, KeyError, TypeError):
        return -1
    accounts_agree = all(nonces.get(sender) == count for sender, count in sent.items())
    blocks_agree = sorted(blocks) == list(range(height + 1)) and +Counter(blocks) == mined
    return height if accounts_agree and blocks_agree else -1
