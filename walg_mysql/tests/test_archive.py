"""Lists, marks, deletion and copies; against the archive that the original made where there is one."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from walg_core.backups.catalog import SENTINEL_SUFFIX
from walg_mysql.sentinel import XTRABACKUP, Sentinel

NAMES = [f"stream_2026112{day}T040000Z" for day in range(1, 6)]
BINLOGS = [f"mysql-bin.{number:06d}.zst" for number in range(998, 1004)]


@pytest.fixture
def archive(standin: Any) -> Any:
    """Two chains: a full backup with two increments, a full one with one; and binlogs."""
    made = [
        Sentinel(tool=XTRABACKUP, lsn=1, delta_lsn=0, delta_count=0, binlog_start="mysql-bin.000999"),
        increment(NAMES[0], NAMES[0], 1),
        increment(NAMES[1], NAMES[0], 2),
        Sentinel(tool=XTRABACKUP, lsn=4, delta_lsn=0, delta_count=0, binlog_start="mysql-bin.001001"),
        increment(NAMES[3], NAMES[3], 1, 4),
    ]
    folder = standin.archive / "basebackups_005"
    for name, sentinel in zip(NAMES, made, strict=True):
        (folder / name).mkdir(parents=True)
        (folder / name / "stream.zst").write_bytes(name.encode())
        (folder / f"{name}{SENTINEL_SUFFIX}").write_bytes(sentinel.encode())
    (standin.archive / "binlog_005").mkdir()
    for name in BINLOGS:
        (standin.archive / "binlog_005" / name).write_bytes(name.encode())
    (standin.archive / "binlog_sentinel_005.json").write_text('{"GtidArchived":"0-1-5"}')
    return standin


def increment(parent: str, full: str, count: int, lsn: int = 1) -> Sentinel:
    return Sentinel(
        tool=XTRABACKUP, incremental=True, delta_from=parent, delta_full_name=full, delta_count=count, lsn=lsn + count,
        delta_lsn=lsn + count - 1, binlog_start="mysql-bin.001000",
    )  # fmt: skip


def sides(standin: Any) -> list[str]:
    target = standin.path / "copy"
    target.mkdir(exist_ok=True)
    out = []
    for flag, path in (("--from", standin.archive), ("--to", target)):
        file = standin.path / f"{path.name}.json"
        file.write_text(json.dumps({"WALG_FILE_PREFIX": str(path)}))
        out += [flag, str(file)]
    return out


def copied(standin: Any) -> list[str]:
    root = standin.path / "copy"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_lists_are_those_of_the_original(golden: Callable[[str], Path], standin: Any) -> None:
    root = Path(__file__).resolve().parents[3] / "shared" / "golden" / "mariadb-zstd"
    where = {"WALG_FILE_PREFIX": str(golden("mariadb-zstd")), "TZ": "UTC"}
    assert standin.run("backup-list", "--detail", "--json", **where)[0] == (root / "backup-list.json").read_text()
    assert standin.run("backup-list", "--detail", "--pretty", **where)[0] == (root / "backup-list.txt").read_text()
    plain = standin.run("backup-list", "--detail", **where)[0].splitlines()
    assert plain[0].split() == [
        "name", "last_modified", "start_time", "stop_time", "hostname", "binlog_start", "binlog_end",
        "uncompressed_size", "compressed_size", "is_permanent",
    ]  # fmt: skip


def test_no_backups(standin: Any) -> None:
    assert standin.run("backup-list", "--detail")[0] == ""
    assert standin.run("backup-list", "--detail", "--json")[0] == "[]\n"


def test_one_backup_is_shown_with_all_its_sentinel_says(archive: Any) -> None:
    shown = json.loads(archive.run("backup-show", "LATEST")[0])
    assert shown["backup_name"] == NAMES[4]
    assert shown["DeltaFrom"] == NAMES[3]
    archive.run("backup-show", "stream_20200101T000000Z", status=1)


def test_a_copy_takes_the_whole_chain_and_can_be_repeated(archive: Any) -> None:
    archive.run("copy", *sides(archive), "--backup-name", NAMES[2])
    wanted = [f"basebackups_005/{name}/stream.zst" for name in NAMES[:3]]
    wanted += [f"basebackups_005/{name}{SENTINEL_SUFFIX}" for name in NAMES[:3]]
    assert copied(archive) == sorted(wanted)
    _, said = archive.run("copy", *sides(archive), "--backup-name", NAMES[2])
    assert "0 objects copied, 6 were there already" in said
    archive.run("backup-copy", *sides(archive), "--all")
    assert len(copied(archive)) == 10


def test_a_copy_under_another_name_is_a_chain_of_its_own(archive: Any) -> None:
    archive.run("backup-copy", *sides(archive), "--backup", NAMES[1], "--add-prefix", "kept_")
    assert len(copied(archive)) == 4
    text = (archive.path / f"copy/basebackups_005/kept_{NAMES[1]}{SENTINEL_SUFFIX}").read_bytes()
    found = Sentinel.decode(text)
    assert (found.delta_from, found.delta_full_name) == (f"kept_{NAMES[0]}", f"kept_{NAMES[0]}")
    original = (archive.archive / f"basebackups_005/{NAMES[1]}{SENTINEL_SUFFIX}").read_bytes()
    assert text.replace(b"kept_", b"") == original
    assert "kept_" in archive.run("backup-list", WALG_FILE_PREFIX=str(archive.path / "copy"))[0]
    archive.run("backup-copy", *sides(archive), "--all", "--add-prefix", "x", status=1)
    archive.run("backup-copy", *sides(archive), status=1)
    archive.run("backup-copy", *sides(archive), "--backup", NAMES[0], "--add-prefix", "a/b", status=1)


def test_a_copy_with_history_begins_at_the_binlog_that_the_backup_needs(archive: Any) -> None:
    archive.run("copy", *sides(archive), "--backup-name", NAMES[2], "--with-history")
    binlogs = [name for name in copied(archive) if name.startswith("binlog_005/")]
    assert binlogs == [f"binlog_005/{name}" for name in BINLOGS[2:]]
    assert (archive.path / "copy/binlog_sentinel_005.json").exists()


def test_a_gap_in_the_history_stops_the_copy(archive: Any) -> None:
    (archive.archive / "binlog_005" / BINLOGS[4]).unlink()
    _, said = archive.run("copy", *sides(archive), "--backup-name", NAMES[2], "--with-history", status=1)
    assert "gap in MySQL binlog history: mysql-bin.1002 is missing" in said
    assert copied(archive) == []
    for name in BINLOGS:
        (archive.archive / "binlog_005" / name).unlink(missing_ok=True)
    _, said = archive.run("copy", *sides(archive), "-b", NAMES[3], "-w", status=1)
    assert 'no MySQL binlogs found at or after "mysql-bin.001001"' in said


def test_a_copy_of_a_broken_chain_is_refused(archive: Any) -> None:
    (archive.archive / f"basebackups_005/{NAMES[1]}{SENTINEL_SUFFIX}").unlink()
    _, said = archive.run("copy", *sides(archive), "-b", NAMES[2], status=1)
    assert "does not exist" in said
    assert copied(archive) == []


def test_marks_go_up_the_chain_and_hold(archive: Any) -> None:
    archive.run("backup-mark", "-b", NAMES[1])
    held = [each.permanent for each in archive.sentinels()]
    assert held == [True, True, False, False, False]
    _, said = archive.run("backup-mark", "-i", "-b", NAMES[0], status=1)
    assert "permanent increment backup that depends" in said
    _, said = archive.run("delete", "target", NAMES[0], "--confirm", status=1)
    assert "Unable to delete permanent backup" in said
    _, said = archive.run("delete", "everything", "--confirm", status=1)
    assert f"Found permanent backups=[{NAMES[0]} {NAMES[1]}]" in said
    assert len(archive.objects()) == 17
    archive.run("delete", "everything", "FORCE", "--confirm")
    assert archive.objects() == []


def test_retaining_spares_what_increments_need(archive: Any) -> None:
    _, said = archive.run("delete", "retain", "1", status=1)
    assert "Consider FIND_FULL" in said
    archive.run("delete", "retain", "FIND_FULL", "1", "--confirm")
    assert archive.names() == NAMES[3:]
    # Their upload is younger than the kept backup.
    assert len([name for name in archive.objects() if name.startswith("binlog_005/")]) == len(BINLOGS)


def test_old_binlogs_go_with_old_backups(archive: Any) -> None:
    old = time.mktime((2026, 11, 20, 0, 0, 0, 0, 0, 0))
    for name in BINLOGS[:3]:
        os.utime(archive.archive / "binlog_005" / name, (old, old))
    os.utime(archive.archive / "binlog_sentinel_005.json", (old, old))
    _, said = archive.run("delete", "before", NAMES[0])
    assert "objects would be deleted count=4" in said
    archive.run("delete", "before", NAMES[0], "--confirm")
    left = [name for name in archive.objects() if name.startswith("binlog")]
    assert left == [f"binlog_005/{name}" for name in BINLOGS[3:]]
    assert archive.names() == NAMES


def test_a_target_takes_its_increments_along(archive: Any) -> None:
    archive.run("delete", "target", NAMES[1], "--confirm")
    assert archive.names() == [NAMES[0], *NAMES[3:]]
    archive.run("delete", "target", "FIND_FULL", NAMES[4], "--confirm")
    assert archive.names() == [NAMES[0]]


@pytest.mark.services
def test_the_archive_of_the_original_is_restored(golden: Callable[[str], Path], field: Any) -> None:
    restored = field.path / "restored"
    for number, words in enumerate(([], ["--use-xbtool-extract"])):
        restored.mkdir()
        field.environment |= {
            "WALG_FILE_PREFIX": str(golden("mariadb-zstd")),
            "WALG_STREAM_RESTORE_COMMAND": f"mbstream -x -C {restored}",
            "WALG_MYSQL_BACKUP_PREPARE_COMMAND": f"mariadb-backup --prepare --target-dir={restored}",
            "WALG_MYSQL_DATA_DIR": str(restored),
        }
        field.run("backup-fetch", "LATEST", *words)
        server = field.server("restored", fresh=False)
        assert server.run("SELECT COUNT(*) > 0 FROM shop.o")[0] == (1,)
        assert server.run("CHECK TABLE shop.o EXTENDED")[-1][-1] == "OK"
        server.stop()
        restored.rename(field.path / f"restored{number}")
