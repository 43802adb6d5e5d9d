"""WAL records against pg_waldump, and the codecs of delta files."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.errors import EngineError, IntegrityError
from walg_core.pipeline.reader import BytesReader
from walg_pg.cluster import Cluster, find_binaries
from walg_pg.journal.delta_files import GROUP, Part, group_of, read_delta, write_delta
from walg_pg.journal.recorder import Recorder
from walg_pg.journal.records import Damaged, parse_record, parse_segment

REFERENCE = re.compile(r"blkref #\d+: rel (\d+)/(\d+)/(\d+) (?:fork \w+ )?blk (\d+)")


def dumped(cluster: Cluster, directory: Path, first: str, last: str) -> set[bytes]:
    """The block references that pg_waldump lists."""
    text = subprocess.run(
        [str(cluster.binaries / "pg_waldump"), "-b", "-p", str(directory), first, last],
        capture_output=True,
        text=True,
        env=cluster.environment(),
        check=False,
    ).stdout
    return {
        b"".join(int(number).to_bytes(4, "little") for number in match.groups()) for match in REFERENCE.finditer(text)
    }


def parsed(paths: list[Path]) -> set[bytes]:
    """The same from our parser, records across segments included."""
    locations: set[bytes] = set()
    before: bytes | None = None
    for path in paths:
        data = path.read_bytes()
        found = parse_segment(data, 8192)
        assert found.tail is not None
        # The record that the first segment finishes began in one that the server has recycled.
        if before is not None and before + found.tail:
            locations |= parse_record(before + found.tail, int.from_bytes(data[:2], "little"))
        locations |= found.locations
        before = found.head
    return locations


def test_golden_wal_like_pg_waldump(segments: Path) -> None:
    try:
        cluster = Cluster("/nonexistent", binaries=find_binaries(18))
    except EngineError as error:
        pytest.skip(str(error))
    with cluster:
        paths = sorted(path for path in segments.iterdir() if len(path.name) == 24)
        assert parsed(paths) == dumped(cluster, segments, paths[0].name, paths[-1].name)


@pytest.mark.parametrize("major", [18, 15])
def test_wal_of_a_busy_server_like_pg_waldump(tmp_path: Path, major: int) -> None:
    try:
        cluster = Cluster(
            tmp_path / "data",
            binaries=find_binaries(major),
            settings={"wal_level": "logical", "wal_keep_size": "1GB", "wal_compression": "on", "fsync": "off"},
        )
    except EngineError as error:
        pytest.skip(str(error))
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    with cluster:
        cluster.initdb("--wal-segsize=1")
        cluster.start()
        cluster.query(
            "create table t(id serial primary key, v text); create index on t using gin (to_tsvector('simple', v))"
        )
        for _ in range(3):
            cluster.query("insert into t(v) select md5(i::text) from generate_series(1, 6000) i")
            cluster.query("checkpoint")
            cluster.query(
                "update t set v = v || 'x' where id % 3 = 0; begin; savepoint a; delete from t where id % 5 = 0; commit"
            )
            cluster.query("vacuum t")
        last = cluster.query("select pg_walfile_name(pg_switch_wal())")
        cluster.stop()
        wal = tmp_path / "data" / "pg_wal"
        paths = sorted(path for path in wal.iterdir() if len(path.name) == 24 and path.name <= last)
        expected = dumped(cluster, wal, paths[0].name, paths[-1].name)
        assert len(expected) > 100
        assert parsed(paths) == expected


def test_every_cut_and_flip_ends_in_an_error_or_in_records(segments: Path) -> None:
    data = (segments / "000000010000000000000004").read_bytes()[: 64 * 8192]
    generator = random.Random(3)
    for _ in range(300):
        damaged = bytearray(data[: generator.randrange(1, len(data))])
        for _ in range(generator.randrange(4)):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        try:
            parse_segment(bytes(damaged), 8192)
        except Damaged:
            continue


def test_the_vectors_of_the_format() -> None:
    first = bytes.fromhex("7f060000050000000040000007000000")
    second = bytes.fromhex("7f060000050000000040000008000000")
    assert write_delta([second, first, first], b"\xaa\xbb") == first + second + bytes(16) + b"\2\0\0\0\xaa\xbb"
    part = Part(previous_head=b"", tails={3: b"\1\2\3"}, heads={15: b"\xff"})
    assert part.write().hex() == "010303000000010203" + "000000000000" + "020f01000000ff"
    assert Part.read(part.write()) == part
    assert not part.complete


LOCATION = st.binary(min_size=16, max_size=16).filter(any)


@given(st.sets(LOCATION, max_size=50), st.binary(max_size=100))
def test_delta_files_round_trip(locations: set[bytes], state: bytes) -> None:
    assert read_delta(BytesReader(write_delta(locations, state))) == (locations, state)


@given(
    st.none() | st.binary(max_size=20),
    st.dictionaries(st.integers(0, GROUP - 1), st.binary(max_size=20)),
    st.dictionaries(st.integers(0, GROUP - 1), st.binary(max_size=20)),
)
def test_part_files_round_trip(previous, tails, heads) -> None:
    part = Part(previous, tails, heads)
    assert Part.read(part.write()) == part
    assert part.complete == (previous is not None and len(tails) == GROUP and len(heads) == GROUP)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_part_or_an_error(data: bytes) -> None:
    try:
        Part.read(data)
    except IntegrityError:
        pass
    try:
        read_delta(BytesReader(data))
    except IntegrityError:
        pass


def test_group_of() -> None:
    assert [group_of(number) for number in (0, 15, 16, 31)] == [0, 0, 16, 16]


def test_unfinished_groups_survive_a_history_file(tmp_path: Path, segments: Path, run, data: Path) -> None:
    (data / "pg_wal" / "00000002.history").write_text("1\t0/3000000\tx\n")
    common = {"PGDATA": str(data), "WALG_USE_WAL_DELTA": "true"}
    run("wal-push", f"{data}/pg_wal/000000010000000000000003", **common)
    folder = data / "pg_wal" / "walg_data"
    before = {path.name: path.read_bytes() for path in folder.glob("*_delta*")}
    assert len(before) == 2
    run("wal-push", f"{data}/pg_wal/00000002.history", **common)
    assert {path.name: path.read_bytes() for path in folder.glob("*_delta*")} == before


def test_a_damaged_segment_stops_only_its_own_recording(tmp_path: Path, segments: Path) -> None:
    recorder = Recorder(str(tmp_path / "deltas"), 16 << 20, 8192)
    bad = tmp_path / "000000010000000000000004"
    bad.write_bytes(b"\x18\xd1" + bytes(100) + b"garbage" * 5000)
    recorder.record(str(bad))
    good = segments / "000000010000000000000003"
    recorder.record(str(good))
    assert not (tmp_path / "deltas").exists()
