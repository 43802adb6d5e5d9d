"""Fetching the next segments while PostgreSQL replays this one (spec/postgres-wal.md 6.3)."""

import os
from collections import deque

from walg_core.errors import ObjectNotFound, WalgError
from walg_core.io import atomic
from walg_core.observe import log

from walg_pg.journal.fetch import Fetcher, Places, boot, remove_quietly
from walg_pg.lsn import NotASegmentName, is_segment_name, next_segment_name, parse_segment_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from walg_core.context import Context


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
    """A function that starts a detached `wal-prefetch NAME DESTINATION`."""

    def start(name: str, destination: str, target: str) -> None:
        argv = [*context.program, "wal-prefetch", name, destination]
        if target:
            argv += ["--target-storage", target]
        quiet = [] if log.level() == log.DEVEL else [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            *quiet,
        ]
        try:
            # Detached: it must outlive this process, and never hold PostgreSQL's descriptors open.
            os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)
        except OSError as error:
            log.warning(f"prefetching could not be started: {error}")

    return start


def _is_running(places: Places) -> bool:
    """Whether another prefetch holds the lock of this place."""
    import fcntl

    try:
        fd = os.open(os.path.join(places.directory, "lock"), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def prefetch(context: "Context", name: str, destination: str, target: str = "") -> None:
    """Download the following segments in parallel, each checked, then moved into sight. It may end."""
    import fcntl

    from walg_core.pipeline.heap import keep_freed_memory

    keep_freed_memory()
    fetcher = Fetcher(context, target)
    places = Places(context, destination)
    atomic.make_dirs(places.running_directory, 0o755)
    lock = os.open(os.path.join(places.directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return  # another one is at it
        _settle(places)
        clean(places, name, fetcher.segment_size)
        _download_all(fetcher, places, deque(following(context, name, fetcher.segment_size)))
    finally:
        os.close(lock)


def _settle(places: Places) -> None:
    """Note which start of the machine the files belong to; those of an earlier one go."""
    if os.path.exists(places.boot_file):
        if places.trusted():
            return
        for entry in os.listdir(places.directory):
            if is_segment_name(entry):
                remove_quietly(os.path.join(places.directory, entry))
    atomic.write_file(places.boot_file, boot().encode())


def _download_all(fetcher: Fetcher, places: Places, waiting: "deque[str]") -> None:
    """Threads take names in order; the first that is not in the archive ends the work."""
    import threading

    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            try:
                name = waiting.popleft()
            except IndexError:
                return
            if not download_one(fetcher, places, name):
                ended.set()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(4, len(waiting)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


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
