"""What a person agrees to is all shown before: who may act in its name, and what a folder has set."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from suanli import config
from suanli.client import Client
from suanli.commands import run as running
from suanli.jobs.bundle import Bundle
from suanli.jobs.job import Job
from suanli.plan import Draft, Plan
from suanli.terminal.console import Console
from suanli_protocol import wire
from suanli_protocol.errors import UsageError
from suanli_protocol.messages import ZERO_ADDRESS
from support import builders

GUARD, ARBITER = builders.a_signer(41).address, builders.a_signer(42).address
JUDGING = ("window", "arbiter", "guard")  # what a job may name, and a setting too
VALUES = {
    "market": "http://127.0.0.1:1",
    "chain": "http://127.0.0.1:2",
    "escrow": "0x" + "22" * 20,
    "keystore": "/keys/theirs.json",
    "password_file": "/keys/password",
    "arbiter": ARBITER,
    "guard": GUARD,
    "window": "10m",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without any setting."""
    for name in config.NAMES:
        monkeypatch.delenv(f"SUANLI_{name.upper()}", raising=False)
    monkeypatch.setenv("SUANLI_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def a_plan(job: Job | None = None, **bid: Any) -> Plan:
    """A plan without a single offer."""
    job = job or Job(argv=("true",))
    folder = tempfile.TemporaryDirectory()
    draft = Draft(job, bytes(32), cast(Bundle, SimpleNamespace(manifest=None)), builders.some_constraints(), folder)
    info = cast(wire.MarketInfo, SimpleNamespace(name="m", address=builders.market().address, symbol="DEV", decimals=6))
    return Plan(draft, info, builders.a_bid(**bid), (), (), 1)


def said(capsys: pytest.CaptureFixture[str], *given: str, **switches: bool) -> str:
    """What is said before the consent to `run` with these options, on stderr."""
    client = cast(Client, SimpleNamespace(config=config.load()))
    options = options_of(*given)
    with pytest.raises(Exception, match="fits the job"):
        running.agree(client, Console(**switches), a_plan(running.job_of(options)), options)
    return capsys.readouterr().err


def options_of(*given: str) -> dict[str, Any]:
    """The options of a `run --yes` that was given these."""
    return running.run.make_context("run", ["--yes", *given, "--", "true"]).params


def test_every_setting_is_tried() -> None:
    assert set(VALUES) == set(config.NAMES)


@pytest.mark.parametrize("name", config.NAMES)
@pytest.mark.parametrize("switches", [{}, {"quiet": True}, {"json": True}])
def test_whatever_a_folder_sets_is_named_before_anything_is_signed(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, switches: dict[str, bool]
) -> None:
    (folder / ".suanli.toml").write_text(f"{name} = {json.dumps(VALUES[name])}\n")
    text = said(capsys, **switches)
    assert "./.suanli.toml" in text
    assert f"{name} " in text
    assert VALUES[name] in text


def test_settings_of_ones_own_are_not_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = folder.parent / "config/suanli/config.toml"
    own.parent.mkdir(parents=True)
    own.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in VALUES.items()))
    assert "suanli.toml" not in said(capsys)


@pytest.mark.parametrize("name", JUDGING)
@pytest.mark.parametrize("switches", [{}, {"quiet": True}, {"json": True}])
def test_whatever_a_job_file_sets_of_that_is_named_too(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, switches: dict[str, bool]
) -> None:
    (folder / "job.yaml").write_text(f"run: x\n{name}: {json.dumps(VALUES[name])}\n")
    text = said(capsys, "-f", "job.yaml", **switches)
    assert "the job file sets:" in text
    assert (VALUES[name] if name != "window" else "10 m") in text
    assert "sets:" not in said(capsys, "-f", "job.yaml", f"--{name}", VALUES[name], **switches)


@pytest.mark.parametrize("name", JUDGING)
def test_a_flag_wins_over_the_job_file_and_the_file_over_a_setting(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    texts = ["1m", "2m", "3m"] if name == "window" else [builders.a_signer(50 + i).address for i in range(3)]
    wanted: list[Any] = [60, 120, 180] if name == "window" else texts
    (folder / "job.yaml").write_text(f"run: x\n{name}: '{texts[1]}'\n")
    (folder / ".suanli.toml").write_text(f"{name} = '{texts[2]}'\n")

    def asked(*given: str) -> Any:
        job, client = running.job_of(options_of(*given)), Client()
        return client.window(job.window) if name == "window" else client.judges(job)[name]

    flag = (f"--{name}", texts[0])
    assert [asked("-f", "job.yaml", *flag), asked("-f", "job.yaml"), asked()] == wanted
    assert asked(*flag) == wanted[0]
    assert ".suanli.toml" not in said(capsys, *flag)  # it is not what counts
    assert ".suanli.toml" in said(capsys)


def test_a_wrong_flag_is_named() -> None:
    for name in JUDGING:
        with pytest.raises(UsageError, match=f"--{name}: ") as caught:
            running.job_of(options_of(f"--{name}", "soon"))
        assert caught.value.hint


def test_a_plan_names_who_guards_and_who_judges() -> None:
    plan = a_plan(guard=GUARD, arbiter=ARBITER)
    table = plan.table()
    assert GUARD in table
    assert ARBITER in table
    assert (plan.to_json()["guard"], plan.to_json()["arbiter"]) == (GUARD, ARBITER)
    nobody = a_plan(guard=ZERO_ADDRESS, arbiter=ZERO_ADDRESS)
    assert "guard" not in nobody.table()
    assert nobody.to_json()["guard"] is None
