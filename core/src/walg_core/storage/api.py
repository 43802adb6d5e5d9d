"""The storage contract: flat keys, synchronous calls, all-or-nothing writes.

A key is relative to the storage's root and uses `/`. A "folder" is nothing but a common prefix that ends in `/`
(the empty prefix is the root). Implementations subclass `Storage`, and pass `walg_core.testing.StorageConformance`.
All methods may be called from several threads at once.
"""

from walg_core.pipeline.reader import Reader
from walg_core.record import Record
from walg_core.storage.keys import check_key, check_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Capabilities(Record):
    """What a storage can promise, as data. Limits are in bytes; None means unlimited."""

    __slots__ = (
        "atomic_put",
        "consistent_listing",
        "keys_may_nest",
        "max_key_bytes",
        "max_object_size",
        "put_if_absent",
        "ranged_read",
        "retention",
        "server_side_copy",
        "versions",
    )

    def __init__(
        self,
        atomic_put: bool = True,
        put_if_absent: bool = False,
        ranged_read: bool = True,
        server_side_copy: bool = False,
        consistent_listing: bool = True,
        retention: bool = False,
        versions: bool = False,
        max_object_size: int | None = None,
        max_key_bytes: int = 1024,
        keys_may_nest: bool = True,
    ) -> None:
        self.atomic_put = atomic_put
        self.put_if_absent = put_if_absent
        self.ranged_read = ranged_read
        self.server_side_copy = server_side_copy
        self.consistent_listing = consistent_listing
        self.retention = retention
        self.versions = versions
        self.max_object_size = max_object_size
        self.max_key_bytes = max_key_bytes
        self.keys_may_nest = keys_may_nest


class ObjectInfo(Record):
    """What a listing or `stat` tells. `size` is in bytes, `modified` a Unix time in seconds (UTC).

    `latest` and `deleted` (a delete marker) mean something in `list_versions` only.
    `nanoseconds` is the same time as an integer, from storages that are more exact than a float can be.
    """

    __slots__ = ("deleted", "etag", "key", "latest", "modified", "nanoseconds", "size", "version")

    def __init__(
        self,
        key: str,
        size: int,
        modified: float,
        version: str | None = None,
        etag: str | None = None,
        latest: bool = True,
        nanoseconds: int | None = None,
        deleted: bool = False,
    ) -> None:
        self.key = key
        self.size = size
        self.modified = modified
        self.version = version
        self.etag = etag
        self.latest = latest
        self.nanoseconds = nanoseconds
        self.deleted = deleted

    @property
    def modified_ns(self) -> int:
        """The modification time in nanoseconds since the epoch, as exact as the storage has it."""
        return self.nanoseconds if self.nanoseconds is not None else round(self.modified * 1e6) * 1000


class Storage:
    """Base class of every storage and every layer.

    `name` is how people call it in messages and listings: `default` for the primary, else the failover's name.
    `description` locates it without secrets (`file:///backups`, `s3://bucket/path`).
    `remote` is False where a stalled call could not be told from a slow one anyway (a local file system).
    `file_system`: the original shows its times in the local zone and its folders with the slash of their path.
    `capabilities.keys_may_nest` is False where `x` and `x/y` cannot both exist (file systems).
    """

    name: str = "default"
    description: str = ""
    remote: bool = True
    file_system: bool = False
    capabilities: Capabilities = Capabilities()

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        """All objects below `prefix` (recursive), sorted by key in byte order, streamed.

        `prefix` is "" or ends in `/`. With `start_after` only keys greater than it. A prefix without objects
        yields nothing. Temporary names are never shown; a key that would not pass `check_key` is skipped with a
        warning. Raises StorageError.
        """
        raise NotImplementedError

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        """Immediate sub-prefixes of `prefix`, sorted, each whole (`prefix` included) and ending in `/`."""
        raise NotImplementedError

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        """Objects directly below `prefix`, not those in sub-prefixes, sorted by key.

        The default filters `list`; override it where the backend can list with a delimiter.
        """
        depth = len(prefix)
        for info in self.list(prefix):
            if "/" not in info.key[depth:]:
                yield info

    def list_versions(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        """Like `list`, with every version where the storage keeps versions; else the same as `list`."""
        return self.list(prefix)

    def stat(self, key: str) -> ObjectInfo:
        """Raises ObjectNotFound; a failure to find out is another StorageError."""
        raise NotImplementedError

    def exists(self, key: str) -> bool:
        """Whether `stat` finds the object; other errors propagate."""
        from walg_core.errors import ObjectNotFound

        try:
            self.stat(key)
        except ObjectNotFound:
            return False
        return True

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        """A reader of `length` bytes from `offset` (both in bytes; None: to the end). The caller closes it.

        A range past the end is cut; an offset at or past the end gives an empty reader. The reader may carry `etag`,
        which lets a broken read be resumed only in the same version of the object.
        Raises ObjectNotFound here or on the first read. A body shorter than the storage announced raises
        TransientError on read, never a silent end.
        """
        raise NotImplementedError

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        """Store all that `body` gives; returns the bytes stored. All or nothing.

        On return the object is there, whole and durable. When reading `body` or storing raises, the object does
        not appear (an older one of that name stays as it was) and nothing is left behind. `size`, when given, is
        the exact length: another length raises IntegrityError. With `if_absent` an existing object raises
        ObjectExists. `body` is not closed.
        """
        raise NotImplementedError

    def delete(self, keys: "Iterable[str]") -> None:
        """Delete objects, batched where the backend can. Missing keys are fine. Durable on return."""
        raise NotImplementedError

    def delete_versions(self, objects: "Iterable[ObjectInfo]") -> None:
        """Delete exactly these versions (from `list_versions`); without versions the same as `delete`."""
        self.delete(info.key for info in objects)

    def copy(self, source: str, target: str) -> None:
        """Copy within the storage, on the server's side where it can; raises ObjectNotFound."""
        reader = self.open(source)
        try:
            self.put(target, reader)
        finally:
            reader.close()

    def close(self) -> None:
        """Release connections. Idempotent; the storage is not used afterwards."""

    def identity(self) -> str:
        """The kind and its non-secret configuration; its MD5 is the "config hash" of spec/storages.md 2.

        The built-in kinds spell it as Go does (`fs{"RootPath":"/backups"}`), so that both programs share their
        cache of failover statuses. The description serves otherwise.
        """
        return self.description

    def get(self, key: str, limit: int = 1 << 30) -> bytes:
        """The whole object in memory, for small ones. Raises IntegrityError when it is larger than `limit` bytes."""
        from walg_core.errors import IntegrityError
        from walg_core.pipeline.reader import read_all

        reader = self.open(key)
        try:
            data = read_all(reader, limit + 1)
        finally:
            reader.close()
        if len(data) > limit:
            raise IntegrityError(f"object '{key}' is larger than the {limit} bytes expected of it")
        return data

    def put_bytes(self, key: str, data: bytes, if_absent: bool = False) -> None:
        """`put` of bytes that are in memory (replayable, so the retry layer can try again)."""
        from walg_core.pipeline.reader import BytesReader

        self.put(key, BytesReader(data), len(data), if_absent)

    def folder(self, prefix: str) -> "Storage":
        """A view whose keys are relative to `prefix` (given with or without slashes at its ends)."""
        from walg_core.storage.layers.prefix import PrefixStorage

        prefix = prefix.strip("/")
        return PrefixStorage(self, prefix + "/") if prefix else self


__all__ = ["Capabilities", "ObjectInfo", "Storage", "check_key", "check_prefix"]
