"""Local records: atomic, private, found again by any unambiguous word."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from suanli.jobs.store import Store, resolve
from suanli_protocol.errors import IntegrityError, NotFoundError, UsageError
from support.records import CONSUMER, ESCROW, a_record


def test_a_record_survives(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = a_record("aa", name="train", delivered=["job"], evidence={"exitCode": 3})
    store.save(record)
    assert Store(tmp_path).load(record.id) == record
    assert record.exit_code == 3
    folder = tmp_path / "jobs" / record.id
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "record.json").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["record.json"]


def test_newest_first_and_by_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(a_record("aa", created_at=1, idempotency_key="k"))
    store.save(a_record("bb", created_at=2))
    assert [record.id[:4] for record in store.all()] == ["0xbb", "0xaa"]
    found = store.by_key("k", escrow=ESCROW, consumer=CONSUMER)
    assert found is not None
    assert found.id.startswith("0xaa")
    assert store.by_key("k", escrow="0x" + "99" * 20, consumer=CONSUMER) is None
    assert store.by_key("other", escrow=ESCROW, consumer=CONSUMER) is None


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = a_record("aa")
    store.save(record)
    path = tmp_path / "jobs" / record.id / "record.json"
    for damage in ("{", "[]", json.dumps({"version": 99}), json.dumps({"version": 1, "id": "x"})):
        path.write_text(damage)
        with pytest.raises(IntegrityError, match=r"record\.json"):
            store.load(record.id)


def test_an_unknown_job(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        Store(tmp_path).load("0x" + "ab" * 32)
    assert caught.value.exit_status == 102


@pytest.mark.parametrize("job", ["../../etc", "0xZZ", "", "0x" + "a" * 63])
def test_only_an_id_names_a_folder(tmp_path: Path, job: str) -> None:
    with pytest.raises(ValueError, match="no job id"):
        Store(tmp_path).folder(job)


RECORDS = [
    a_record("abc1", name="train", lease="0x" + "d1" * 32, number=7),
    a_record("abc2", name="train", lease="0x" + "f1" * 32, number=8),
    a_record("ff00", name="abc", number=12, lease="0x" + "e1" * 32),
]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("0xabc1", 0),
        ("abc2", 1),
        ("ABC1", 0),
        ("0x" + "abc1".ljust(64, "0"), 0),
        ("0xd1d1", 0),
        ("7", 0),
        ("12", 2),
        ("abc", 2),  # a name wins over a prefix
        ("ff", 2),
        ("0xd", 0),
        ("0xf", 2),  # a job's id wins over a lease's
    ],
)
def test_a_word_means_one_job(word: str, found: int) -> None:
    assert resolve(word, RECORDS) is RECORDS[found]


@pytest.mark.parametrize("word", ["train", "0xabc"])
def test_an_ambiguous_word_lists_the_candidates(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(word, RECORDS)
    assert caught.value.code == "ambiguous"
    assert RECORDS[0].id in caught.value.detail
    assert RECORDS[1].id in caught.value.detail


@pytest.mark.parametrize("word", ["0xee", "nothing", "99", "0x"])
def test_a_word_that_means_nothing(word: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        resolve(word, RECORDS)
    assert caught.value.exit_status == 102
