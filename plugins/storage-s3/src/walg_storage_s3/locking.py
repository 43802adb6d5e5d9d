"""Uploads with object lock: obstore sends no such headers (spec/storages.md 3.1 S3_RETENTION_PERIOD)."""

import base64
import hashlib
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from xml.sax.saxutils import escape

from walg_core.errors import IntegrityError, StorageError, TransientError
from walg_core.observe import log
from walg_core.pipeline.reader import Reader, read_exactly

from walg_storage_s3.rest import Rest, document

MAX_PARTS = 10_000


def lock_headers(period: int, mode: str) -> dict[str, str]:
    """Mode and end of a lock that begins now and lasts `period` seconds."""
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + period))
    return {"x-amz-object-lock-mode": mode, "x-amz-object-lock-retain-until-date": until}


class LockedUpload:
    """One object, whole or in parts of `part_size` bytes, `concurrency` of them at once; aborted when it fails.

    `headers` begin the object (storage class, lock, encryption), `customer` (SSE-C) go with every part too.
    """

    def __init__(
        self,
        rest: Rest,
        key: str,
        headers: Mapping[str, str],
        customer: Mapping[str, str],
        part_size: int,
        concurrency: int,
    ) -> None:
        self._rest = rest
        self._key = key
        self._headers = {**headers, **customer}
        self._customer = customer
        self._part_size = part_size
        self._concurrency = concurrency

    def put(self, body: Reader, size: int | None, if_absent: bool) -> int:
        """Bytes stored. Raises what the body raises, StorageError, IntegrityError for another size than `size`."""
        only_new = {"If-None-Match": "*"} if if_absent else {}
        first = read_exactly(body, self._part_size)
        if len(first) < self._part_size:
            _check(self._key, len(first), size)
            self._rest.request("PUT", self._key, None, first, {**self._headers, **only_new, **_digest(first)})
            return len(first)
        answer = self._rest.request("POST", self._key, {"uploads": ""}, b"", self._headers)
        upload = document(answer.body).findtext("{*}UploadId") or ""
        try:
            count, tags = self._parts(upload, first, body)
            _check(self._key, count, size)
            self._complete(upload, tags, only_new)
        except BaseException:
            self._abort(upload)
            raise
        return count

    def _parts(self, upload: str, first: bytes, body: Reader) -> tuple[int, list[str]]:
        tags: list[str] = []
        under_way: deque[Future[str]] = deque()
        count, number, part = 0, 0, first
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="s3-part") as pool:
            try:
                while part:
                    number, count = number + 1, count + len(part)
                    if number > MAX_PARTS:
                        raise StorageError(
                            f"'{self._key}' needs more than {MAX_PARTS} parts", hint="raise S3_MAX_PART_SIZE"
                        )
                    under_way.append(pool.submit(self._send, upload, number, part))
                    if len(under_way) >= self._concurrency:
                        tags.append(under_way.popleft().result())
                    part = read_exactly(body, self._part_size)
                tags.extend(future.result() for future in under_way)
            except BaseException:
                for future in under_way:
                    future.cancel()
                raise
        return count, tags

    def _send(self, upload: str, number: int, part: bytes) -> str:
        query = {"partNumber": str(number), "uploadId": upload}
        tag = self._rest.request("PUT", self._key, query, part, {**self._customer, **_digest(part)}).headers.get("Etag")
        if not tag:
            raise TransientError(f"part {number} of '{self._key}' was answered without an ETag", key=self._key)
        return tag

    def _complete(self, upload: str, tags: list[str], headers: Mapping[str, str]) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        self._rest.request("POST", self._key, {"uploadId": upload}, body, headers)

    def _abort(self, upload: str) -> None:
        try:
            self._rest.request("DELETE", self._key, {"uploadId": upload})
        except StorageError as error:
            log.warning(f"the parts of a broken upload of '{self._key}' may stay: {error}")


def _check(key: str, count: int, size: int | None) -> None:
    if size is not None and size != count:
        raise IntegrityError(f"{key} was announced with {size} bytes but has {count}")


def _digest(body: bytes) -> dict[str, str]:
    """S3 wants it where a lock is asked for."""
    return {"Content-MD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()}
