"""wal-fetch: a file from the archive, checked before PostgreSQL sees it (spec/postgres-wal.md 6)."""

import os
import time

from walg_core.errors import ConfigError, IntegrityError, ObjectNotFound, UsageError, WalgError
from walg_core.io import atomic
from walg_core.observe import log
from walg_core.pipeline import transfer
from walg_core.pipeline.reader import CHUNK

from walg_pg.journal import place, segment
from walg_pg.lsn import is_segment_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from walg_core.context import Context
    from walg_core.storage.api import Storage

NOT_FOUND = 74
ABANDONED = 600
"""Seconds after its last byte that a temporary file of a download counts as left over by a kill."""
PASSING = ("RECOVERYXLOG", "RECOVERYHISTORY")
"""PostgreSQL's names for what it restores; after a crash it removes such a file and asks anew (`xlogarchive.c`)."""
STALL_LOOKS, LOOK_INTERVAL = 100, 0.002


class Places:
    """Where prefetched segments lie: `finished(name)` and, while they are downloaded, `running(name)`."""

    def __init__(self, context: "Context", destination: str) -> None:
        base = context.config.get("WALG_PREFETCH_DIR") or os.path.dirname(destination) or "."
        self.directory = os.path.join(base, ".wal-g", "prefetch")
        self.running_directory = os.path.join(self.directory, "running")
        self.lock = os.path.join(self.directory, "lock")
        self.boot_file = os.path.join(self.directory, "boot")

    def trusted(self) -> bool:
        """Whether what lies here was written since the machine started: prefetched files are not synced.

        Without a note (the original's, or a system that does not say) they are believed as they are.
        """
        try:
            with open(self.boot_file, encoding="ascii", errors="replace") as file:
                return file.read(100) == boot()
        except OSError:
            return True

    def finished(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def running(self, name: str) -> str:
        return os.path.join(self.running_directory, name)


def boot() -> str:
    """What changes whenever the machine starts; "" where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(100).strip()
    except OSError:
        return ""


class Fetcher:
    """Downloads files of one archive. Threads may share it."""

    def __init__(self, context: "Context", target: str = "") -> None:
        self.context = context
        self.segment_size = place.segment_size(context.config)
        self.check_header = bool(context.config.get("WALG_CHECK_WAL_HEADER"))
        data = context.config.get("PGDATA")
        control = place.read_control(data) if data and self.check_header else None
        self.system = control[0] if control else None
        self._target = target
        self._wal: Storage | None = None
        self._hint = read_hint()

    @property
    def wal(self) -> "Storage":
        """The WAL folder over all alive storages."""
        if self._wal is None:
            self._wal = self.context.read_storage(self._target).folder(place.FOLDER)
        return self._wal

    def download(self, name: str, path: str, *, exclusive: bool = True, durable: bool = True) -> None:
        """Write the file to `path`, whole and checked, or raise and leave nothing there.

        On return it is durable if so wished, but never under PASSING names. Raises ObjectNotFound, IntegrityError, any
        StorageError, FileExistsError.
        """
        source, extension = transfer.open_by_name(self.context, self.wal, name, self._hint)
        plain = is_segment_name(name)
        try:
            durable = durable and os.path.basename(path) not in PASSING
            with atomic.AtomicFile(path, exclusive=exclusive, durable=durable) as file:
                head = b""
                while piece := source.read(CHUNK):
                    head = head or piece[: segment.HEADER_SIZE]
                    file.write(piece)
                    if plain and file.size > self.segment_size:
                        break
                if plain and self.check_header:
                    segment.check(name, head, file.size, self.segment_size, "the archived object", self.system)
        finally:
            source.close()
        if extension and extension != self._hint:
            self._hint = extension
            write_hint(extension)

    def take_prefetched(self, name: str, places: Places, destination: str) -> bool:
        """Move a finished prefetched segment to its destination. False when there is none that is good."""
        path = places.finished(name)
        try:
            with open(path, "rb") as file:
                head, size = file.read(segment.HEADER_SIZE), os.fstat(file.fileno()).st_size
        except OSError:
            return False
        found = segment.problem(name, head, size, self.segment_size, self.system)
        if not found and not places.trusted():
            found = "it was written before the machine was last started, and may not be whole"
        if found:
            log.error(f"the prefetched file {path} is not segment {name}: {found}; it is downloaded again")
            remove_quietly(path)
            return False
        try:
            atomic.rename(path, destination, durable=os.path.basename(destination) not in PASSING)
        except OSError as error:
            log.warning(f"the prefetched segment cannot be moved to {destination}: {error}; it is downloaded again")
            return False
        return True

    def wait_for_running(self, name: str, places: Places, destination: str) -> bool:
        """Wait while another process downloads the segment, as long as it grows. False when it must be downloaded."""
        last, still = -1, 0
        while still < STALL_LOOKS:
            if self.take_prefetched(name, places, destination):
                return True
            size = _growing_size(places, name)
            if size is None:
                return self.take_prefetched(name, places, destination)
            still = 0 if size != last else still + 1
            last = size
            time.sleep(LOOK_INTERVAL)
        return False


def _growing_size(places: Places, name: str) -> int | None:
    """Bytes that a running download has so far: its temporary name begins with the segment's."""
    try:
        with os.scandir(places.running_directory) as entries:
            for entry in entries:
                if entry.name.startswith(name):
                    return entry.stat().st_size
    except OSError:
        return None
    return None


def fetch(
    context: "Context",
    name: str,
    destination: str,
    target: str = "",
    start_prefetch: "Callable[[str, str, str], None] | None" = None,
) -> None:
    """The whole command, prefetching included. Raises ObjectNotFound when no storage has the file.

    `start_prefetch(name, destination, target)` replaces the detached process that fetches the next segments.
    """
    if not name or "/" in name or name in (".", ".."):
        raise UsageError(f"{name!r} is not the name of a file in the archive")
    destination = os.path.realpath(destination) if os.path.exists(destination) else destination
    if os.path.lexists(destination):
        raise WalgError(
            f"{destination} exists already; nothing is overwritten", hint="remove the file or name another destination"
        )
    fetcher = Fetcher(context, target)
    places = Places(context, destination)
    if is_segment_name(name) and fetcher.wait_for_running(name, places, destination):
        pass
    else:
        sweep(destination)
        fetcher.download(name, destination)
        remove_quietly(places.finished(name))
    from walg_pg.journal.prefetch import is_worthwhile, spawn

    if is_worthwhile(context, name, places, fetcher.segment_size):
        (start_prefetch or spawn(context))(name, destination, target)


def fetch_command(context: "Context", name: str, destination: str, target: str = "") -> int:
    """`fetch` with the exit status that PostgreSQL understands.

    74 means "not in any storage". Any failure to find out, or damage, gives a status above 125 by default:
    PostgreSQL then stops recovery instead of taking the archive's end for reached.
    """
    try:
        fetch(context, name, destination, target)
    except ObjectNotFound as error:
        log.error(str(error))
        return NOT_FOUND
    except (ConfigError, UsageError):
        raise
    except (WalgError, OSError) as error:
        status: int = context.config.get("WALG_WAL_FETCH_FAILURE_EXIT_CODE")
        kind = "damaged" if isinstance(error, IntegrityError) else "not reachable"
        log.error(f"{name} was not fetched: {error}")
        if isinstance(error, WalgError) and error.hint:
            log.error(f"hint: {error.hint}")
        log.debug(f"exit status {status}: the archive is {kind}, which is not the end of the archive")
        return status
    return 0


def sweep(destination: str) -> None:
    """Remove what a download to `destination` that was killed long ago has left beside it: a whole segment's size."""
    directory, name = os.path.split(destination)
    try:
        with os.scandir(directory or ".") as entries:
            for entry in entries:
                left = entry.name.startswith(name + ".") and atomic.is_temporary(entry.name)
                if left and time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED:
                    remove_quietly(entry.path)
    except OSError as error:
        log.debug(f"{directory} is not swept: {error}")


def remove_quietly(path: str) -> None:
    """Remove a file of ours that is no longer wanted; that it is gone already, or stays, does no harm."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        log.debug(f"{path} stays: {error}")


# The extension found last is tried first next time (spec/postgres-wal.md 6.2). The file is shared with the original.


def _hint_file() -> str:
    import pwd

    try:
        return os.path.join(pwd.getpwuid(os.getuid()).pw_dir, ".walg_decompressor_cache")
    except KeyError:
        return ""


def read_hint() -> str:
    """The extension in `~/.walg_decompressor_cache`, "" when there is none."""
    try:
        with open(_hint_file(), encoding="utf-8") as file:
            words = file.read(200).split('"')
    except (OSError, ValueError):
        return ""
    return words[3] if len(words) == 5 and words[1] == "FileExtension" else ""


def write_hint(extension: str) -> None:
    """Remember `extension`; a home that cannot be written only costs a request next time."""
    path = _hint_file()
    if not path:
        return
    try:
        atomic.write_file(path, f'{{"FileExtension":"{extension}"}}'.encode(), mode=0o644)
    except OSError as error:
        log.debug(f"{path} is not written: {error}")
