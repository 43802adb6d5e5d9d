"""The suite finds every one of these broken storages: a suite that passes everything proves nothing."""

from collections.abc import Iterable, Iterator, Sequence

import pytest
from walg_core.errors import ObjectExists, ObjectNotFound, PermanentError
from walg_core.pipeline.reader import BytesReader, IterReader, Reader, read_all
from walg_core.storage.api import ObjectInfo
from walg_core.storage.memory import MemoryStorage
from walg_core.testing.conformance import StorageConformance, run


class Suite(StorageConformance):
    many = 150
    large = 6 << 20


class LosesTheTail(MemoryStorage):
    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        data = read_all(body)
        return super().put(key, BytesReader(data[: 5 << 20]), min(len(data), 5 << 20), if_absent)


class StoresPartsOfFailedPuts(MemoryStorage):
    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        have = b""
        try:
            while piece := body.read(1 << 16):
                have += piece
        except BaseException:
            super().put(key, BytesReader(have))
            raise
        return super().put(key, BytesReader(have), size, if_absent)


class SwallowsBodyErrors(MemoryStorage):
    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        have = b""
        try:
            while piece := body.read(1 << 16):
                have += piece
        except Exception:
            return len(have)
        return super().put(key, BytesReader(have), size, if_absent)


class DeletesBeforeWriting(MemoryStorage):
    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        if not if_absent and key:
            self._objects.pop(key, None)
        return super().put(key, body, size, if_absent)


class IgnoresSize(MemoryStorage):
    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        return super().put(key, body, None, if_absent)


class IgnoresIfAbsent(MemoryStorage):
    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        return super().put(key, body, size)


class RacesIfAbsent(MemoryStorage):
    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        if if_absent and self.exists(key):
            raise ObjectExists(key)
        import time

        time.sleep(0.002)
        return super().put(key, body, size)


class ClosesBodies(MemoryStorage):
    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        stored = super().put(key, body, size, if_absent)
        body.close()
        return stored


class MiscountsPuts(MemoryStorage):
    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        super().put(key, body, size, if_absent)
        return 0


class StopsAtAPage(MemoryStorage):
    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[ObjectInfo]:
        return (info for info, _ in zip(super().list(prefix, start_after), range(100), strict=False))


class ListsUnsorted(MemoryStorage):
    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[ObjectInfo]:
        return iter(sorted(super().list(prefix, start_after), key=lambda info: info.key.split("/")))


class MatchesStrings(MemoryStorage):
    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[ObjectInfo]:
        found = (info for info in super().list() if info.key.startswith(prefix.rstrip("/")))
        return (info for info in found if start_after is None or info.key > start_after)


class IncludesStart(MemoryStorage):
    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[ObjectInfo]:
        return (i for i in super().list(prefix) if start_after is None or i.key >= start_after)


class ForgetsNestedFolders(MemoryStorage):
    def list_dirs(self, prefix: str = "") -> Sequence[str]:
        return [each for each in super().list_dirs(prefix) if any(True for _ in self.list_dir(each))]


class ComplainsAboutMissingFolders(MemoryStorage):
    def list_dirs(self, prefix: str = "") -> Sequence[str]:
        if prefix.endswith("missing/"):
            raise ObjectNotFound(prefix)
        return super().list_dirs(prefix)


class MissesAsPermanent(MemoryStorage):
    def stat(self, key: str) -> ObjectInfo:
        try:
            return super().stat(key)
        except ObjectNotFound as error:
            raise PermanentError("404") from error


class FindsFolders(MemoryStorage):
    def exists(self, key: str) -> bool:
        return super().exists(key) or any(each.startswith(key + "/") for each in self._objects)


class DeleteComplains(MemoryStorage):
    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.stat(key)
            super().delete([key])


class DeletesPrefixes(MemoryStorage):
    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            super().delete([each for each in self._objects if each.startswith(key)] or [key])


class DeletesATenth(MemoryStorage):
    def delete(self, keys: Iterable[str]) -> None:
        super().delete(list(keys)[:100])


class IgnoresRanges(MemoryStorage):
    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        return super().open(key, offset)


class ReadsTooMuch(MemoryStorage):
    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        data = read_all(super().open(key, offset, length))

        class Greedy(BytesReader):
            def read(self, size: int = -1, /) -> bytes:
                return super().read(size + 1 if size > 0 else size)

        return Greedy(data)


class SharesOneReader(MemoryStorage):
    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        readers = self.__dict__.setdefault("readers", {})
        reader: BytesReader = readers.setdefault((key, offset, length), super().open(key, offset, length))
        if reader.tell() >= len(self._objects[key][0]):
            reader.seek(0)
        return reader


class EndsEarly(MemoryStorage):
    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        data = read_all(super().open(key, offset, length))
        return IterReader([data[: 4 << 20]])


class ClockIsWrong(MemoryStorage):
    def stat(self, key: str) -> ObjectInfo:
        info = super().stat(key)
        return info._replace(modified=info.modified - 7200)


class FoldsCase(MemoryStorage):
    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        head, _, tail = key.partition("/")
        return super().put(f"{head}/{tail.lower()}" if tail else key, body, size, if_absent)


class CopiesNothing(MemoryStorage):
    def copy(self, source: str, target: str) -> None:
        if not self.exists(source):
            self.put_bytes(target, b"")
        else:
            super().copy(source, target)


class Moves(MemoryStorage):
    def copy(self, source: str, target: str) -> None:
        super().copy(source, target)
        self.delete([source])


class ShowsUnfinished(MemoryStorage):
    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        if if_absent or size is not None or key in self._objects:
            return super().put(key, body, size, if_absent)
        self._objects[key] = (b"", 0.0)
        try:
            return super().put(key, body)
        except BaseException:
            self._objects.pop(key)
            raise


BROKEN = [each for each in list(globals().values()) if isinstance(each, type) and each.__module__ == __name__]
BROKEN = [each for each in BROKEN if issubclass(each, MemoryStorage)]


@pytest.mark.parametrize("broken", BROKEN)
def test_the_suite_finds(broken: type[MemoryStorage]) -> None:
    failed = (outcome.name for outcome in run(broken(), suite=Suite()) if outcome.verdict == "failed")
    assert next(failed, None), f"no case fails on a storage that {broken.__name__}"


def test_the_suite_has_no_prejudice() -> None:
    assert not [outcome for outcome in run(MemoryStorage(), suite=Suite()) if outcome.verdict == "failed"]


def test_there_are_enough_broken_ones() -> None:
    assert len(BROKEN) >= 25
