"""Advisory locks between processes."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class FileLock:
    """An open file with a `flock` on it; released on exit. The file is created (0666 & ~umask) when missing.

    `shared` locks let each other in. Raises OSError, also where the file system has no locks.
    """

    def __init__(self, path: str, *, shared: bool = False, mode: int = 0o666) -> None:
        flags = os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT
        self.fd = os.open(path, flags | os.O_CLOEXEC, mode)
        self._shared = shared

    def __enter__(self) -> "Self":
        import fcntl

        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX)
        except BaseException:
            os.close(self.fd)
            raise
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        os.close(self.fd)
