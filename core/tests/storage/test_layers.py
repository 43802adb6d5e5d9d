"""Retry, stall detection, rate limits, dry run, tracing: each alone, with clocks of their own where time matters."""

import threading
import time

import pytest
from walg_core.errors import IntegrityError, ObjectExists, ObjectNotFound, PermanentError, Throttled, TransientError
from walg_core.pipeline.reader import BytesReader, Reader, read_all
from walg_core.storage.api import Storage
from walg_core.storage.layers.dry_run import DryRunStorage
from walg_core.storage.layers.limit import LimitedStorage, TokenBucket
from walg_core.storage.layers.retry import Policy, RetryStorage
from walg_core.storage.layers.stall import StallStorage
from walg_core.storage.layers.trace import TracingStorage
from walg_core.storage.memory import MemoryStorage
from walg_core.testing import FaultyStorage, StorageConformance
from walg_core.testing.conformance.frame import Body


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def faulty() -> FaultyStorage:
    return FaultyStorage(MemoryStorage())


@pytest.fixture
def retrying(faulty: FaultyStorage, clock: Clock) -> RetryStorage:
    return RetryStorage(faulty, Policy(retries=5, deadline=100, sleep=clock.sleep, clock=clock))


class TestRetryConformance(StorageConformance):
    """Behind a retry layer, a storage that fails now and then keeps the contract."""

    many = 300

    @pytest.fixture
    def storage(self) -> Storage:
        return RetryStorage(FaultyStorage(MemoryStorage()), Policy(first=0.001))


class TestStallConformance(StorageConformance):
    many = 300

    @pytest.fixture
    def storage(self) -> Storage:
        return StallStorage(MemoryStorage(), 10)


class TestTraceConformance(StorageConformance):
    many = 300

    @pytest.fixture
    def storage(self) -> Storage:
        return TracingStorage(LimitedStorage(MemoryStorage(), TokenBucket(1 << 40)))


# retry


def test_every_operation_is_retried(faulty: FaultyStorage, retrying: RetryStorage) -> None:
    for operation in ("put", "stat", "open", "list", "list_dirs", "copy", "delete"):
        faulty.fail(operation, 2)
    retrying.put_bytes("a/b", b"data")
    assert retrying.stat("a/b").size == 4
    assert retrying.get("a/b") == b"data"
    assert [info.key for info in retrying.list()] == ["a/b"]
    assert retrying.list_dirs() == ["a/"]
    retrying.copy("a/b", "c")
    retrying.delete(["a/b"])
    assert [info.key for info in retrying.list()] == ["c"]
    assert faulty.calls["put"] == 3


def test_pauses_double_and_are_jittered(faulty: FaultyStorage, retrying: RetryStorage, clock: Clock) -> None:
    faulty.fail("stat", 6)
    with pytest.raises(TransientError):
        retrying.stat("a")
    assert len(clock.pauses) == 5
    for number, pause in enumerate(clock.pauses):
        assert 0.1 * 2**number <= pause <= 0.2 * 2**number


def test_the_deadline_ends_it(faulty: FaultyStorage, clock: Clock) -> None:
    storage = RetryStorage(faulty, Policy(retries=1000, deadline=60, sleep=clock.sleep, clock=clock))
    faulty.break_all()
    with pytest.raises(TransientError) as caught:
        storage.stat("a")
    assert clock.now - 1000 <= 60
    assert "tries" in (caught.value.hint or "")


def test_retry_after_is_honoured(faulty: FaultyStorage, retrying: RetryStorage, clock: Clock) -> None:
    faulty.fail("stat", error=Throttled("slow down", retry_after=42.0))
    with pytest.raises(ObjectNotFound):
        retrying.stat("a")
    assert clock.pauses == [42.0]


@pytest.mark.parametrize("error", [PermanentError("no"), ObjectNotFound("a"), ObjectExists("a"), IntegrityError("x")])
def test_what_is_final_is_not_retried(faulty: FaultyStorage, retrying: RetryStorage, error: Exception) -> None:
    faulty.fail("stat", error=error)  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        retrying.stat("a")
    assert faulty.calls["stat"] == 1


def test_a_body_that_can_seek_is_replayed(faulty: FaultyStorage, retrying: RetryStorage) -> None:
    faulty.fail("put", 3, after=50_000)
    body = BytesReader(b"x" * 100_000)
    body.read(10)
    assert retrying.put("a", body) == 99_990
    assert retrying.get("a") == b"x" * 99_990


def test_a_body_that_cannot_seek_is_not_half_replayed(faulty: FaultyStorage, retrying: RetryStorage) -> None:
    faulty.fail("put", after=10)
    with pytest.raises(TransientError):
        retrying.put("a", Body(b"y" * 100))
    assert faulty.calls["put"] == 1
    assert not retrying.exists("a")


def test_an_untouched_body_is_tried_again(faulty: FaultyStorage, retrying: RetryStorage) -> None:
    faulty.fail("put", 2)
    retrying.put("a", Body(b"once"))
    assert retrying.get("a") == b"once"


def test_a_failure_of_the_body_itself_is_final(faulty: FaultyStorage, retrying: RetryStorage) -> None:
    def fail(_: int) -> None:
        raise TransientError("the source storage is down")

    with pytest.raises(TransientError, match="source"):
        retrying.put("a", Body(b"z", before=fail))
    assert faulty.calls["put"] == 1


class LosesAnswers(MemoryStorage):
    """Stores, then fails as if the answer had been lost."""

    lost = 1

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        stored = super().put(key, body, size, if_absent)
        if self.lost:
            self.lost -= 1
            raise TransientError("connection lost")
        return stored


def test_if_absent_knows_its_own_lost_success(clock: Clock) -> None:
    storage = RetryStorage(LosesAnswers(), Policy(sleep=clock.sleep, clock=clock))
    assert storage.put("a", BytesReader(b"mine"), 4, True) == 4


def test_if_absent_does_not_take_a_strangers_object_for_its_own(clock: Clock) -> None:
    class Raced(LosesAnswers):
        def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
            if self.lost:
                self._objects[key] = (b"their", 0.0)
                self.lost -= 1
                raise TransientError("connection lost")
            return super().put(key, body, size, if_absent)

    storage = RetryStorage(Raced(), Policy(sleep=clock.sleep, clock=clock))
    with pytest.raises(ObjectExists):
        storage.put("a", BytesReader(b"mine!"), 5, True)


def test_a_broken_read_resumes_where_it_broke(faulty: FaultyStorage, retrying: RetryStorage) -> None:
    data = bytes(range(256)) * 1000
    retrying.put_bytes("a", data)
    faulty.fail("read", 4, after=60_000)
    assert read_all(retrying.open("a")) == data
    assert faulty.calls["open"] == 5
    faulty.fail("read", 1, after=10)
    assert read_all(retrying.open("a", 100, 1000)) == data[100:1100]


def test_a_broken_listing_resumes(clock: Clock) -> None:
    class Breaks(MemoryStorage):
        left = 3

        def list(self, prefix: str = "", start_after: str | None = None):  # type: ignore[no-untyped-def]
            for number, info in enumerate(super().list(prefix, start_after)):
                if number == 4 and self.left:
                    self.left -= 1
                    raise TransientError("reset")
                yield info

    inner = Breaks()
    for number in range(20):
        inner.put_bytes(f"{number:02d}", b"")
    storage = RetryStorage(inner, Policy(sleep=clock.sleep, clock=clock))
    assert [info.key for info in storage.list()] == [f"{number:02d}" for number in range(20)]


def test_a_replaced_object_is_not_mixed(clock: Clock) -> None:
    class Tagged(MemoryStorage):
        def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
            class Reader_(BytesReader):
                etag = str(self._objects[key][1])

            return Reader_(read_all(super().open(key, offset, length)))

    inner = Tagged()
    inner.put_bytes("a", b"o" * 100)
    faulty = FaultyStorage(inner)
    storage = RetryStorage(faulty, Policy(sleep=clock.sleep, clock=clock))
    reader = storage.open("a")
    reader.read(10)
    inner.put_bytes("a", b"n" * 100)
    reader._reader = None  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="replaced"):
        reader.read(10)


# stall


class Hangs(MemoryStorage):
    """Waits for `release` in the operation named by `where`."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.release = threading.Event()

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        if self.where == "put":
            body.read(10)
            self.release.wait(30)
        return super().put(key, body, size, if_absent)

    def stat(self, key: str):  # type: ignore[no-untyped-def]
        if self.where == "stat":
            self.release.wait(30)
        return super().stat(key)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        reader = super().open(key, offset, length)
        if self.where == "read":
            outer = self

            class Silent:
                def read(self, size: int = -1, /) -> bytes:
                    outer.release.wait(30)
                    return reader.read(size)

                def close(self) -> None:
                    reader.close()

            return Silent()
        return reader


@pytest.mark.parametrize("where", ["put", "stat", "read"])
def test_a_stalled_operation_fails_in_time(where: str) -> None:
    inner = Hangs(where)
    storage = StallStorage(inner, 0.3)
    if where != "put":
        inner.put_bytes("a", b"x")
    started = time.monotonic()
    calls = {
        "put": lambda: storage.put("new", BytesReader(b"y" * 100)),
        "stat": lambda: storage.stat("a"),
        "read": lambda: storage.open("a").read(1),
    }
    with pytest.raises(TransientError, match="nothing moved"):
        calls[where]()
    assert time.monotonic() - started < 3
    inner.release.set()
    time.sleep(0.05)
    assert not inner._objects.get("new"), "the abandoned put must not complete"


def test_a_slow_body_is_not_a_stall() -> None:
    storage = StallStorage(MemoryStorage(), 0.2)
    storage.put("a", Body(b"x" * 4, piece=1, before=lambda _: time.sleep(0.3)))
    assert storage.get("a") == b"xxxx"


def test_retry_over_stall_recovers() -> None:
    inner = Hangs("read")
    inner.put_bytes("a", b"content")
    storage = RetryStorage(StallStorage(inner, 0.2), Policy(first=0.01))
    threading.Timer(0.3, inner.release.set).start()
    assert storage.get("a") == b"content"


# limits


def test_the_bucket_keeps_its_rate(clock: Clock) -> None:
    bucket = TokenBucket(1_000_000, clock=clock, sleep=clock.sleep)
    for _ in range(100):
        bucket.take(100_000)
    assert 10_000_000 - bucket.burst <= (clock.now - 1000) * 1_000_000 <= 10_000_000


def test_the_burst_is_the_rate_and_64_kib(clock: Clock) -> None:
    bucket = TokenBucket(500, clock=clock, sleep=clock.sleep)
    bucket.take(500 + 65536)
    assert not clock.pauses
    bucket.take(500)
    assert clock.pauses == [pytest.approx(1.0)]


def test_reads_and_puts_share_one_bucket(clock: Clock) -> None:
    bucket = TokenBucket(100_000, clock=clock, sleep=clock.sleep)
    storage = LimitedStorage(MemoryStorage(), bucket)
    storage.put_bytes("a", b"x" * 165_536)
    assert clock.now == 1000
    storage.get("a")
    assert clock.now - 1000 == pytest.approx(1.65536, rel=0.01)
    list(storage.list())
    storage.copy("a", "b")


# the others


def test_dry_run_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    inner = MemoryStorage()
    inner.put_bytes("a", b"x")
    storage = DryRunStorage(inner)
    assert storage.put("b", BytesReader(b"12345")) == 5
    storage.delete(["a"])
    storage.copy("a", "c")
    assert [info.key for info in inner.list()] == ["a"]
    with pytest.raises(ObjectExists):
        storage.put_bytes("a", b"", if_absent=True)


def test_tracing_counts_and_writes_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    from walg_core.observe import log

    log.configure("DEVEL")
    try:
        storage = TracingStorage(MemoryStorage())
        storage.put_bytes("a", b"x")
        assert not storage.exists("b")
        list(storage.list())
    finally:
        log.configure()
    assert storage.requests == {"put": 1, "stat": 1, "list": 1}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("DEBUG: ") and " ms " in line for line in lines)
