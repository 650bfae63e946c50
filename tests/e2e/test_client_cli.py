"""The command `suanli` against a real chain, market and node: what it does, and what it says when that goes wrong."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import suanli
from suanli.cli import cli
from suanli.terminal.failure import exit_status
from suanli_protocol.escrow import deploy
from support.builders import CREDIT, a_signer
from support.consumer import Consumer, Done, a_consumer
from support.devnet import Anvil
from support.market import MarketProcess, World, a_world, market_key, serve_command, start_market
from support.meddler import Meddler, start_meddler
from support.node import a_node_home, start_node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
Here = Callable[..., Done]
NOWHERE = "http://127.0.0.1:9"


@dataclass
class Scene:
    """A world with a market, one node, and a meddler between consumers and market."""

    world: World
    market: MarketProcess
    meddler: Meddler
    folder: Path

    def consumer(self, name: str, *, money: str = "5", via: str | None = None) -> Consumer:
        """A new consumer with a key; funded through the command line."""
        return a_consumer(self.world, via or self.market.url, self.folder / name, money=money)


@pytest.fixture(scope="module")
def scene(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Chain, market and node for all tests of this file."""
    folder = tmp_path_factory.mktemp("scene")
    world = a_world(anvil)
    key, password, _ = market_key(world, folder / "market")
    node = a_node_home(world, folder / "node")
    with start_market(serve_command(world, key, password, folder / "data")) as market:
        try:
            with start_node(node.command(market.url)), start_meddler(market.url) as meddler:
                yield Scene(world, market, meddler, folder)
        finally:
            node.down()


@pytest.fixture(scope="module")
def ann(scene: Scene) -> Consumer:
    """A funded consumer that most tests share."""
    return scene.consumer("ann")


@pytest.fixture
def here(ann: Consumer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """ann's command line in this process: what needs no process of its own is asked so, two seconds sooner."""
    for name in [name for name in os.environ if name.startswith(("SUANLI_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in ann.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(ann.home)
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def call(*arguments: str, **changes: str) -> Done:
        with monkeypatch.context() as changed:
            for name, value in changes.items():
                changed.setenv(name, value)
            status = exit_status(cli, list(arguments))
        told = capsys.readouterr()
        return Done(status, told.out, told.err)

    return call


def run(consumer: Consumer | Here, *command: str, options: tuple[str, ...] = (), **changes: str) -> Done:
    """`suanli run --yes OPTIONS -- COMMAND`."""
    return consumer("run", "--yes", *options, "--", *command, **changes)


def test_run_prints_what_the_job_prints_and_nothing_else(ann: Consumer) -> None:
    done = run(ann, "python3", "-c", "print(6*7)")
    assert done.status == 0, done.err
    assert done.out == "42\n"
    for word in ("Plan", "queued", "leased", "checked", "sent", "running", "succeeded", "signed", "settled"):
        assert word in done.err
    for row in ("price", "market fee", "gas", "stake", "Next: suanli audit lease"):
        assert row in done.err
    assert "\x1b[" not in done.err


def test_a_failing_job_is_settled_and_its_failure_is_the_status(ann: Consumer) -> None:
    done = run(ann, "sh", "-c", "echo partial; exit 3", options=("--json",))
    assert done.status == 100
    ended = json.loads(done.out)
    assert (ended["exitCode"], ended["reason"], ended["phase"]) == (3, "exit_nonzero", "settled")
    assert int(ended["paid"]) > 0


def test_inputs_outputs_environment_and_usage_billing(ann: Consumer) -> None:
    folder = ann.home / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "data/x.csv").write_text("1,2\n")
    (folder / ".gitignore").write_text("secret\n")
    (folder / "secret").write_text("no")
    (folder / "job.yaml").write_text(
        "name: files\nworkdir: .\nenv: {WHO: you}\ninputs: [{source: ./data, path: /in/data}]\n"
        "outputs: [out/, metrics.json]\nbilling: usage\ntimeouts: {execution: 2m}\nmax_price: 0.50\nrun: |\n"
        '  set -e; test ! -e secret; mkdir out; cp /in/data/x.csv out/; printf "%s" "$WHO" > metrics.json\n'
        '  echo direct > "$SUANLI_OUTPUT_DIR/direct.txt"; echo "env $SUANLI_JOB_ID $SUANLI_LEASE_ID"\n'
    )
    done = ann("run", "-y", "-f", "project/job.yaml", "-o", "res")
    assert done.status == 0, done.err
    shown = ann("show", "files", "--json")
    record = json.loads(shown.out)
    assert f"env {record['job']} {record['lease']}" in done.out
    found = {str(path.relative_to(ann.home / "res")): path.read_text() for path in (ann.home / "res").rglob("*.*")}
    assert found["out/x.csv"] == "1,2\n"
    assert found["metrics.json"] == "you"
    assert "direct\n" in found.values()
    again = ann("get", "files", "-o", "res")
    assert again.status == 0, again.err
    (ann.home / "res/metrics.json").write_text("mine")
    refused = ann("get", "files", "-o", "res", "--json")
    assert (refused.status, refused.problem["code"]) == (2, "exists")
    assert (ann.home / "res/metrics.json").read_text() == "mine"
    one = ann("get", "files", "metrics.json", "-o", "one", "--json")
    assert [file["path"] for file in json.loads(one.out)["files"]] == ["metrics.json"]


def test_detach_logs_wait_and_another_machine(scene: Scene, ann: Consumer, here: Here) -> None:
    script = "for i in 1 2 3 4 5 6; do echo tick $i; sleep 1; done; echo err >&2"
    done = run(ann, "sh", "-c", script, options=("--detach", "--name", "ticks"))
    assert done.status == 0, done.err
    job = done.out.strip()
    assert job.startswith("0x")
    assert len(job) == 66
    followed = ann("logs", "-f", job[:12], "--source", "stdout")
    assert followed.status == 0, followed.err
    assert followed.out == "".join(f"tick {i}\n" for i in range(1, 7))
    assert ann("wait", "ticks").status == 0
    assert here("logs", "ticks", "--tail", "1", "--source", "stdout").out == "tick 6\n"
    assert here("logs", "ticks", "--since", "2000-01-01", "--tail", "1", "--source", "stdout").out == "tick 6\n"
    assert here("logs", "ticks", "--since", "2100-01-01").out == ""
    kinds = [json.loads(text)["kind"] for text in here("events", "ticks", "--jsonl").out.splitlines()]
    assert [kinds[0], kinds[-1]] == ["bid.queued", "lease.settled"]
    assert "lease.phase" in kinds
    assert "lease.settled" in here("events", "ticks").out
    spent = next(row for row in json.loads(here("cost", "--json").out)["rows"] if row["job"] == job)
    assert int(spent["price"]) > 0
    assert int(spent["total"]) == int(spent["price"]) + int(spent["fee"])
    assert spent["gas"] > 0
    elsewhere = Consumer(scene.folder / "elsewhere", ann.settings)
    elsewhere.home.mkdir()
    listed = json.loads(elsewhere("ps", "-a", "--json").out)
    assert job in {item["job"] for item in listed}
    logs = elsewhere("logs", job[:14])
    assert "tick 6\n" in logs.out, logs.err
    shown = json.loads(elsewhere("show", job[:14], "--json").out)
    assert shown["phase"] == "settled"
    assert "the mode of billing" in shown["unchecked"]


def test_outputs_that_ps_has_fetched_are_delivered_where_wait_is_told_to(ann: Consumer, here: Here) -> None:
    script = 'echo kept > "$SUANLI_OUTPUT_DIR/kept.txt"'
    assert run(ann, "sh", "-c", script, options=("--detach", "--name", "fetched")).status == 0
    deadline = time.monotonic() + 60
    while json.loads(here("show", "fetched", "--json").out)["phase"] not in ("succeeded", "settled"):
        assert time.monotonic() < deadline
    done = here("wait", "fetched", "-o", "wanted")
    assert done.status == 0, done.err
    assert (ann.home / "wanted/out/kept.txt").read_text() == "kept\n"
    assert json.loads(here("show", "fetched", "--json").out)["outputDir"] == str(ann.home / "wanted")
    assert here("forget", "fetched", "--yes").status == 0
    assert (ann.home / "wanted/out/kept.txt").is_file()


def test_cancel_stops_a_running_job(ann: Consumer, here: Here) -> None:
    done = run(ann, "sleep", "300", options=("--detach", "--name", "long"))
    assert done.status == 0, done.err
    assert here("wait", "long", "--for", "running", "--timeout", "60s").status == 0
    assert here("get", "long").status == 101
    going = json.loads(here("ps", "--json").out)[0]
    assert (going["name"], going["phase"], going["runway"]["level"]) == ("long", "running", None)
    assert 0 < int(going["runway"]["moneyLeft"]) <= int(going["budget"])
    assert here("cancel", "long", "--on-chain", "--yes").status == 2  # it has a lease
    assert here("cancel", "long").status == 2  # no terminal to ask, and no --yes
    cancelled = ann("cancel", "long", "--yes")
    assert cancelled.status == 0, cancelled.err
    ended = ann("wait", "long", "--timeout", "60s")
    assert ended.status == 103, ended.err
    again = ann("cancel", "long", "--yes", "--json")
    assert (again.status, again.problem["code"]) == (2, "ended")


def test_interrupt_detaches_and_the_job_goes_on(ann: Consumer) -> None:
    process = ann.start("run", "--yes", "--jsonl", "--name", "kept", "--", "sh", "-c", "sleep 4; echo done")
    assert process.stdout is not None
    kinds = []
    for line in process.stdout:
        kinds.append(json.loads(line)["kind"])
        if kinds[-1] == "running":
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "suanli wait 0x" in err
    ended = ann("wait", "kept", "-q")
    assert (ended.status, ended.out) == (0, "done\n"), ended.err


def test_a_reader_that_leaves_stops_no_job(ann: Consumer) -> None:
    process = ann.start(
        "run", "--yes", "--name", "unread", "--", "sh", "-c", "echo a; sleep 1; echo b; sleep 1; exit 3"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "a\n"
    process.stdout.close()
    assert process.wait(60) == 100
    done = ann("show", "unread", "--json")
    assert json.loads(done.out)["phase"] == "settled"


KILLED_AT = (
    *("client.bid.signed", "client.bid.recorded", "client.bid.posted", "client.bid.acknowledged"),
    *("client.lease.agreed", "client.job.sealed", "client.inputs.uploaded"),
)


def test_a_client_that_is_killed_again_and_again_loses_and_doubles_nothing(scene: Scene) -> None:
    victim = scene.consumer("victim")
    (victim.home / "work").mkdir()
    (victim.home / "work/a.txt").write_text("x\n")
    command = 'echo one; cp a.txt "$SUANLI_OUTPUT_DIR/"; echo two'
    options = ("--name", "killed", "-o", "out", "--idempotency-key", "once", "--workdir", "work", "--timeout", "2m")
    for point in KILLED_AT:
        died = run(victim, "sh", "-c", command, options=options, SUANLI_FAULT=point)
        assert died.status == -signal.SIGKILL, f"{point}: {died.err}"
    ended = victim("wait", "killed", "-q", "-o", "out")
    assert (ended.status, ended.out) == (0, "one\ntwo\n"), ended.err
    assert (victim.home / "out/out/a.txt").read_text() == "x\n"
    jobs = json.loads(victim("ps", "-a", "--json").out)
    assert [(job["name"], job["phase"], job["number"] > 0) for job in jobs] == [("killed", "settled", True)]
    assert victim("audit", "lease", str(jobs[0]["number"])).status == 0


def test_the_same_idempotency_key_is_the_same_job(ann: Consumer) -> None:
    options = ("--idempotency-key", "exp-1", "--json")
    one, two = (json.loads(run(ann, "true", options=options).out) for _ in range(2))
    assert one["job"] == two["job"]
    assert one["number"] == two["number"]


def test_quote_and_dry_run_sign_nothing(scene: Scene, ann: Consumer) -> None:
    before = scene.world.chain.block("latest").number
    quoted = ann("quote", "--json", "--timeout", "10m", "--", "true")
    plan = json.loads(quoted.out)
    assert quoted.status == 0
    assert plan["considered"] == 1
    offer = plan["offers"][0]
    assert plan["budget"] == str(int(offer["price"]) + int(offer["fee"]))
    assert ann("run", "--dry-run", "--", "true").status == 0
    assert scene.world.chain.block("latest").number == before
    stranger = Consumer(ann.home, {"SUANLI_MARKET": ann.settings["SUANLI_MARKET"]})
    assert stranger("quote", "--", "true").status == 0


def test_offers_can_be_filtered(here: Here) -> None:
    assert len(json.loads(here("offers", "--json", "cpus>=1 price<0.5 region=CN").out)) == 1
    assert json.loads(here("offers", "--json", "cpus>=64").out) == []
    wrong = here("offers", "cpu>=1", "--json")
    assert wrong.status == 2
    assert "cpus" in wrong.problem["hint"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--cpus", "64"), "too few cores"),
        (("--memory", "900GB"), "lack memory"),
        (("--max-price", "0.0001"), "above your price"),
        (("--budget", "0.000001"), "cost more than your budget"),
    ],
)
def test_no_offer_fits_and_why(here: Here, options: tuple[str, ...], reason: str) -> None:
    told = here("quote", *options, "--", "true")
    assert told.status == 4
    assert told.err.count(reason) == 1  # said once
    assert told.out == ""
    done = run(here, "true", options=(*options, "--json"))
    assert done.status == 4, done.err
    assert done.problem["code"] == "no_match"
    assert reason in done.problem["detail"]
    assert "1 of 1" in done.problem["detail"]


def test_offers_why_counts_the_reasons(ann: Consumer, here: Here) -> None:
    (ann.home / "big.yaml").write_text("run: x\nresources: {cpus: 64}\n")
    why = json.loads(here("offers", "--why", "big.yaml", "--json").out)
    assert (why["considered"], why["fit"]) == (1, 0)
    assert why["rejections"][0]["offers"] == 1


def test_too_little_money_names_what_is_missing(scene: Scene) -> None:
    poor = scene.consumer("poor", money="")
    done = run(poor, "true", options=("--json",))
    assert done.status == 5, done.err
    hint = done.problem["hint"]
    assert hint.startswith("suanli wallet fund ")
    assert poor(*hint.split()[1:]).status == 0
    assert run(poor, "true").status == 0  # exactly that was missing
    assert poor("ps").out.count("settled") == 1


def test_the_python_client(scene: Scene, ann: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ann.environment().items():
        if name.startswith(("SUANLI_", "XDG_")):
            monkeypatch.setenv(name, value)
    script = "for i in 1 2 3; do echo line $i; sleep 0.3; done; "
    script += 'mkdir "$SUANLI_OUTPUT_DIR/d"; echo x > "$SUANLI_OUTPUT_DIR/d/f"'
    with suanli.Client() as client:
        plan = client.quote(suanli.Job.from_command(["sh", "-c", script], name="library", timeout="5m"))
        assert "at most" in plan.table()
        assert plan.rejected == []
        job = client.submit(plan, idempotency_key="lib-1")
        assert client.submit(plan, idempotency_key="lib-1").id == job.id
        texts = [line.text for line in job.logs(follow=True) if line.source == "stdout"]
        assert "\n".join(texts) == "line 1\nline 2\nline 3"
        assert job.wait(timeout="2m").phase == "settled"
        assert job.status == 0
        files = job.outputs.download("out/d", to=ann.home / "lib")
        assert [file.path for file in files] == ["out/d/f"]
        assert (ann.home / "lib/out/d/f").read_text() == "x\n"
        assert client.audit(job.receipt()).ok
        found = client.job("library")
        assert found.receipt() == job.receipt()


def test_wallet_round_trip(scene: Scene) -> None:
    bob = scene.consumer("bob", money="2.5")
    shown = json.loads(bob("wallet", "show", "--json").out)
    assert shown["free"] == str(5 * CREDIT // 2)
    assert bob("wallet", "withdraw", "3", "--json").problem["code"] == "funds"
    assert bob("wallet", "withdraw", "all").status == 0
    after = json.loads(bob("wallet", "show", "--json").out)
    assert (after["free"], after["tokens"]) == ("0", str(5 * CREDIT // 2))
    assert bob("wallet", "fund", "0.0000001").status == 2


def test_a_job_file_names_who_guards_and_judges_and_a_flag_wins(ann: Consumer, here: Here) -> None:
    guard, other = (a_signer(70 + i).address for i in range(2))
    (ann.home / "judged.yaml").write_text(f'run: "true"\nwindow: 20m\nguard: "{guard}"\n')
    plan = json.loads(here("run", "-f", "judged.yaml", "--dry-run", "--json").out)
    assert (plan["window"], plan["guard"], plan["arbiter"]) == (1200, guard, None)
    flags = ("--window", "25m", "--guard", other)
    record = json.loads(run(here, "true", options=("-f", "judged.yaml", "--json", *flags)).out)
    bid = json.loads(here("show", record["job"], "--json").out)["bid"]
    assert (int(bid["window"]), bid["guard"]) == (1500, other)
    unjudged = here("quote", "-f", "judged.yaml", "--arbiter", other, "--json")
    assert (unjudged.status, json.loads(unjudged.out)["arbiter"]) == (4, other)  # no offer names it


def test_doctor_is_content(here: Here) -> None:
    done = here("doctor", "--json")
    found = {item["check"]: item["state"] for item in json.loads(done.out)}
    assert done.status == 0, done.out
    assert set(found.values()) == {"ok"}


FAULTS = [
    ("nobody-listens-market", {"SUANLI_MARKET": NOWHERE}, 7, "unreachable"),
    ("nobody-listens-chain", {"SUANLI_CHAIN": NOWHERE}, 6, "chain_unavailable"),
    ("no-keystore", {"SUANLI_KEYSTORE": "/nowhere/key.json"}, 3, "key"),
    ("locked", {"SUANLI_PASSWORD_FILE": ""}, 3, "key"),
    ("no-contract", {"SUANLI_ESCROW": "0x" + "12" * 20}, 2, "wrong_network"),
]


@pytest.mark.parametrize(("changes", "status", "code"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_broken_way_is_named(here: Here, changes: dict[str, str], status: int, code: str) -> None:
    done = run(here, "true", options=("--json",), **changes)
    assert (done.status, done.problem["code"]) == (status, code), done.err
    assert done.problem["hint"]
    assert done.out == ""
    assert here("doctor", **changes).status == (0 if code == "key" and "PASSWORD" in next(iter(changes)) else 2)


def test_a_wrong_password_is_named(ann: Consumer, here: Here) -> None:
    wrong = ann.home / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("tricky pony")
    done = run(here, "true", options=("--json",), SUANLI_PASSWORD_FILE=str(wrong))
    assert (done.status, done.problem["code"]) == (3, "key")
    assert "password" in done.problem["detail"]
    assert "tricky" not in done.err


def test_an_escrow_that_is_not_the_markets_is_refused(scene: Scene, here: Here) -> None:
    other = deploy(scene.world.deployer, scene.world.chain)
    done = run(here, "true", options=("--json",), SUANLI_ESCROW=other.escrow)
    assert (done.status, done.problem["code"]) == (2, "wrong_network")


def test_unknown_ids(here: Here) -> None:
    for command in ("show", "logs", "wait", "get", "cancel", "events"):
        done = here(command, "0xdeadbeef", "--json")
        assert (done.status, done.problem["code"]) == (102, "not_found"), command


def test_without_a_terminal_the_flag_is_named(here: Here) -> None:
    done = here("run", "--json", "--", "true")
    assert done.status == 2
    assert "--yes" in done.problem["hint"]


# A market that lies: the meddler changes what it says on the way to the consumer


def flip(data: bytes) -> bytes:
    """The same length, one bit other."""
    return data[:-1] + bytes([data[-1] ^ 1])


def altered(*path: str | int, to: Any) -> Any:
    """Changes one member of a JSON answer."""

    def change(data: bytes) -> bytes:
        value = json.loads(data)
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = to
        return json.dumps(value).encode()

    return change


LIES = [
    ("output", r"^GET /v1/leases/0x\w+/blobs/outputs", flip, 104, "evidence.outputs.sealed"),
    ("receipt", r"^GET /v1/leases/0x\w+/receipt", altered("receipt", "amount", to="1"), 104, "signature"),
    ("evidence", r"^GET /v1/leases/0x\w+/receipt", altered("evidence", "billedSeconds", to=9), 104, "evidence"),
    ("attributes", r"^GET /v1/leases/0x\w{64}$", altered("attributes", "name", to="other"), 104, "attributes"),
    ("offer", r"^GET /v1/leases/0x\w{64}$", altered("offer", "prices", to="1"), 3, "Offer"),
    ("rate", r"^GET /v1/leases/0x\w{64}$", altered("rate", to="1"), 104, "id"),
    ("log", r"^GET /v1/leases/0x\w+/logs", altered("chunks", 0, "data", to="0x" + "00" * 64), 104, "log"),
    ("acknowledgement", r"^POST /v1/bids", altered("head", "at", to="1"), 3, "Head"),
]


@pytest.mark.parametrize(("lie", "change", "status", "named"), [x[1:] for x in LIES], ids=[x[0] for x in LIES])
def test_a_lie_of_the_market_is_refused(
    scene: Scene, lie: str, change: Any, status: int, named: str, request: pytest.FixtureRequest
) -> None:
    name = f"lied-{request.node.callspec.id}"
    victim = scene.consumer(name, money="1", via=scene.meddler.url)
    command = 'echo hello; echo data > "$SUANLI_OUTPUT_DIR/a.txt"'
    with scene.meddler.lying(lie, change):
        done = run(victim, "sh", "-c", command, options=("--json", "-o", "res", "--timeout", "1m"))
    assert scene.meddler.lies > 0
    assert done.status == status, done.err
    assert named in done.problem["detail"]
    assert not list(victim.home.glob("res/*"))
    record = json.loads(next(victim.home.glob("data/suanli/jobs/*/record.json")).read_text())
    assert record["countersignature"] == ""
    if name != "lied-acknowledgement":
        assert victim("wait", record["id"], "--timeout", "90s").status == 0  # an honest answer heals it


def test_a_wait_ends_when_it_was_told_to(ann: Consumer) -> None:
    assert run(ann, "sleep", "120", options=("--detach", "--name", "slow")).status == 0
    done = ann("wait", "slow", "--timeout", "2s", "--json")
    assert (done.status, done.problem["code"]) == (8, "timed_out")
    assert ann("cancel", "slow", "--yes").status == 0
