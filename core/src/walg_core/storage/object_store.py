"""Cloud object stores through `obstore` (Rust's object_store): what the S3, GCS and Azure storages have in common.

It starts in 20 ms where the SDKs need 600, and moves the bytes outside of the interpreter lock. Needs the package
`obstore`, which those storages' distributions depend on. This module imports it only when a storage is used.
"""

import _thread

from walg_core.errors import (
    AccessDenied,
    ConfigError,
    IntegrityError,
    NoSpace,
    ObjectExists,
    ObjectNotFound,
    PermanentError,
    Throttled,
    TransientError,
    WalgError,
)
from walg_core.pipeline.reader import Reader, read_exactly
from walg_core.storage.api import Capabilities, ObjectInfo, Storage
from walg_core.storage.keys import check_key, check_prefix, is_listable, join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

DELETE_BATCH = 1000
# Words of the servers' answers, in lower case, that say what kind of failure it is.
_DENIED = ("accessdenied", "access denied", "invalidaccesskeyid", "signaturedoesnotmatch", "403 forbidden",
           "401 unauthorized", "authenticationfailed", "expiredtoken", "invalidtoken", "authorizationfailure",
           "status: 403", "status: 401")  # fmt: skip
_THROTTLED = ("slowdown", "slow down", "429 too many", "503 service unavailable", "serverbusy", "throttl",
              "status: 429", "status: 503")  # fmt: skip
_ABSENT_CONTAINER = ("nosuchbucket", "containernotfound", "bucket does not exist", "specified bucket")
_FULL = ("quotaexceeded", "insufficientstorage", "507 insufficient", "storage quota")
_PERMANENT = ("400 bad request", "405 method", "411 length", "invalidargument", "entitytoolarge", "status: 400",
              "invalidrequest", "builder error", "certificate", "illegal location")  # fmt: skip


class ObjectStoreStorage(Storage):
    """A bucket (or container) and a path in it.

    `connect` makes the obstore object when it is first needed. Uploads of `part_size` bytes and more go in parts of
    that size, `concurrency` of them at a time; a failure aborts them. `attributes` are sent with every upload.
    `container` is how messages call the bucket, `settings` the settings to look at when access fails.
    """

    def __init__(
        self,
        connect: "Callable[[], Any]",
        root: str,
        *,
        description: str,
        container: str,
        settings: str,
        part_size: int,
        concurrency: int,
        attributes: "dict[str, str] | None" = None,
        server_side_copy: bool = True,
    ) -> None:
        self._connect = connect
        self._root = root + "/" if root else ""
        self._store: Any = None
        self._making = _thread.allocate_lock()
        self._attributes = attributes or None
        self._part_size = part_size
        self._concurrency = concurrency
        self._container = container
        self._settings = settings
        self.description = description
        self.capabilities = Capabilities(
            put_if_absent=True, server_side_copy=server_side_copy, max_object_size=part_size * 10_000
        )

    @property
    def store(self) -> "Any":
        """The obstore object."""
        with self._making:
            if self._store is None:
                self._store = self._open_store()
            return self._store

    def _open_store(self) -> "Any":
        try:
            return self._connect()
        except WalgError:
            raise
        except Exception as error:  # obstore's builders have many kinds of errors, all about the settings
            raise ConfigError(f"{self.description}: {_first_line(error)}", hint=f"check {self._settings}") from error

    # Reading.

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        check_prefix(prefix)
        import obstore

        offset = self._root + start_after if start_after else None
        try:
            for batch in obstore.list(self.store, self._root + prefix, offset=offset, chunk_size=1000):
                for meta in batch:
                    info = self._info(meta)
                    if info and (start_after is None or info.key > start_after):
                        yield info
        except Exception as error:
            raise self._translate(error, prefix, "list") from error

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        found = self._one_level(prefix)["objects"]
        yield from sorted(filter(None, map(self._info, found)), key=lambda info: info.key)

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        found = self._one_level(prefix)["common_prefixes"]
        return sorted(path[len(self._root) :].rstrip("/") + "/" for path in found)

    def _one_level(self, prefix: str) -> "Any":
        check_prefix(prefix)
        import obstore

        try:
            return obstore.list_with_delimiter(self.store, self._root + prefix)
        except Exception as error:
            raise self._translate(error, prefix, "list") from error

    def _info(self, meta: "Any") -> ObjectInfo | None:
        key = meta["path"][len(self._root) :]
        if not is_listable(key) or (not meta["size"] and self._marks_folder(key)):
            return None
        modified = meta["last_modified"]
        return ObjectInfo(key, meta["size"], modified.timestamp(), meta.get("version"), meta.get("e_tag"))

    def _marks_folder(self, key: str) -> bool:
        """Whether an empty object of the listing is really named `key/`: obstore cuts the slash off."""
        return not self.exists(key)

    def stat(self, key: str) -> ObjectInfo:
        check_key(key)
        import obstore

        try:
            meta = obstore.head(self.store, self._root + key)
        except Exception as error:
            raise self._translate(error, key, "look at") from error
        return ObjectInfo(key, meta["size"], meta["last_modified"].timestamp(), meta.get("version"), meta.get("e_tag"))

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        check_key(key)
        if length == 0:
            self.stat(key)
            return _Body(self, key, iter(()), 0)
        import obstore

        options: dict[str, Any] = {}
        if offset or length is not None:
            options["range"] = {"offset": offset} if length is None else (offset, offset + length)
        try:
            result = obstore.get(self.store, self._root + key, options=options or None)  # type: ignore[arg-type]
            start, end = result.range
            return _Body(self, key, iter(result.stream(min_chunk_size=1 << 20)), end - start)
        except Exception as error:
            translated = self._translate(error, key, "read")
            if options and _is_past_the_end(error) and self.stat(key).size <= offset:
                return _Body(self, key, iter(()), 0)
            raise translated from error

    # Writing.

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        check_key(key)
        import obstore

        pieces, held = _collect(body, self._part_size)
        options: dict[str, Any] = {"attributes": self._attributes} if self._attributes else {}
        if held < self._part_size:
            if size is not None and size != held:
                raise IntegrityError(f"{key} was announced with {size} bytes but has {held}")
            options["mode"] = "create" if if_absent else "overwrite"
            try:
                # As pieces, never joined: that would take the object's size in memory once more.
                obstore.put(self.store, self._root + key, iter(pieces) if held else b"", use_multipart=False, **options)
            except Exception as error:
                raise self._translate(error, key, "store") from error
            return held
        first = b"".join(pieces)
        del pieces
        if if_absent and self.exists(key):
            raise ObjectExists(key)
        source = _Parts(first, body, self._part_size, size)
        try:
            obstore.put(
                self.store,
                self._root + key,
                source,
                use_multipart=True,
                chunk_size=self._part_size,
                max_concurrency=self._concurrency,
                **options,
            )
        except BaseException as error:
            if source.error is not None:
                raise source.error from None
            if not isinstance(error, Exception):
                raise
            raise self._translate(error, key, "store") from error
        finally:
            source.stop()
        return source.count

    def delete(self, keys: "Iterable[str]") -> None:
        import obstore

        batch: Any = []
        for key in keys:
            batch.append(self._root + check_key(key))
            if len(batch) == DELETE_BATCH:
                self._delete(obstore, batch)
                batch = []
        if batch:
            self._delete(obstore, batch)

    def _delete(self, obstore: "Any", paths: "Sequence[str]") -> None:
        try:
            obstore.delete(self.store, paths if len(paths) > 1 else paths[0])
        except Exception as error:
            if not _is_absent(error):
                raise self._translate(error, paths[0], "delete") from error
            # Some stores refuse a batch for one missing object; the others are deleted one by one.
            for path in paths if len(paths) > 1 else ():
                self._delete(obstore, [path])

    def copy(self, source: str, target: str) -> None:
        check_key(source)
        check_key(target)
        import obstore

        try:
            obstore.copy(self.store, self._root + source, self._root + target)
        except Exception as error:
            raise self._translate(error, source, "copy") from error

    def close(self) -> None:
        self._store = None

    # Errors.

    def _translate(self, error: Exception, key: str, doing: str) -> WalgError:
        """The class of our tree that says what to do about it; the message names the settings, never a secret."""
        if isinstance(error, WalgError):
            return error
        text = str(error).lower()
        message = f"cannot {doing} '{key}' in {self.description}: {_first_line(error)}"
        hint = f"check {self._settings}"
        if any(word in text for word in _ABSENT_CONTAINER):
            return PermanentError(f"{self._container} does not exist or is not to be seen", key=key, hint=hint)
        if _is_absent(error):
            return ObjectNotFound(key, where=self.description)
        name = type(error).__name__
        if name in ("AlreadyExistsError", "PreconditionError") or "412 precondition" in text:
            return ObjectExists(key)
        if name in ("PermissionDeniedError", "UnauthenticatedError") or any(word in text for word in _DENIED):
            return AccessDenied(f"{self.description} denies access: {_first_line(error)}", key=key, hint=hint)
        if any(word in text for word in _FULL):
            return NoSpace(message, key=key)
        if any(word in text for word in _THROTTLED):
            return Throttled(message, key=key)
        if any(word in text for word in _PERMANENT) or name in ("InvalidPathError", "NotSupportedError"):
            return PermanentError(message, key=key, hint=hint)
        return TransientError(message, key=key, hint=hint)


def _collect(body: Reader, size: int) -> "tuple[Sequence[bytes], int]":
    """The body's pieces until they have `size` bytes or it ends, and how many bytes they have."""
    pieces, held = [], 0
    while held < size and (piece := body.read(size - held)):
        pieces.append(piece)
        held += len(piece)
    return pieces, held


class _Parts:
    """The body as an iterator of parts, read in a thread of its own, one part ahead.

    The source may be a download through obstore itself, which must not run inside an upload's event loop. What reading
    raised is kept in `error`: obstore would only wrap it in text.
    """

    def __init__(self, first: bytes, rest: Reader, size: int, expected: int | None) -> None:
        import queue
        import threading

        self._rest = rest
        self._size = size
        self._parts: queue.Queue[bytes | None] = queue.Queue(1)
        self._stopped = False
        self._thread = threading.Thread(target=self._read, args=(first,), name="upload-source", daemon=True)
        self.count = 0
        self.expected = expected
        self.error: BaseException | None = None
        self._thread.start()

    def _read(self, part: bytes) -> None:
        try:
            while part and not self._stopped:
                self._parts.put(part)
                part = read_exactly(self._rest, self._size)
        except BaseException as error:  # raised again by whoever takes the parts
            self.error = error
        self._parts.put(None)

    def __iter__(self) -> "Iterator[bytes]":
        return self

    def __next__(self) -> bytes:
        part = self._parts.get()
        if part is None:
            self._parts.put(None)
            if self.error is None and self.expected is not None and self.count != self.expected:
                self.error = IntegrityError(f"{self.count} bytes came where {self.expected} were announced")
            if self.error is not None:
                raise self.error
            raise StopIteration
        self.count += len(part)
        return part

    def stop(self) -> None:
        """Wait until nothing reads the body any more."""
        self._stopped = True
        while self._thread.is_alive():
            if not self._parts.empty():
                self._parts.get()
            self._thread.join(0.01)


class _Body:
    """Reads a download; ends with TransientError when it is shorter than announced."""

    def __init__(self, storage: ObjectStoreStorage, key: str, pieces: "Iterator[Any]", size: int) -> None:
        self._storage = storage
        self._key = key
        self._pieces: Iterator[Any] | None = pieces
        self._left = size
        self._rest = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        if size == 0:
            return b""
        while not self._rest:
            if not self._left or self._pieces is None:
                return b""
            try:
                piece = next(self._pieces, None)
            except Exception as error:
                raise self._storage._translate(error, self._key, "read") from error
            if piece is None:
                raise TransientError(
                    f"'{self._key}' ended {self._left} bytes early in {self._storage.description}", key=self._key
                )
            self._rest = memoryview(piece).cast("B")
            self._left -= len(self._rest)
        out = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(out) :]
        return bytes(out)

    def close(self) -> None:
        self._pieces = None
        self._rest = memoryview(b"")


def _is_absent(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or type(error).__name__ == "NotFoundError"


def _is_past_the_end(error: Exception) -> bool:
    text = str(error).lower()
    return "416" in text or "range" in text


def _first_line(error: Exception) -> str:
    """The library's message without its long tail of debugging detail."""
    text = str(error).split("\n\nDebug source:", 1)[0].replace("\n", " ").strip()
    return text[:400]


def bucket_and_path(prefix: str, setting: str) -> tuple[str, str]:
    """`scheme://bucket/path` → bucket and path without slashes at its ends (spec/storages.md 1, GetPathFromPrefix)."""
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(prefix)
    if not parts.scheme or not parts.netloc:
        raise ConfigError(
            f"{setting} is '{prefix}': missing url scheme={parts.scheme} and/or host={parts.netloc}",
            hint="expected something like scheme://bucket/path",
        )
    # Repeated slashes inside a path would be written in one form and listed in another.
    path = join(*unquote(parts.path).split("/"))
    return parts.netloc.rpartition("@")[2], path
