"""Binlog files event by event, GTID sets, and what a replay takes of them: properties, both dialects, any damage."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.errors import IntegrityError, UsageError
from walg_core.pipeline.reader import BytesReader, read_all
from walg_mysql.journal import events
from walg_mysql.journal.dedupe import Archived
from walg_mysql.journal.gtid import (
    MariadbGtidSet,
    MysqlGtidSet,
    decode_gtid_set,
    decode_previous_gtids,
    encode_gtid_set,
)
from walg_mysql.journal.listing import parse_gtid
from walg_mysql.journal.transactions import Window, gtid_of, joined, query_text
from walg_mysql.journal.writer import BinlogWriter

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
intervals = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)).map(lambda p: (p[0], p[0] + p[1])), max_size=6)
mysql_sets = st.dictionaries(
    st.tuples(st.sampled_from([UUID, OTHER]), st.sampled_from(["", "tag_1"])), intervals, max_size=3
).map(MysqlGtidSet)


def members(gtids: MysqlGtidSet) -> set[tuple[str, str, int]]:
    return {(*key, n) for key, parts in gtids.entries.items() for first, last in parts for n in range(first, last + 1)}


@given(mysql_sets, mysql_sets)
def test_mysql_sets_are_sets(left: MysqlGtidSet, right: MysqlGtidSet) -> None:
    assert members(left.union(right)) == members(left) | members(right)
    assert members(left.minus(right)) == members(left) - members(right)
    assert left.contains(right) == (members(right) <= members(left))


@given(mysql_sets)
def test_mysql_sets_are_written_and_read(gtids: MysqlGtidSet) -> None:
    assert MysqlGtidSet.parse(str(gtids)) == gtids
    assert decode_gtid_set(encode_gtid_set(gtids)) == gtids


@given(st.binary(max_size=200))
def test_any_bytes_are_a_set_or_an_integrity_error(data: bytes) -> None:
    with suppress(IntegrityError):
        assert isinstance(decode_previous_gtids(data), MysqlGtidSet)


def test_sets_are_written_as_the_original_does() -> None:
    assert str(MysqlGtidSet.parse(f"{UUID.upper()}:5-5:1-3,\n {OTHER}:7")) == f"{UUID}:1-3:5,{OTHER}:7"
    assert str(MariadbGtidSet.parse("2-1-5,10-1-1,0-3-44")) == "0-3-44,10-1-1,2-1-5"
    for wrong in ("x", f"{UUID}", f"{UUID}:0", f"{UUID}:a-b", "zz:1"):
        with pytest.raises(ValueError, match=r"."):
            MysqlGtidSet.parse(wrong)


def history(checksums: bool = True) -> list[tuple[str, bytes]]:
    """Two MySQL files: transactions 1–3 at seconds 0–2, 4–5 at seconds 10–11; the same statement each."""
    first = BinlogWriter(checksums=checksums, timestamp=1000).previous(MysqlGtidSet())
    for number in (1, 2, 3):
        first.timestamp = 1000 + number - 1
        first.transaction(UUID, number, "BEGIN", f"insert {number}", "COMMIT")
    second = BinlogWriter(checksums=checksums, timestamp=1009).previous(MysqlGtidSet.parse(f"{UUID}:1-3"))
    for number in (4, 5):
        second.timestamp = 1010 + number - 4
        second.transaction(UUID, number, "BEGIN", f"insert {number}", "COMMIT")
    return [("b.000001", first.data()), ("b.000002", second.data())]


def statements(window: Window, files: list[tuple[str, bytes]]) -> list[str]:
    """What the replay's client would be given."""
    out = read_all(joined(((name, BytesReader(data)) for name, data in files), window))
    found = [query_text(event).decode() for event in events.read_events(BytesReader(out)) if event.kind == events.QUERY]
    return [text for text in found if text.startswith("insert")]


@pytest.mark.parametrize("checksums", [True, False])
def test_windows(checksums: bool) -> None:
    files = history(checksums)
    everything = [f"insert {number}" for number in range(1, 6)]
    assert statements(Window(), files) == everything
    window = Window(after=MysqlGtidSet.parse(f"{UUID}:1-2"), before=1011)
    assert statements(window, files) == everything[2:4]
    assert (window.taken, window.skipped, window.done, window.binlogs) == (2, 2, True, 2)
    window = Window(target=MysqlGtidSet.parse(f"{UUID}:2"))
    assert statements(window, files) == everything[:2]
    assert window.reached
    assert not Window(target=MysqlGtidSet.parse(f"{UUID}:9")).reached


def test_without_gtids_transactions_are_cut_at_their_statements() -> None:
    writer = BinlogWriter(version="5.6.0", checksums=False, timestamp=1000)
    writer.queries("create table t", "BEGIN", "insert 1", "COMMIT")
    middle = writer.position
    writer.timestamp = 1005
    writer.queries("BEGIN", "insert 2")
    writer.timestamp = 1010
    writer.queries("insert 3", "COMMIT", "BEGIN", "insert 4", "COMMIT")
    files = [("b.000001", writer.data())]
    assert statements(Window(before=1010), files) == ["insert 1", "insert 2", "insert 3"]
    assert statements(Window(position=("b.000001", middle)), files) == ["insert 2", "insert 3", "insert 4"]
    assert statements(Window(position=("b.000007", middle)), files)[0] == "insert 1"


def test_mariadb_transactions() -> None:
    writer = BinlogWriter(version="10.11.6-MariaDB-log", server_id=3).previous(MariadbGtidSet())
    for number in (1, 2, 3):
        writer.mariadb_transaction(0, number, f"insert {number}")
    writer.mariadb_transaction(7, 1, "insert 71")
    files = [("b.000001", writer.data())]
    assert statements(Window(after=MariadbGtidSet.parse("0-9-2")), files) == ["insert 3", "insert 71"]
    assert statements(Window(target=parse_gtid("0-3-2", "--x")), files) == ["insert 1", "insert 2"]
    found = [gtid_of(event) for event in events.read_events(BytesReader(writer.data()))]
    assert [str(gtid) for gtid in found if gtid] == ["0-3-1", "0-3-2", "0-3-3", "7-3-1"]


@settings(max_examples=300)
@given(st.data())
def test_damage_is_an_error_never_another_statement(data: st.DataObject) -> None:
    """Any changed byte behind the format description of a file with checksums, any cut."""
    name, whole = history()[0]
    description = int.from_bytes(whole[13:17], "little") + 4
    expected = statements(Window(), [(name, whole)])
    at = data.draw(st.integers(description, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
        with pytest.raises(IntegrityError):
            statements(Window(), [(name, damaged)])
        return
    with suppress(IntegrityError):
        found = statements(Window(), [(name, whole[:at])])
        assert found == expected[: len(found)]


@given(st.binary(max_size=400))
def test_any_file_is_read_or_refused(data: bytes) -> None:
    for body in (data, events.MAGIC + data):
        with suppress(IntegrityError):
            list(events.read_events(BytesReader(body)))
            events.previous_gtids(BytesReader(body))


@settings(max_examples=500, deadline=1000)
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6), st.booleans()
)
def test_any_mutation_is_read_or_refused(changes: list[tuple[float, int]], checksums: bool) -> None:
    data = bytearray(history(checksums)[0][1])
    for place, value in changes:
        data[int(place * len(data))] = value
    with suppress(IntegrityError):
        read_all(joined([("b.000001", BytesReader(bytes(data)))], Window()))
    with suppress(IntegrityError):
        events.previous_gtids(BytesReader(bytes(data)))


def test_a_version_of_foreign_digits_is_none() -> None:
    """Superscripts are digits to `str.isdigit`, not to `int`."""
    writer = BinlogWriter(version="8.0.35", checksums=False)
    data = writer.data().replace(b"8.0.35", "8.0.³".encode("latin-1") + b"\0")
    assert [event.kind for event in events.read_events(BytesReader(data))] == [events.FORMAT_DESCRIPTION]


def test_an_encrypted_file_says_so() -> None:
    with pytest.raises(IntegrityError, match="encrypted by the server"):
        list(events.read_events(BytesReader(events.ENCRYPTED_MAGIC + bytes(100))))


def test_one_transaction_is_one() -> None:
    assert str(parse_gtid(f"{UUID}:7", "--target-gtid")) == f"{UUID}:7"
    for wrong in (f"{UUID}:1-7", "0-1-1,1-1-1", "nonsense", f"{UUID}:1,{OTHER}:2"):
        with pytest.raises(UsageError, match="--target-gtid"):
            parse_gtid(wrong, "--target-gtid")


def test_duplicates_of_another_host_are_known() -> None:
    """Spec/mysql.md 7.3: what leads from one state to the next, against what is archived."""
    state = Archived(MysqlGtidSet())
    assert state.needs(MysqlGtidSet(), MysqlGtidSet.parse(f"{UUID}:1-5"))
    assert str(state.gtids) == f"{UUID}:1-5"
    other = Archived(MysqlGtidSet.parse(f"{UUID}:1-9"))
    assert not other.needs(MysqlGtidSet.parse(f"{UUID}:1-2"), MysqlGtidSet.parse(f"{UUID}:1-5"))
    assert not other.needs(None, MysqlGtidSet.parse(f"{UUID}:1-9"))
    assert other.needs(None, MysqlGtidSet.parse(f"{UUID}:1-10"))
    assert str(other.gtids) == f"{UUID}:1-10"
    assert other.needs(None, None)
    mariadb = Archived(MariadbGtidSet.parse("0-1-50,1-1-7"))
    assert not mariadb.needs(None, MariadbGtidSet.parse("0-2-50"))
    assert mariadb.needs(None, MariadbGtidSet.parse("0-2-51"))
    assert str(mariadb.gtids) == "0-2-51,1-1-7"


def test_the_golden_binlogs() -> None:
    root = Path(__file__).resolve().parents[4] / "shared" / "golden" / "mariadb-zstd" / "storage" / "binlog_005"
    if not root.exists():
        pytest.skip("the golden archives are not beside this checkout")
    import zstandard

    last = MariadbGtidSet()
    for path in sorted(root.iterdir()):
        data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes(), read_across_frames=True).read()
        found = list(events.read_events(BytesReader(data), path.name))
        assert found[0].kind == events.FORMAT_DESCRIPTION
        assert "MariaDB" in events.server_version(found[0])
        assert events.previous_gtids(BytesReader(data)) == last
        for event in found:
            gtid = gtid_of(event)
            last = last.union(gtid) if isinstance(gtid, MariadbGtidSet) else last
    assert last
