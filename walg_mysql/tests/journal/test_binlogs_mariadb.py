"""The binlog commands against a real MariaDB: pushed once and in order, fetched, replayed to the row."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import zstandard

pytestmark = pytest.mark.services
OPTIONS = ("--log-bin=mysql-bin", "--binlog-format=ROW")
TABLE = "create table app.t (id int primary key, body varchar(100)) engine=InnoDB"


@pytest.fixture
def written(field):
    """A server with two complete binlogs and the one that is being written."""
    server = field.server("data", *OPTIONS)
    field.environment["WALG_MYSQL_DATASOURCE_NAME"] = server.dsn
    server.run("create database app", TABLE)
    for first in (1, 101):
        server.run(*(f"insert into app.t values ({n}, repeat('x', 50))" for n in range(first, first + 20)))
        server.run("flush binary logs")
    return server


def archived(field) -> list[str]:
    return [line.split()[0] for line in field.run("binlog-list")[0].splitlines()[1:]]


def stamp(field) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (field.archive / "binlog_005").iterdir()}


def test_complete_binlogs_go_once_and_in_order(field, written) -> None:
    field.run("binlog-push")
    names = [row[0] for row in written.run("show binary logs")]
    assert archived(field) == names[:-1]
    cache = json.loads((field.path / ".walg_mysql_binlogs_cache").read_text())
    assert cache == {"LastArchivedBinlog": names[-2]}
    before = stamp(field)
    field.run("binlog-push")
    assert stamp(field) == before
    written.run("flush binary logs")
    field.run("binlog-push", "--until", names[-1])
    assert archived(field) == names[:-1]
    field.run("binlog-push")
    assert archived(field) == names


@pytest.mark.parametrize("lost", ["deleted", "damaged"])
def test_a_lost_cache_uploads_nothing_again(field, written, lost) -> None:
    field.run("binlog-push")
    before = stamp(field)
    cache = field.path / ".walg_mysql_binlogs_cache"
    if lost == "deleted":
        cache.unlink()
    else:
        cache.write_text("{")
    field.run("binlog-push")
    assert stamp(field) == before
    assert "LastArchivedBinlog" in cache.read_text()


def test_another_storage_gets_everything(field, written) -> None:
    field.run("binlog-push")
    other = field.path / "other"
    other.mkdir()
    field.run("binlog-push", WALG_FILE_PREFIX=str(other))
    assert len(list((other / "binlog_005").iterdir())) == len(stamp(field))


def test_binlogs_after_a_reset_do_not_replace_older_ones(field, written) -> None:
    field.run("binlog-push")
    kept = {path.name: path.read_bytes() for path in (field.archive / "binlog_005").iterdir()}
    written.run("reset master", "insert into app.t values (900, 'after')", "flush binary logs", "flush binary logs")
    error = field.run("binlog-push", status=1)[1]
    assert "is archived already, with other content" in error
    assert "WALG_MYSQL_OVERWRITE_BINLOGS" in error
    assert {path.name: path.read_bytes() for path in (field.archive / "binlog_005").iterdir()} == kept
    field.run("binlog-push", WALG_MYSQL_OVERWRITE_BINLOGS="true")
    names = [row[0] for row in written.run("show binary logs")][:-1]
    assert names
    for name in names:
        stored = (field.archive / "binlog_005" / f"{name}.zst").read_bytes()
        assert stored != kept.get(f"{name}.zst")
        assert zstandard.ZstdDecompressor().decompressobj().decompress(stored) == (written.data / name).read_bytes()
    before = stamp(field)
    field.run("binlog-push", WALG_MYSQL_OVERWRITE_BINLOGS="true")
    assert stamp(field) == before


def test_the_active_binlog_goes_with_a_flush(field, written) -> None:
    active = written.run("show binary logs")[-1][0]
    field.run("binlog-push", WALG_MYSQL_FLUSH_BINLOGS="true")
    assert archived(field)[-1] == active


def test_gtids_that_another_host_archived_are_skipped(field, written) -> None:
    field.run("binlog-push", WALG_MYSQL_CHECK_GTIDS="true")
    sentinel = json.loads((field.archive / "binlog_sentinel_005.json").read_text())
    assert re.fullmatch(r"0-1-[0-9]+", sentinel["GtidArchived"])
    before = stamp(field)
    (field.path / ".walg_mysql_binlogs_cache").unlink()
    for path in (field.archive / "binlog_005").iterdir():
        path.rename(path.with_name(path.name.replace("mysql-bin", "other-bin")))
    field.run("binlog-push", WALG_MYSQL_CHECK_GTIDS="true")
    assert {name.replace("mysql-bin", "other-bin") for name in before} == set(stamp(field))


def test_hosts_with_the_same_log_name_leave_out_what_is_archived_and_replace_nothing(field, written) -> None:
    """A replica set's usual state: each host numbers its own files, all with the same transactions."""
    field.run("binlog-push", WALG_MYSQL_CHECK_GTIDS="true")
    before = stamp(field)
    other = field.server("other", *OPTIONS, server_id=2)
    gtid = written.run("select @@gtid_binlog_pos")[0][0]
    other.run("create database app", TABLE, f"set global gtid_slave_pos = '{gtid}'")
    other.run("flush binary logs", "insert into app.t values (1, 'after the failover')", "flush binary logs")
    host = {"WALG_MYSQL_DATASOURCE_NAME": other.dsn, "WALG_MYSQL_CHECK_GTIDS": "true"}
    host["WALG_MYSQL_BINLOGS_CACHE"] = str(field.path / "other_cache")
    error = field.run("binlog-push", status=1, **host)[1]
    assert "is archived already, with other content" in error
    assert stamp(field) == before
    (field.archive / "binlog_sentinel_005.json").write_text('{"GtidArchived":"0-2-99999"}')
    field.run("binlog-push", **host)
    assert stamp(field) == before


def test_find(field, written) -> None:
    field.run("binlog-push")
    names = archived(field)
    assert field.run("binlog-find")[0].strip() == names[-1]
    assert field.run("binlog-find", "-g", "0-1-3")[0].strip() == names[0]
    assert "no GTID set" in field.run("binlog-find", "--gtid", "x-y", status=1)[1]


def test_fetched_files_are_the_servers(field, written) -> None:
    field.aim(written, field.path / "restored")
    (field.path / "restored").mkdir()
    field.run("binlog-push")
    field.run("backup-push")
    written.run("insert into app.t values (500, 'later')", "flush binary logs")
    field.run("binlog-push")
    target = field.path / "binlogs"
    error = field.run("binlog-fetch", status=1, WALG_MYSQL_BINLOG_DST=str(target))[1]
    assert "WALG_MYSQL_BINLOG_DST" in error
    target.mkdir()
    field.run("binlog-fetch", WALG_MYSQL_BINLOG_DST=str(target))
    order = (target / "binlogs_order").read_text().splitlines()
    assert order
    assert order == sorted(order)
    for name in order:
        assert (target / name).read_bytes() == (written.data / name).read_bytes()
    field.run("binlog-fetch", WALG_MYSQL_BINLOG_DST=str(target))
    assert sorted(path.name for path in target.iterdir()) == sorted([*order, "binlogs_order"])


@pytest.mark.parametrize("one_session", [False, True])
def test_replayed_up_to_a_moment(field, written, one_session, template) -> None:
    """The whole history, from an empty server, to a second between two writes."""
    import time

    field.aim(written, field.path / "none")
    written.run("flush binary logs")
    field.environment["WALG_STREAM_CREATE_COMMAND"] = "echo nothing"
    field.run("backup-push")
    time.sleep(1.1)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
    time.sleep(1.5)
    written.run("insert into app.t values (999, 'too late')", "flush binary logs")
    field.run("binlog-push")
    fresh = field.server("fresh", server_id=2)
    client = f"mariadb --host=127.0.0.1 --port={fresh.port} --user=root --binary-mode"
    if one_session:
        command = f"mariadb-binlog - | {client}"
    else:
        command = f'mariadb-binlog --stop-datetime="$WALG_MYSQL_BINLOG_END_TS" "$WALG_MYSQL_CURRENT_BINLOG" | {client}'
    queue = field.path / "queue"
    queue.mkdir()
    field.run(
        "binlog-replay", "--since", "LATEST", "--until", until,
        WALG_MYSQL_BINLOG_REPLAY_COMMAND=f"set -o pipefail; {command}", SHELL="/bin/bash", TZ="UTC",
        WALG_MYSQL_BINLOG_DST=str(queue), WALG_MYSQL_REPLAY_IN_ONE_SESSION=str(one_session).lower(),
    )  # fmt: skip
    rows = [row[0] for row in fresh.run("select id from app.t order by id")]
    assert rows == [*range(1, 21), *range(101, 121)]
    assert list(queue.iterdir()) == []


def test_a_failing_replay_stops(field, written) -> None:
    field.aim(written, field.path / "none")
    field.environment["WALG_STREAM_CREATE_COMMAND"] = "echo nothing"
    field.run("backup-push")
    field.run("binlog-push")
    queue = field.path / "queue"
    queue.mkdir()
    error = field.run(
        "binlog-replay", status=1, WALG_MYSQL_BINLOG_DST=str(queue),
        WALG_MYSQL_BINLOG_REPLAY_COMMAND="echo no such table >&2; exit 3",
    )[1]  # fmt: skip
    assert "failed to replay" in error
    assert "no such table" in error
    assert list(queue.iterdir()) == []


def test_help_has_examples(field) -> None:
    for command in ("binlog-push", "binlog-fetch", "binlog-replay", "binlog-list", "binlog-find"):
        assert "Example" in field.run(command, "--help")[0]
    assert Path(field.path).exists()


@pytest.mark.slow
def test_killed_at_any_moment_no_binlog_is_lost_repeated_or_cut(field, written) -> None:
    """`kill -9` at moments spread over a push's whole life; each time more binlogs wait."""
    import random
    import time

    seed = 20240
    moments = random.Random(seed)
    seen: dict[str, int] = {}
    for turn in range(30):
        written.run(f"insert into app.t values ({1000 + turn}, repeat('x', 90))", "flush binary logs")
        process = field.popen("binlog-push")
        time.sleep(moments.uniform(0.05, 0.6))
        process.kill()
        process.communicate()
        for name, stamped in stamp(field).items() if (field.archive / "binlog_005").exists() else ():
            assert seen.setdefault(name, stamped) == stamped, f"{name} was stored twice (turn {turn}, seed {seed})"
    field.run("binlog-push")
    local = [row[0] for row in written.run("show binary logs")][:-1]
    assert archived(field) == local
    for name in local:
        stored = (field.archive / "binlog_005" / f"{name}.zst").read_bytes()
        plain = zstandard.ZstdDecompressor().stream_reader(stored, read_across_frames=True).read()
        assert plain == (written.data / name).read_bytes()
