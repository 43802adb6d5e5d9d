"""Cases about open, stat and get."""

import time

from walg_core.errors import IntegrityError, ObjectNotFound, StorageError
from walg_core.pipeline.reader import read_all
from walg_core.storage.api import Storage
from walg_core.testing.conformance.frame import NotApplicable, case, content, data, drain, raises, same, true

MIB = 1 << 20


class ReadingCases:
    """`clock_drift` (seconds): how far the storage's clock may be from ours."""

    clock_drift = 180.0

    @case
    def test_read_in_small_pieces(self, storage: Storage) -> None:
        body = data(3000)
        storage.put_bytes("object", body)
        reader = storage.open("object")
        same(drain(reader, 7), body, "content read 7 bytes a time")
        reader.close()

    @case
    def test_read_never_gives_more_than_asked(self, storage: Storage) -> None:
        storage.put_bytes("object", data(10_000))
        reader = storage.open("object")
        for size in (1, 10, 1000):
            found = len(reader.read(size))
            true(0 < found <= size, f"read({size}) gave {found} bytes")
        reader.close()

    @case
    def test_read_nothing_is_not_the_end(self, storage: Storage) -> None:
        storage.put_bytes("object", b"content")
        reader = storage.open("object")
        same(reader.read(0), b"", "read(0)")
        same(read_all(reader), b"content", "content after read(0)")
        reader.close()

    @case
    def test_read_all_at_once(self, storage: Storage) -> None:
        body = data(2 * MIB + 17)
        storage.put_bytes("object", body)
        reader = storage.open("object")
        parts = []
        while part := reader.read():
            parts.append(part)
        true(b"".join(parts) == body, "read() until the end differs")
        reader.close()

    @case
    def test_read_past_the_end(self, storage: Storage) -> None:
        storage.put_bytes("object", b"x")
        reader = storage.open("object")
        read_all(reader)
        same((reader.read(10), reader.read()), (b"", b""), "reads after the end")
        reader.close()

    @case
    def test_close_early_and_twice(self, storage: Storage) -> None:
        storage.put_bytes("object", data(3 * MIB))
        reader = storage.open("object")
        reader.read(10)
        reader.close()
        reader.close()
        storage.open("object").close()
        same(storage.stat("object").size, 3 * MIB, "size after readers were dropped")

    @case
    def test_two_readers_at_once(self, storage: Storage) -> None:
        body = data(100_000)
        storage.put_bytes("object", body)
        one, two = storage.open("object"), storage.open("object")
        start = one.read(1000)
        same(read_all(two), body, "second reader")
        same(start + read_all(one), body, "first reader")
        one.close()
        two.close()

    @case
    def test_reading_while_it_is_replaced(self, storage: Storage) -> None:
        old, new = b"o" * (2 * MIB), b"n" * (2 * MIB)
        storage.put_bytes("object", old)
        reader = storage.open("object")
        try:
            first = reader.read(1000)
            storage.put_bytes("object", new)
            found = first + read_all(reader)
        except StorageError:
            return
        finally:
            reader.close()
        true(found in (old, new), "a reader mixed two contents of one object")

    @case
    def test_range_from_offset(self, storage: Storage) -> None:
        body = data(10_000)
        storage.put_bytes("object", body)
        same(content(storage, "object", 9_000), body[9_000:], "from an offset to the end")

    @case
    def test_range_in_the_middle(self, storage: Storage) -> None:
        body = data(3 * MIB)
        storage.put_bytes("object", body)
        same(content(storage, "object", MIB - 5, 11), body[MIB - 5 : MIB + 6], "11 bytes in the middle")

    @case
    def test_range_from_the_start(self, storage: Storage) -> None:
        storage.put_bytes("object", b"0123456789")
        same(content(storage, "object", 0, 4), b"0123", "the first 4 bytes")

    @case
    def test_range_of_nothing(self, storage: Storage) -> None:
        storage.put_bytes("object", b"0123456789")
        same(content(storage, "object", 3, 0), b"", "0 bytes from offset 3")

    @case
    def test_range_beyond_the_end(self, storage: Storage) -> None:
        storage.put_bytes("object", b"0123456789")
        same(content(storage, "object", 8, 100), b"89", "100 bytes from offset 8 of 10")

    @case
    def test_offset_at_and_past_the_end(self, storage: Storage) -> None:
        storage.put_bytes("object", b"0123456789")
        same(content(storage, "object", 10), b"", "from the end")
        same(content(storage, "object", 50), b"", "from past the end")

    @case
    def test_range_of_an_empty_object(self, storage: Storage) -> None:
        storage.put_bytes("object", b"")
        same(content(storage, "object", 0, 10), b"", "10 bytes of nothing")

    @case
    def test_read_missing(self, storage: Storage) -> None:
        with raises(ObjectNotFound, "reading a missing object"):
            content(storage, "folder/missing")

    @case
    def test_read_missing_range(self, storage: Storage) -> None:
        with raises(ObjectNotFound, "reading a range of a missing object"):
            content(storage, "missing", 5, 5)

    @case
    def test_read_folder(self, storage: Storage) -> None:
        storage.put_bytes("folder/object", b"x")
        with raises(ObjectNotFound, "reading a folder"):
            content(storage, "folder")

    @case
    def test_get_within_limit(self, storage: Storage) -> None:
        storage.put_bytes("object", b"12345")
        same(storage.get("object", 5), b"12345", "get with an exact limit")
        with raises(IntegrityError, "get of more than its limit"):
            storage.get("object", 4)

    @case
    def test_stat(self, storage: Storage) -> None:
        before = time.time()
        storage.put_bytes("folder/object", b"12345")
        info = storage.stat("folder/object")
        same((info.key, info.size), ("folder/object", 5), "key and size")
        drift = max(before - info.modified, info.modified - time.time())
        true(drift <= self.clock_drift, f"the modification time is {drift:.0f} s off; is a clock wrong?")

    @case
    def test_stat_missing(self, storage: Storage) -> None:
        with raises(ObjectNotFound, "stat of a missing object"):
            storage.stat("missing")

    @case
    def test_stat_missing_in_folder(self, storage: Storage) -> None:
        with raises(ObjectNotFound, "stat of an object in a missing folder"):
            storage.stat("missing/folder/object")

    @case
    def test_stat_folder(self, storage: Storage) -> None:
        storage.put_bytes("folder/object", b"x")
        with raises(ObjectNotFound, "stat of a folder"):
            storage.stat("folder")

    @case
    def test_not_found_names_the_object(self, storage: Storage) -> None:
        try:
            storage.stat("some/missing-object")
        except ObjectNotFound as error:
            true("missing-object" in str(error), f"the error does not name the object: {error}")
        else:
            raise AssertionError("stat of a missing object raised nothing")

    @case
    def test_exists(self, storage: Storage) -> None:
        storage.put_bytes("folder/object", b"x")
        found = [storage.exists(key) for key in ("folder/object", "folder", "folder/obj", "folder/object/x", "other")]
        same(found, [True, False, False, False, False], "exists of: object, folder, part of a name, below it, other")

    @case
    def test_stat_and_list_agree(self, storage: Storage) -> None:
        storage.put_bytes("a", data(123))
        storage.put_bytes("b/c", data(456))
        for info in storage.list():
            found = storage.stat(info.key)
            same(found.size, info.size, f"size of {info.key}")
            true(abs(found.modified - info.modified) < 1.001, f"stat and list disagree about the time of {info.key}")

    @case
    def test_modified_grows(self, storage: Storage) -> None:
        storage.put_bytes("object", b"1")
        first = storage.stat("object").modified
        # Times may be whole seconds.
        until = time.monotonic() + 3
        while time.monotonic() < until:
            time.sleep(0.05)
            storage.put_bytes("object", b"2")
            if storage.stat("object").modified > first:
                return
        raise AssertionError("overwriting does not advance the modification time")

    @case
    def test_versions(self, storage: Storage) -> None:
        if not storage.capabilities.versions:
            raise NotApplicable("no versions")
        storage.put_bytes("object", b"1")
        storage.put_bytes("object", b"22")
        versions = list(storage.list_versions())
        true(len(versions) >= 2, f"two puts are listed as {len(versions)} versions")
        oldest = next(info for info in versions if info.size == 1)
        storage.delete_versions([oldest])
        left = [info.version for info in storage.list_versions()]
        true(oldest.version not in left, "the deleted version is still there")
        same(content(storage, "object"), b"22", "the latest content")
