"""Fetching the next segments while PostgreSQL replays this one (spec/postgres-wal.md 6.3)."""

import _thread
import os
import time

from walg_core.errors import ObjectNotFound, WalgError
from walg_core.io import atomic
from walg_core.io.locks import FileLock
from walg_core.observe import log

from walg_pg.journal import detached
from walg_pg.journal.fetch import Fetcher, Places, boot, remove_quietly
from walg_pg.lsn import NotASegmentName, is_segment_name, next_segment_name, parse_segment_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from walg_core.context import Context


THREADS = 4
"""Downloads at once."""
PATIENCE = 2.0
"""Seconds for which what follows PostgreSQL waits for it to take a segment."""
LOOK_INTERVAL = 0.01


def following(context: "Context", name: str, segment_size: int) -> list[str]:
    """The names of the segments to have at hand after `name`; empty when prefetching is off or makes no sense."""
    depth: int = context.config.get("WALG_DOWNLOAD_CONCURRENCY")
    if depth == 1 or not is_segment_name(name):
        return []
    names = []
    for _ in range(depth):
        try:
            name = next_segment_name(name, segment_size)
        except NotASegmentName:
            break
        names.append(name)
    return names


def is_worthwhile(context: "Context", name: str, places: Places, segment_size: int) -> bool:
    """Whether the next segments should be fetched now: less than half of them are there, and nobody is at it."""
    wanted = following(context, name, segment_size)
    there = sum(os.path.exists(places.finished(each)) for each in wanted)
    return bool(wanted) and 2 * there <= len(wanted) and not _is_running(places)


def spawn(context: "Context") -> "Callable[[str, str, str], None]":
    """A function that starts a detached `wal-prefetch NAME DESTINATION --follow`."""

    def start(name: str, destination: str, target: str) -> None:
        detached.start(context, ["wal-prefetch", name, destination, "--follow"], target)

    return start


def _is_running(places: Places) -> bool:
    """Whether another prefetch holds the lock of this place."""
    try:
        with FileLock(places.lock, shared=True, wait=False):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def prefetch(context: "Context", name: str, destination: str, target: str = "", *, follow: bool = False) -> None:
    """Download the following segments in parallel, each checked, then moved into sight.

    With `follow` it goes on as PostgreSQL takes them, until it has taken none for PATIENCE seconds.
    """
    from walg_core.pipeline.heap import keep_freed_memory

    keep_freed_memory()
    fetcher = Fetcher(context, target)
    places = Places(context, destination)
    atomic.make_dirs(places.running_directory, 0o755)
    lock = detached.alone(places.lock)
    if lock is None:
        log.debug("another wal-prefetch is at work")
        return
    try:
        _settle(places)
        clean(places, name, fetcher.segment_size)
        wanted = following(context, name, fetcher.segment_size)
        if wanted:
            Window(fetcher, places, wanted).fill(follow=follow)
    finally:
        lock.__exit__(None, None, None)


def _settle(places: Places) -> None:
    """Note which start of the machine the files belong to; those of an earlier one go."""
    if os.path.exists(places.boot_file):
        if places.trusted():
            return
        for entry in os.listdir(places.directory):
            if is_segment_name(entry):
                remove_quietly(os.path.join(places.directory, entry))
    atomic.write_file(places.boot_file, boot().encode())


class Window:
    """The segments that are to be at hand: at first `wanted`, and as many from where PostgreSQL is later."""

    def __init__(self, fetcher: Fetcher, places: Places, wanted: "list[str]") -> None:
        self._fetcher = fetcher
        self._places = places
        self._wanted = wanted
        self._depth = len(wanted)
        self._last = wanted[-1]
        self._there: list[str] = []
        self._running = 0
        self._ended = False
        self._moved = time.monotonic()
        self._lock = _thread.allocate_lock()

    def fill(self, *, follow: bool) -> None:
        """Download all; with `follow` until PostgreSQL takes none any more, or the archive has none."""
        try:
            while self._goes_on(follow):
                time.sleep(LOOK_INTERVAL)
        finally:
            with self._lock:
                self._ended = True
            while self._running:
                time.sleep(LOOK_INTERVAL)

    def _goes_on(self, follow: bool) -> bool:
        with self._lock:
            if follow and not self._ended:
                self._slide()
            while not self._ended and self._running < min(THREADS, len(self._wanted)):
                self._running += 1
                _thread.start_new_thread(self._work, ())
            idle = time.monotonic() - self._moved
            return self._running > 0 or (follow and not self._ended and idle < PATIENCE)

    def _slide(self) -> None:
        """Want as many more as were taken; what lies before one that was taken will not be asked for again."""
        there = [name for name in self._there if os.path.exists(self._places.finished(name))]
        taken = [name for name in self._there if name not in there]
        if not taken:
            return
        self._moved = time.monotonic()
        passed = [name for name in there if name < max(taken)]
        for name in passed:
            remove_quietly(self._places.finished(name))
        self._there = [name for name in there if name not in passed]
        while len(self._there) + self._running + len(self._wanted) < self._depth:
            try:
                self._last = next_segment_name(self._last, self._fetcher.segment_size)
            except NotASegmentName:
                return
            self._wanted.append(self._last)

    def _work(self) -> None:
        """A thread: takes names in order; the first that is not in the archive ends the whole work."""
        name = ""
        try:
            while name := self._next(name):
                if not download_one(self._fetcher, self._places, name):
                    break
        finally:
            with self._lock:
                self._running -= 1
                # Set where a download failed, and where it met what nobody expected.
                self._ended = self._ended or bool(name)

    def _next(self, done: str) -> str:
        with self._lock:
            if done:
                self._there.append(done)
                self._moved = time.monotonic()
            return "" if self._ended or not self._wanted else self._wanted.pop(0)


def download_one(fetcher: Fetcher, places: Places, name: str) -> bool:
    """Fetch one segment beside the others; False when the archive does not have it or cannot be read."""
    running, finished = places.running(name), places.finished(name)
    if os.path.exists(finished):
        return True
    # Not synced: PostgreSQL has consumed and removed most of them before they would reach the disk.
    durable = not boot()
    try:
        fetcher.download(name, running, exclusive=False, durable=durable)
        atomic.rename(running, finished, durable=durable)
    except ObjectNotFound:
        return False
    except (WalgError, OSError) as error:
        log.warning(f"prefetching {name} failed: {error}")
        remove_quietly(running)
        return False
    return True


def clean(places: Places, name: str, segment_size: int) -> None:
    """Remove prefetched segments that lie before `name`: PostgreSQL will not ask for them again."""
    if not is_segment_name(name):
        return
    asked = parse_segment_name(name, segment_size)
    for directory in (places.directory, places.running_directory):
        for entry in os.listdir(directory):
            plain = entry[:24]
            if is_segment_name(plain) and parse_segment_name(plain, segment_size) < asked:
                remove_quietly(os.path.join(directory, entry))
