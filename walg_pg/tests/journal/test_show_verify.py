"""wal-show and wal-verify: the original's output on its own archives, and every gap named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_pg.journal.archive import Timeline
from walg_pg.lsn import format_lsn, next_segment_name, parse_lsn, parse_segment_name, segment_name

SETS = ["pg18-zstd", "pg18-lz4-libsodium", "pg18-brotli-pgp-waldelta"]
GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"


@pytest.mark.parametrize("name", SETS)
def test_golden_wal_show(run, golden, name: str) -> None:
    archive = golden(name)
    done = run("wal-show", "--detailed-json", WALG_FILE_PREFIX=str(archive))
    assert done.returncode == 0, done.stderr
    assert done.stdout == (GOLDEN / name / "wal-show.json").read_text()


def test_the_table(run, golden) -> None:
    archive = golden("pg18-zstd")
    (archive / "wal_005" / "000000010000000000000009.zst").unlink()
    text = run("wal-show", "--without-backups", WALG_FILE_PREFIX=str(archive)).stdout.splitlines()
    assert text[1] == (
        "| TLI | PARENT TLI | SWITCHPOINT LSN | START SEGMENT            | END SEGMENT              "
        "| SEGMENT RANGE | SEGMENTS COUNT | STATUS        |"
    )
    assert text[3] == (
        "|   1 |          0 |             0/0 | 000000010000000000000001 | 00000001000000000000000A "
        "|            10 |              9 | LOST_SEGMENTS |"
    )


def test_an_empty_archive(run) -> None:
    done = run("wal-show", "--detailed-json")
    assert (done.returncode, done.stdout) == (0, "[]")


def test_verify_finds_every_segment(run, golden) -> None:
    archive = golden("pg18-zstd")
    done = run(
        "wal-verify", "integrity", "timeline", "--json", "--timeline", "1", "--lsn", "0/A000100",
        "--backup-name", "base_000000010000000000000003", WALG_FILE_PREFIX=str(archive),
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["integrity"]["status"] == "OK"
    assert report["integrity"]["details"] == [
        {
            "timeline_id": 1,
            "start_segment": "000000010000000000000003",
            "end_segment": "000000010000000000000009",
            "segments_count": 7,
            "status": "FOUND",
        }
    ]
    assert report["timeline"] == {
        "status": "OK",
        "details": {"current_timeline_id": 1, "highest_storage_timeline_id": 1},
    }


def test_a_lost_segment_fails_and_strict_says_so(run, golden) -> None:
    archive = golden("pg18-zstd")
    (archive / "wal_005" / "000000010000000000000005.zst").unlink()
    arguments = ("wal-verify", "integrity", "--timeline", "1", "--lsn", "0/A000100")
    arguments += ("--backup-name", "base_000000010000000000000003")
    settings = {"WALG_FILE_PREFIX": str(archive), "WALG_UPLOAD_CONCURRENCY": "1"}
    done = run(*arguments, **settings)
    assert done.returncode == 0
    assert "integrity check status: FAILURE" in done.stdout
    assert "MISSING_LOST" in done.stdout
    assert run(*arguments, "--strict", **settings).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("integrity", "--lsn", "0/1"), "together"),
        (("everything", "--lsn", "0/1", "--timeline", "1"), "unknown check"),
        (("integrity", "--lsn", "nonsense", "--timeline", "1"), "LSN"),
        ((), "CHECKS"),
    ],
)
def test_bad_arguments(run, arguments, words: str) -> None:
    done = run("wal-verify", *arguments)
    assert done.returncode == 1
    assert words in done.stderr


@settings(max_examples=200)
@given(st.sets(st.integers(1, 400), min_size=1), st.sampled_from([1, 16, 64, 1024]))
def test_every_gap_is_named_exactly(numbers: set[int], mebibytes: int) -> None:
    size = mebibytes << 20
    timeline = Timeline(3, size, sorted(numbers))
    named = {parse_segment_name(name, size) for name in timeline.missing()}
    assert named == {(3, n) for n in range(min(numbers), max(numbers) + 1) if n not in numbers}
    assert timeline.missing() == sorted(timeline.missing(), reverse=True)


@given(st.integers(0, (1 << 64) - 1))
def test_lsn_round_trip(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


@given(st.integers(1, 1 << 31), st.integers(0, (1 << 40) - 2), st.sampled_from([1, 16, 64, 1024]))
def test_segment_names_round_trip(timeline: int, number: int, mebibytes: int) -> None:
    size = mebibytes << 20
    number %= (1 << 64) // size - 1
    name = segment_name(timeline, number, size)
    assert parse_segment_name(name, size) == (timeline, number)
    assert parse_segment_name(next_segment_name(name, size), size) == (timeline, number + 1)


def test_the_vectors_of_the_names() -> None:
    assert segment_name(1, parse_lsn("0/2A33FE00") // (16 << 20), 16 << 20) == "00000001000000000000002A"
    assert segment_name(1, 0x4B, 64 << 20) == "00000001000000010000000B"
