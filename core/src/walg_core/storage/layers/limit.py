"""Rate limits: token buckets shared by the whole process (spec/config.md 9), for every command, lifted by `--turbo`."""

import threading
import time

from walg_core.storage.api import Storage
from walg_core.storage.layers.base import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from walg_core.context import Context
    from walg_core.pipeline.reader import Reader

BURST = 65536


class TokenBucket:
    """`rate` bytes a second on average, `rate` + 65536 at once. Shared by threads."""

    def __init__(
        self,
        rate: int,
        *,
        clock: "Callable[[], float]" = time.monotonic,
        sleep: "Callable[[float], None]" = time.sleep,
    ) -> None:
        self.rate = rate
        self.burst = rate + BURST
        self._clock = clock
        self._sleep = sleep
        self._tokens = float(self.burst)
        self._filled = clock()
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Wait until `size` bytes may pass. A debt is paid by whoever makes it, so that streams share fairly."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self.burst, self._tokens + (now - self._filled) * self.rate) - size
            self._filled = now
            wait = -self._tokens / self.rate
        if wait > 0:
            self._sleep(wait)


class _Buckets:
    lock = threading.Lock()
    made: "dict[str, TokenBucket]" = {}  # noqa: RUF012 - process-wide on purpose: all streams share one bucket


def network_bucket(context: "Context") -> TokenBucket | None:
    """The bucket of `WALG_NETWORK_RATE_LIMIT`; None without a limit or with `--turbo`."""
    return _bucket(context, "WALG_NETWORK_RATE_LIMIT")


def disk_bucket(context: "Context") -> TokenBucket | None:
    """The bucket of `WALG_DISK_RATE_LIMIT` for readers of data files; None without a limit or with `--turbo`."""
    return _bucket(context, "WALG_DISK_RATE_LIMIT")


def _bucket(context: "Context", setting: str) -> TokenBucket | None:
    rate = context.config.get(setting) if not context.turbo else None
    if rate is None or rate <= 0:
        return None
    with _Buckets.lock:
        found = _Buckets.made.get(setting)
        if found is None or found.rate != rate:
            found = _Buckets.made[setting] = TokenBucket(rate)
    return found


class LimitedReader:
    """A reader whose bytes wait for the bucket. Can seek when its source can."""

    def __init__(self, source: "Reader", bucket: TokenBucket) -> None:
        self._source = source
        self._bucket = bucket
        for name in ("seek", "tell"):
            if hasattr(source, name):
                setattr(self, name, getattr(source, name))
        self.etag: str | None = getattr(source, "etag", None)

    def read(self, size: int = -1, /) -> bytes:
        most = self._bucket.burst
        piece = self._source.read(most if size < 0 else min(size, most))
        self._bucket.take(len(piece))
        return piece

    def close(self) -> None:
        self._source.close()


class LimitedStorage(Layer):
    """Meters what is read and put; listings, copies and deletions pass freely."""

    def __init__(self, inner: Storage, bucket: TokenBucket) -> None:
        super().__init__(inner)
        self._bucket = bucket

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        return LimitedReader(self.inner.open(key, offset, length), self._bucket)

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        return self.inner.put(key, LimitedReader(body, self._bucket), size, if_absent)
