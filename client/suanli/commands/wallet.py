"""`suanli wallet`: the key in its encrypted keystore, and the money on the escrow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suanli.commands.connection import connection_options, load_config, open_client
from suanli.files import write_atomically
from suanli.terminal.console import Console, output_options
from suanli_protocol.errors import FundsError, UnusableKeyError, UsageError

if TYPE_CHECKING:
    from suanli.client import Client
    from suanli.config import Config

GAS_WEI = 10**18  # what a devnet gives a key that has no coin for gas
GAS_LEAST_WEI = 10**16
_ACCOUNT = click.option("--account", metavar="0x…", help="An account that your key owns, instead of your own.")


@click.group()
def wallet() -> None:
    """Your key and your money on the escrow."""


def _place(config: Config) -> Path:
    """Where a new key goes: what is set by flag or environment, else the default place."""
    from suanli.config import default_keystore

    origin = config.origin("keystore")
    named = config.get("keystore")
    return Path(named).expanduser() if named and origin.startswith(("flag", "environment")) else default_keystore()


def _made(console: Console, path: Path, address: str) -> None:
    if console.json:
        console.dump({"address": address, "keystore": str(path)})
        return
    console.data(address)
    console.note(f"The key lies encrypted in {path}. Whoever loses file or password loses its money.")
    console.next("suanli wallet fund 5", "suanli wallet show")


@wallet.command()
@connection_options
@output_options
@click.pass_obj
def new(console: Console) -> None:
    """Make a key, encrypted by a password (asked for twice, or from --password-file)."""
    from suanli import keys
    from suanli_protocol import keystore

    config = load_config()
    path = _place(config)
    _must_be_free(path)
    signer = keystore.create(path, keys.password(config, confirm=True))
    _made(console, path, signer.address)


def _must_be_free(path: Path) -> None:
    if path.exists():
        raise UnusableKeyError(
            f"{path} exists already", hint="a key is never overwritten; name another file by --keystore"
        )


@wallet.command("import", short_help="Take over an existing secret key.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="A 0600 file: an encrypted key file, or the secret in hex.",
)
@connection_options
@output_options
@click.pass_obj
def import_(console: Console, source: Path | None) -> None:
    """Take over an existing key: an encrypted key file (version 3), or a secret of 64 hex digits.

    From a file or typed unseen; never from the command line. An encrypted file keeps its password.
    """
    from suanli import keys
    from suanli_protocol import keystore

    config = load_config()
    path = _place(config)
    _must_be_free(path)
    if source is not None and keystore.read_password(source).lstrip().startswith("{"):
        signer = keystore.load(source, keys.password(config, prompt=f"Password of {source}"))
        write_atomically(path, source.read_bytes())
        _made(console, path, signer.address)
        return
    secret = _secret(source)
    signer = keystore.create(path, keys.password(config, confirm=True), secret=secret)
    _made(console, path, signer.address)


def _secret(source: Path | None) -> bytes:
    from suanli_protocol import keystore

    if source is not None:
        text = keystore.read_password(source)
    elif sys.stdin.isatty():
        text = click.prompt("Secret key", hide_input=True, err=True)
    else:
        raise UsageError("there is no terminal to type the secret key", hint="give --from FILE (mode 0600)")
    digits = text.strip().removeprefix("0x")
    try:
        secret = bytes.fromhex(digits)
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise UnusableKeyError("that is no secret key", hint="64 hex digits are wanted")
    return secret


@wallet.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to; else it is printed.")
@connection_options
@output_options
@click.pass_obj
def export(console: Console, output: Path | None) -> None:
    """Copy your key file as it is: encrypted (version 3), opened by its password alone. The bare key never leaves."""
    from suanli import keys
    from suanli_protocol import keystore

    path = keys.keystore_path(load_config())
    address, content = keystore.address(path), path.read_bytes()
    if output is None:
        console.data(content.decode().strip())
        return
    _must_be_free(output)
    write_atomically(output, content)
    if console.json:
        console.dump({"address": address, "keystore": str(output)})
        return
    console.data(address)
    console.note(f"Its encrypted key lies in {output}. Keep the password apart from it.")


@wallet.command()
@connection_options
@output_options
@click.pass_obj
def show(console: Console) -> None:
    """Address, coin for gas, tokens, free money on the escrow, and what jobs have locked."""
    with open_client(console) as client:
        facts = _facts(client)
        if console.json:
            console.dump(facts)
            return
        from suanli.terminal import render
        from suanli_protocol.units import format_money

        symbol, decimals = facts["symbol"], facts["decimals"]

        def money(name: str) -> str:
            return f"{format_money(int(facts[name]), decimals)} {symbol}"

        console.data(facts["address"])
        rows = [
            ("free", money("free"), "on the escrow: what bids and leases can lock"),
            ("locked", money("locked"), f"in {facts['openLeases']} open leases of this machine's jobs"),
            ("wallet", money("tokens"), "tokens that are not deposited"),
            ("gas", f"{int(facts['gasWei']) / 10**18:.4f}", "the chain's own coin, for deposit, withdraw and stop"),
        ]
        render.show(render.titled("Wallet", render.money_rows(rows)))
        if facts["owner"]:
            console.note(f"Owned by {facts['owner']}: what is withdrawn goes there.")
        if int(facts["free"]) == 0:
            console.next("suanli wallet fund 5")


def _facts(client: Client) -> dict[str, Any]:
    escrow, address = client.network.escrow, client.address
    token, account = escrow.token, escrow.account(address)  # the token first: it names an escrow that is not there
    mine = [handle.record for handle in client.jobs() if handle.record.bid["consumer"].lower() == address.lower()]
    here = [record for record in mine if record.escrow.lower() == escrow.address.lower()]
    going = [record for record in here if record.lease and not record.is_over]
    return {
        "address": address,
        "escrow": escrow.address,
        "chainId": client.network.chain.chain_id(),
        "symbol": token.symbol,
        "decimals": token.decimals,
        "free": str(account.free),
        "counter": account.counter,
        "locked": str(sum(record.locked for record in going)),
        "openLeases": len(going),
        "tokens": str(token.balance_of(address)),
        "gasWei": str(client.network.chain.balance_wei(address)),
        "owner": _owner(client, address),
    }


@wallet.command()
@click.argument("amount")
@connection_options
@output_options
@click.pass_obj
def fund(console: Console, amount: str) -> None:
    """Deposit AMOUNT on the escrow. On a devnet, missing tokens and gas come from its faucet."""
    from suanli_protocol.units import format_money, parse_money

    with open_client(console) as client:
        escrow, chain = client.network.escrow, client.network.chain
        token = escrow.token
        units = parse_money(amount, token.decimals, name="amount")
        if units == 0:
            raise UsageError("amount: it is zero", hint="write an amount above zero")
        signer = client.signer
        _check_gas(client, signer.address)
        held = token.balance_of(signer.address)
        if held < units:
            if not client.network.is_devnet:
                missing = format_money(units - held, token.decimals)
                raise FundsError(
                    f"the key holds {format_money(held, token.decimals)} {token.symbol}, {missing} are missing",
                    hint=f"send {token.symbol} ({token.address}) to {signer.address} on chain {chain.chain_id()}",
                )
            escrow.faucet(signer, signer.address, units - held)
        receipt = escrow.deposit(signer, signer.address, units)
        free = escrow.account(signer.address).free
        if console.json:
            console.dump({"deposited": str(units), "free": str(free), "transaction": "0x" + receipt.transaction.hex()})
            return
        console.data(f"{format_money(free, token.decimals)} {token.symbol} free")


def _check_gas(client: Client, address: str) -> None:
    chain = client.network.chain
    if chain.balance_wei(address) >= GAS_LEAST_WEI:
        return
    if client.network.is_devnet:
        from suanli_protocol.devnet import set_balance

        set_balance(chain, address, GAS_WEI)
    elif chain.balance_wei(address) == 0:
        raise FundsError("the key has no coin for gas", hint=f"send some of the chain's own coin to {address}")


def _owner(client: Client, account: str) -> str | None:
    """The owner of an account; None if it has none."""
    owner = client.network.escrow.owner_of(account)
    return owner if int(owner, 16) else None


def _account(client: Client, given: str | None) -> str:
    """The account that is meant: the key's own, or one that it owns."""
    from suanli_protocol.lease import same_address
    from suanli_protocol.wire import read_address

    account = read_address(given, name="--account") if given else client.address
    owner = _owner(client, account)
    if not same_address(account, client.address) and not same_address(owner or "", client.address):
        raise UnusableKeyError(
            f"{account} is owned by {owner or 'nobody'}, your key is {client.address}",
            hint="use the key of the account, or of its owner, with --keystore",
        )
    return account


@wallet.command(short_help="Give your account an owner, to whom alone its money is paid out.")
@click.argument("owner")
@_ACCOUNT
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@connection_options
@output_options
@click.pass_obj
def link(console: Console, owner: str, account: str | None, yes: bool) -> None:
    """Give your account an OWNER, such as a cold key's address. Only that owner can change it again.

    What is withdrawn goes to the owner then, and the owner may act for the account. The key here goes on signing: a
    thief of it can spend the free money on leases, and take none of it away.
    """
    from suanli_protocol.lease import same_address
    from suanli_protocol.wire import read_address

    to = read_address(owner, name="owner")
    with open_client(console) as client:
        linked = _account(client, account)
        before = _owner(client, linked)
        if same_address(to, linked) or not int(to, 16):
            raise UsageError(f"{to} cannot own {linked}", hint="name another account")
        if before is not None and not same_address(before, client.address):
            raise UnusableKeyError(f"{linked} is owned by {before}, who alone can change that", hint="use its key")
        if not yes and not console.confirm(f"Pay out the money of {linked} to {to} alone from now on?"):
            return
        signer = client.signer
        _check_gas(client, signer.address)
        receipt = client.network.escrow.link(signer, linked, to)
        if console.json:
            console.dump({"account": linked, "owner": to, "transaction": "0x" + receipt.transaction.hex()})
            return
        console.data(f"{linked} is owned by {to}")


@wallet.command()
@click.argument("amount")
@_ACCOUNT
@connection_options
@output_options
@click.pass_obj
def withdraw(console: Console, amount: str, account: str | None) -> None:
    """Take AMOUNT (or `all`) of the free money from the escrow to the key's own address, or to the account's owner."""
    from suanli_protocol.units import format_money, parse_money

    with open_client(console) as client:
        escrow = client.network.escrow
        whose = _account(client, account)
        token, free = escrow.token, escrow.account(whose).free
        units = free if amount == "all" else parse_money(amount, token.decimals, name="amount")
        if units > free or units == 0:
            raise FundsError(
                f"{format_money(free, token.decimals)} {token.symbol} are free, {amount} were asked for",
                hint="what is locked in leases comes free when they are settled",
            )
        signer = client.signer
        _check_gas(client, signer.address)
        to = _owner(client, whose) or whose
        receipt = escrow.withdraw(signer, whose, units)
        if console.json:
            facts = {"withdrawn": str(units), "account": whose, "to": to}
            console.dump(facts | {"transaction": "0x" + receipt.transaction.hex()})
            return
        console.data(f"{format_money(units, token.decimals)} {token.symbol} at {to}")
