"""The command that a plan names next does what the plan has shown."""

from __future__ import annotations

import pytest

from suanli.commands.run import again


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["quote", "-f", "job.yaml", "--budget", "1"], "suanli run -f job.yaml --budget 1"),
        (["run", "--dry-run", "--cpus", "2", "--", "true"], "suanli run --cpus 2 -- true"),
        (["--json", "quote", "--", "sh", "-c", "a b"], "suanli run -- sh -c 'a b'"),
        (["run", "--dry-run", "--", "echo", "--dry-run", "quote"], "suanli run -- echo --dry-run quote"),
    ],
)
def test_no_option_is_lost(given: list[str], told: str) -> None:
    assert again(given) == told
