"""Advisory locks between processes."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class FileLock:
    """An open file or directory with a `flock` on it; released on exit, and by the kernel when the process dies.

    A file is created (0666 & ~umask) when missing. `shared` locks let each other in. Without `wait` a lock that another
    process holds raises BlockingIOError. Raises OSError, also where the file system has no locks.
    """

    def __init__(self, path: str, *, shared: bool = False, mode: int = 0o666, wait: bool = True) -> None:
        flags = os.O_RDONLY if shared or os.path.isdir(path) else os.O_RDWR | os.O_CREAT
        self.fd = os.open(path, flags | os.O_CLOEXEC, mode)
        self._shared = shared
        self._wait = wait

    def __enter__(self) -> "Self":
        import fcntl

        try:
            kind = fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX
            fcntl.flock(self.fd, kind if self._wait else kind | fcntl.LOCK_NB)
        except BaseException:
            os.close(self.fd)
            raise
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        os.close(self.fd)
