"""Who deals with an escrow looks at its code: another contract at its address is refused, however alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from suanli.config import Config, Setting
from suanli.network import Network
from suanli_market.chain.pinning import check_escrow
from suanli_node.identity import ChainFacts
from suanli_protocol import devnet, wire
from suanli_protocol.chain import Chain
from suanli_protocol.errors import ConfigurationError, IntegrityError
from suanli_protocol.escrow import Escrow, deploy
from suanli_protocol.market_client import MarketClient
from suanli_protocol.pinning import check_escrow_code, compiled_escrow, domain_immutables
from suanli_protocol.signing import address_bytes, keccak256
from support import builders
from support.devnet import Anvil

HOLE = b"\x7f" + bytes(32)


@dataclass(frozen=True)
class Place:
    """An address whose code a test sets at will, beside an honest escrow."""

    chain: Chain
    escrow: str
    address: str = builders.a_signer(77).address

    def put(self, code: bytes) -> None:
        """Make this the code at the address."""
        self.chain.rpc("anvil_setCode", self.address, "0x" + code.hex())

    def fitted(self) -> bytes:
        """The honest escrow's code as it would be, had it been deployed at the address."""
        at_home = Escrow(self.chain, self.escrow).domain, address_bytes(self.escrow)
        here = Escrow(self.chain, self.address).domain, address_bytes(self.address)
        code = self.chain.code(self.escrow)
        return code.replace(at_home[0].separator, here[0].separator).replace(at_home[1], here[1])


@pytest.fixture(scope="module")
def place(anvil: Anvil) -> Iterator[Place]:
    with Chain(anvil.url) as chain:
        devnet.set_balance(chain, builders.market().address, 10**20)
        yield Place(chain, deploy(builders.market(), chain).escrow)


def refusal(place: Place) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        check_escrow_code(place.chain, place.address)
    return caught.value


def test_a_deployed_escrow_is_known_by_its_code(place: Place) -> None:
    assert check_escrow_code(place.chain, place.escrow) == place.chain.code_hash(place.escrow)
    place.put(place.fitted())
    assert check_escrow_code(place.chain, place.address) == keccak256(place.fitted())


def test_no_contract_is_told_from_a_wrong_one(place: Place) -> None:
    place.put(b"")
    assert refusal(place).code == "no_escrow"
    place.put(bytes.fromhex("60015ff3"))
    assert refusal(place).code == "wrong_escrow"


def test_one_byte_of_difference_is_enough(place: Place) -> None:
    code = place.fitted()
    for at in (0, compiled_escrow().index(HOLE), len(code) - 1):
        place.put(code[:at] + bytes([code[at] ^ 1]) + code[at + 1 :])
        assert refusal(place).code == "wrong_escrow"
    place.put(code + b"\0")
    assert refusal(place).code == "wrong_escrow"


def test_its_memory_of_itself_must_be_its_own(place: Place) -> None:
    place.put(place.chain.code(place.escrow))  # the honest one's, moved: papers signed for that one would be good here
    assert refusal(place).code == "wrong_escrow"
    token = address_bytes(Escrow(place.chain, place.escrow).token.address)
    assert place.fitted().count(token) > 1
    place.put(place.fitted().replace(token, bytes([token[0] ^ 1]) + token[1:], 1))  # two tokens
    assert refusal(place).code == "wrong_escrow"


def test_each_value_must_stand_in_its_own_place(place: Place) -> None:
    known = [*domain_immutables(Escrow(place.chain, place.address).domain).values()]
    for one, other in itertools.combinations(known, 2):
        swapped = place.fitted().replace(one, b"\xee" * 32).replace(other, one).replace(b"\xee" * 32, other)
        assert swapped != place.fitted()
        place.put(swapped)
        assert refusal(place).code == "wrong_escrow"


def test_market_and_node_refuse_it(place: Place) -> None:
    place.put(bytes.fromhex("60015ff3"))
    with pytest.raises(ConfigurationError, match="not the escrow of this version"):
        check_escrow(place.chain, Escrow(place.chain, place.address))
    with pytest.raises(ConfigurationError, match="not the escrow of this version"):
        ChainFacts.read(place.chain, place.address)


def told_network(place: Place, monkeypatch: pytest.MonkeyPatch, escrow: str, **lies: object) -> Network:
    """A client's network whose market says the truth about an escrow but for `lies`."""
    told = {"chain": place.chain.url, "escrow": escrow, "market": "http://127.0.0.1:1"}
    network = Network(Config({name: Setting(name, value, "here") for name, value in told.items()}))
    token = network.escrow.token
    info = {
        "chain_id": place.chain.chain_id(),
        "genesis": wire.to_hex(place.chain.genesis()),
        "escrow": escrow,
        "code_hash": wire.to_hex(place.chain.code_hash(escrow)),
        "token": token.address,
        "decimals": token.decimals,
        "symbol": token.symbol,
    }
    monkeypatch.setattr(MarketClient, "info", lambda _: SimpleNamespace(**(info | lies)))
    return network


def test_a_client_refuses_what_its_market_agrees_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put(place.chain.code(place.escrow))
    network = told_network(place, monkeypatch, place.address)
    with pytest.raises(ConfigurationError) as caught:
        network.pin()
    assert caught.value.code == "wrong_escrow"
    network.chain.close()


@pytest.mark.parametrize(
    ("lie", "named"),
    [
        ({"decimals": 12}, "token's decimals: the market says 12, your chain endpoint 6"),
        ({"decimals": 0}, "token's decimals: the market says 0"),
        ({"symbol": "USDC"}, "token's symbol: the market says USDC"),
        ({"token": builders.a_signer(5).address}, "token: "),
    ],
)
def test_a_client_counts_in_the_escrows_token_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch, lie: dict[str, object], named: str
) -> None:
    network = told_network(place, monkeypatch, place.escrow, **lie)
    with pytest.raises(ConfigurationError, match=named) as caught:
        network.pin()
    assert caught.value.code == "wrong_network"
    network.chain.close()


def test_a_client_agrees_with_a_truthful_market(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    network = told_network(place, monkeypatch, place.escrow)
    assert network.pin().decimals == network.escrow.token.decimals
    network.chain.close()


@pytest.mark.parametrize("decimals", [-1, 37, 10**9])
def test_absurd_decimals_are_refused_unpinned_too(place: Place, monkeypatch: pytest.MonkeyPatch, decimals: int) -> None:
    network = told_network(place, monkeypatch, place.escrow, decimals=decimals)
    with pytest.raises(IntegrityError, match="decimals"):
        network.info  # noqa: B018
    network.chain.close()
