"""Multipart uploads and copies: whole or aborted, a bounded number of parts at a time."""

from collections import deque

from walg_core.errors import IntegrityError, PermanentError, TransientError
from walg_core.pipeline.reader import read_exactly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from typing import Any

    from walg_core.pipeline.reader import Reader

PARALLEL = 3
"""Parts of one object at once, as the original."""
MOST_PARTS = 10_000
PART_TRIES = 3
SENT = 128 << 10
"""Bytes sent at once."""
LARGEST_PART = 64 << 20
"""To which the parts of a very long stream grow."""


def part_sizes(size: int, total: int | None) -> "Iterator[int]":
    """Sizes of the parts: `size`, larger where the announced `total` needs it, growing where nothing is announced."""
    if total is not None:
        size = max(size, -(-total // MOST_PARTS))
    for number in range(MOST_PARTS):
        yield size if total is not None else max(size, min(size << (number // 2000), LARGEST_PART))


class Pieces:
    """A body in memory as it is sent: the time limit is for each piece, and a slow line must keep it."""

    def __init__(self, body: bytes) -> None:
        self._body = memoryview(body)

    def __len__(self) -> int:
        return len(self._body)

    def __iter__(self) -> "Iterator[bytes]":
        for start in range(0, len(self._body), SENT):
            yield bytes(self._body[start : start + SENT])


class Upload:
    """One multipart upload. `call` runs an operation of the client and translates its errors."""

    def __init__(self, call: "Callable[..., Any]", oss: "Any", bucket: str, path: str) -> None:
        self._call = call
        self._oss = oss
        self._names = {"bucket": bucket, "key": path}
        self._id: str = call("initiate_multipart_upload", oss.InitiateMultipartUploadRequest(**self._names)).upload_id
        self._moved: Callable[[], None] = lambda: None
        self._parts: list[Any] = []
        self._sum: int | None = None

    def send(self, first: bytes, rest: "Reader", size: int, total: int | None) -> int:
        """Upload the body; the bytes sent. Raises IntegrityError when they are not `total`."""
        sizes = part_sizes(size, total)
        next(sizes)
        self._moved = getattr(rest, "moved", self._moved)

        from fastcrc.crc64 import xz

        def bodies() -> "Iterator[bytes]":
            body = first
            while body:
                self._sum = xz(body, self._sum or 0)
                yield body
                body = read_exactly(rest, next(sizes, 0))

        return self._all(self._send_part, bodies(), total)

    def copy(self, source: str, total: int, size: int) -> None:
        """Copy the object `source` of the same bucket, `total` bytes long."""
        ranges = [(start, min(start + size, total) - 1) for start in range(0, total, size)]
        self._all(lambda number, span: self._copy_part(source, number, span), iter(ranges), None)

    def _all(self, send: "Callable[[int, Any], Any]", bodies: "Iterator[Any]", total: int | None) -> int:
        from concurrent.futures import ThreadPoolExecutor

        count = 0
        running: deque[Future[Any]] = deque()
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="oss-part") as pool:
            try:
                for number, body in enumerate(bodies, 1):
                    if number > MOST_PARTS:
                        raise IntegrityError(f"the body needs more than {MOST_PARTS} parts")
                    count += len(body)
                    if total is not None and count > total:
                        break
                    if len(running) == PARALLEL:
                        self._parts.append(running.popleft().result())
                    running.append(pool.submit(send, number, body))
                    del body
                if total is not None and count != total:
                    raise IntegrityError(f"the body has {count} bytes or more, {total} were announced")
                self._parts += [future.result() for future in running]
            except BaseException:
                for future in running:
                    future.cancel()
                raise
        return count

    def _send_part(self, number: int, body: bytes) -> "Any":
        from fastcrc.crc64 import xz

        request = self._oss.UploadPartRequest(**self._names, upload_id=self._id, part_number=number, body=Pieces(body))
        expected = str(xz(body))
        for _ in range(PART_TRIES):
            result = self._call("upload_part", request)
            self._moved()
            if str(result.hash_crc64 or expected) == expected:
                return self._oss.UploadPart(part_number=number, etag=result.etag)
        raise TransientError(f"put '{self._names['key']}': OSS got other bytes than were sent, {PART_TRIES} times")

    def _copy_part(self, source: str, number: int, span: tuple[int, int]) -> "Any":
        result = self._call(
            "upload_part_copy",
            self._oss.UploadPartCopyRequest(
                **self._names, upload_id=self._id, part_number=number, source_key=source,
                source_range=f"bytes={span[0]}-{span[1]}",
            ),
        )  # fmt: skip
        return self._oss.UploadPart(part_number=number, etag=result.etag)

    def complete(self, if_absent: bool) -> None:
        """Make the object appear; its CRC-64 must be that of its parts."""
        request = self._oss.CompleteMultipartUploadRequest(
            **self._names,
            upload_id=self._id,
            complete_multipart_upload=self._oss.CompleteMultipartUpload(parts=self._parts),
            **({"forbid_overwrite": True} if if_absent else {}),
        )
        expected = None if self._sum is None else str(self._sum)
        try:
            found = self._call("complete_multipart_upload", request).hash_crc64
        except PermanentError as error:
            if "NoSuchUpload" not in str(error) or expected is None:
                raise
            # The answer to an earlier try was lost: it may have done what this one finds nothing to do for.
            found = self._call("head_object", self._oss.HeadObjectRequest(**self._names)).hash_crc64
            if str(found) != expected:
                raise error from None
        if expected is not None and found and str(found) != expected:
            self._call("delete_object", self._oss.DeleteObjectRequest(**self._names))
            raise TransientError(f"put '{self._names['key']}': OSS has put together other bytes than were sent")

    def abort(self) -> None:
        """Remove the parts. What goes wrong is reported, not raised: another error is on its way."""
        from walg_core.errors import StorageError

        try:
            self._call(
                "abort_multipart_upload", self._oss.AbortMultipartUploadRequest(**self._names, upload_id=self._id)
            )
        except StorageError as error:
            if not isinstance(error, TransientError) and "NoSuchUpload" in str(error):
                return
            from walg_core.observe import log

            log.warning(f"the parts of a failed upload of {self._names['key']} are left behind: {error}")
