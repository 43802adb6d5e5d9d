"""backup-push and xtrabackup-push with a stand-in tool and server: sentinels, increments, failures."""

import os
import random
import signal
import time
from typing import Any

import pytest
from walg_mysql.sentinel import UNSPECIFIED, XTRABACKUP

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
STEPS = {"WALG_DELTA_MAX_STEPS": "3"}
ONE_SECOND = 1.05


def leftovers(standin: Any) -> list[str]:
    return [path.name for path in (standin.path / "tmp").iterdir()]


def test_a_dump_comes_back_as_it_was(standin: Any) -> None:
    dump = os.urandom(3_000_000)
    (standin.path / "dump").write_bytes(dump)
    text = {"WALG_STREAM_CREATE_COMMAND": f"cat {standin.path}/dump", "WALG_MYSQL_BACKUP_PREPARE_COMMAND": ""}
    standin.run("backup-push", "--add-user-data", '{"a": 1}', **text)
    (made,) = standin.sentinels()
    assert (made.tool, made.lsn, made.delta_lsn, made.delta_count) == (UNSPECIFIED, None, None, 0)
    assert (made.server_uuid, made.server_version, made.user_data) == (UUID, "8.0.35-27", {"a": 1})
    assert made.plain_size == len(dump)
    assert made.hostname == os.uname().nodename
    assert made.server_arch == ""
    out = standin.path / "out"
    standin.run("backup-fetch", "LATEST", WALG_STREAM_RESTORE_COMMAND=f"cat > {out}")
    assert out.read_bytes() == dump
    out.unlink()
    standin.run("backup-fetch", "--target-user-data", '{"a":1.0}', WALG_STREAM_RESTORE_COMMAND=f"cat > {out}")
    assert out.read_bytes() == dump
    name = standin.names()[0]
    standin.run("get-stream", name, str(standin.path / "file"))
    assert (standin.path / "file").read_bytes() == dump
    process = standin.popen("get-stream", "LATEST")
    assert process.communicate(timeout=60)[0] == dump


def test_a_physical_backup_tells_its_log_sequence_numbers(standin: Any) -> None:
    standin.run("backup-push", FAKE_LSN="0x400")
    standin.run("backup-push", FAKE_LSN="1234", FAKE_CHECKPOINTS="mariadb_backup_checkpoints")
    first, second = standin.sentinels()
    assert (second.tool, second.lsn, second.delta_lsn, second.delta_count) == (XTRABACKUP, 1234, 0, 0)
    assert second.server_os == "linux"
    assert not second.incremental
    assert first.lsn == 1024
    assert not leftovers(standin)


def test_a_tool_that_tells_nothing_makes_a_backup_without(standin: Any) -> None:
    _, said = standin.run("backup-push", FAKE_SILENT="1")
    (made,) = standin.sentinels()
    assert (made.lsn, made.delta_lsn) == (None, None)
    assert "no increment can be built" in said
    standin.run("xtrabackup-push", "--full=false", **STEPS)
    assert not standin.sentinels()[1].incremental


def test_increments_up_to_the_limit_and_then_a_full_backup(standin: Any) -> None:
    for number in range(5):
        standin.run("xtrabackup-push", "--full=false", FAKE_LSN=str(1000 + number), **STEPS)
    made = standin.sentinels()
    names = standin.names()
    assert [each.delta_count for each in made] == [0, 1, 2, 3, 0]
    assert [each.delta_lsn for each in made] == [0, 1000, 1001, 1002, 0]
    assert [each.delta_from for each in made] == ["", *names[:3], ""]
    assert [each.delta_full_name for each in made] == ["", names[0], names[0], names[0], ""]
    assert [each.incremental for each in made] == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ([], STEPS),
        (["--full"], STEPS),
        (["-f"], STEPS),
        (["--full=true"], STEPS),
        (["--full=false"], {}),
        (["--full=false"], STEPS | {"FAKE_UUID": "4" + UUID[1:]}),
        (["--full=false"], STEPS | {"FAKE_VERSION": "8.0.36"}),
        (["--full=false"], STEPS | {"FAKE_VERSION": "10.11.6-MariaDB"}),
    ],
)
def test_what_asks_for_a_full_backup(standin: Any, words: list[str], more: dict[str, str]) -> None:
    standin.run("backup-push")
    standin.run("xtrabackup-push", *words, **more)
    assert not standin.sentinels()[1].incremental


def test_latest_full_builds_on_the_full_backup(standin: Any) -> None:
    origin = STEPS | {"WALG_DELTA_ORIGIN": "LATEST_FULL"}
    for number in range(3):
        standin.run("xtrabackup-push", "--full=false", FAKE_LSN=str(1000 + number), **origin)
    names = standin.names()
    made = standin.sentinels()
    assert [(each.delta_from, each.delta_lsn, each.delta_count) for each in made[1:]] == [(names[0], 1000, 1)] * 2
    _, said = standin.run("xtrabackup-push", "--full=false", status=1, **STEPS, WALG_DELTA_ORIGIN="OLDEST")
    assert "WALG_DELTA_ORIGIN" in said


def test_the_base_of_an_increment_can_be_named(standin: Any) -> None:
    standin.run("backup-push", "--add-user-data", '"monday"', FAKE_LSN="1000")
    standin.run("backup-push", FAKE_LSN="2000")
    first = standin.names()[0]
    standin.run("xtrabackup-push", "--full=false", "--delta-from-name", first, **STEPS)
    standin.run("xtrabackup-push", "--full=false", "--delta-from-user-data", '"monday"', **STEPS)
    standin.run("xtrabackup-push", "--full=false", **STEPS, WALG_DELTA_FROM_NAME=first)
    assert [(each.delta_from, each.delta_lsn) for each in standin.sentinels()[2:]] == [(first, 1000)] * 3
    words = ["--full=false", "--delta-from-name", "stream_20200101T000000Z"]
    _, said = standin.run("xtrabackup-push", *words, status=1, **STEPS)
    assert "does not exist" in said


def test_mariadb_increments_need_no_uuid(standin: Any) -> None:
    mariadb = STEPS | {"FAKE_VERSION": "10.11.6-MariaDB", "FAKE_DATADIR": str(standin.path)}
    standin.run("backup-push", **mariadb)
    standin.run("xtrabackup-push", "--full=false", **mariadb)
    assert standin.sentinels()[1].delta_count == 1
    # A server whose log is behind the backup, and one whose data was restored since, need a full backup.
    standin.run("xtrabackup-push", "--full=false", FAKE_CURRENT_LSN="10", **mariadb)
    (standin.path / "xtrabackup_info").write_text("")
    standin.run("xtrabackup-push", "--full=false", **mariadb)
    assert [each.incremental for each in standin.sentinels()] == [False, True, False, False]


def test_a_uuid_that_the_original_damaged_is_accepted(standin: Any) -> None:
    gtids = "00000000-71ca-11e1-9e33-c80aa9429562:1-5"
    standin.run("backup-push", FAKE_UUID=gtids[:36])
    standin.run("xtrabackup-push", "--full=false", FAKE_GTIDS=gtids, **STEPS)
    assert standin.sentinels()[1].incremental


def test_a_tool_that_ignores_the_increment_makes_none(standin: Any) -> None:
    standin.run("backup-push")
    before = standin.objects()
    _, said = standin.run("xtrabackup-push", "--full=false", status=1, FAKE_IGNORES="1", **STEPS)
    assert "the increment from LSN 1000 was not made: it was made from LSN 0" in said
    # At the end of a pipeline the options reach another program.
    pipe = {"WALG_STREAM_CREATE_COMMAND": "xtrabackup --stream=xbstream | cat; :"}
    _, said = standin.run("xtrabackup-push", "--full=false", status=1, **STEPS, **pipe)
    assert "WALG_MYSQL_BACKUP_OPTIONS" in said
    assert standin.objects() == before
    pipe = {"WALG_STREAM_CREATE_COMMAND": "xtrabackup $WALG_MYSQL_BACKUP_OPTIONS | cat"}
    standin.run("xtrabackup-push", "--full=false", **STEPS, **pipe)
    assert standin.sentinels()[1].delta_lsn == 1000


def test_a_permanent_increment_makes_its_parents_permanent(standin: Any) -> None:
    standin.run("backup-push")
    standin.run("xtrabackup-push", "--full=false", "--permanent", **STEPS)
    assert [each.permanent for each in standin.sentinels()] == [True, True]


def test_a_failing_tool_leaves_nothing_and_is_quoted(standin: Any) -> None:
    _, said = standin.run("backup-push", status=1, FAKE_FAIL="1", FAKE_SIZE="3000000")
    assert "backup create command failed: exit status 1" in said
    assert "tablespace is corrupt" in said
    assert standin.objects() == []
    assert not leftovers(standin)
    _, said = standin.run("backup-push", status=1, WALG_STREAM_CREATE_COMMAND="no-such-xtrabackup")
    assert "not found" in said
    assert standin.objects() == []


def test_a_tool_that_fails_inside_a_pipeline_is_noticed(standin: Any) -> None:
    pipe = {"WALG_STREAM_CREATE_COMMAND": "xtrabackup $WALG_MYSQL_BACKUP_OPTIONS | cat"}
    _, said = standin.run("backup-push", status=1, FAKE_FAIL="1", **pipe)
    assert "tablespace is corrupt" in said
    assert "did not finish" in said
    assert standin.objects() == []


def test_user_data_is_checked_before_anything_starts(standin: Any) -> None:
    _, said = standin.run("backup-push", "--add-user-data", "monday", status=1, FAKE_SLEEP="60")
    assert "not valid JSON" in said


def test_split_streams_fail_as_whole_ones_do(standin: Any) -> None:
    split = {"WALG_STREAM_SPLITTER_PARTITIONS": "3", "WALG_STREAM_SPLITTER_BLOCK_SIZE": "1000"}
    standin.run("backup-push", status=1, FAKE_FAIL="1", **split)
    assert standin.objects() == []
    standin.run("backup-push", **split)
    assert len(standin.objects()) == 5
    standin.run("backup-fetch", "LATEST")
    assert (standin.restored / "shop/t.ibd").read_bytes() == b"t" * 100000


# No file may grow beyond 100,000 bytes.
FULL_DISK = """
import resource, signal
resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
"""


def test_a_full_disk_is_an_error_and_no_backup(standin: Any) -> None:
    standin.preamble = FULL_DISK
    _, said = standin.run("backup-push", status=1, WALG_COMPRESSION_METHOD="none", FAKE_SIZE="1000000")
    assert "File too large" in said
    assert standin.objects() == []
    assert not leftovers(standin)


def test_a_full_disk_is_an_error_and_no_restore(standin: Any) -> None:
    standin.run("backup-push", FAKE_SIZE="1000000")
    standin.preamble = FULL_DISK
    _, said = standin.run("backup-fetch", "LATEST", "--use-xbtool-extract", status=1)
    assert f"{standin.restored}/ibdata1" in said
    assert not standin.calls.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_tool_and_push_and_leaves_nothing(standin: Any, number: int) -> None:
    process = standin.popen("backup-push", FAKE_SLEEP="60", FAKE_SIZE="5000000")
    until = time.monotonic() + 30
    while not leftovers(standin) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3)
    started = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode
    assert time.monotonic() - started < 20
    assert standin.objects() == []
    assert not leftovers(standin)


def test_killed_at_any_moment_there_is_no_sentinel_without_its_data(standin: Any) -> None:
    _killed_pushes(standin, 8, seed=1)


@pytest.mark.slow
def test_killed_at_a_hundred_moments(standin: Any) -> None:
    _killed_pushes(standin, 100, seed=2)


def _killed_pushes(standin: Any, count: int, seed: int) -> None:
    draw = random.Random(seed)
    began = time.monotonic()
    standin.run("backup-push", FAKE_SLEEP="0.2", FAKE_SIZE="2000000")
    whole = time.monotonic() - began
    finished = 0
    for _ in range(count):
        process = standin.popen("backup-push", FAKE_SLEEP="0.2", FAKE_SIZE="2000000")
        time.sleep(draw.uniform(0, whole * 1.2))
        process.kill()
        process.communicate(timeout=30)
    for name in standin.names():
        finished += 1
        stream = standin.popen("get-stream", name)
        data = stream.communicate(timeout=60)[0]
        assert stream.returncode == 0
        assert len(data) > 4_000_000
    assert finished >= 1
    standin.run("delete", "garbage", "--confirm")
    # What storing was interrupted in has a name that no listing shows.
    shown = [name for name in standin.objects() if ".tmp." not in name]
    assert len(shown) == 2 * finished


def test_sizes_of_binlogs_between_backups_are_counted(standin: Any) -> None:
    binlogs = standin.archive / "binlog_005"
    binlogs.mkdir()
    journals = []
    for number in range(3):
        standin.run("backup-push", "--count-journals")
        (binlogs / f"mysql-bin.{number:06d}.zst").write_bytes(b"x" * (number + 1) * 10)
        time.sleep(ONE_SECOND)
    standin.run("backup-push", "--count-journals", "--permanent")
    names = standin.names()
    for name in names[:3]:
        journals.append((standin.archive / f"basebackups_005/journal_{name}").read_text())
    assert not (standin.archive / f"basebackups_005/journal_{names[3]}").exists()
    assert journals[0].startswith('{"PriorBackupEnd":"0001-01-01T00:00:00Z","CurrentBackupEnd":"20')
    assert [text.rpartition(":")[2] for text in journals] == ["10}", "20}", "0}"]
    standin.run("delete", "target", names[1])
    assert (standin.archive / f"basebackups_005/journal_{names[1]}").exists()
    standin.run("delete", "target", names[1], "--confirm")
    assert not (standin.archive / f"basebackups_005/journal_{names[1]}").exists()
    first = (standin.archive / f"basebackups_005/journal_{names[0]}").read_text()
    assert first.endswith('"SizeToNextBackup":30}')
