"""wal-push and wal-fetch as PostgreSQL uses them: exit statuses, checks, markers, background uploads, prefetching."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

FIRST = "000000010000000000000001"
SECOND = "000000010000000000000002"
THIRD = "000000010000000000000003"
ABSENT = "0000000100000000000000FF"


def stored(tmp_path: Path) -> list[str]:
    folder = tmp_path / "archive" / "wal_005"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize(
    ("method", "extension"), [("lz4", ".lz4"), ("zstd", ".zst"), ("brotli", ".br"), ("lzma", ".lzma"), ("none", "")]
)
def test_a_segment_comes_back_whatever_the_method(run, data, tmp_path, method, extension) -> None:
    pushed = run("wal-push", f"{data}/pg_wal/{SECOND}", PGDATA=str(data), WALG_COMPRESSION_METHOD=method)
    assert pushed.returncode == 0, pushed.stderr
    assert f"FILE PATH: {SECOND}{extension}" in pushed.stderr
    assert stored(tmp_path) == [SECOND + extension]
    target = tmp_path / "RECOVERYXLOG"
    fetched = run("wal-fetch", SECOND, str(target), WALG_DOWNLOAD_CONCURRENCY="1")
    assert fetched.returncode == 0, fetched.stderr
    assert target.read_bytes() == (data / "pg_wal" / SECOND).read_bytes()


def test_absent_is_74_and_leaves_nothing(run, tmp_path) -> None:
    done = run("wal-fetch", ABSENT, str(tmp_path / "X"))
    assert done.returncode == 74
    assert f"Archive '{ABSENT}' does not exist." in done.stderr
    assert not (tmp_path / "X").exists()


def test_a_storage_that_fails_is_never_taken_for_the_end_of_the_archive(run, tmp_path) -> None:
    missing = str(tmp_path / "not-mounted")
    done = run("wal-fetch", FIRST, str(tmp_path / "X"), WALG_FILE_PREFIX=missing)
    assert done.returncode not in (0, 74)
    assert not (tmp_path / "X").exists()


@pytest.mark.parametrize("cut", [0, 3, 100, 5000])
def test_a_damaged_object_stops_recovery(run, data, tmp_path, cut: int) -> None:
    run("wal-push", f"{data}/pg_wal/{SECOND}", PGDATA=str(data))
    path = tmp_path / "archive" / "wal_005" / f"{SECOND}.lz4"
    path.write_bytes(path.read_bytes()[:cut])
    done = run("wal-fetch", SECOND, str(tmp_path / "X"))
    assert done.returncode > 125, done.stderr
    assert not (tmp_path / "X").exists()
    original = run("wal-fetch", SECOND, str(tmp_path / "X"), WALG_WAL_FETCH_FAILURE_EXIT_CODE="1")
    assert original.returncode == 1


def test_a_swapped_segment_is_refused(run, data, tmp_path) -> None:
    for name in (FIRST, SECOND):
        run("wal-push", f"{data}/pg_wal/{name}", PGDATA=str(data))
    folder = tmp_path / "archive" / "wal_005"
    os.replace(folder / f"{FIRST}.lz4", folder / f"{SECOND}.lz4")
    done = run("wal-fetch", SECOND, str(tmp_path / "X"))
    assert done.returncode > 125
    assert f"is not WAL segment {SECOND}" in done.stderr
    assert not (tmp_path / "X").exists()


def test_what_is_no_segment_is_not_archived_under_its_name(run, data, tmp_path) -> None:
    path = data / "pg_wal" / SECOND
    path.write_bytes(path.read_bytes()[:-1])
    done = run("wal-push", str(path), PGDATA=str(data))
    assert done.returncode == 1
    assert "bytes instead of 16777216" in done.stderr
    path.write_bytes(os.urandom(16 << 20))
    assert run("wal-push", str(path), PGDATA=str(data)).returncode == 1
    assert stored(tmp_path) == []
    assert run("wal-push", str(path), PGDATA=str(data), WALG_CHECK_WAL_HEADER="false").returncode == 0


def test_a_segment_of_another_cluster_is_refused(run, data, tmp_path) -> None:
    control = bytearray(8192)
    control[:8] = (123).to_bytes(8, "little")
    control[8:12] = (1800).to_bytes(4, "little")
    (data / "global").mkdir()
    (data / "global" / "pg_control").write_bytes(control)
    done = run("wal-push", f"{data}/pg_wal/{SECOND}", PGDATA=str(data))
    assert done.returncode == 1
    assert "system identifier" in done.stderr
    assert stored(tmp_path) == []


def test_a_missing_file_names_itself(run, tmp_path) -> None:
    done = run("wal-push", "pg_wal/nothing")
    assert done.returncode == 1
    assert "cannot read pg_wal/nothing" in done.stderr


def test_an_existing_destination_is_not_overwritten(run, data, tmp_path) -> None:
    run("wal-push", f"{data}/pg_wal/{SECOND}", PGDATA=str(data))
    target = tmp_path / "precious"
    target.write_text("mine")
    assert run("wal-fetch", SECOND, str(target)).returncode not in (0, 74)
    assert target.read_text() == "mine"


def test_overwrite_prevention_compares_content(run, data, tmp_path) -> None:
    path = data / "pg_wal" / SECOND
    settings = {"PGDATA": str(data), "WALG_PREVENT_WAL_OVERWRITE": "true"}
    assert run("wal-push", str(path), **settings).returncode == 0
    again = run("wal-push", str(path), **settings)
    assert again.returncode == 0
    assert "already archived with equal content, skipping" in again.stderr
    body = bytearray(path.read_bytes())
    body[5000] ^= 1
    path.write_bytes(body)
    refused = run("wal-push", str(path), **settings)
    assert refused.returncode == 1
    assert "contents differ, unable to overwrite" in refused.stderr


def test_history_files_are_always_protected(run, data, tmp_path) -> None:
    history = data / "pg_wal" / "00000002.history"
    history.write_text("1\t0/3000000\tno recovery target specified\n")
    assert run("wal-push", str(history), PGDATA=str(data)).returncode == 0
    history.write_text("1\t0/4000000\tno recovery target specified\n")
    assert run("wal-push", str(history), PGDATA=str(data)).returncode == 1
    target = tmp_path / "H"
    assert run("wal-fetch", "00000002.history", str(target)).returncode == 0
    assert target.read_text().startswith("1\t0/3000000")


def test_metadata_individual_and_bulk(run, data, tmp_path) -> None:
    path = data / "pg_wal" / SECOND
    os.utime(path, ns=(1_614_041_474_195_209_969, 1_614_041_474_195_209_969))
    run("wal-push", str(path), PGDATA=str(data), WALG_UPLOAD_WAL_METADATA="INDIVIDUAL")
    document = (tmp_path / "archive" / "wal_005" / f"{SECOND}.json").read_text()
    assert document == (
        f'{{"{SECOND}":{{"created_time":"2021-02-23T00:51:14.195209969Z","date_fmt":"%Y-%m-%dT%H:%M:%S.%fZ"}}}}'
    )
    bad = run("wal-push", str(path), PGDATA=str(data), WALG_UPLOAD_WAL_METADATA="SOME")
    assert bad.returncode == 1
    assert "WALG_UPLOAD_WAL_METADATA" in bad.stderr
    last = "00000001000000000000000F"
    body = bytearray((data / "pg_wal" / SECOND).read_bytes())
    body[8:16] = (0xF << 24).to_bytes(8, "little")
    (data / "pg_wal" / last).write_bytes(body)
    for name in (SECOND, THIRD, last):
        done = run("wal-push", f"{data}/pg_wal/{name}", PGDATA=str(data), WALG_UPLOAD_WAL_METADATA="BULK")
        assert done.returncode == 0, done.stderr
    merged = json.loads((tmp_path / "archive" / "wal_005" / "00000001000000000000000.json").read_text())
    assert list(merged) == [SECOND, THIRD, last]


def ready(data: Path, *names: str) -> None:
    for name in names:
        (data / "pg_wal" / "archive_status" / f"{name}.ready").touch()


def test_ready_segments_go_along_and_are_skipped_when_their_turn_comes(run, data, tmp_path) -> None:
    names = [f"00000001000000000000000{digit}" for digit in "123456789A"]
    ready(data, *names)
    run("wal-push", f"{data}/pg_wal/{names[0]}", PGDATA=str(data))
    assert f"{names[1]}.lz4" in stored(tmp_path)
    markers = data / "pg_wal" / "walg_data" / "walg_archive_status"
    marked = sorted(path.name for path in markers.iterdir())
    assert marked
    before = (tmp_path / "archive" / "wal_005" / f"{marked[0]}.lz4").stat().st_mtime_ns
    done = run("wal-push", f"{data}/pg_wal/{marked[0]}", PGDATA=str(data), TOTAL_BG_UPLOADED_LIMIT="1")
    assert done.returncode == 0
    assert (tmp_path / "archive" / "wal_005" / f"{marked[0]}.lz4").stat().st_mtime_ns == before
    assert not (markers / marked[0]).exists()


def test_a_marker_hides_no_other_file(run, data, tmp_path) -> None:
    ready(data, FIRST, SECOND)
    run("wal-push", f"{data}/pg_wal/{FIRST}", PGDATA=str(data))
    markers = data / "pg_wal" / "walg_data" / "walg_archive_status"
    assert (markers / SECOND).exists()
    # The same name with other content, as after a restore of the data directory: it must be uploaded.
    body = bytearray((data / "pg_wal" / SECOND).read_bytes())
    body[9000] ^= 0xFF
    (data / "pg_wal" / SECOND).write_bytes(body)
    run("wal-push", f"{data}/pg_wal/{SECOND}", PGDATA=str(data))
    target = tmp_path / "X"
    assert run("wal-fetch", SECOND, str(target)).returncode == 0
    assert target.read_bytes() == bytes(body)


def test_a_marker_for_another_storage_counts_for_nothing(run, data, tmp_path) -> None:
    ready(data, FIRST, SECOND)
    run("wal-push", f"{data}/pg_wal/{FIRST}", PGDATA=str(data))
    other = tmp_path / "other"
    other.mkdir()
    run("wal-push", f"{data}/pg_wal/{SECOND}", PGDATA=str(data), WALG_FILE_PREFIX=str(other))
    assert (other / "wal_005" / f"{SECOND}.lz4").exists()


def test_an_empty_marker_of_the_original_is_believed_only_when_the_object_is_there(run, data, tmp_path) -> None:
    markers = data / "pg_wal" / "walg_data" / "walg_archive_status"
    markers.mkdir(parents=True)
    (markers / SECOND).touch()
    run("wal-push", f"{data}/pg_wal/{SECOND}", PGDATA=str(data))
    assert stored(tmp_path) == [f"{SECOND}.lz4"]


def test_markers_that_cannot_be_read_hide_nothing(run, data, tmp_path) -> None:
    markers = data / "pg_wal" / "walg_data"
    markers.write_text("in the way")
    assert run("wal-push", f"{data}/pg_wal/{SECOND}", PGDATA=str(data)).returncode == 0
    assert stored(tmp_path) == [f"{SECOND}.lz4"]


def test_partial_and_whole_segment_have_nothing_in_common(run, data, tmp_path) -> None:
    (data / "pg_wal" / f"{SECOND}.partial").write_bytes((data / "pg_wal" / SECOND).read_bytes())
    ready(data, FIRST, f"{SECOND}.partial")
    run("wal-push", f"{data}/pg_wal/{FIRST}", PGDATA=str(data))
    run("wal-push", f"{data}/pg_wal/{SECOND}", PGDATA=str(data))
    assert f"{SECOND}.lz4" in stored(tmp_path)


def test_ready_is_renamed_when_asked_for(run, data, tmp_path) -> None:
    ready(data, FIRST, SECOND)
    run("wal-push", f"{data}/pg_wal/{FIRST}", PGDATA=str(data), PG_READY_RENAME="true")
    status = data / "pg_wal" / "archive_status"
    assert (status / f"{SECOND}.done").exists() == (f"{SECOND}.lz4" in stored(tmp_path))
    assert (status / f"{FIRST}.ready").exists()


def test_prefetched_segments_are_taken_only_when_they_are_right(run, data, tmp_path) -> None:
    for digit in "123456789A":
        name = f"00000001000000000000000{digit}"
        assert run("wal-push", f"{data}/pg_wal/{name}", PGDATA=str(data)).returncode == 0
    target = tmp_path / "pg_wal" / "RECOVERYXLOG"
    target.parent.mkdir()
    assert run("wal-fetch", FIRST, str(target)).returncode == 0
    finished = tmp_path / "pg_wal" / ".wal-g" / "prefetch"
    deadline = time.monotonic() + 30
    while not (finished / THIRD).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (finished / THIRD).exists(), "nothing was prefetched"
    (finished / SECOND).write_bytes(bytes(16 << 20))
    target.unlink()
    done = run("wal-fetch", SECOND, str(target))
    assert done.returncode == 0
    assert target.read_bytes() == (data / "pg_wal" / SECOND).read_bytes()
    target.unlink()
    inode = (finished / THIRD).stat().st_ino
    assert run("wal-fetch", THIRD, str(target)).returncode == 0
    assert target.stat().st_ino == inode, "the prefetched file itself was moved"


def test_what_was_prefetched_before_the_machine_started_is_not_believed(run, data, tmp_path) -> None:
    for digit in "123":
        assert run("wal-push", f"{data}/pg_wal/00000001000000000000000{digit}", PGDATA=str(data)).returncode == 0
    target = tmp_path / "pg_wal" / "RECOVERYXLOG"
    target.parent.mkdir()
    finished = target.parent / ".wal-g" / "prefetch"
    assert run("wal-prefetch", FIRST, str(target)).returncode == 0
    assert (finished / SECOND).exists()
    # A power failure: some of its blocks never reached the disk.
    body = bytearray((finished / SECOND).read_bytes())
    body[1 << 20 : 2 << 20] = bytes(1 << 20)
    (finished / SECOND).write_bytes(body)
    (finished / "boot").write_text("another start of the machine")
    fetched = run("wal-fetch", SECOND, str(target), WALG_DOWNLOAD_CONCURRENCY="1")
    assert fetched.returncode == 0
    assert "before the machine was last started" in fetched.stderr
    assert target.read_bytes() == (data / "pg_wal" / SECOND).read_bytes()
    assert run("wal-prefetch", FIRST, str(target)).returncode == 0
    target.unlink()
    again = run("wal-fetch", THIRD, str(target), WALG_DOWNLOAD_CONCURRENCY="1")
    assert (again.returncode, "before the machine" in again.stderr) == (0, False)


def test_the_extension_found_last_is_tried_first(run, data, tmp_path) -> None:
    import pwd

    cache = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".walg_decompressor_cache"
    if not os.access(cache.parent, os.W_OK):
        pytest.skip(f"the home directory {cache.parent} cannot be written")
    run("wal-push", f"{data}/pg_wal/{SECOND}", PGDATA=str(data), WALG_COMPRESSION_METHOD="zstd")
    cache.write_text('{"FileExtension":"lz4"}')
    assert run("wal-fetch", SECOND, str(tmp_path / "X")).returncode == 0
    assert cache.read_text() == '{"FileExtension":"zst"}'


def test_without_any_storage_the_setting_is_named(run, tmp_path) -> None:
    done = run("wal-fetch", FIRST, str(tmp_path / "X"), WALG_FILE_PREFIX="")
    assert done.returncode not in (0, 74)
    assert "WALG_FILE_PREFIX" in done.stderr
