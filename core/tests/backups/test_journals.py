"""Journals: what they count, and how they are joined again when one goes."""

from itertools import count

import pytest
from walg_core.backups import journals, times
from walg_core.backups.deletion import Candidate, plan_everything, plan_older
from walg_core.errors import IntegrityError
from walg_core.storage.memory import MemoryStorage

SECOND = times.SECOND
NAMES = [f"stream_2026112{day}T000000Z" for day in (1, 2, 3)]


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage(clock=count(1_800_000_000.0).__next__)


def now_after(storage: MemoryStorage) -> int:
    """A time after everything that is stored."""
    return max((info.modified_ns for info in storage.list()), default=0) + SECOND // 2


def fill(storage: MemoryStorage) -> None:
    """Three backups; logs of 10, 200 and 3000 bytes before, between and between them."""
    for number, name in enumerate(NAMES):
        storage.put_bytes(f"log/{number}", b"x" * (10, 200, 3000)[number])
        journals.add(storage, name, now_after(storage), "log/")


def sizes(storage: MemoryStorage) -> list[int]:
    return [journal.size for journal in journals.read_all(storage)]


def test_each_journal_counts_up_to_the_next_backup(storage: MemoryStorage) -> None:
    fill(storage)
    assert [journal.backup for journal in journals.read_all(storage)] == NAMES
    assert sizes(storage) == [200, 3000, 0]
    first = storage.get(journals.key_of(NAMES[0])).decode()
    assert first.startswith('{"PriorBackupEnd":"0001-01-01T00:00:00Z","CurrentBackupEnd":"')
    assert first.endswith('","SizeToNextBackup":200}')


@pytest.mark.parametrize(("gone", "left"), [(0, [3000, 0]), (1, [3200, 0]), (2, [200, 0])])
def test_the_neighbours_of_a_removed_journal_take_over(storage: MemoryStorage, gone: int, left: list[int]) -> None:
    fill(storage)
    journals.remove(storage, NAMES[gone], "log/")
    assert sizes(storage) == left
    found = journals.read_all(storage)
    assert found[1].start_text == found[0].end_text or gone == 0


def test_without_logs_nothing_is_rewritten(storage: MemoryStorage) -> None:
    for name in NAMES:
        journals.add(storage, name, now_after(storage), "log/")
    assert sizes(storage) == [0, 0, 0]
    journals.remove(storage, "stream_20200101T000000Z", "log/")
    assert sizes(storage) == [0, 0, 0]


def test_a_damaged_journal_is_an_error(storage: MemoryStorage) -> None:
    storage.put_bytes(journals.key_of(NAMES[0]), b"{")
    with pytest.raises(IntegrityError):
        journals.read_all(storage)


def test_a_scope_of_deletion_may_be_one_object(storage: MemoryStorage) -> None:
    for key in ("logs.json", "logs.json.other", "log/1", "else/1"):
        storage.put_bytes(key, b"x")
    scopes = ("log/", "logs.json", "missing.json")
    plan = plan_everything(storage, [], force=False, scopes=scopes)
    assert [info.key for info in plan.doomed] == ["log/1", "logs.json"]
    future = Candidate("stream_22000101T000000Z", (1,), now_after(storage))
    assert [info.key for info in plan_older(storage, future, [], scopes=scopes).doomed] == ["log/1", "logs.json"]
