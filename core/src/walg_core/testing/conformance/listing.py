"""Cases about list, list_dir, list_dirs and delete."""

import threading
from collections.abc import Callable

from walg_core.errors import PermanentError
from walg_core.storage.api import Storage
from walg_core.testing.conformance.frame import case, content, keys, raises, same, true
from walg_core.testing.conformance.parallel import each_in_threads


def fill(storage: Storage, names: list[str], body: bytes = b"x") -> None:
    """Put all of them, several at a time."""
    each_in_threads(lambda name: storage.put_bytes(name, body), names)


class ListingCases:
    """`many`: how many objects the paging cases make; more than a page of any backend (1000)."""

    many = 1050

    @case
    def test_list_empty(self, storage: Storage) -> None:
        same((keys(storage), list(storage.list_dirs()), list(storage.list_dir())), ([], [], []), "an empty folder")

    @case
    def test_list_missing_folder(self, storage: Storage) -> None:
        storage.put_bytes("other/object", b"x")
        found = (keys(storage, "missing/"), list(storage.list_dirs("missing/")), list(storage.list_dir("missing/")))
        same(found, ([], [], []), "a missing folder")
        same(keys(storage), ["other/object"], "listing after looking at a missing folder")
        same(list(storage.list_dirs()), ["other/"], "folders after looking at a missing folder")

    @case
    def test_list_is_recursive_and_in_byte_order(self, storage: Storage) -> None:
        names = ["B", "a", "a-b", "a.b/x", "a0", "aa/b/c", "aa/b-c", "aa/b.c/d", "aa/b0", "b", "é", "z", "~", "中", "𝄞"]
        fill(storage, names)
        same(keys(storage), sorted(names, key=str.encode), "listing")

    @case
    def test_list_folder_and_not_its_like(self, storage: Storage) -> None:
        fill(storage, ["ab/1", "ab2/2", "ab-c", "a/b/3", "ab/c/4"])
        same(keys(storage, "ab/"), ["ab/1", "ab/c/4"], "listing of ab/")
        same(keys(storage, "a/b/"), ["a/b/3"], "listing of a/b/")

    @case
    def test_list_tells_sizes(self, storage: Storage) -> None:
        for size in (0, 1, 70_000):
            storage.put_bytes(f"f/object-{size}", b"y" * size)
        found = {info.key: info.size for info in storage.list()}
        same(found, {f"f/object-{size}": size for size in (0, 1, 70_000)}, "sizes in the listing")

    @case
    def test_list_start_after(self, storage: Storage) -> None:
        names = ["a", "b/1", "b/2", "b/2/x" if storage.capabilities.keys_may_nest else "b/2x", "b-", "c", "d/e/f", "g"]
        fill(storage, names)
        ordered = sorted(names)
        for after in (*ordered, "b", "b/", "b/15", "c0", "d", "d/e/", "zz"):
            same(keys(storage, "", after), [n for n in ordered if n > after], f"listing after {after!r}")

    @case
    def test_list_start_after_in_folder(self, storage: Storage) -> None:
        fill(storage, ["f/a", "f/b", "f/c", "g/a"])
        same(keys(storage, "f/", "f/a"), ["f/b", "f/c"], "listing of f/ after f/a")
        same(keys(storage, "f/", "f/c"), [], "listing of f/ after its last object")

    @case
    def test_list_dirs_are_immediate(self, storage: Storage) -> None:
        fill(storage, ["top", "b/1", "b/c/2", "a/d/e/3", "a.x/4"])
        same(list(storage.list_dirs()), ["a.x/", "a/", "b/"], "folders of the root")
        same(list(storage.list_dirs("b/")), ["b/c/"], "folders of b/")
        same(list(storage.list_dirs("a/")), ["a/d/"], "folders of a/")

    @case
    def test_list_dir_is_one_level(self, storage: Storage) -> None:
        fill(storage, ["top", "b/2", "b/1", "b/c/3"])
        same([info.key for info in storage.list_dir()], ["top"], "objects of the root")
        same([info.key for info in storage.list_dir("b/")], ["b/1", "b/2"], "objects of b/")

    @case
    def test_list_many(self, storage: Storage) -> None:
        names = [f"wal/{number:024X}" for number in range(self.many)]
        fill(storage, names)
        same(keys(storage, "wal/"), names, f"listing of {self.many} objects")
        middle = self.many // 2
        same(keys(storage, "wal/", names[middle]), names[middle + 1 :], "listing from the middle")
        same([info.key for info in storage.list_dir("wal/")], names, "one level of many objects")
        storage.delete(names)
        same(keys(storage), [], "listing after deleting many objects in one call")

    @case
    def test_list_many_folders(self, storage: Storage) -> None:
        names = [f"base/{number:05d}/object" for number in range(self.many)]
        fill(storage, names)
        same(list(storage.list_dirs("base/")), [name[: -len("object")] for name in names], "many folders")

    @case
    def test_list_follows_changes(self, storage: Storage) -> None:
        for step in range(3):
            storage.put_bytes(f"object-{step}", b"x")
            same(keys(storage), [f"object-{n}" for n in range(step + 1)], "listing right after a put")
        storage.delete(["object-1"])
        same(keys(storage), ["object-0", "object-2"], "listing right after a delete")

    @case
    def test_list_during_writes(self, storage: Storage) -> None:
        fixed = [f"fixed-{number:02d}" for number in range(10)]
        fill(storage, fixed)
        stop = threading.Event()
        failures: list[Exception] = []

        def write() -> None:
            number = 0
            try:
                while not stop.is_set():
                    storage.put_bytes(f"moving-{number % 5}/object", b"x" * 1000)
                    storage.delete([f"moving-{(number + 2) % 5}/object"])
                    number += 1
            except Exception as error:
                failures.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(10):
                found = keys(storage)
                same([key for key in found if key.startswith("fixed")], fixed, "objects nobody touches")
                same(found, sorted(set(found)), "order during writes")
        finally:
            stop.set()
            writer.join()
        true(not failures, f"writing while it is listed: {failures}")

    @case
    def test_list_refuses_bad_prefixes(self, storage: Storage) -> None:
        refuse: list[Callable[[str], object]] = [keys_of(storage), storage.list_dirs]
        for prefix in ("noslash", "/", "/abs/", "../", "a/../b/", "a//b/"):
            for listing in refuse:
                with raises(PermanentError, f"prefix {prefix!r}"):
                    listing(prefix)

    @case
    def test_root_shows_the_folder(self, storage: Storage) -> None:
        storage.put_bytes("object", b"x")
        inner, prefix = getattr(storage, "inner", None), getattr(storage, "prefix", "")
        true(inner is not None, "the case runs on a folder view")
        true(prefix in list(inner.list_dirs()), "the root's folders lack the one with an object")  # type: ignore[union-attr]
        found = [info.key for info in inner.list() if info.key.startswith(prefix)]  # type: ignore[union-attr]
        same(found, [prefix + "object"], "listing of the root")

    @case
    def test_folder_of_a_folder(self, storage: Storage) -> None:
        inner = storage.folder("a/").folder("/b")
        inner.put_bytes("c", b"x")
        same(keys(storage), ["a/b/c"], "whole key")
        same([info.key for info in inner.list()], ["c"], "relative key")

    # delete

    @case
    def test_delete(self, storage: Storage) -> None:
        fill(storage, ["a", "f/b"])
        storage.delete(["f/b"])
        same(keys(storage), ["a"], "listing after deleting")
        true(not storage.exists("f/b"), "the deleted object still exists")

    @case
    def test_delete_missing(self, storage: Storage) -> None:
        storage.delete(["missing", "missing/folder/object"])
        storage.put_bytes("a", b"x")
        storage.delete(["a"])
        storage.delete(["a"])
        same(keys(storage), [], "listing after deleting twice")

    @case
    def test_delete_nothing(self, storage: Storage) -> None:
        storage.put_bytes("a", b"x")
        storage.delete([])
        same(keys(storage), ["a"], "listing after deleting nothing")

    @case
    def test_delete_some_missing(self, storage: Storage) -> None:
        fill(storage, ["a", "b", "c"])
        storage.delete(["a", "missing", "c"])
        same(keys(storage), ["b"], "listing after deleting two of three and a missing one")

    @case
    def test_delete_takes_any_iterable(self, storage: Storage) -> None:
        fill(storage, ["a", "b", "c"])
        storage.delete(name for name in ("a", "b"))
        same(keys(storage), ["c"], "listing after deleting from a generator")

    @case
    def test_delete_spares_similar_names(self, storage: Storage) -> None:
        fill(storage, ["a1", "a1.json", "a10", "b/a1"])
        storage.delete(["a1"])
        same(keys(storage), ["a1.json", "a10", "b/a1"], "listing after deleting a1")

    @case
    def test_delete_of_a_folder_name_is_harmless(self, storage: Storage) -> None:
        storage.put_bytes("folder/object", b"x")
        storage.delete(["folder"])
        same(content(storage, "folder/object"), b"x", "the object below the name that was deleted")

    @case
    def test_delete_leaves_no_empty_folder(self, storage: Storage) -> None:
        fill(storage, ["a/b/c/object", "a/other"])
        storage.delete(["a/b/c/object"])
        same(list(storage.list_dirs("a/")), [], "folders after their last object has gone")
        storage.delete(["a/other"])
        same(list(storage.list_dirs()), [], "folders after the last object has gone")


def keys_of(storage: Storage) -> "Callable[[str], object]":
    """Listing to the end: a lazy listing may raise only then."""
    return lambda prefix: keys(storage, prefix)
