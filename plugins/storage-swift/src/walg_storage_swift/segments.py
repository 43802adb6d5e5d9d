"""Static large objects: segments in the container `NAME_segments`, and the manifest that makes them one object.

The form of the manifest is that of the Swift API reference, "Static large objects". The original writes none; it
reads and lists them, since the server puts them together.
"""

import os
import time

from walg_core.errors import ObjectExists, ObjectNotFound, PermanentError, StorageError, TransientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from walg_storage_swift.body import Source
    from walg_storage_swift.session import Session

MOST = 1000
"""Segments in a manifest, as servers are configured."""
JOIN_TRIES = 4
STEM = 900
"""Bytes of the object's name in those of its segments."""
FEW = 8


class Segments:
    """The segments of one container's large objects."""

    def __init__(self, session: "Session", container: str) -> None:
        self._session = session
        self.container = container
        self._exists: bool | None = None

    def exist(self) -> bool:
        """Whether there is a container of segments; asked once."""
        if self._exists is None:
            answer = self._session.request("HEAD", self.container, doing="look for segments", accept=(404, 403))
            self._exists = bool(answer.status < 300)
        return self._exists

    def store(self, name: str, source: "Source", size: int) -> "list[dict[str, Any]]":
        """Store the body in segments of `size` bytes; the rows of its manifest. A failure removes what was stored."""
        self._session.request("PUT", self.container, body=b"", doing=f"make the container {self.container}")
        self._exists = True
        # Long names leave room for what distinguishes the segments.
        stem = f"{name.encode()[:STEM].decode(errors='ignore')}/{os.urandom(8).hex()}"
        rows: list[dict[str, Any]] = []
        paths: list[str] = []
        try:
            while source.more():
                if len(rows) == MOST:
                    raise PermanentError(
                        f"'{name}' needs more than {MOST} segments", hint="set a larger SWIFT_SEGMENT_SIZE"
                    )
                paths.append(f"{self.container}/{stem}/{len(rows):08d}")
                begin = source.count
                answer = self._session.request(
                    "PUT", paths[-1], None, {"Transfer-Encoding": "chunked"}, source.take(size), key=name,
                    doing=f"store '{name}'",
                )  # fmt: skip
                row = {"path": "/" + paths[-1], "size_bytes": source.count - begin}
                etag = (answer.headers.get("Etag") or "").strip('"')
                rows.append({**row, "etag": etag} if etag else row)
        except BaseException as error:
            self._clear_away(paths)
            if source.error is not None and source.error is not error:
                raise source.error from None
            raise
        return rows

    def join(self, path: str, key: str, rows: "Sequence[dict[str, Any]]", headers: "dict[str, str]") -> None:
        """Make the object appear. Its segments go when the server says that it did not."""
        import json

        paths = [row["path"].lstrip("/") for row in rows]
        body = json.dumps(rows).encode()
        for number in range(JOIN_TRIES):
            try:
                self._session.request(
                    "PUT", path, {"multipart-manifest": "put"}, headers, body, key=key, doing=f"store '{key}'"
                )
                return
            except TransientError as error:
                # Perhaps the object is there: its segments must stay.
                if number == JOIN_TRIES - 1:
                    error.hint = f"segments may be left in the container {self.container}"
                    raise
                time.sleep(0.2 * 2.0**number)
            except ObjectExists:
                if number and self._is_ours(path, paths):
                    return
                self._clear_away(paths)
                raise
            except StorageError:
                self._clear_away(paths)
                raise

    def _is_ours(self, path: str, paths: "Sequence[str]") -> bool:
        return self.of(path) == list(paths)

    def of_large(self, path: str) -> "list[str] | None":
        """The segments of a large object (those in our container); None for an object that is not large, or missing."""
        answer = self._session.request("HEAD", path, doing="look for segments", accept=(404,))
        if "X-Static-Large-Object" in answer.headers:
            return self._of_static(path)
        manifest: str | None = answer.headers.get("X-Object-Manifest")
        if manifest is None or answer.status == 404:
            return None
        from urllib.parse import unquote

        container, _, prefix = unquote(manifest).lstrip("/").partition("/")
        return self._below(prefix) if container == self.container and prefix else []

    def owners(self, names: "Sequence[str]") -> "set[str]":
        """Those of the objects' names below which there are segments: the only ones worth a look of their own."""
        if len(names) < FEW:
            return set(names)
        found = {name for name in names if len(name.encode()) > STEM}
        for path in self._below(os.path.commonprefix(names)):  # noqa: RUF071 - keys, not paths
            parts = path.partition("/")[2].split("/")
            found.update("/".join(parts[:count]) for count in range(1, len(parts)))
        return found

    def of(self, path: str) -> "list[str]":
        """The same, empty for an object that is not large."""
        return self.of_large(path) or []

    def _of_static(self, path: str) -> "list[str]":
        import json

        answer = self._session.request(
            "GET", path, {"multipart-manifest": "get"}, doing="read a manifest", accept=(404,)
        )
        rows = json.loads(answer.data) if answer.status == 200 else []
        names = [str(row.get("name") or row.get("path") or "").lstrip("/") for row in rows]
        return [name for name in names if name.startswith(self.container + "/")]

    def _below(self, prefix: str) -> "list[str]":
        import json

        found: list[str] = []
        while True:
            query = {"format": "json", "limit": str(MOST), "prefix": prefix}
            if found:
                query["marker"] = found[-1].partition("/")[2]
            rows = json.loads(self._session.request("GET", self.container, query, doing="list segments").data or b"[]")
            found += [f"{self.container}/{row['name']}" for row in rows]
            if len(rows) < MOST:
                return found

    def remove(self, paths: "Iterable[str]") -> None:
        """Delete segments; missing ones are fine."""
        for path in paths:
            self._session.request("DELETE", path, doing="delete a segment", accept=(404,))

    def _clear_away(self, paths: "Iterable[str]") -> None:
        from walg_core.observe import log

        try:
            self.remove(paths)
        except (StorageError, ObjectNotFound) as error:
            log.warning(f"segments of a failed upload are left in the container {self.container}: {error}")
