"""Runs as a node executes them: real bubblewrap, Ray and uv. One Ray host serves the whole file."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from suanli_node.engine.collect import CollectLimits, collect
from suanli_node.engine.environment import EnvironmentStore, PackageIndex
from suanli_node.engine.executor import Executor, HostCapacity
from suanli_node.engine.runlog import LogEntry, Source, read_log
from suanli_node.engine.runs import RunPhase, RunSpec, RunStatus
from suanli_node.sandbox import selftest as selftest_module
from suanli_node.sandbox.bubblewrap import is_true_root
from suanli_node.sandbox.cgroup import group_name, homes
from suanli_node.sandbox.selftest import Canary, canaries, selftest
from suanli_protocol.errors import ConfigurationError, ExecutionError, NotFoundError

pytestmark = pytest.mark.e2e
WAIT_S = 60.0
CAPACITY = HostCapacity(cpus_milli=2000, memory_mib=4096)


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder such as the operator's keystore."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "key.json").write_text("a secret key")
    return folder


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory, secret: Path) -> Iterator[Executor]:
    executor = Executor.start_or_attach(tmp_path_factory.mktemp("node") / "state", CAPACITY, mask=(secret,))
    yield executor
    executor.shutdown()


def a_run(executor: Executor, *argv: str, script: str = "", **wanted: object) -> str:
    """Start a run of a command, or of a Python script, and return its lease id."""
    lease_id = f"lease-{secrets.token_hex(6)}"
    command = ("python", "-c", textwrap.dedent(script)) if script else argv
    limits: dict[str, object] = {"cpus_milli": 200, "memory_mib": 256, "disk_mib": 64, "seconds": 30, **wanted}
    executor.start(RunSpec(lease_id, argv=command, **limits))  # type: ignore[arg-type]
    return lease_id


def output(executor: Executor, lease_id: str) -> str:
    entries: list[LogEntry] = []
    offset = 0
    while True:
        more, offset = executor.read_log(lease_id, offset)
        if not more:
            return b"".join(entry.data for entry in entries).decode(errors="replace")
        entries += more


def finished(executor: Executor, *argv: str, script: str = "", **wanted: object) -> tuple[RunStatus, str]:
    """The final status and the output of a run."""
    lease_id = a_run(executor, *argv, script=script, **wanted)
    status = executor.wait(lease_id, WAIT_S)
    assert status.final, status
    return status, output(executor, lease_id)


def host_pid(executor: Executor) -> int:
    """Pid 1 of the host's namespace, as seen from outside."""
    (init,) = psutil.Process(_recorded_pid(executor)).children()
    return init.pid


def _recorded_pid(executor: Executor) -> int:
    return int(re.findall(r'"pid":(\d+)', executor.state.process.read_text())[0])


def inhabitants(pid: int) -> list[int]:
    """All processes in the pid namespace of a process, and in those below it."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def test_hello(executor: Executor) -> None:
    status, said = finished(executor, "python", "-c", "print(6*7)")
    assert (status.phase, status.reason, status.exit_code) == (RunPhase.EXITED, "ok", 0)
    assert said == "42\n"
    assert status.usage.wall_ms > 0
    assert status.usage.cpu_ms > 0
    assert status.usage.samples >= 2
    assert status.started_at is not None
    assert status.ended_at is not None


def test_exit_code_and_shell(executor: Executor) -> None:
    lease_id = f"lease-{secrets.token_hex(6)}"
    executor.start(RunSpec(lease_id, shell='echo "$GREETING" >&2; exit 7', env={"GREETING": "hello; $(id)"}))
    status = executor.wait(lease_id, WAIT_S)
    assert (status.reason, status.exit_code) == ("exit_nonzero", 7)
    ((entry,), _) = executor.read_log(lease_id, 0)
    assert (entry.source, entry.data) == (Source.STDERR, b"hello; $(id)\n")


def test_unknown_command_is_the_jobs_fault(executor: Executor) -> None:
    status, said = finished(executor, "no-such-program")
    assert (status.reason, status.exit_code) == ("exit_nonzero", 127)
    assert "no-such-program" in said


def test_starting_twice_runs_once(executor: Executor) -> None:
    lease_id = f"lease-{secrets.token_hex(6)}"
    spec = RunSpec(lease_id, shell="echo ran; sleep 0.3")
    threads = [threading.Thread(target=executor.start, args=(spec,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    executor.wait(lease_id, WAIT_S)
    executor.start(spec)
    assert executor.status(lease_id).phase is RunPhase.EXITED
    assert output(executor, lease_id) == "ran\n"


def test_work_and_inputs(executor: Executor) -> None:
    lease_id = f"lease-{secrets.token_hex(6)}"
    folder = executor.folder(lease_id)
    (folder.work / "main.py").write_text(
        "open('made', 'w').write(open('/in/data').read().upper())\nprint(open('made').read())"
    )
    (folder.inputs / "data").write_text("from the input")
    executor.start(RunSpec(lease_id, argv=("python3", "main.py")))
    assert executor.wait(lease_id, WAIT_S).reason == "ok"
    assert output(executor, lease_id) == "FROM THE INPUT\n"
    assert (folder.inputs / "data").read_text() == "from the input"


def test_log_streams_while_running(executor: Executor) -> None:
    lease_id = a_run(executor, "sh", "-c", "echo first; printf half; while [ ! -e go ]; do sleep 0.05; done; echo last")
    status, offset, seen = executor.status(lease_id), 0, b""
    deadline = time.monotonic() + WAIT_S
    while b"half" not in seen and time.monotonic() < deadline:
        entries, offset = executor.read_log(lease_id, offset)
        seen += b"".join(entry.data for entry in entries)
        if b"half" not in seen:
            status = executor.wait_change(status, 5)
    assert seen == b"first\nhalf"
    assert executor.status(lease_id).phase is RunPhase.RUNNING
    (executor.folder(lease_id).work / "go").touch()
    assert executor.wait(lease_id, WAIT_S).reason == "ok"
    entries, _ = executor.read_log(lease_id, 0)
    assert [entry.sequence for entry in entries] == list(range(len(entries)))
    assert b"".join(entry.data for entry in entries) == b"first\nhalflast\n"


def test_timeout_kills_what_ignores_sigterm(executor: Executor) -> None:
    script = """
    import signal, time
    signal.signal(signal.SIGTERM, lambda *_: print("ignored", flush=True))
    while True: time.sleep(1)
    """
    status, said = finished(executor, script=script, seconds=1)
    assert (status.reason, status.exit_code) == ("timeout", 137)
    assert "ignored" in said


def test_stop_lets_a_job_end_itself(executor: Executor) -> None:
    lease_id = a_run(executor, "sh", "-c", "trap 'echo saved; exit 3' TERM; echo up; while :; do sleep 0.05; done")
    status = executor.status(lease_id)
    while status.log_size == 0:
        status = executor.wait_change(status, WAIT_S)
    executor.stop(lease_id, "the consumer stopped it on chain")
    status = executor.wait(lease_id, WAIT_S)
    assert (status.reason, status.exit_code) == ("stopped", 3)
    assert "saved" in output(executor, lease_id)
    with pytest.raises(NotFoundError):
        executor.stop("lease-unknown", "")


def test_memory_hog_is_killed(executor: Executor) -> None:
    status, _ = finished(executor, script="held = [bytearray(b'x') * 2**20 for _ in range(2000)]", memory_mib=128)
    assert status.reason == "memory_exceeded"
    assert status.usage.peak_memory_mib < 400


def test_memory_of_many_processes_counts_together(executor: Executor) -> None:
    script = """
    import os, time
    for _ in range(8):
        if os.fork() == 0:
            held = bytearray(os.urandom(1)) * (60 * 2**20)
            time.sleep(20)
            os._exit(0)
    time.sleep(20)
    """
    status, _ = finished(executor, script=script, memory_mib=256)
    assert status.reason == "memory_exceeded"


def test_fork_bomb_is_contained_and_leaves_nothing(executor: Executor) -> None:
    before = set(inhabitants(host_pid(executor)))
    status, _ = finished(executor, "sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 20", processes=50, seconds=5)
    # Without a control group nobody counts the processes that the kernel refuses: they are refused all the same.
    assert status.reason == "process_limit" or (not is_true_root() and status.reason == "timeout")
    samples = executor.folder(status.lease_id).samples.read_text().splitlines()
    assert max(json.loads(line)["processes"] for line in samples) <= 50 + 1 + 16
    left = set(inhabitants(host_pid(executor))) - before
    assert [psutil.Process(pid).cmdline() for pid in left if "bomb" in " ".join(psutil.Process(pid).cmdline())] == []


def test_daemonised_children_die_with_the_run(executor: Executor) -> None:
    mark = f"3{secrets.randbelow(10**9)}"
    status, _ = finished(executor, "sh", "-c", f"setsid sleep {mark} >/dev/null 2>&1 & sleep 0.1; exit 0")
    assert status.reason == "ok"
    assert not [p for p in psutil.process_iter(["cmdline"]) if mark in (p.info["cmdline"] or [])]


def test_disk_and_log_floods_end_the_run(executor: Executor) -> None:
    status, _ = finished(
        executor, "sh", "-c", "while head -c 8000000 /dev/zero > $(mktemp -p /out); do :; done", disk_mib=32
    )
    assert status.reason == "disk_exceeded"
    status, said = finished(executor, "yes", log_bytes=100_000)
    assert status.reason == "log_exceeded"
    assert 100_000 <= len(said) < 101_000


def test_deleted_files_and_deep_folders_count(executor: Executor) -> None:
    script = """
    import os, time
    held = []
    for number in range(10):
        held.append(open(str(number), "wb"))
        os.unlink(str(number))
        held[-1].write(bytes(8 * 2**20))
        held[-1].flush()
    time.sleep(20)
    """
    status, _ = finished(executor, script=script, disk_mib=32)
    assert status.reason == "disk_exceeded"
    script = """
    import os, time
    for _ in range(3000): os.mkdir("d"); os.chdir("d")
    time.sleep(20)
    """
    lease_id = a_run(executor, script=script)
    assert executor.wait(lease_id, WAIT_S).reason == "disk_exceeded"
    executor.forget(lease_id)
    assert not executor.state.runs.joinpath(lease_id).exists()


def test_no_network(executor: Executor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        script = f"""
        import socket
        for address in ("127.0.0.1", "{socket.gethostbyname("localhost")}", "192.0.2.1"):
            try:
                socket.create_connection((address, {port}), 2)
                print("connected", address)
            except OSError as error:
                print(type(error).__name__, error)
        print(open("/proc/net/route").read().count(chr(10)), [name for _, name in socket.if_nameindex()])
        """
        status, said = finished(executor, script=script)
        with pytest.raises(TimeoutError):
            server.accept()
    assert status.reason == "ok"
    assert "connected" not in said
    assert said.splitlines()[-1] == "1 ['lo']"


def test_ray_cannot_be_reached(executor: Executor) -> None:
    """No port of Ray's is open outside its namespace, and a job sees none inside its own."""
    pid = host_pid(executor)
    family = inhabitants(pid)
    listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid in family]
    assert listening == []
    assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    inside = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    assert any(line.split()[3] == "0A" for line in inside), "Ray listens inside its own namespace"
    _, said = finished(executor, "sh", "-c", "cat /proc/net/tcp /proc/net/tcp6 /proc/net/unix | wc -l")
    assert said.strip() == "3"


def test_no_files_of_the_host(executor: Executor, secret: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("found")
    hidden = [canary, secret / "key.json", executor.state.path, executor.state.ray, Path("~root/.ssh").expanduser(),
              Path("/etc/shadow"), Path("/run"), Path("/sys/kernel"), Path(__file__)]  # fmt: skip
    script = f"""
    import os
    for path in {[str(path) for path in hidden]}:
        print(path, os.path.exists(path)) if os.path.exists(path) else None
    environ = open("/proc/1/environ").read()
    print(sorted(os.listdir("/")), sorted(pid for pid in os.listdir("/proc") if pid.isdigit())[:1])
    print("RAY" in environ or "HOME=/run" in environ, [name for name in os.environ if "RAY" in name])
    """
    _, said = finished(executor, script=script)
    shown = said.splitlines()
    assert len(shown) == 2, said
    assert shown[1] == "False []"


def test_the_host_itself_reads_no_keys(executor: Executor, secret: Path) -> None:
    inside = Path(f"/proc/{host_pid(executor)}/root{secret}")
    with suppress(PermissionError):
        assert list(inside.iterdir()) == []
    assert (secret / "key.json").read_text() == "a secret key"
    environment = Path(f"/proc/{host_pid(executor)}/environ").read_bytes().split(b"\0")
    assert {line.split(b"=")[0] for line in environment if line} <= {b"PATH", b"LANG"}


def test_writes_stay_inside(executor: Executor) -> None:
    script = """
    for path in ("/usr/x", "/etc/x", "/env/x", "/in/x", "/x", "/dev/x", "/proc/sys/kernel/hostname"):
        try:
            open(path, "w").write("x"); print("wrote", path)
        except OSError:
            pass
    for path in ("/work/x", "/out/x", "/tmp/x", "/dev/shm/x"):
        open(path, "w").write("x")
    """
    status, said = finished(executor, script=script)
    assert (status.reason, said) == ("ok", "")


@pytest.mark.skipif(not is_true_root(), reason="only root can give a run a user of its own")
def test_root_gives_each_run_its_own_user(executor: Executor) -> None:
    lease_id = a_run(executor, "touch", "/out/mine")
    executor.wait(lease_id, WAIT_S)
    assert executor.folder(lease_id).out.joinpath("mine").stat().st_uid >= 1_800_000_000


def test_outputs_are_collected_and_tricks_refused(executor: Executor) -> None:
    script = """
    import os
    os.makedirs("/out/deep/er"); open("/out/deep/er/result.txt", "w").write("42")
    open("metrics.json", "w").write("{}"); open("tool", "w").write("x"); os.chmod("tool", 0o700)
    os.symlink("/etc/passwd", "/out/link"); os.mkfifo("/out/pipe"); os.link("/out/deep/er/result.txt", "/out/hard")
    os.symlink("/etc", "linked"); open("/out/bell" + chr(7), "w")
    os.mkdir("/out/closed"); open("/out/closed/in", "w").write("in"); os.chmod("/out/closed", 0)
    """
    lease_id = a_run(executor, script=script)
    assert executor.wait(lease_id, WAIT_S).reason == "ok"
    folder = executor.folder(lease_id)
    found = collect(folder, ["metrics.json", "tool", "linked/passwd", "absent"], CollectLimits())
    assert {source.name: source.mode for source in found.files} == {
        "out/closed/in": 0o644, "metrics.json": 0o644, "tool": 0o755,
    }  # fmt: skip
    assert dict(found.refused) == {
        "out/link": "is a symbolic link", "out/pipe": "is a pipe", "linked": "is no folder",
        "out/hard": "has more than one name (hard link)",
        "out/deep/er/result.txt": "has more than one name (hard link)",
        "out/bell\x07": "has control characters or broken UTF-8 in its name",
    }  # fmt: skip
    assert found.missing == ["absent"]
    with pytest.raises(ExecutionError) as caught:
        collect(folder, [], CollectLimits(bytes=1))
    assert caught.value.code == "output_exceeded"
    with pytest.raises(ExecutionError):
        collect(folder, ["../state.json"], CollectLimits())
    executor.forget(lease_id)
    assert lease_id not in {status.lease_id for status in executor.runs()}


def a_wheel(folder: Path) -> str:
    """A small wheel in a folder, and the hashed requirement for it."""
    path = folder / "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("greeting.py", f"def hello(): print('hello from a wheel')  # {secrets.token_hex(8)}")
        wheel.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        wheel.writestr("greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("greeting-1.0.dist-info/entry_points.txt", "[console_scripts]\ngreet = greeting:hello\n")
        names = [*wheel.namelist(), "greeting-1.0.dist-info/RECORD"]
        wheel.writestr("greeting-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in names))
    return f"greeting==1.0 \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def test_environment_from_hashed_wheels(executor: Executor, tmp_path: Path) -> None:
    requirements = a_wheel(tmp_path)
    store = EnvironmentStore(executor.state.environments, PackageIndex.parse(str(tmp_path)))
    prepared = store.prepare(requirements)
    assert not prepared.cached
    assert "greeting" in prepared.transcript
    assert store.prepare(requirements).cached
    status, said = finished(executor, "sh", "-c", "greet; python -c 'import greeting; print(greeting.__file__)'",
                            environment=prepared.name)  # fmt: skip
    assert status.reason == "ok", said
    assert said.splitlines()[0] == "hello from a wheel"
    assert said.splitlines()[1].startswith("/env/lib/")
    with pytest.raises(ExecutionError) as caught:
        store.prepare(re.sub("sha256:....", "sha256:0000", requirements))
    assert caught.value.code == "environment_failed"
    assert not list(executor.state.environments.glob(".draft*"))


def test_environment_caps(executor: Executor, tmp_path: Path) -> None:
    requirements = a_wheel(tmp_path) + "# asked again\n"
    store = EnvironmentStore(executor.state.environments, PackageIndex.parse(str(tmp_path)))
    with pytest.raises(ExecutionError, match="longer than 0 s"):
        store.prepare(requirements, timeout_s=0)
    with pytest.raises(ExecutionError):
        store.prepare(requirements, size_mib=0)
    with pytest.raises(ExecutionError, match="prepares no environments"):
        EnvironmentStore(executor.state.environments).prepare(requirements)


def test_selftest_holds(executor: Executor, secret: Path) -> None:
    held = selftest(executor, (secret, executor.state.path), say=lambda _: None)
    limits = ("", *executor.health()["limits"])
    assert held == tuple(canary.name for canary in canaries(()) if canary.limit in limits)


def test_a_canary_that_this_machine_cannot_hold_is_not_named(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether no control group is there, or one is there and does not bind."""
    said: list[str] = []
    without = {**executor.health(), "limits": []}
    with monkeypatch.context() as patched:
        patched.setattr(executor, "health", lambda: without)
        assert "cpu" not in selftest(executor, (), say=said.append)
    assert "no limit: cpu" in said
    got_out = Canary("cpu", "import sys; sys.exit('used 1.50 s of CPU in 0.61 s')", limit="cpu")
    monkeypatch.setattr(selftest_module, "canaries", lambda _: (got_out,))
    monkeypatch.setattr(executor, "health", lambda: {"limits": ["cpu"]})
    assert selftest(executor, (), say=said.append) == ()
    assert said[-1] == "not held: cpu: used 1.50 s of CPU in 0.61 s"


def test_selftest_removes_what_an_earlier_one_left(executor: Executor) -> None:
    executor.folder("canary-never-started")
    spec = RunSpec("canary-still-runs", argv=("sleep", "30"), cpus_milli=100, memory_mib=64, disk_mib=16, seconds=40)
    executor.start(spec)
    selftest(executor, (), say=lambda _: None)
    assert list(executor.state.runs.glob("canary-*")) == []


def test_selftest_names_a_canary_that_gets_out(executor: Executor) -> None:
    with pytest.raises(ConfigurationError, match="'files'"):
        selftest(executor, (Path("/usr/bin"),), say=lambda _: None)


def test_run_that_ray_cannot_place_is_lost(executor: Executor) -> None:
    status, _ = finished(executor, "true", cpus_milli=64_000, start_seconds=1)
    assert (status.phase, status.reason) == (RunPhase.LOST, "worker_lost")
    assert "did not place" in status.detail


def appearing(cmdline: list[str]) -> psutil.Process:
    """The process with this command line, once there is one."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline"]):
            if process.info["cmdline"] == cmdline:
                return process
        time.sleep(0.02)
    raise AssertionError(f"{cmdline} did not start")


def test_supervisor_that_dies_takes_its_job_along(executor: Executor) -> None:
    mark = f"2{secrets.randbelow(10**9)}"
    lease_id = a_run(executor, "sleep", mark)
    status = executor.status(lease_id)
    while status.phase is RunPhase.STARTING:
        status = executor.wait_change(status, WAIT_S)
    job = appearing(["sleep", mark])
    supervisor = next(
        p for p in job.parents() if p.name().startswith("ray::") or "default_worker" in " ".join(p.cmdline())
    )
    supervisor.kill()
    status = executor.wait(lease_id, WAIT_S)
    assert (status.phase, status.reason) == (RunPhase.LOST, "worker_lost")
    assert left_of([job.pid]) == []
    executor.health(probe=True)
    assert [str(home.folder) for home in homes() if (home.folder / group_name(lease_id)).exists()] == []


DAEMON = """
import sys, time
from pathlib import Path
from suanli_node.engine.executor import Executor, HostCapacity
from suanli_node.engine.runs import RunSpec
executor = Executor.start_or_attach(Path(sys.argv[1]), HostCapacity(1000, 1024))
executor.start(RunSpec("survivor", shell="echo before; while [ ! -e /work/go ]; do sleep 0.05; done; echo after"))
print("started", flush=True)
time.sleep(600)
"""


def test_runs_outlive_the_daemon_not_the_host_and_shutdown_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / ("a-rather-long-name-" * 6) / "state"
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, str(state)], stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "started\n"
    daemon.send_signal(signal.SIGKILL)
    daemon.wait(WAIT_S)
    daemon.stdout.close()
    executor = Executor.start_or_attach(state, HostCapacity(1000, 1024))
    family = inhabitants(_recorded_pid(executor))
    assert executor.status("survivor").phase in (RunPhase.STARTING, RunPhase.RUNNING)
    (executor.folder("survivor").work / "go").touch()
    assert executor.wait("survivor", WAIT_S).reason == "ok"
    assert output(executor, "survivor") == "before\nafter\n"
    executor.start(RunSpec("endless", argv=("sleep", "600")))
    family += inhabitants(_recorded_pid(executor))

    psutil.Process(_recorded_pid(executor)).kill()
    assert executor.wait("endless", WAIT_S).phase is RunPhase.LOST
    with pytest.raises(ExecutionError):
        executor.start(RunSpec("later", argv=("true",)))
    Executor.start_or_attach(state, HostCapacity(1000, 1024))
    executor.start(RunSpec("endless", argv=("sleep", "600")))
    executor.start(RunSpec("later", argv=("true",)))
    assert executor.wait("later", WAIT_S).reason == "ok"
    assert {status.lease_id: status.reason for status in executor.runs()} == {
        "survivor": "ok", "endless": "worker_lost", "later": "ok",
    }  # fmt: skip

    family += inhabitants(_recorded_pid(executor))
    executor.shutdown()
    assert left_of(family) == []
    assert [str(home.folder) for home in homes() if (home.folder / group_name("endless")).exists()] == []
    assert sorted(path.name for path in state.iterdir()) == ["environments", "ray_host.lock", "ray_host.log", "runs"]
    entries, _ = read_log(state / "runs/survivor/log", 0)
    assert b"".join(entry.data for entry in entries) == b"before\nafter\n"


def left_of(pids: list[int]) -> list[psutil.Process]:
    """Which of the processes still live, after a moment to die."""
    processes = [psutil.Process(pid) for pid in set(pids) if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(processes, timeout=WAIT_S / 6)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_missing_bubblewrap_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError) as caught:
        Executor.start_or_attach(tmp_path / "state", CAPACITY)
    assert "bubblewrap" in caught.value.hint
