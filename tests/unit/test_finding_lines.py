"""The doctors' lines: folded below their own beginning on a terminal, whole in a pipe, and no word is ever cut."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suanli_protocol.finding_lines import DETAIL_CELLS_MIN, finding_lines

ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
HEAD = 17
NOWHERE = "http://127.0.0.1:9"
DOCTORS = {
    "client": ["suanli.cli", "doctor", "--market", NOWHERE],
    "market": [
        *("suanli_market.cli", "doctor", "--chain", NOWHERE, "--escrow", ADDRESS),
        *("--keystore", "key.json", "--password-file", "password", "--data", "data"),
    ],
}


def test_a_line_that_fits_is_left_as_it_is() -> None:
    assert finding_lines("ok", "chain", "as  it is", cells=80) == ["ok    chain      as  it is"]
    assert finding_lines("ok", "chain", "", cells=80) == ["ok    chain"]


def test_a_long_line_goes_on_below_its_beginning() -> None:
    detail = f"there is no contract at {ADDRESS} on the chain at http://127.0.0.1:8545"
    found = finding_lines("FAIL", "escrow", detail, "check --escrow and --chain\nor ask", cells=60)
    assert found == [
        "FAIL  escrow     there is no contract at",
        f"                 {ADDRESS}",
        "                 on the chain at http://127.0.0.1:8545",
        "                 check --escrow and --chain",
        "                 or ask",
    ]


def test_signs_of_two_cells_count_for_two() -> None:
    found = finding_lines("ok", "market", "算力 " * 20, cells=80)
    assert [line.count("算力") for line in found] == [12, 8]


@given(st.text(st.characters(codec="ascii", exclude_characters="\x1c\x1d\x1e"), max_size=300), st.integers(1, 200))
def test_nothing_is_lost_and_only_a_long_word_runs_over(text: str, cells: int) -> None:
    found = finding_lines("warn", "funds", text, cells=cells)
    assert found[0].startswith("warn  funds")
    assert " ".join(line[HEAD:] for line in found).split() == text.split()
    for line in found:
        assert len(line) <= max(cells, HEAD + DETAIL_CELLS_MIN) or len(line[HEAD:].split()) == 1


def terminal(arguments: list[str], cells: int, folder: Path) -> list[str]:
    """What a command prints on a terminal of that width, without its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, cells, 0, 0))
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("SUANLI_", "XDG_", "COLUMNS"))
    }
    environment |= {"HOME": str(folder), "SUANLI_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=folder
    )
    os.close(theirs)
    data = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        data += part
    os.close(ours)
    process.wait(60)
    return re.sub(r"\x1b\[[0-9;]*m", "", data.decode()).replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("cells", [60, 80])
@pytest.mark.parametrize("who", DOCTORS)
def test_a_doctor_keeps_to_the_terminal(who: str, cells: int, tmp_path: Path) -> None:
    found = terminal(DOCTORS[who], cells, tmp_path)
    assert any(re.match(r"FAIL  \w", line) for line in found), found
    assert any(line.startswith(" " * HEAD) for line in found)
    for line in found:
        assert re.match(rf"(ok  |warn|FAIL|skip)  \w| {{{HEAD}}}\S", line), line
        assert len(line) <= cells or len(line[HEAD:].split()) == 1, line
