"""Commands that outlive the one that starts them: `wal-prefetch` and `wal-push-ahead`."""

import os
import time

from walg_core.io.locks import FileLock
from walg_core.observe import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from walg_core.context import Context


_TRIES = 10


def start(context: "Context", words: "list[str]", target: str = "") -> None:
    """Start this program again with `words` and do not wait for it; a failure is only logged."""
    argv = [*context.program, *words]
    if target:
        argv += ["--target-storage", target]
    quiet = [] if log.level() == log.DEVEL else [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        *quiet,
    ]
    _keep_descriptors()
    try:
        # A session of its own: it is not to end with PostgreSQL's command.
        os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)
    except OSError as error:
        log.warning(f"{words[0]} could not be started: {error}")


def _keep_descriptors() -> None:
    """Give away none that this process was given: a lock (`flock file wal-g wal-push %p`) ends with the command."""
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except OSError as error:
        log.debug(f"which descriptors are open is not known: {error}")
        return
    for number in numbers:
        if number > 2:
            try:
                os.set_inheritable(number, False)
            except OSError:
                continue  # the one through which they were listed


def alone(path: str) -> FileLock | None:
    """The lock of which one holder is enough, to be left with `__exit__`; None while another has it.

    Who only looks whether somebody has it holds it for a moment, too; so it is tried more than once.
    """
    for _ in range(_TRIES):
        try:
            return FileLock(path, mode=0o600, wait=False).__enter__()
        except BlockingIOError:
            time.sleep(0.01)
    return None


def run(what: str, work: "Callable[..., None]", *arguments: object, **options: object) -> int:
    """`work(*arguments, **options)` as a detached command: the status is 0 or 1, whatever happens.

    In a container where PostgreSQL is process 1 it inherits what its commands leave running, and takes any other status
    of such a process for the crash of a backend (`postmaster.c`, `process_pm_child_exit`).
    """
    from walg_core.errors import Interrupted

    try:
        work(*arguments, **options)
    except Interrupted as error:
        log.debug(f"{what}: {error}")
        return 1
    except Exception as error:
        # Nobody waits for it: PostgreSQL's own call for the file will meet what is wrong, and tell it.
        log.error(f"{what}: {error}")
        return 1
    return 0
