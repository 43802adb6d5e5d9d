"""Whatever is missing is named, and nothing else: three timelines, two hundred segments; many through the commands."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.storage.memory import MemoryStorage
from walg_core.testing.contexts import make_context
from walg_pg.journal.show import report
from walg_pg.journal.verify import FOUND, MISSING, OK, Position, Verifier
from walg_pg.lsn import format_lsn, segment_name

SIZE = 16 << 20
FIRST, COUNT = 5, 200
MANY = int(os.environ.get("WALG_TEST_SEGMENTS", "40"))


def archive(first_switch: int, second_switch: int) -> tuple[MemoryStorage, dict[int, str]]:
    """An archive over three timelines that were left at these LSNs; its segments' names by number."""
    storage = MemoryStorage()
    switches = ((1, first_switch), (2, second_switch))
    lines = [f"{timeline}\t{format_lsn(lsn)}\tno recovery target specified" for timeline, lsn in switches]
    storage.put_bytes("wal_005/00000002.history", lines[0].encode() + b"\n")
    storage.put_bytes("wal_005/00000003.history", "\n".join(lines).encode() + b"\n")
    names = {}
    for number in range(FIRST, FIRST + COUNT):
        end = (number + 1) * SIZE
        timeline = 1 if first_switch >= end else 2 if second_switch >= end else 3
        names[number] = segment_name(timeline, number, SIZE)
        storage.put_bytes(f"wal_005/{names[number]}.lz4", b"")
    # What a promotion leaves behind, and what belongs to no segment.
    storage.put_bytes(f"wal_005/{segment_name(1, first_switch // SIZE, SIZE)}.partial.lz4", b"")
    storage.put_bytes(f"wal_005/{segment_name(1, 16, SIZE)}_delta.lz4", b"")
    return storage, names


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_single_gap_is_named_exactly(data: st.DataObject) -> None:
    lsns = st.integers((FIRST + 2) * SIZE, (FIRST + COUNT - 2) * SIZE)
    first, second = sorted((data.draw(lsns), data.draw(lsns)))
    storage, names = archive(first, second)
    # Below the first segment lies nothing that a backup needs: without one, what comes before is only a warning.
    gap = data.draw(st.integers(FIRST + 1, FIRST + COUNT - 1))
    context = make_context({"WALG_UPLOAD_CONCURRENCY": "1"}, "pg")
    # The newest segment is one that may still be on its way.
    verifier = Verifier(context, storage, Position(3, FIRST + COUNT + 1))
    storage.put_bytes(f"wal_005/{segment_name(3, FIRST + COUNT, SIZE)}.lz4", b"")
    before = verifier.integrity()
    assert before.runs is not None
    found = [run for run in before.runs if int(run.first[16:], 16) >= FIRST]
    assert {run.status for run in found} == {FOUND}
    assert [run.timeline for run in found] == sorted({int(name[:8], 16) for name in names.values()} | {3})
    storage.delete([f"wal_005/{names[gap]}.lz4"])
    after = Verifier(context, storage, Position(3, FIRST + COUNT + 1)).integrity()
    assert after.runs is not None
    lost = [run for run in after.runs if run.status == MISSING and int(run.first[16:], 16) >= FIRST]
    assert [(run.first, run.last, run.count) for run in lost] == [(names[gap], names[gap], 1)]
    assert after.status != OK
    # wal-show sees gaps inside a timeline; one at a timeline's edge shortens it.
    shown = [name for row in report(context, storage, with_backups=False) for name in row.timeline.missing()]
    same = {number for number, name in names.items() if name[:8] == names[gap][:8]} | (
        {FIRST + COUNT} if names[gap].startswith("00000003") else set()
    )
    assert shown == ([names[gap]] if min(same) < gap < max(same) else [])


def test_two_switches_in_one_segment() -> None:
    storage, names = archive(50 * SIZE + 100, 50 * SIZE + 5000)
    assert {name[:8] for name in names.values()} == {"00000001", "00000003"}
    context = make_context({"WALG_UPLOAD_CONCURRENCY": "1"}, "pg")
    checked = Verifier(context, storage, Position(3, FIRST + COUNT)).integrity()
    assert checked.runs is not None
    assert {run.status for run in checked.runs if int(run.first[16:], 16) >= FIRST} == {FOUND}


def test_many_segments_through_the_commands(run, tmp_path: Path) -> None:
    wal = tmp_path / "data" / "pg_wal"
    (wal / "archive_status").mkdir(parents=True)
    mebibyte = 1 << 20
    names = [segment_name(1, number, mebibyte) for number in range(1, MANY + 1)]
    for number, name in enumerate(names, 1):
        head = (0xD118).to_bytes(2, "little") + (2).to_bytes(2, "little") + (1).to_bytes(4, "little")
        head += (number * mebibyte).to_bytes(8, "little") + bytes(8) + (77).to_bytes(8, "little")
        (wal / name).write_bytes(head.ljust(mebibyte, b"\0"))
        (wal / "archive_status" / f"{name}.ready").touch()
    variables = {"PGDATA": str(tmp_path / "data"), "WALG_PG_WAL_SIZE": "1", "PG_READY_RENAME": "true"}
    # As the archiver does: whatever is still ready, in order.
    for name in names:
        if (wal / "archive_status" / f"{name}.ready").exists():
            done = run("wal-push", str(wal / name), **variables)
            assert done.returncode == 0, done.stderr
            (wal / "archive_status" / f"{name}.ready").rename(wal / "archive_status" / f"{name}.done")
    (shown,) = json.loads(run("wal-show", "--detailed-json", "--without-backups", **variables).stdout)
    assert (shown["segments_count"], shown["missing_segments"], shown["status"]) == (MANY, [], "OK")
    where = ("--timeline", "1", "--lsn", format_lsn((MANY + 1) * mebibyte + 100))
    verified = json.loads(run("wal-verify", "integrity", "--json", *where, **variables).stdout)["integrity"]
    assert verified["status"] == "OK"
    assert [each["segments_count"] for each in verified["details"]] == [MANY]
    lost = names[MANY // 2 - 1]
    (tmp_path / "archive" / "wal_005" / f"{lost}.lz4").unlink()
    variables["WALG_UPLOAD_CONCURRENCY"] = "1"
    verified = json.loads(run("wal-verify", "integrity", "--json", *where, **variables).stdout)["integrity"]
    assert verified["status"] == "FAILURE"
    assert [each["start_segment"] for each in verified["details"] if each["status"] == MISSING] == [lost]
    (shown,) = json.loads(run("wal-show", "--detailed-json", "--without-backups", **variables).stdout)
    assert (shown["missing_segments"], shown["status"]) == ([lost], "LOST_SEGMENTS")
