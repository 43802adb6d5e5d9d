"""Backups of very many files: what is kept of each is small, and comes out as it went in."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from walg_core.backups import times
from walg_core.pipeline import tar
from walg_pg.backup import base, composers, parts
from walg_pg.backup.held import Held
from walg_pg.backup.walk import Found, Headers, Relation, Status, Walk
from walg_pg.filelist import FileList, Names
from walg_pg.sentinel import FileEntry, FilesMetadata, files_metadata_pieces, read_known_files

FILES = 5000
FOLDERS = ["", "/base/5", "/base/16384", "/base/16384/deeper", "/global", "/pg_tblspc/16400/PG_18_1/5", "/base"]
BASES = st.sampled_from(["1", "2", "2.1", "2_fsm", "3", "9", "\udcff", "ü", "PG_VERSION", "a b"])


@st.composite
def trees(draw: st.DrawFn) -> list[Found]:
    """Entries with names of their own, in any order; paths elsewhere than names as in a tablespace."""
    names = draw(st.lists(st.tuples(st.sampled_from(FOLDERS), BASES), unique=True, max_size=40))
    found = []
    for folder, name in names:
        kind = draw(st.sampled_from([tar.FILE, tar.FILE, tar.FILE, tar.DIRECTORY, tar.SYMLINK, tar.CHARACTER]))
        path = draw(st.sampled_from([f"/data{folder}/{name}", f"/space/{name}", "/odd"]))
        numbers = [draw(st.integers(0, most)) for most in (0o177777, 1 << 31, 1 << 31, 1 << 20, 30)]
        mtime = draw(st.integers(-(1 << 40), (1 << 62)))
        link = "target" if kind == tar.SYMLINK else ""
        found.append(Found(f"{folder}/{name}", path, Status(*numbers, mtime), kind, link))
    return found


def seen(found: Found) -> tuple[object, ...]:
    """All that a backup makes of an entry; the device number counts for devices only."""
    status = found.stat
    device = status.st_rdev if found.type == tar.CHARACTER else 0
    own = (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, device)
    return (found.name, found.path, found.type, found.link, found.updates, found.relation, found.segment, *own)


def plan(groups: Iterable[Iterable[Found]]) -> list[list[tuple[object, ...]]]:
    return [[seen(found) for found in group] for group in groups]


def rated_plainly(entries: list[Found], ratings: dict[str, int], threshold: int) -> list[list[Found]]:
    """The rating composer's rule (spec 6.3), as plain as can be."""
    files = sorted((each for each in entries if each.is_file), key=lambda each: ratings.get(each.name, 0))
    groups: list[list[Found]] = [[]]
    size, rated = 0, False
    for each in files:
        begins = not rated and ratings.get(each.name, 0) > 0
        if groups[-1] and (size > threshold or begins):
            groups.append([])
            size = 0
        rated = rated or begins
        groups[-1].append(each._replace(updates=ratings.get(each.name, 0)))
        size += each.stat.st_size
    return [[each for each in entries if not each.is_file], *groups]


@given(trees())
def test_what_is_held_comes_out_as_it_went_in(entries: list[Found]) -> None:
    held = Held(entries)
    assert plan([held]) == plan([entries])
    assert list(held.names()) == [each.name for each in entries]
    assert [held.mtime(place) for place in range(len(held))] == [each.mtime for each in entries]


@given(trees(), st.data())
def test_the_rating_composer_deals_as_its_rule_says(entries: list[Found], data: st.DataObject) -> None:
    relations = {each.relation for each in entries if each.relation}
    counts = {relation: data.draw(st.integers(0, 3)) for relation in sorted(relations)}
    earlier = {each.name: FileEntry(updates=data.draw(st.sampled_from([0, 2, 1 << 62]))) for each in entries[::3]}
    ratings = {}
    for each in entries:
        own = counts.get(each.relation, 0) if each.relation else 0
        ratings[each.name] = max(own, earlier[each.name].updates if each.name in earlier else 0)
    threshold = data.draw(st.integers(0, 60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composers, "relation_ratings", lambda: counts)
        headers, files = composers.apart(entries)
        composers.rate(files, earlier)
    assert plan(composers.by_rating(headers, files, threshold)) == plan(rated_plainly(entries, ratings, threshold))


@given(trees())
def test_the_database_composer_deals_as_its_rule_says(entries: list[Found]) -> None:
    files = [each for each in entries if each.is_file]
    places = dict.fromkeys(each.name.rsplit("/", 1)[0] for each in files if each.name.startswith("/base/"))
    expected = [
        [each for each in entries if not each.is_file],
        *([each for each in files if each.name.rsplit("/", 1)[0] == place] for place in places),
        [each for each in files if not each.name.startswith("/base/")],
    ]
    assert plan(composers.by_database(entries)) == plan(expected)


class Source(composers.Copier):
    """A copier that is given the earlier backup, and only notes what it copies."""

    def __init__(self, ledger: parts.Ledger, files: FilesMetadata) -> None:
        self._ledger = ledger
        self._files = files
        self.copied: list[str] = []

    def _source(self):  # type: ignore[no-untyped-def]
        return None, self._files

    def _copy(self, backup: object, part: str, number: int) -> bool:
        assert number == len(self.copied)
        self.copied.append(part)
        self._part, self._size = f"copy_{number}.tar", 5
        return True


@given(trees(), st.data())
def test_the_copy_composer_takes_over_whole_tars_only(entries: list[Found], data: st.DataObject) -> None:
    files, sets = {}, {}
    for each in [*entries, Found("/gone", "/gone", Status(0, 0, 0, 0, 1, 1), tar.FILE)]:
        if data.draw(st.integers(0, 9)):
            changed = not data.draw(st.integers(0, 5))
            files[each.name] = FileEntry(mtime=f"{each.mtime + changed}", updates=4)
        sets.setdefault(f"part_{data.draw(st.integers(1, 9)):03d}.tar.lz4", []).append(each.name)
    present = {each.name: each for each in entries}
    taken: list[str] = []
    copied = []
    for part in sorted(sets):
        if all(
            each in present and each in files and int(files[each].mtime) == present[each].mtime for each in sets[part]
        ):
            copied.append(part)
            taken += sets[part]
    ledger = parts.Ledger()
    copier = Source(ledger, FilesMetadata(dict(files), sets))
    left = copier.reuse(entries, lambda entry, mtime: int(entry.mtime) == mtime)
    assert plan([left]) == plan([[each for each in entries if each.name not in taken]])
    assert copier.copied == copied
    assert ledger.uncompressed == sum(present[name].stat.st_size for name in taken if present[name].is_file)
    new_sets = {f"copy_{number}.tar": sets[part] for number, part in enumerate(copied)}
    expected = FilesMetadata({name: files[name] for name in taken}, new_sets)
    assert b"".join(ledger.listed({})) == b"".join(files_metadata_pieces(expected))


def test_headers_of_held_entries_are_the_walks(tmp_path: Path) -> None:
    chance = random.Random(5)
    for number in range(60):
        place = tmp_path / "data" / chance.choice(["base/5", "global", "pg_xact"])
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{chance.randrange(10**6)}{chance.choice(['', '.1', '_vm'])}"
        path.write_bytes(bytes(number))
        path.chmod(chance.choice([0o600, 0o640, 0o4755]))
        os.utime(path, ns=(1, chance.randrange(1 << 61)))
    (tmp_path / "data/link").symlink_to("elsewhere")
    (tmp_path / "space").mkdir()
    (tmp_path / "space/1").write_text("x")
    (tmp_path / "data/pg_tblspc").mkdir()
    (tmp_path / "data/pg_tblspc/16400").symlink_to(tmp_path / "space")
    found = list(Walk(str(tmp_path / "data")))
    held, headers = Held(found), Headers()
    assert [headers.make(each, 7) for each in held] == [headers.make(each, 7) for each in found]
    assert plan([held]) == plan([found])
    assert all(os.path.lexists(each.path) for each in held)


def test_the_order_of_a_directory_is_that_of_bytes(tmp_path: Path) -> None:
    plain = ["10", "9", "_", "Z", "a", "a.1"]
    for name in plain:
        (tmp_path / name).touch()
    assert [each.name for each in Walk(str(tmp_path))][1:] == [f"/{name}" for name in sorted(plain)]
    # U+FFFD stands behind U+10000 in UTF-16 and before it in bytes; the undecodable byte 0xFF is the last of all.
    others = ["\U00010000", "\ufffd", "\udcff"]
    for name in others:
        (tmp_path / name).touch()
    expected = sorted(plain + others, key=os.fsencode)
    assert [each.name for each in Walk(str(tmp_path))][1:] == [f"/{name}" for name in expected]


@pytest.mark.parametrize("count", [0, 1, 1999, 2000, 2001, 6000])
def test_a_growing_list_is_written_as_a_whole_one(count: int) -> None:
    listed, names = FileList(), Names()
    plain = FilesMetadata(databases={"postgres": {"oid": 5}})
    for number in range(count):
        corrupt = (3, (1, 2)) if number % 700 == 0 else None
        name = f'/base/5/{number}\udcff<\u2028"'
        entry = FileEntry(number % 2 == 0, number % 3 == 0, "2026-01-01T00:00:00Z", number % 5, corrupt)
        listed.add(name, entry)
        names.append(name)
        plain.files[name] = entry
    if names:
        listed.add_part("part_001.tar", names)
        listed.add_part("backup_label.tar", ["tablespace_map", "backup_label"])
        plain.tar_sets |= {"part_001.tar": list(plain.files), "backup_label.tar": ["tablespace_map", "backup_label"]}
    assert list(names) == list(plain.files)
    assert len(names) == count
    assert ('/base/5/1\udcff<\u2028"' in names) is (count > 1)
    written = b"".join(listed.pieces(plain.databases))
    assert written == b"".join(files_metadata_pieces(plain))
    assert written == written_plainly(plain)


def written_plainly(metadata: FilesMetadata) -> bytes:
    """The object as the JSON module writes it in one go."""
    rows: dict[str, object] = {}
    for name, (incremented, skipped, mtime, updates, corrupt) in metadata.files.items():
        row: dict[str, object] = {"IsIncremented": incremented, "IsSkipped": skipped, "MTime": mtime}
        if corrupt:
            row["CorruptBlocks"] = {"CorruptBlocksCount": corrupt[0], "SomeCorruptBlocks": corrupt[1]}
        rows[name] = row | {"UpdatesCount": updates}
    value = {"Files": rows, "TarFileSets": metadata.tar_sets, "DatabasesByNames": metadata.databases}
    text = json.dumps({key: each for key, each in value.items() if each}, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def many() -> Iterable[Found]:
    """A file every time anew, so that nothing of it is shared by chance."""
    for number in range(FILES):
        name = f"/base/16384/{10**6 + number}"
        yield Found(name, f"/var/lib/data{name}", Status(0o100600, 26, 26, 0, 8192, 10**18 + number), tar.FILE)


def bytes_per_file(work: object) -> float:
    """What is still held after `work`, as Python counts it: neither the machine nor its load plays a part."""
    tracemalloc.start()
    try:
        kept = work()  # type: ignore[operator]
        size, _ = tracemalloc.get_traced_memory()
        assert kept is not None
    finally:
        tracemalloc.stop()
    return size / FILES


@pytest.mark.parametrize("composer", ["rating", "database"])
def test_a_planned_file_takes_little_memory(composer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {Relation(1663, 16384, 10**6 + number): number for number in range(0, FILES, 2)}
    monkeypatch.setattr(composers, "relation_ratings", lambda: counts)

    def work() -> object:
        if composer == "database":
            return composers.by_database(many())
        headers, files = composers.apart(many())
        composers.rate(files, {})
        groups = composers.by_rating(headers, files, 1 << 30)
        return groups, list(next(groups)), next(groups)

    # A status alone takes 500 bytes, an entry with it a thousand; now it is about 60.
    assert bytes_per_file(work) < 150


def test_a_recorded_file_takes_little_memory() -> None:
    def work() -> object:
        ledger, names = parts.Ledger(), Names()
        for found in many():
            names.append(found.name)
            ledger.record(found.name, FileEntry(mtime=f"2026-01-01T00:00:00.{found.mtime % 10**9:09d}Z"))
        ledger.stored("part_001.tar", names, 0, 0)
        return ledger

    # A dictionary of entries and a list of names take 450 bytes; now it is about 80, less for more files.
    assert bytes_per_file(work) < 180


TIMES = ["2026-01-01T03:00:00.123456789+03:00", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "", "yesterday"]


@pytest.mark.parametrize("text", TIMES)
@pytest.mark.parametrize("updates", [0, 7])
def test_a_base_in_short_form_tells_the_same(text: str, updates: int) -> None:
    files = {"/base/5/1": FileEntry(True, False, text, updates), "/x": FileEntry(mtime=text, corrupt=(1, (5,)))}
    written = b"".join(files_metadata_pieces(FilesMetadata(files)))
    known = read_known_files(written)
    assert known.keys() == files.keys()
    assert known["/x"] == files["/x"]
    row = known["/base/5/1"]
    if updates or text not in TIMES[:2]:
        assert row == files["/base/5/1"]
    else:
        ns = times.parse(text)
        assert isinstance(row, bytes)
        assert base.same_time(row, ns)
        assert not base.same_time(row, ns + 1)


def test_a_file_of_the_base_takes_little_memory() -> None:
    stamps = (f"2026-01-01T00:00:00.{number:09d}Z" for number in range(FILES))
    files = {f"/base/5/{10**6 + number}": FileEntry(mtime=stamp) for number, stamp in enumerate(stamps)}
    written = b"".join(files_metadata_pieces(FilesMetadata(files)))
    # With the whole row it is 250 bytes, without 126.
    assert bytes_per_file(lambda: read_known_files(written)) < 190
