"""Cases about put and copy: whole, durable, all or nothing."""

import time

from walg_core.errors import IntegrityError, ObjectExists, ObjectNotFound
from walg_core.pipeline.reader import BytesReader
from walg_core.storage.api import Storage
from walg_core.testing.conformance.frame import (
    Body,
    BodyFailed,
    case,
    content,
    data,
    fails_after,
    keys,
    raises,
    same,
    true,
)

MIB = 1 << 20


class _Cancelled(BaseException):
    """Stands for KeyboardInterrupt and its like."""


def _round_trip(storage: Storage, body: bytes, key: str = "object") -> None:
    same(storage.put(key, Body(body)), len(body), "bytes that put says it stored")
    same(storage.stat(key).size, len(body), "size that stat tells")
    true(content(storage, key) == body, f"an object of {len(body)} bytes does not come back as it was stored")


class WritingCases:
    """`large` (bytes): the size of the objects that are bigger than any part or buffer."""

    large = 21 * MIB

    @case
    def test_put_small(self, storage: Storage) -> None:
        _round_trip(storage, b"hello")

    @case
    def test_put_empty(self, storage: Storage) -> None:
        _round_trip(storage, b"")
        same(keys(storage), ["object"], "listing with an empty object")

    @case
    def test_put_one_byte(self, storage: Storage) -> None:
        _round_trip(storage, b"\0")

    @case
    def test_put_every_byte_value(self, storage: Storage) -> None:
        _round_trip(storage, bytes(range(256)) * 3 + b"\r\n\r\n\n\r")

    @case
    def test_put_one_below_a_part(self, storage: Storage) -> None:
        _round_trip(storage, data(5 * MIB - 1))

    @case
    def test_put_exactly_a_part(self, storage: Storage) -> None:
        _round_trip(storage, data(5 * MIB))

    @case
    def test_put_one_above_a_part(self, storage: Storage) -> None:
        _round_trip(storage, data(5 * MIB + 1))

    @case
    def test_put_around_the_piece_size(self, storage: Storage) -> None:
        for size in (MIB - 1, MIB, MIB + 1):
            _round_trip(storage, data(size), f"object-{size}")

    @case
    def test_put_large(self, storage: Storage) -> None:
        _round_trip(storage, data(self.large))

    @case
    def test_put_announced_size(self, storage: Storage) -> None:
        body = data(100_000)
        same(storage.put("object", Body(body), len(body)), len(body), "bytes stored")
        true(content(storage, "object") == body, "the content differs")

    @case
    def test_put_large_announced_size(self, storage: Storage) -> None:
        body = data(self.large)
        storage.put("object", Body(body), len(body))
        true(content(storage, "object") == body, "the content differs")

    @case
    def test_put_replayable_body(self, storage: Storage) -> None:
        body = data(300_000)
        storage.put("object", BytesReader(body), len(body))
        true(content(storage, "object") == body, "the content differs")

    @case
    def test_put_body_shorter_than_announced(self, storage: Storage) -> None:
        with raises(IntegrityError, "a body shorter than announced"):
            storage.put("object", Body(b"12345"), 6)
        same(keys(storage), [], "listing after the refused put")

    @case
    def test_put_body_longer_than_announced(self, storage: Storage) -> None:
        with raises(IntegrityError, "a body longer than announced"):
            storage.put("object", Body(b"12345"), 4)
        same(keys(storage), [], "listing after the refused put")

    @case
    def test_put_wrong_size_keeps_the_old_object(self, storage: Storage) -> None:
        storage.put_bytes("object", b"old")
        with raises(IntegrityError, "a body longer than announced"):
            storage.put("object", Body(b"12345"), 4)
        same(content(storage, "object"), b"old", "content after the refused put")

    @case
    def test_put_one_byte_at_a_time(self, storage: Storage) -> None:
        body = data(2000)
        storage.put("object", Body(body, piece=1))
        same(content(storage, "object"), body, "content from a body that gives single bytes")

    @case
    def test_put_slow_body(self, storage: Storage) -> None:
        body = data(60_000)
        storage.put("object", Body(body, piece=20_000, before=lambda _: time.sleep(0.05)))
        same(content(storage, "object"), body, "content from a slow body")

    @case
    def test_put_leaves_the_body_open(self, storage: Storage) -> None:
        body = Body(b"x")
        storage.put("object", body)
        true(not body.closed, "put closed the body, which is its caller's")

    @case
    def test_put_into_new_folders(self, storage: Storage) -> None:
        _round_trip(storage, b"deep", "a/b/c/d/e/f/g/object")

    @case
    def test_put_replaces(self, storage: Storage) -> None:
        storage.put_bytes("object", b"old")
        storage.put_bytes("object", b"new and longer")
        same(content(storage, "object"), b"new and longer", "content after overwriting")
        same(keys(storage), ["object"], "listing after overwriting")

    @case
    def test_put_replaces_by_shorter(self, storage: Storage) -> None:
        storage.put_bytes("object", data(100_000))
        storage.put_bytes("object", b"short")
        same(content(storage, "object"), b"short", "content after overwriting with less")
        same(storage.stat("object").size, 5, "size after overwriting with less")

    @case
    def test_put_replaces_by_empty(self, storage: Storage) -> None:
        storage.put_bytes("object", b"old")
        storage.put_bytes("object", b"")
        same(content(storage, "object"), b"", "content after overwriting with nothing")

    # Failures of the body: nothing appears, nothing is lost.

    @case
    def test_failing_body_at_once(self, storage: Storage) -> None:
        with raises(BodyFailed, "a body that fails at its first read"):
            storage.put("folder/object", Body(b"data", before=fails_after(0)))
        same(keys(storage), [], "listing after the failed put")
        same(list(storage.list_dirs()), [], "folders after the failed put")
        true(not storage.exists("folder/object"), "the object exists after the failed put")

    @case
    def test_failing_body_midway(self, storage: Storage) -> None:
        with raises(BodyFailed, "a body that fails after 100 kB"):
            storage.put("object", Body(data(200_000), piece=10_000, before=fails_after(100_000)))
        same(keys(storage), [], "listing after the failed put")

    @case
    def test_failing_body_after_parts(self, storage: Storage) -> None:
        with raises(BodyFailed, "a large body that fails near its end"):
            storage.put("object", Body(data(self.large), before=fails_after(self.large - MIB)))
        same(keys(storage), [], "listing after the failed put")

    @case
    def test_failing_body_at_the_end(self, storage: Storage) -> None:
        with raises(BodyFailed, "a body that fails instead of ending"):
            storage.put("object", Body(b"all the data", before=fails_after(12)))
        same(keys(storage), [], "listing after the failed put")

    @case
    def test_failing_body_keeps_the_old_object(self, storage: Storage) -> None:
        old = data(1000)
        storage.put_bytes("object", old)
        with raises(BodyFailed, "a failing overwrite"):
            storage.put("object", Body(data(2 * MIB), before=fails_after(MIB)))
        same(content(storage, "object"), old, "content after the failed overwrite")

    @case
    def test_cancelled_body(self, storage: Storage) -> None:
        with raises(_Cancelled, "a cancelled put"):
            storage.put("object", Body(data(2 * MIB), before=fails_after(MIB, _Cancelled())))
        same(keys(storage), [], "listing after the cancelled put")

    @case
    def test_put_works_again_after_failing(self, storage: Storage) -> None:
        with raises(BodyFailed, "a failing put"):
            storage.put("object", Body(data(MIB), before=fails_after(1000), piece=1000))
        _round_trip(storage, b"second try")

    @case
    def test_nothing_visible_during_put(self, storage: Storage) -> None:
        seen: list[list[str]] = []

        def look(_: int) -> None:
            if len(seen) < 3:
                seen.append(keys(storage))

        storage.put("folder/object", Body(data(3 * MIB), before=look))
        same([found for found in seen if found], [], "listings while the object was being written")

    @case
    def test_old_object_readable_during_put(self, storage: Storage) -> None:
        storage.put_bytes("object", b"old")
        seen: list[bytes] = []

        def look(position: int) -> None:
            if position:
                seen.append(content(storage, "object"))

        storage.put("object", Body(data(3 * MIB), before=look))
        same(set(seen), {b"old"}, "contents while the object was being overwritten")

    # if_absent

    @case
    def test_if_absent_new(self, storage: Storage) -> None:
        storage.put_bytes("object", b"first", if_absent=True)
        same(content(storage, "object"), b"first", "content")

    @case
    def test_if_absent_existing(self, storage: Storage) -> None:
        storage.put_bytes("object", b"first")
        with raises(ObjectExists, "if_absent on an existing object"):
            storage.put_bytes("object", b"second", if_absent=True)
        same(content(storage, "object"), b"first", "content of the object that was there")

    @case
    def test_if_absent_existing_large(self, storage: Storage) -> None:
        storage.put_bytes("object", b"first")
        with raises(ObjectExists, "if_absent with a large body on an existing object"):
            storage.put("object", Body(data(self.large)), None, True)
        same(content(storage, "object"), b"first", "content of the object that was there")

    @case
    def test_if_absent_after_delete(self, storage: Storage) -> None:
        storage.put_bytes("object", b"first")
        storage.delete(["object"])
        storage.put_bytes("object", b"second", if_absent=True)
        same(content(storage, "object"), b"second", "content")

    # copy

    @case
    def test_copy(self, storage: Storage) -> None:
        body = data(200_000)
        storage.put_bytes("a/source", body)
        storage.copy("a/source", "b/c/target")
        same(content(storage, "b/c/target"), body, "content of the copy")
        same(keys(storage), ["a/source", "b/c/target"], "listing after the copy")

    @case
    def test_copy_replaces(self, storage: Storage) -> None:
        storage.put_bytes("source", b"new")
        storage.put_bytes("target", b"old, and longer")
        storage.copy("source", "target")
        same(content(storage, "target"), b"new", "content of the copy")

    @case
    def test_copy_odd_name(self, storage: Storage) -> None:
        storage.put_bytes("a b/100%+ü?.x", b"odd")
        storage.copy("a b/100%+ü?.x", "c&d=e/é#.y")
        same(content(storage, "c&d=e/é#.y"), b"odd", "content of the copy")

    @case
    def test_copy_missing(self, storage: Storage) -> None:
        with raises(ObjectNotFound, "copy of a missing object"):
            storage.copy("missing", "target")
        same(keys(storage), [], "listing after the failed copy")

    @case
    def test_copy_large(self, storage: Storage) -> None:
        body = data(self.large)
        storage.put_bytes("source", body)
        storage.copy("source", "target")
        true(content(storage, "target") == body, "the copy of a large object differs")
