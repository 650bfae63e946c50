"""The job file: what is read, and that each wrong key is refused by its name with a stable code."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from suanli.jobs import schema
from suanli.jobs.job import Job
from suanli.jobs.jobfile import load, parse
from suanli_protocol.capacity import Lanes
from suanli_protocol.errors import NotFoundError, UsageError

MISTYPED = "0x5FbDB2315678afecb367f032d93F642f64180aA3"
FULL = """
name: train-digits
workdir: .
python: {version: "3.11", requirements: requirements.lock}
run: python train.py --out "$SUANLI_OUTPUT_DIR"
nodes: 1
resources: {cpus: 4.., memory: 8GB.., disk: 20GB, gpu: none}
env: {EPOCHS: "3"}
secrets: []
inputs: [{source: ./data, path: /in/data}]
outputs: [out/, metrics.json]
network: none
timeouts: {queue: 10m, startup: 5m, execution: 2h}
max_price: 0.50
budget: 1.50
billing: usage
window: 30m
arbiter: "0x5FbDB2315678afecb367f032d93F642f64180aa3"
guard: "0xe7f1725e7734ce288f8367e1bb143e90bb3f0512"
retry: {on: [], attempts: 1}
placement: {regions: [CN-GD]}
verify: {mode: none}
"""


def read(text: str, folder: Path = Path("/base")) -> Job:
    return parse(text.encode(), folder)


def test_a_full_file_is_read() -> None:
    job = read(FULL)
    assert job.name == "train-digits"
    assert job.shell.startswith("python train.py")
    assert job.argv == ()
    assert job.workdir == Path("/base")
    assert (job.python, job.requirements) == ("3.11", Path("/base/requirements.lock"))
    assert job.resources.lanes == Lanes(4000, 7630, 0, 19074)
    assert job.env == {"EPOCHS": "3"}
    assert [(item.source, item.path) for item in job.inputs] == [(Path("/base/data"), "/in/data")]
    assert job.outputs == ("out", "metrics.json")
    assert (job.timeouts.queue, job.timeouts.startup, job.timeouts.execution) == (600, 300, 7200)
    assert (job.max_price, job.budget, job.billing) == ("0.50", "1.50", "usage")
    assert job.regions == ("CN-GD",)
    assert job.window == 1800
    assert job.arbiter == "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    assert job.guard == "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"


def test_only_run_is_needed() -> None:
    job = read("run: [echo, hello]")
    assert job.argv == ("echo", "hello")
    assert job.resources.lanes == Lanes(1000, 1024, 0, 1024)
    assert (job.timeouts.queue, job.timeouts.startup, job.timeouts.execution) == (600, 300, 3600)
    assert job.workdir is None
    assert job.max_price is None
    assert job.budget is None


@pytest.mark.parametrize(("text", "milli"), [("4", 4000), ("4..", 4000), ("4..8", 4000), ("0.5", 500), ('"2"', 2000)])
def test_a_range_needs_its_low_end(text: str, milli: int) -> None:
    assert read(f"run: x\nresources: {{cpus: {text}}}").resources.cpu_milli == milli


def test_money_is_never_a_float() -> None:
    assert read("run: x\nmax_price: 0.10").max_price == "0.10"
    assert read("run: x\nbudget: 12345678901234567.123456").budget == "12345678901234567.123456"


def test_yaml_is_1_2() -> None:
    assert read("run: on").shell == "on"
    assert read("run: x\npython: {version: 3.10}").python == "3.10"


BAD = [
    ("", "bad_value", "job file"),
    ("- run: x", "bad_value", "job file"),
    ("run: 'x", "bad_value", "line"),
    ("run: x\nrun: y", "bad_value", "duplicate"),
    ("run: x\n1: y", "bad_value", "not text"),
    ("name: x", "missing_key", "`run`"),
    ("run: ''", "bad_value", "run"),
    ("run: []", "bad_value", "run"),
    ("run: [python, 3]", "bad_value", "run"),
    ("runn: x", "unknown_key", "runn"),
    ("run: x\nbugdet: 1", "unknown_key", "bugdet"),
    ("run: x\nresources: {cpu: 1}", "unknown_key", "resources.cpu"),
    ("run: x\ntimeouts: {exec: 1h}", "unknown_key", "timeouts.exec"),
    ("run: x\nplacement: {region: [CN]}", "unknown_key", "placement.region"),
    ("run: x\npython: {versoin: '3.11'}", "unknown_key", "python.versoin"),
    ("run: x\ninputs: [{source: a, path: /in/a, mode: 1}]", "unknown_key", "inputs[0].mode"),
    ("run: x\nretry: {atempts: 1}", "unknown_key", "retry.atempts"),
    ("run: x\nsecrets: [API_TOKEN]", "not_supported", "secrets"),
    ("run: x\nnodes: 2", "not_supported", "nodes"),
    ("run: x\nnodes: true", "not_supported", "nodes"),
    ("run: x\nnetwork: full", "not_supported", "network"),
    ("run: x\nnetwork: {allow: [example.org]}", "not_supported", "network"),
    ("run: x\nresources: {gpu: 24GB..80GB:1}", "not_supported", "resources.gpu"),
    ("run: x\nresources: {gpu: -1}", "bad_value", "resources.gpu"),
    ("run: x\nretry: {on: [exit], attempts: 2}", "bad_value", "retry.on"),
    ("run: x\nretry: {attempts: 11}", "bad_value", "retry.attempts"),
    ("run: x\nverify: {mode: spot-check}", "not_supported", "verify"),
    ("run: x\nverify: replicate", "not_supported", "verify"),
    ("run: x\nplacement: {max_carbon_intensity: 200}", "not_supported", "placement.max_carbon_intensity"),
    ("run: x\nplacement: {min_reputation: 0.9}", "not_supported", "placement.min_reputation"),
    ("run: x\nresources: {cpus: many}", "bad_value", "resources.cpus"),
    ("run: x\nresources: {cpus: -1}", "bad_value", "resources.cpus"),
    ("run: x\nresources: {cpus: .inf}", "bad_value", "resources.cpus"),
    ("run: x\nresources: {cpus: 8..4}", "bad_value", "resources.cpus"),
    ("run: x\nresources: {cpus: ..4}", "bad_value", "resources.cpus"),
    ("run: x\nresources: {memory: 8}", "bad_value", "resources.memory"),
    ("run: x\nresources: [1]", "bad_value", "resources"),
    ("run: x\nenv: {A: 3}", "bad_value", "env.A"),
    ("run: x\nenv: {A-B: x}", "bad_value", "env.A-B"),
    ("run: x\nenv: {SUANLI_JOB_ID: x}", "bad_value", "env.SUANLI_JOB_ID"),
    ("run: x\ninputs: [{source: a}]", "missing_key", "inputs[0]"),
    ("run: x\ninputs: [{source: a, path: /etc/passwd}]", "bad_value", "inputs[0].path"),
    ("run: x\ninputs: [{source: a, path: /in/../etc}]", "bad_value", "inputs[0].path"),
    ("run: x\ninputs: [{source: a, path: /in}]", "bad_value", "inputs[0].path"),
    ("run: x\noutputs: [/etc]", "bad_value", "outputs[0]"),
    ("run: x\noutputs: [../up]", "bad_value", "outputs[0]"),
    ("run: x\noutputs: out", "bad_value", "outputs"),
    ("run: x\ntimeouts: {execution: soon}", "bad_value", "timeouts.execution"),
    ("run: x\ntimeouts: {execution: 0}", "bad_value", "timeouts.execution"),
    ("run: x\nmax_price: cheap", "bad_value", "max_price"),
    ("run: x\nmax_price: -1", "bad_value", "max_price"),
    ("run: x\nbudget: 0", "bad_value", "budget"),
    ("run: x\nbudget: .nan", "bad_value", "budget"),
    ("run: x\nwindow: soon", "bad_value", "window"),
    ("run: x\nwindow: 0", "bad_value", "window"),
    ("run: x\narbiter: nobody", "bad_value", "arbiter"),
    ("run: x\narbiter: 0x5FbDB2315678afecb367f032d93F642f64180aa3", "bad_value", "arbiter: an address without quotes"),
    (f"run: x\nguard: '{MISTYPED}'", "bad_value", f"guard: {MISTYPED} has a wrong checksum"),
    ("run: x\nguard: [a]", "bad_value", "guard"),
    ("run: x\nbilling: free", "bad_value", "billing"),
    ("run: x\nplacement: {regions: [somewhere]}", "bad_value", "placement.regions"),
    ("run: x\npython: {version: '2.7'}", "bad_value", "python.version"),
    ('run: x\nname: "a\\u0007b"', "bad_value", "name"),
]


@pytest.mark.parametrize(("text", "code", "named"), BAD)
def test_bad_input_is_refused_by_name(text: str, code: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text)
    assert caught.value.code == code
    assert named in caught.value.detail
    assert caught.value.exit_status == 2
    assert caught.value.hint or "duplicate" in named


@pytest.mark.parametrize(
    ("wrong", "right"), [("bugdet: 1", "budget"), ("worckdir: .", "workdir"), ("resources: {cpu: 1}", "cpus")]
)
def test_did_you_mean(wrong: str, right: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(f"run: x\n{wrong}")
    assert caught.value.hint == f"did you mean `{right}`?"


def test_deep_nesting_and_long_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read("run: " + "[" * 5000)
    file = tmp_path / "job.yaml"
    file.write_bytes(b"run: x\n#" + b"x" * 300_000)
    with pytest.raises(UsageError, match="longer"):
        load(file)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "jobs" / "job.yaml"
    file.parent.mkdir()
    file.write_text("run: x\nworkdir: src\n")
    assert load(file).workdir == tmp_path / "jobs" / "src"
    with pytest.raises(NotFoundError):
        load(tmp_path / "none.yaml")


def test_a_job_from_a_command() -> None:
    job = Job.from_command(["python", "-c", "print(1)"], cpus="0.5", memory="512MiB", timeout="10m", env={"A": "b"})
    assert job.argv == ("python", "-c", "print(1)")
    assert job.resources.lanes == Lanes(500, 512, 0, 1024)
    assert job.timeouts.execution == 600
    assert Job.from_command("echo hi").shell == "echo hi"
    with pytest.raises(UsageError):
        Job.from_command("x", env={"SUANLI_X": "1"})
    with pytest.raises(UsageError):
        Job.from_command("x", max_price="free")


# The schema says of a file what the reader says

GOOD = [
    FULL,
    "run: [echo, hello]",
    "run: x\nresources: {cpus: 4..8, memory: 512MiB, disk: 1.5GB..}\nmax_price: 0.10",
    "run: x\npython: 3.11\nretry: none\nverify: none",
    "run: x\ntimeouts: {execution: 90, queue: 1h30m}\nplacement: {regions: [DE, CN-GD], min_reputation: 0}",
    'run: x\nbudget: "12.5"\ninputs: [{source: ./a, path: /in/a/b}]\noutputs: [a/b..c, out/]',
]
ONLY_THE_READER = ("resources: {cpus: 8..4}", f"guard: '{MISTYPED}'")  # no schema compares two ends, or sums up


VALIDATOR = jsonschema.Draft202012Validator(schema.schema())


def schema_takes(text: str) -> bool:
    try:
        value = YAML(typ="safe", pure=True).load(text)
        json.dumps(value, allow_nan=False)
    except (YAMLError, ValueError):
        return False
    return bool(VALIDATOR.is_valid(value))


def test_the_schema_is_one_and_committed() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    committed = Path(__file__).parents[2] / schema.PLACE
    assert committed.read_text() == schema.text()


@pytest.mark.parametrize("text", GOOD)
def test_the_schema_takes_what_is_read(text: str) -> None:
    read(text)
    assert schema_takes(text)


@pytest.mark.parametrize("text", [text for text, _, _ in BAD if not text.endswith(ONLY_THE_READER)])
def test_the_schema_refuses_what_is_refused(text: str) -> None:
    assert not schema_takes(text)
