"""The S3 storage: obstore's calls, and S3's own protocol for versions and object lock."""

from walg_core.errors import (
    AccessDenied,
    ObjectExists,
    ObjectNotFound,
    PermanentError,
    StorageError,
    Throttled,
    TransientError,
    WalgError,
)
from walg_core.observe import metrics
from walg_core.storage.api import Storage
from walg_core.storage.keys import check_key, check_prefix, is_listable
from walg_core.storage.object_store import ObjectStoreStorage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from walg_core.pipeline.reader import Reader
    from walg_core.storage.api import ObjectInfo

    from walg_storage_s3.rest import Rest

_STATUS: "tuple[tuple[type[StorageError], int], ...]" = (
    (ObjectNotFound, 404),
    (ObjectExists, 412),
    (AccessDenied, 403),
    (Throttled, 503),
    (PermanentError, 400),
    (TransientError, 500),
)


class S3Storage(ObjectStoreStorage):
    """`rest` makes the client for what obstore lacks. `versioning` is True, False, or None: ask the bucket.

    `lock` (period in seconds, mode) locks every new object; `lock_headers` begin such an object, `customer` are the
    headers of SSE-C. `delete_batch` is the number of objects deleted by one request.
    """

    def __init__(
        self,
        connect: "Callable[[], Any]",
        root: str,
        *,
        rest: "Callable[[], Rest]",
        versioning: bool | None = None,
        lock: tuple[int, str] | None = None,
        headers: dict[str, str] | None = None,
        customer: dict[str, str] | None = None,
        identity: "Callable[[], str] | None" = None,
        **options: "Any",
    ) -> None:
        super().__init__(connect, root, **options)
        self._make_rest = rest
        self._rest: Rest | None = None
        self._versioning = versioning
        self._lock = lock
        self._headers = headers or {}
        self._customer = customer or {}
        self._identity = identity
        self.capabilities = self.capabilities.replace(versions=versioning is True, retention=lock is not None)

    @property
    def rest(self) -> "Rest":
        """The client of S3's own protocol."""
        if self._rest is None:
            self._rest = self._make_rest()
        return self._rest

    def identity(self) -> str:
        return self._identity() if self._identity else super().identity()

    # Versions.

    def list_versions(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        check_prefix(prefix)
        if self._versioning is None:
            from walg_storage_s3.versions import is_enabled

            self._versioning = is_enabled(self.rest)
        if not self._versioning:
            yield from self.list(prefix)
            return
        from walg_storage_s3.versions import listed

        for version in listed(self.rest, self._root + prefix):
            key = version.key[len(self._root) :]
            if is_listable(key):
                yield version.info.replace(key=key)

    def delete_versions(self, objects: "Iterable[ObjectInfo]") -> None:
        from walg_storage_s3.versions import delete

        wanted = list(objects)
        if not any(info.version for info in wanted):
            self.delete(info.key for info in wanted)
            return
        pairs = [(self._root + check_key(info.key), info.version) for info in wanted]
        failure: StorageError | None = None
        for at in range(0, len(pairs), 1000):
            try:
                delete(self.rest, pairs[at : at + 1000])
            except AccessDenied as error:
                # What is not locked goes, what is locked is told.
                failure = failure or error
        if failure:
            raise failure

    # Counting, and the lock.

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        if self._lock is None:
            stored = super().put(key, body, size, if_absent)
            self._answered(200, 1 if stored < self._part_size else 2 + -(-stored // self._part_size))
        else:
            from walg_storage_s3.locking import LockedUpload, lock_headers

            headers = {**self._headers, **lock_headers(*self._lock)}
            path = self._root + check_key(key)
            upload = LockedUpload(self.rest, path, headers, self._customer, self._part_size, self._concurrency)
            try:
                stored = upload.put(body, size, if_absent)
            except ObjectExists:
                raise ObjectExists(key) from None
        metrics.s3_bytes_written.add(stored)
        return stored

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        reader = super().open(key, offset, length)
        self._answered(206 if offset or length is not None else 200)
        return _Counted(reader)

    def copy(self, source: str, target: str) -> None:
        try:
            super().copy(source, target)
        except AccessDenied as error:
            # Swift's S3 side refuses the signature of copies, and of copies only: download and upload instead.
            if "SignatureDoesNotMatch" not in str(error.__cause__) or not self.exists(source):
                raise
            Storage.copy(self, source, target)

    def stat(self, key: str) -> "ObjectInfo":
        info = super().stat(key)
        self._answered(200)
        return info

    def _one_level(self, prefix: str) -> "Any":
        found = super()._one_level(prefix)
        self._answered(200)
        return found

    def _delete(self, obstore: "Any", paths: "Sequence[str]") -> None:
        super()._delete(obstore, paths)
        self._answered(200)

    @staticmethod
    def _answered(status: int, times: int = 1) -> None:
        """obstore tells of outcomes, not of requests: what it tried again by itself is not counted."""
        for _ in range(times):
            metrics.s3_response(status)

    def _translate(self, error: Exception, key: str, doing: str) -> WalgError:
        made = super()._translate(error, key, doing)
        if not isinstance(error, WalgError):
            self._answered(next((status for kind, status in _STATUS if isinstance(made, kind)), 500))
            text = str(error).lower()
            if "certificate" in text or "unknownissuer" in text:
                made.hint = "S3_CA_CERT_FILE names the certificates to trust"
        return made


class _Counted:
    """Counts what is read."""

    def __init__(self, reader: "Reader") -> None:
        self._reader = reader
        self.etag: str | None = getattr(reader, "etag", None)

    def read(self, size: int = -1, /) -> bytes:
        piece = self._reader.read(size)
        metrics.s3_bytes_read.add(len(piece))
        return piece

    def close(self) -> None:
        self._reader.close()
