"""Which base a delta gets, and when a full backup is made instead."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from walg_core.backups import times
from walg_core.errors import EngineError, UsageError, WalgError
from walg_core.settings.config import Config
from walg_core.storage.memory import MemoryStorage
from walg_pg.backup import base
from walg_pg.backup.mode import ServerFacts
from walg_pg.backup.options import PushOptions, composer_of, settle
from walg_pg.sentinel import (
    FileEntry,
    FilesMetadata,
    Sentinel,
    files_metadata_pieces,
    metadata_of,
    read_files_metadata,
    write_metadata,
    write_sentinel,
)
from walg_pg.server import parameters
from walg_pg.settings import SETTINGS

from walg_pg import names

STAMP = "2026-11-22T12:00:03.333857222Z"


def name_at(segment: int, timeline: int = 1) -> str:
    return f"base_{timeline:08X}{0:08X}{segment:08X}"


class Archive:
    """A storage with backups in it."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()

    def add(
        self, name: str, *, on: str | None = None, full: str | None = None, count: int | None = None, **more: Any
    ) -> str:
        number = int(name[21:29], 16)
        permanent = more.pop("permanent", False)
        files = more.pop("files", {"/base/1/1": FileEntry(mtime=STAMP)})
        sentinel = Sentinel(
            start_lsn=number << 24,
            finish_lsn=(number << 24) + 500,
            pg_version=180000,
            system_identifier=7,
            delta_from=on,
            delta_full_name=full,
            delta_count=count,
            delta_lsn=1 if on else None,
            **more,
        )
        metadata = metadata_of(sentinel)
        metadata.is_permanent = permanent
        self.storage.put_bytes(names.metadata_key(name), write_metadata(metadata))
        if files is not None:
            data = b"".join(files_metadata_pieces(FilesMetadata(files)))
            self.storage.put_bytes(names.files_metadata_key(name), data)
        self.storage.put_bytes(names.sentinel_key(name), write_sentinel(sentinel))
        return name

    def choose(self, directory: str = "/data", timeline: int = 1, system: int | None = 7, **more: Any) -> Any:
        settings = {key: more.pop(key) for key in list(more) if key.startswith("WALG_")}
        settings = {"WALG_DELTA_MAX_STEPS": "2", **settings}
        context: Any = SimpleNamespace(config=Config(SETTINGS, environment=settings))
        facts = ServerFacts(180000, system, directory, timeline, False)
        return base.choose(context, self.storage, PushOptions(**more), facts)


@pytest.fixture
def archive() -> Archive:
    return Archive()


def test_the_last_backup_is_the_base(archive: Archive) -> None:
    assert archive.choose() is None
    full = archive.add(name_at(1))
    found = archive.choose()
    assert (found.name, found.count, found.full_name, found.lsn) == (full, 1, full, 1 << 24)
    assert not found.take("/base/1/2", times.parse(STAMP))
    assert found.take("/base/1/1", times.parse(STAMP))
    assert not found.files, "what was asked for is given up"
    delta = archive.add(name_at(2), on=full, full=full, count=1)
    found = archive.choose()
    assert (found.name, found.count, found.full_name) == (delta, 2, full)
    archive.add(name_at(3), on=delta, full=full, count=2)
    assert archive.choose() is None
    assert archive.choose(WALG_DELTA_MAX_STEPS="3").count == 3


def test_full_when_asked_or_without_steps(archive: Archive) -> None:
    archive.add(name_at(1))
    assert archive.choose(full=True) is None
    assert archive.choose(WALG_DELTA_MAX_STEPS="0") is None


def test_origin_latest_full_keeps_counting(archive: Archive) -> None:
    full = archive.add(name_at(1))
    archive.add(name_at(2), on=full, full=full, count=1)
    found = archive.choose(WALG_DELTA_ORIGIN="LATEST_FULL")
    assert (found.name, found.count, found.lsn) == (full, 2, 1 << 24)


def test_permanence(archive: Archive) -> None:
    full = archive.add(name_at(1), permanent=True)
    assert archive.choose() is None
    assert archive.choose(permanent=True).name == full
    assert archive.choose(WALG_DELTA_ORIGIN="LATEST_FULL").name == full


def test_a_chain_becomes_permanent_from_its_oldest_on(archive: Archive) -> None:
    full = archive.add(name_at(1))
    delta = archive.add(name_at(2), on=full, full=full, count=1)
    base.make_chain_permanent(archive.choose())
    for name in (full, delta):
        assert b'"is_permanent":true' in archive.storage.get(names.metadata_key(name))


def test_bases_without_usable_lists_are_not_used(archive: Archive) -> None:
    archive.add(name_at(1), files={"base/1/1": FileEntry(mtime=STAMP)})
    assert archive.choose() is None
    archive.add(name_at(2), files=None)
    assert archive.choose() is None
    archive.add(name_at(3), files=None, files_metadata_disabled=True)
    assert archive.choose() is None
    archive.storage.delete([names.metadata_key(archive.add(name_at(4)))])
    assert archive.choose() is None


def test_asked_for_by_name_and_user_data(archive: Archive) -> None:
    first = archive.add(name_at(1), user_data={"a": [1]})
    archive.add(name_at(2), user_data=5)
    assert archive.choose(delta_from_name=first).name == first
    assert archive.choose(delta_from_user_data='{"a": [1]}').name == first
    with pytest.raises(WalgError):
        archive.choose(delta_from_name=name_at(9))
    with pytest.raises(UsageError, match="JSON"):
        archive.choose(delta_from_user_data="{")
    archive.add(name_at(3), user_data=5)
    with pytest.raises(UsageError):
        archive.choose(delta_from_user_data="5")


def test_another_cluster_and_an_earlier_state_are_refused(archive: Archive) -> None:
    archive.add(name_at(5))
    with pytest.raises(EngineError, match="another cluster"):
        archive.choose(system=8)
    found = archive.choose()
    base.check_position(found, (5 << 24) + 500)
    with pytest.raises(EngineError, match="earlier state"):
        base.check_position(found, (5 << 24) + 499)


@pytest.mark.parametrize(("switch", "usable"), [("0/5000200", True), ("0/5000100", False), ("0/1", False)])
def test_the_timeline_must_contain_the_base(archive: Archive, tmp_path: Path, switch: str, usable: bool) -> None:
    archive.add(name_at(5))
    (tmp_path / "pg_wal").mkdir()
    assert archive.choose(str(tmp_path), timeline=2) is None
    (tmp_path / "pg_wal/00000002.history").write_text(f"1\t{switch}\tno recovery target specified\n")
    assert (archive.choose(str(tmp_path), timeline=2) is not None) == usable


def test_rules_between_options() -> None:
    config = Config(SETTINGS, environment={"WALG_USE_RATING_COMPOSER": "true"})
    assert composer_of(config, rating=False, copy=False, database=False) == "rating"
    assert composer_of(config, rating=False, copy=False, database=True) == "database"
    assert composer_of(config, rating=True, copy=True, database=True) == "copy"
    for options in (
        PushOptions(composer="rating", files_metadata=False),
        PushOptions(delta_from_name="x", files_metadata=False),
        PushOptions(delta_from_name="x", delta_from_user_data="1"),
    ):
        with pytest.raises(UsageError):
            settle(options)
    copying = PushOptions(composer="copy")
    settle(copying)
    assert copying.full


def test_file_lists_read_back_what_was_written() -> None:
    files = {
        "/a\udcff<>&\u2028": FileEntry(True, False, STAMP, 3, (12, (1, 2))),
        **{f"/{number}": FileEntry(False, True, STAMP) for number in range(5000)},
    }
    lists = FilesMetadata(files, {"part_001.tar.lz4": list(files)}, {"postgres": {"oid": 5}})
    data = b"".join(files_metadata_pieces(lists))
    assert data.startswith(b'{"Files":{"/a\\udcff<>&')
    assert read_files_metadata(data) == lists
    assert b"".join(files_metadata_pieces(FilesMetadata())) == b"{}"
    only = b"".join(files_metadata_pieces(FilesMetadata(databases={"x": {}})))
    assert only == b'{"DatabasesByNames":{"x":{}}}'


def test_connection_parameters_come_from_the_environment() -> None:
    found = parameters({"PGAPPNAME": "mine", "PGTZ": "UTC", "PGOPTIONS": "-c work_mem=1MB --geqo=off", "PGHOST": "db"})
    assert found["server_settings"] == {
        "application_name": "mine",
        "TimeZone": "UTC",
        "work_mem": "1MB",
        "geqo": "off",
    }
    assert "host" not in found
    assert parameters({"PGCONNECT_TIMEOUT": "1"})["timeout"] == 2
    assert parameters({})["host"]
    with pytest.raises(EngineError, match="PGOPTIONS"):
        parameters({"PGOPTIONS": "nonsense"})
