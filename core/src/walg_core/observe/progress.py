"""Progress on a terminal: bytes, rate, time left. Silent in pipes, in logs, and for what takes under two seconds.

`with progress.track(total, "backup") as tracker: ...`, and `tracker.advance(len(piece))` from any thread.

On a terminal the command line opens a tracker of its own around every command, and the outermost storage layer feeds it
with what is transferred; a tracker that a command opens takes its place meanwhile.
"""

import sys
import time
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, TextIO

    from walg_core.pipeline.reader import Reader

_SILENCE = 2.0
_REFRESH = 0.25
_WINDOW = 15.0
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class Tracker:
    """One piece of work. `total` is in bytes, None when it is not known; it may be set later."""

    def __init__(self, total: int | None, label: str) -> None:
        self.total = total
        self.label = label
        self.done = 0
        self._lock = allocate_lock()
        self._started = time.monotonic()
        self._marks = [(self._started, 0)]
        self._painter: _Painter | None = None
        self.transfers = False
        """Whether the storage layer feeds this tracker."""

    def advance(self, count: int) -> None:
        """`count` more bytes are done. Safe from every thread."""
        with self._lock:
            self.done += count

    def line(self, now: float | None = None) -> str:
        """What is shown: `label: 1.2 GiB of 4.0 GiB (30%), 210.0 MiB/s, 14s left`."""
        now = time.monotonic() if now is None else now
        done, total = self.done, self.total
        while len(self._marks) > 1 and now - self._marks[1][0] > _WINDOW:
            self._marks.pop(0)
        since, before = self._marks[0]
        if now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, done))
        rate = (done - before) / (now - since) if now > since else 0.0
        text = f"{self.label}: {human(done)}"
        if total:
            text += f" of {human(total)} ({min(100, done * 100 // total)}%)"
        text += f", {human(rate)}/s"
        if total and rate > 0 and done < total:
            text += f", {clock((total - done) / rate)} left"
        return text

    def __enter__(self) -> "Self":
        if not _stack and visible(sys.stderr):
            self._painter = _Painter(sys.stderr)
        _stack.append(self)
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        if self._painter:
            self._painter.close()
            self._painter = None
        _stack.remove(self)


def track(total: int | None = None, label: str = "") -> Tracker:
    """A context manager that shows the progress of `total` bytes while it is open."""
    return Tracker(total, label)


_stack: list[Tracker] = []


def transfers() -> Tracker | None:
    """The tracker of everything that is transferred, where one is open: on a terminal, around a whole command."""
    for tracker in _stack:
        if tracker.transfers:
            return tracker
    return None


def tracked(source: "Reader", tracker: Tracker) -> "TrackedReader":
    """A reader that reports what passes; it can seek where the source can (a replayed upload is not counted twice)."""
    return (_SeekableTrackedReader if hasattr(source, "seek") else TrackedReader)(source, tracker)


class TrackedReader:
    """A reader that reports what passes through it. Closing closes the source."""

    def __init__(self, source: "Reader", tracker: Tracker) -> None:
        self._source = source
        self._tracker = tracker

    def read(self, size: int = -1, /) -> bytes:
        piece = self._source.read(size)
        self._tracker.advance(len(piece))
        return piece

    def close(self) -> None:
        self._source.close()


class _SeekableTrackedReader(TrackedReader):
    def seek(self, offset: int, whence: int = 0, /) -> int:
        before = self.tell()
        after: int = self._source.seek(offset, whence)  # type: ignore[attr-defined]
        self._tracker.advance(min(after - before, 0))
        return after

    def tell(self) -> int:
        place: int = self._source.tell()  # type: ignore[attr-defined]
        return place


def visible(stream: "TextIO") -> bool:
    """Whether progress may be shown there: a terminal that can rewrite its line, and the log does not want JSON."""
    import os

    from walg_core.observe import log

    try:
        terminal = stream.isatty()
    except (AttributeError, ValueError):
        return False
    return terminal and os.environ.get("TERM", "") not in ("", "dumb") and not log.is_json()


def human(size: float) -> str:
    """`1.5 MiB`."""
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{int(size)} B"


def clock(seconds: float) -> str:
    """`1h02m`, `3m04s`, `5s`."""
    whole = int(seconds + 0.5)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


class _Painter:
    """Repaints one line of a terminal from a thread of its own; log lines push it down."""

    def __init__(self, stream: "TextIO") -> None:
        import threading

        from walg_core.observe import log

        self._stream = stream
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._painted = False
        self._thread = threading.Thread(target=self._run, name="walg-progress", daemon=True)
        log.before_line(self.clear)
        self._thread.start()

    def _run(self) -> None:
        if self._stop.wait(_SILENCE):
            return
        while not self._stop.is_set():
            self._paint()
            self._stop.wait(_REFRESH)

    def _paint(self) -> None:
        import shutil

        tracker = _stack[-1] if _stack else None
        if tracker is None or not tracker.done:
            return
        width = shutil.get_terminal_size().columns
        with self._lock:
            self._put("\r\x1b[K" + tracker.line()[: max(width - 1, 10)])
            self._painted = True

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        with self._lock:
            if self._painted:
                self._put("\r\x1b[K")
                self._painted = False

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # The terminal is gone; the work is not.
            self._stop.set()

    def close(self) -> None:
        from walg_core.observe import log

        self._stop.set()
        self._thread.join()
        self.clear()
        log.before_line(None)
