"""Market and chain behind nginx with TLS by a private authority: the configuration is deploy/nginx.conf itself."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from suanli_protocol import keystore, tls
from suanli_protocol.market_client import MarketClient
from support.authority import Authority, an_authority
from support.consumer import Consumer, a_consumer
from support.devnet import Anvil
from support.market import MarketProcess, World, a_world, market_key, serve_command, start_market
from support.node import a_node_home
from support.proxy import nginx, start_proxy
from support.service import start_service

pytestmark = pytest.mark.skipif(nginx() is None, reason="nginx is not installed (Debian: apt-get install nginx-light)")

LARGE_BYTES = 24 * 2**20  # six of the pieces that blobs travel in, and more than nginx takes in one body


@dataclass
class Place:
    """A market and a chain that are reached by https, and a node that does."""

    world: World
    market: MarketProcess
    urls: dict[str, str]
    authority: Authority
    folder: Path

    def consumer(self, name: str) -> Consumer:
        """A funded consumer whose every way leads through the proxy."""
        made = a_consumer(self.world, self.market.url, self.folder / name)
        made.settings |= {"SUANLI_MARKET": self.urls["market"], "SUANLI_CHAIN": self.urls["chain"]}
        made.settings[tls.VARIABLE] = str(self.authority.certificate)
        return made


@pytest.fixture(scope="module")
def place(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    world, authority = a_world(anvil), an_authority(folder / "authority")
    key, password, _ = market_key(world, folder / "market")
    home = a_node_home(world, folder / "node")
    with (
        start_market(serve_command(world, key, password, folder / "data")) as market,
        start_proxy(folder / "proxy", {"market": market.url, "chain": world.url}, authority) as urls,
    ):
        trust = {tls.VARIABLE: str(authority.certificate)}
        command = home.command(urls["market"], "--chain", urls["chain"])
        try:
            with start_service(command, settings=trust):
                yield Place(world, market, urls, authority, folder)
        finally:
            home.down()


def test_a_job_with_much_data_goes_there_and_back(place: Place) -> None:
    ann = place.consumer("ann")
    data = secrets.token_bytes(LARGE_BYTES)
    (ann.home / "data.bin").write_bytes(data)
    (ann.home / "job.yaml").write_text(
        "run: cp /in/data.bin $SUANLI_OUTPUT_DIR && sha256sum < /in/data.bin\n"
        "resources: {cpus: 1, memory: 512MiB, disk: 512MiB}\n"
        "inputs: [{source: data.bin, path: /in/data.bin}]\n"
    )
    done = ann("run", "--yes", "-f", "job.yaml", "-o", "results")
    assert done.status == 0, done.err
    assert done.out.split()[0] == hashlib.sha256(data).hexdigest()
    copies = [path.read_bytes() for path in (ann.home / "results").rglob("data.bin")]
    assert [copy == data for copy in copies] == [True], done.err


def test_events_come_through_as_they_happen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tls.VARIABLE, str(place.authority.certificate))
    bob = place.consumer("bob")
    done = bob("run", "--yes", "--detach", "--", "sleep", "30")
    assert done.status == 0, done.err
    signer = keystore.load(bob.home / "key.json", keystore.read_password(bob.home / "password"))
    with MarketClient(place.urls["market"], signer=signer) as market:
        seen = [event.kind for event in itertools.takewhile(lambda event: event.kind != "lease.phase", market.events())]
    assert "lease.opened" in seen


def test_who_names_no_authority_is_told_so(place: Place) -> None:
    eve = place.consumer("eve")
    del eve.settings[tls.VARIABLE]
    done = eve("offers")
    assert done.status == 7
    assert "CERTIFICATE_VERIFY_FAILED" in done.err
