"""Resumable uploads: parts one after another, nothing visible before the last one."""

import json
import os
import time

from walg_core.errors import AccessDenied, IntegrityError, StorageError, TransientError
from walg_core.pipeline.reader import read_exactly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from walg_core.pipeline.reader import Reader

    from walg_storage_gcs.session import Session

GRAIN = 256 << 10
"""Every part but the last is a multiple of it."""
CANCELLED = 499


class Upload:
    """One object on its way. `part` in bytes; `retries` of one part; `deadline` by the monotonic clock."""

    def __init__(self, session: "Session", key: str, headers: "dict[str, str]", retries: int, deadline: float) -> None:
        self._session = session
        self._key = key
        self._headers = headers
        self._retries = retries
        self._deadline = deadline
        self._path = ""

    def send(
        self, begin: "tuple[str, dict[str, str]]", first: bytes, rest: "Reader", part: int, size: int | None
    ) -> "dict[str, Any]":
        """What the server says of the finished object. Cancels when anything fails, the body's own errors included.

        `begin`: path and query that open the upload. `first`: `part` bytes that were read already.
        """
        path, query = begin
        answer = self._session.request(
            "POST", path, query=query, headers={**self._headers, "Content-Length": "0"}, body=b"", key=self._key
        )
        self._path = _path_of(answer.headers["Location"])
        try:
            at, chunk = 0, first
            while True:
                following = read_exactly(rest, part) if len(chunk) == part else b""
                end = at + len(chunk)
                if size is not None and (end > size or (not following and end != size)):
                    raise IntegrityError(f"{end} bytes or more came where {size} were announced")
                finished = self._part(chunk, at, end if not following else None)
                if finished is not None:
                    return finished
                at, chunk = end, following
        except BaseException:
            self._cancel()
            raise

    def _part(self, chunk: bytes, at: int, total: int | None) -> "dict[str, Any] | None":
        """Send it until all of it has arrived; the object's description after the last one."""
        begin, tries = at, 0
        while True:
            try:
                if time.monotonic() > self._deadline:
                    raise StorageError(
                        f"{self._session.where}: the upload of '{self._key}' took longer than GCS_CONTEXT_TIMEOUT",
                        key=self._key,
                    )
                arrived, finished = self._put(memoryview(chunk)[begin - at :], begin, total)
            except TransientError:
                tries += 1
                if tries > self._retries:
                    raise
                self._pause(tries)
                try:
                    arrived, finished = self._put(memoryview(b""), -1, total)
                except TransientError:
                    continue
            if finished is not None:
                return finished
            if not at <= arrived <= at + len(chunk):
                raise TransientError(f"{self._session.where}: the upload of '{self._key}' was lost", key=self._key)
            tries = 0 if arrived > begin else tries + 1
            if tries > self._retries:
                raise TransientError(f"{self._session.where}: parts of '{self._key}' do not arrive", key=self._key)
            begin = arrived
            if begin == at + len(chunk) and total is None:
                return None

    def _put(self, piece: memoryview, begin: int, total: int | None) -> "tuple[int, dict[str, Any] | None]":
        """Bytes that have arrived so far, and the finished object. `begin` -1 only asks."""
        span = f"{begin}-{begin + len(piece) - 1}" if len(piece) else "*"
        headers = {**self._headers, "Content-Range": f"bytes {span}/{'*' if total is None else total}"}
        answer = self._session.request(
            "PUT", self._path, headers=headers, body=piece, good=(200, 201, 308), key=self._key
        )
        if answer.status != 308:
            return 0, json.loads(answer.data)
        received = answer.headers.get("Range", "")
        return (int(received.rpartition("-")[2]) + 1 if received else 0), None

    def _pause(self, tries: int) -> None:
        """Half to the whole of 128 ms, doubled each time (spec/storages.md 4.3), at most 30 s."""
        share = 0.5 + int.from_bytes(os.urandom(2), "big") / 131072
        time.sleep(min(30.0, 0.128 * 2.0**tries) * share)

    def _cancel(self) -> None:
        try:
            self._session.request("DELETE", self._path, good=(200, 204, CANCELLED), key=self._key)
        except (StorageError, AccessDenied):
            return  # The server forgets an upload that is not finished within a week; it was never visible.


def _path_of(location: str) -> str:
    """Path and query of the upload's address; the host stays the one that was asked."""
    from urllib.parse import urlsplit

    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}"
