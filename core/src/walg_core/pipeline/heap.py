"""The C library's allocator, told to keep what was freed: for processes that go through many pieces of a megabyte."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS = -1, -3, -8
_KEPT = 16 << 20
_LARGEST = 8 << 20


def keep_freed_memory() -> None:
    """Do not give buffers of up to 8 MiB back to the system and take them anew; at most 16 MiB lie idle.

    Otherwise each piece that is read or packed costs a page fault for every 4 KiB, an eighth of the processor time of a
    daemon that archives. One arena serves all threads: with one for each, every one would keep that much. To be called
    before there are threads. What the environment says (`MALLOC_…`) is left alone; other C libraries have no such call.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    import ctypes

    try:
        mallopt: Any = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_ARENAS, 1)
    mallopt(_MMAP_THRESHOLD, _LARGEST)
    mallopt(_TRIM_THRESHOLD, _KEPT)
