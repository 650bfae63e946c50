"""A reverse proxy for tests: nginx with the configuration that deploy/ has as an example, on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.authority import Authority
from support.devnet import ROOT, free_port, stop_process

EXAMPLE = ROOT / "deploy" / "nginx.conf"
START_TIMEOUT_S = 30.0
_MAIN = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {sites}
}}
"""


def nginx() -> str | None:
    """Where nginx is, if it is installed."""
    return shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin:/opt/homebrew/bin")


def site(name: str, backend: str, port: int, authority: Authority) -> str:
    """The example with this backend ("http://host:port"), port and certificate in place of its own."""
    text = EXAMPLE.read_text()
    for old, new in (
        ("server 127.0.0.1:8402;", f"server {backend.removeprefix('http://')};"),
        ("suanli_market", name),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/market/fullchain.pem", str(authority.server_certificate)),
        ("/etc/ssl/market/privkey.pem", str(authority.server_key)),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def start_proxy(folder: Path, backends: dict[str, str], authority: Authority) -> Iterator[dict[str, str]]:
    """Runs nginx while the context is open; the https address of each backend by its name."""
    program = nginx()
    assert program is not None
    folder.mkdir()
    ports = {name: free_port() for name in backends}
    sites = "\n".join(site(name, backend, ports[name], authority) for name, backend in backends.items())
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, sites=sites))
    process = subprocess.Popen(
        [program, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(folder / "nginx.conf")],
        stdin=subprocess.DEVNULL,
    )
    try:
        for port in ports.values():
            _until_open(port, process, folder / "error.log")
        yield {name: f"https://127.0.0.1:{port}" for name, port in ports.items()}
    finally:
        stop_process(process)


def _until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"nginx ended with {process.returncode}: {log.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nginx did not listen on port {port} within {START_TIMEOUT_S} s")
