"""The operator's commands that need no chain."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from suanli_market.backup import back_up
from suanli_market.cli import main
from suanli_market.store import StorageError, Store, newest_revision
from suanli_protocol.errors import SuanliError, UsageError


def operate(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def a_store(folder: Path, revision: str = "head") -> None:
    store = Store(folder)
    store.migrate(revision)
    store.close()


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "market.sqlite")) as database, database:
        database.execute(statement)


def test_migrate_says_what_there_is_to_do_and_does_it(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    assert "holds no market.sqlite" in operate("migrate", *data).stderr
    a_store(tmp_path, "0001")
    behind = operate("migrate", "--check", *data)
    assert (behind.exit_code, "suanli-market migrate" in behind.stderr) == (2, True)
    done = operate("migrate", *data)
    assert (done.exit_code, f"0001 -> {newest_revision()}" in done.stdout) == (0, True)
    assert operate("migrate", "--check", *data).exit_code == 0


def test_a_database_of_a_newer_version_is_refused_by_all(tmp_path: Path) -> None:
    a_store(tmp_path)
    change(tmp_path, "UPDATE alembic_version SET version_num = '9999'")
    for command in (("migrate",), ("migrate", "--check"), ("rounds",), ("backup", str(tmp_path / "b"))):
        refused = operate(*command, "--data", str(tmp_path))
        assert refused.exit_code == 2
        assert "newer" in refused.stderr
    assert not (tmp_path / "b").exists()


def test_a_market_without_rounds_lists_none(tmp_path: Path) -> None:
    a_store(tmp_path)
    listed = operate("rounds", "--data", str(tmp_path), "--json")
    assert (listed.exit_code, listed.stdout) == (0, "[]\n")


def test_a_backup_is_whole_or_not_there(tmp_path: Path) -> None:
    a_store(tmp_path)
    with pytest.raises(StorageError, match="cannot be written"):
        back_up(tmp_path, tmp_path / "missing" / "copy")
    file = tmp_path / "market.sqlite"
    pages = file.read_bytes()
    file.write_bytes(pages[:8192] + b"\x07" * (len(pages) - 8192))
    with pytest.raises(SuanliError):
        back_up(tmp_path, tmp_path / "copy")
    assert not list(tmp_path.glob("copy*"))


def test_a_backup_never_replaces_a_file(tmp_path: Path) -> None:
    a_store(tmp_path)
    (tmp_path / "copy").write_text("mine")
    refused = operate("backup", str(tmp_path / "copy"), "--data", str(tmp_path))
    assert (refused.exit_code, refused.stderr.partition(":")[0]) == (2, "There is such a file already")
    assert "never replaces" in refused.stderr
    with pytest.raises(UsageError) as error:
        back_up(tmp_path, tmp_path / "copy")
    assert error.value.code == "file_exists"
    assert (tmp_path / "copy").read_text() == "mine"
