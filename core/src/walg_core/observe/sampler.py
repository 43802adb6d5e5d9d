"""A sampling profiler over all threads (the data plane is threads). Its output is folded stacks, which flame graph
tools and speedscope read: `outermost;...;innermost COUNT`, one line a stack.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from types import FrameType

INTERVAL = 0.01
"""Seconds between samples."""
_DEPTH = 200


class Sampler:
    """Samples every thread but its own between `start` and `stop`."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._stacks: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="walg-sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> str:
        """End sampling and return the folded stacks, the most frequent first."""
        self._stop.set()
        self._thread.join()
        return "".join(f"{stack} {count}\n" for stack, count in self._stacks.most_common())

    def _run(self) -> None:
        own = threading.get_ident()
        while not self._stop.wait(self._interval):
            for ident, frame in sys._current_frames().items():
                if ident != own:
                    self._stacks[folded(frame)] += 1


def folded(frame: FrameType | None) -> str:
    """A stack as one line, outermost call first."""
    parts: list[str] = []
    while frame is not None and len(parts) < _DEPTH:
        code = frame.f_code
        parts.append(f"{frame.f_globals.get('__name__', '?')}.{code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return ";".join(reversed(parts))


def profile_for(seconds: float) -> str:
    """The folded stacks of the next `seconds`."""
    sampler = Sampler()
    sampler.start()
    time.sleep(seconds)
    return sampler.stop()


def thread_stacks() -> str:
    """What every thread is doing now."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames().items()
    return "".join(f"{names.get(ident, ident)}: {folded(frame)}\n" for ident, frame in frames)
