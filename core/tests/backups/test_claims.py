"""Claims: whose backups and deletions are under way."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from walg_core.backups import claims
from walg_core.errors import AccessDenied, WalgError
from walg_core.storage.memory import MemoryStorage
from walg_core.testing.faulty import FaultyStorage

KEY = "basebackups_005/walg_claim_base_1.json"


def test_a_claim_lives_from_entering_to_leaving() -> None:
    storage = MemoryStorage()
    with claims.of_backup(storage, "base_1", {"base": "base_0"}):
        (found,) = claims.live(storage, claims.BACKUP)
        assert (found.name, found.base) == ("base_1", "base_0")
        assert str(found).startswith("in progress on ")
        assert claims.live(storage, claims.DELETION) == []
    assert list(storage.list()) == []


def test_a_signal_while_the_claim_is_written_takes_it_back() -> None:
    class Signalled(MemoryStorage):
        def put_bytes(self, key: str, data: bytes, if_absent: bool = False) -> None:
            super().put_bytes(key, data, if_absent)
            raise KeyboardInterrupt

    storage = Signalled()
    with pytest.raises(KeyboardInterrupt), claims.of_backup(storage, "base_1", {}):
        raise AssertionError("not reached")
    assert list(storage.list()) == []


def test_claims_that_are_stale() -> None:
    clock = [0.0]
    storage = MemoryStorage(clock=lambda: clock[0])
    with claims.of_backup(storage, "base_1", {}):
        assert claims.live(storage, claims.BACKUP) == [], "not refreshed since 1970"
    storage = MemoryStorage()
    with claims.of_backup(storage, "base_1", {}):
        values = json.loads(storage.get(KEY))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for change, alive in (
        ({"pid": ended.pid}, False),
        ({"start": "1"}, False),
        ({"pid": ended.pid, "boot": "another"}, True),
        ({"pid": ended.pid, "space": "another"}, True),
    ):
        storage.put_bytes(KEY, json.dumps(values | change).encode())
        assert bool(claims.live(storage, claims.BACKUP)) is alive, change


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"kind": "backup", "name": 1, "host": "h", "pid": "x"}'])
def test_what_is_no_claim_is_ignored(body: bytes) -> None:
    storage = MemoryStorage()
    storage.put_bytes(KEY, body)
    assert claims.live(storage, claims.BACKUP) == []


def test_a_claim_is_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "REFRESH", 0.001)
    refreshed = threading.Event()

    class Storage(MemoryStorage):
        puts = 0

        def put(self, *arguments: object, **more: object) -> int:
            self.puts += 1
            if self.puts == 2:
                raise AccessDenied("not now")
            if self.puts > 2:
                refreshed.set()
            return super().put(*arguments, **more)  # type: ignore[arg-type]

    storage = Storage()
    with claims.of_backup(storage, "base_1", {}):
        assert refreshed.wait(30)
    assert list(storage.list()) == []


def test_a_claim_that_cannot_be_removed_harms_nobody() -> None:
    storage = FaultyStorage(MemoryStorage())
    with claims.of_backup(storage, "base_1", {}):
        storage.fail("delete", error=AccessDenied("locked"))
    assert storage.exists(KEY)


def test_who_needs_what_is_being_deleted_is_told() -> None:
    storage = MemoryStorage()
    with claims.of_deletion(storage, ["base_1", "base_2"]):
        claims.check_not_doomed(storage, ["base_3"])
        with pytest.raises(WalgError, match="base_2 is being deleted"):
            claims.check_not_doomed(storage, ["base_2", "base_3"])
    claims.check_not_doomed(storage, ["base_2"])


def test_two_marks_of_one_backup_do_not_take_each_others_claim() -> None:
    storage = MemoryStorage()
    with claims.of_mark(storage, "stream_1", ""):
        with claims.of_mark(storage, "stream_1", "stream_0"):
            assert [claim.name for claim in claims.live(storage)] == ["stream_1", "stream_1"]
        assert [(claim.name, claim.base) for claim in claims.live(storage)] == [("stream_1", "")]
    assert not list(storage.list())
