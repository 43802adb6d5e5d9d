"""OpenStack Swift (spec/storages.md 4.5): plain objects as the original writes them, segments only where asked for."""

import hashlib

from walg_core.errors import (
    ConfigError,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    PermanentError,
    StorageError,
    TransientError,
)
from walg_core.pipeline.reader import Reader, read_exactly
from walg_core.storage.api import Capabilities, ObjectInfo, Storage
from walg_core.storage.keys import check_key, check_prefix, is_listable
from walg_core.storage.object_store import bucket_and_path

from walg_storage_swift.body import Download, Source
from walg_storage_swift.segments import Segments
from walg_storage_swift.session import LONG, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from walg_core.settings.config import Config

    Paths = list[str]

PAGE = 1000
WHOLE = 8 << 20
"""Bodies shorter than this are read first, and sent with their length and MD5; they survive an expired token."""
LARGEST = 5 << 30
"""What a server takes as one object unless its operator decided otherwise."""
SMALLEST_SEGMENT = 1 << 20
DELETE_BATCH = 1000
THREADS = 8


def create(config: "Config", prefix: str) -> "SwiftStorage":
    """The storage of `WALG_SWIFT_PREFIX`. Raises ConfigError; touches no network."""
    import os

    from walg_storage_swift.identity import Identity

    container, path = bucket_and_path(prefix, "WALG_SWIFT_PREFIX")
    segment: int = config.get("SWIFT_SEGMENT_SIZE")
    if segment and not SMALLEST_SEGMENT <= segment <= LARGEST:
        raise ConfigError(f"SWIFT_SEGMENT_SIZE is {segment}: expected 0, or {SMALLEST_SEGMENT} to {LARGEST} bytes")
    certificates: str | None = config.get("OS_CACERT")
    if certificates and not os.path.isfile(certificates):
        raise ConfigError(f"OS_CACERT: there is no file {certificates}")
    session = Session(
        Identity(config),
        connect_timeout=config.get("GOSWIFT_CONNECT_TIMEOUT"),
        timeout=config.get("GOSWIFT_TIMEOUT"),
        certificates=certificates,
        agent=config.get("GOSWIFT_USER_AGENT"),
    )
    names = ("OS_AUTH_URL", "OS_REGION_NAME", "OS_TENANT_NAME", "OS_USERNAME")
    environment = {name: str(config.get(name)) for name in names if config.get(name)}
    return SwiftStorage(session, container, path, segment_size=segment, environment=environment)


class SwiftStorage(Storage):
    """A container and a path in it. `segment_size` 0: every object in one request, as the original does it.

    `environment` is what `identity` shows of the settings.
    """

    def __init__(
        self,
        session: Session,
        container: str,
        root: str,
        *,
        segment_size: int = 0,
        environment: "dict[str, str] | None" = None,
    ) -> None:
        self._session = session
        self._container = container
        self._root = root + "/" if root else ""
        self._segment_size = segment_size
        self._segments = Segments(session, f"{container}_segments")
        self._environment = environment or {}
        self._container_seen = False
        self.description = f"swift://{container}/{root}".rstrip("/")
        self.capabilities = Capabilities(
            server_side_copy=True,
            consistent_listing=False,
            max_object_size=1000 * segment_size if segment_size else LARGEST,
            max_key_bytes=1024 - len(self._root.encode()),
        )

    def identity(self) -> str:
        from walg_core.storage.identity import go_json

        return "swift" + go_json(
            {"Container": self._container, "RootPath": self._root.rstrip("/"), "EnvVariables": self._environment}
        )

    # Reading.

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        check_prefix(prefix)
        for row in self._rows(self._root + prefix, "", self._root + start_after if start_after else ""):
            info = self._info(row)
            if info and (start_after is None or info.key > start_after):
                yield info

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        check_prefix(prefix)
        for row in self._rows(self._root + prefix, "/"):
            if "name" in row and (info := self._info(row)):
                yield info

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        check_prefix(prefix)
        rows = self._rows(self._root + prefix, "/")
        return [row["subdir"][len(self._root) :] for row in rows if "subdir" in row]

    def _rows(self, prefix: str, delimiter: str, marker: str = "") -> "Iterator[dict[str, Any]]":
        import json

        while True:
            query = {"format": "json", "limit": str(PAGE), "prefix": prefix, "marker": marker}
            if delimiter:
                query["delimiter"] = delimiter
            try:
                answer = self._session.request("GET", self._container, query, doing=f"list {self.description}")
            except ObjectNotFound:
                raise self._no_container() from None
            self._container_seen = True
            rows = json.loads(answer.data or b"[]")
            yield from rows
            if len(rows) < PAGE:
                return
            marker = rows[-1].get("name") or rows[-1]["subdir"]

    def _info(self, row: "dict[str, Any]") -> ObjectInfo | None:
        from datetime import UTC, datetime

        key = row["name"][len(self._root) :]
        if not is_listable(key):
            return None
        if not row["bytes"]:
            # An empty object, or a manifest whose parts the listing does not count.
            try:
                return self.stat(key)
            except ObjectNotFound:
                return None
        modified = datetime.fromisoformat(row["last_modified"]).replace(tzinfo=UTC).timestamp()
        return ObjectInfo(key, row["bytes"], modified, etag=row.get("slo_etag", row.get("hash", "")).strip('"') or None)

    def stat(self, key: str) -> ObjectInfo:
        headers = self._head(key)
        return ObjectInfo(key, int(headers["Content-Length"]), _moment(headers), etag=_etag(headers))

    def _head(self, key: str) -> "Any":
        try:
            return self._session.request("HEAD", self._path(key), key=key, doing=f"look at '{key}'").headers
        except ObjectNotFound:
            raise self._absent(key) from None

    def _path(self, key: str) -> str:
        return f"{self._container}/{self._root}{check_key(key)}"

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        path = self._path(key)
        ranged = bool(offset or length is not None)
        if length == 0:
            self.stat(key)
            return Download(None, key, 0, "")
        last = "" if length is None else str(offset + length - 1)
        headers = {"Range": f"bytes={offset}-{last}"} if ranged else {}
        try:
            answer = self._session.request(
                "GET", path, None, headers, key=key, doing=f"read '{key}'", stream=True, accept=(416,)
            )
        except ObjectNotFound:
            raise self._absent(key) from None
        if answer.status == 416:
            answer.drain_conn()
            if self.stat(key).size <= offset:
                return Download(None, key, 0, "")
            raise PermanentError(f"cannot read '{key}' from byte {offset}: the server refuses the range", key=key)
        if ranged and answer.status != 206 and int(answer.headers.get("Content-Length") or 0):
            answer.close()
            raise PermanentError(f"cannot read '{key}' from byte {offset}: the server ignores ranges", key=key)
        plain = not ranged and not _is_large(answer.headers)
        return Download(answer, key, int(answer.headers["Content-Length"]), _etag(answer.headers) or "", check=plain)

    # Writing.

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        path = self._path(key)
        first = read_exactly(body, WHOLE)
        condition = {"If-None-Match": "*"} if if_absent else {}
        if len(first) < WHOLE:
            return self._put_whole(path, key, first, size, condition)
        if if_absent and self.exists(key):
            raise ObjectExists(key)
        source = Source(first, body, size)
        del first
        self._session.assure()
        limit = self._segment_size or LARGEST
        if (size is None and self._segment_size) or (size or 0) > limit:
            parts = self._segments.store(self._root + key, source, limit)
            self._replacing(key, lambda: self._segments.join(path, key, parts, condition))
        else:
            self._replacing(key, lambda: self._stream(path, key, source, condition))
        return source.count

    def _put_whole(self, path: str, key: str, body: bytes, size: int | None, condition: "dict[str, str]") -> int:
        if size is not None and size != len(body):
            raise IntegrityError(f"put '{key}': the body has {len(body)} bytes, {size} were announced")
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        headers = {"ETag": digest, **condition}
        self._replacing(key, lambda: self._put(path, key, headers, body))
        return len(body)

    def _put(self, path: str, key: str, headers: "dict[str, str]", body: "bytes | Iterator[bytes]") -> "Any":
        try:
            answer = self._session.request("PUT", path, None, headers, body, key=key, doing=f"store '{key}'")
        except ObjectNotFound:
            raise self._no_container() from None
        self._container_seen = True
        return answer

    def _stream(self, path: str, key: str, source: Source, condition: "dict[str, str]") -> None:
        try:
            answer = self._put(path, key, {"Transfer-Encoding": "chunked", **condition}, iter(source))
        except StorageError:
            if source.error is not None:
                raise source.error from None
            raise
        stored = _etag(answer.headers)
        if stored and stored != source.digest():
            self.delete([key])
            raise TransientError(f"put '{key}': the server stored other bytes than were sent", key=key)

    def _replacing(self, key: str, write: "Any") -> None:
        """Write the object, then remove the segments of the one that it replaced."""
        old = self._segments.of(self._path(key)) if self._segment_size and self._segments.exist() else []
        write()
        if old:
            self._segments.remove(old)

    def delete(self, keys: "Iterable[str]") -> None:
        from itertools import islice

        rest = iter(keys)
        while batch := [self._path(key) for key in islice(rest, DELETE_BATCH)]:
            if self._segments.exist():
                batch = self._delete_large(batch)
            if len(batch) <= 2 or not self._delete_bulk(batch):
                self._parallel(self._delete_one, batch)

    def _delete_large(self, paths: "Paths") -> "Paths":
        """Delete those that have segments, with them; the others."""
        owners = self._segments.owners([path.partition("/")[2] for path in paths])
        asked = [path for path in paths if path.partition("/")[2] in owners]
        large = dict(zip(asked, self._parallel(self._segments.of_large, asked), strict=True))
        for path, segments in large.items():
            if segments is not None:
                self._delete_one(path)
                self._segments.remove(segments)
        return [path for path in paths if large.get(path) is None]

    def _delete_one(self, path: str) -> None:
        answer = self._session.request(
            "DELETE", path, key=self._key(path), doing=f"delete '{self._key(path)}'", accept=(404,)
        )
        if answer.status == 404:
            self._confirm_container()

    def _key(self, path: str) -> str:
        return path[len(self._container) + 1 + len(self._root) :]

    def _delete_bulk(self, paths: "Sequence[str]") -> bool:
        """False when the server cannot."""
        import json
        from urllib.parse import quote

        body = "".join(f"/{quote(path)}\n" for path in paths).encode()
        headers = {"Content-Type": "text/plain", "Accept": "application/json"}
        answer = self._session.request(
            "POST", "", {"bulk-delete": "1"}, headers, body, doing="delete objects",
            timeout=LONG, accept=(400, 403, 404, 405, 412, 501),
        )  # fmt: skip
        try:
            told = json.loads(answer.data) if answer.status == 200 else {}
        except ValueError:
            return False
        if "Number Deleted" not in told:
            return False
        if told.get("Number Not Found"):
            self._confirm_container()
        failed = told.get("Errors") or []
        if failed:
            # Each by itself: then the error is the right one, or there is none any more.
            from urllib.parse import unquote

            self._parallel(self._delete_one, [unquote(row[0]).lstrip("/") for row in failed])
        return not failed or str(told.get("Response Status", "")).startswith(("200", "400"))

    def _parallel(self, work: "Any", items: "Sequence[str]") -> "Sequence[Any]":
        if len(items) < 2:
            return [work(item) for item in items]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(THREADS, len(items))) as pool:
            return list(pool.map(work, items))

    def copy(self, source: str, target: str) -> None:
        from urllib.parse import quote

        there, path = self._path(source), self._path(target)
        headers = self._head(source)
        if _is_large(headers):
            # A copy of the manifest would share its segments; the copy is an object of its own.
            return super().copy(source, target)
        sent = {"X-Copy-From": "/" + quote(there)}
        try:
            self._session.request("PUT", path, None, sent, b"", key=source, doing=f"copy '{source}'", timeout=LONG)
        except ObjectNotFound:
            raise self._absent(source) from None
        return None

    def close(self) -> None:
        self._session.close()

    # What is missing.

    def _absent(self, key: str) -> StorageError:
        """An object that is missing; or its container, which Swift answers in the same way."""
        self._confirm_container()
        return ObjectNotFound(key, where=self.description)

    def _confirm_container(self) -> None:
        if self._container_seen:
            return
        answer = self._session.request("HEAD", self._container, doing=f"look at {self.description}", accept=(404,))
        if answer.status == 404:
            raise self._no_container()
        self._container_seen = True

    def _no_container(self) -> PermanentError:
        return PermanentError(
            f"the container '{self._container}' does not exist in this account",
            hint="check WALG_SWIFT_PREFIX (swift://container/path) and OS_PROJECT_NAME, or create the container",
        )


def _is_large(headers: "Any") -> bool:
    return "X-Static-Large-Object" in headers or "X-Object-Manifest" in headers


def _etag(headers: "Any") -> str | None:
    return (headers.get("Etag") or "").strip('"') or None


def _moment(headers: "Any") -> float:
    """Unix time; the exact stamp where the server shows it, else the whole seconds of HTTP."""
    stamp: str | None = headers.get("X-Timestamp")
    if stamp:
        return float(stamp)
    from email.utils import parsedate_to_datetime

    return parsedate_to_datetime(headers["Last-Modified"]).timestamp()
