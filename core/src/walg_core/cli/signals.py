"""Signals that end a command: they become `Interrupted` in the main thread, so that everything is undone in order."""

# The C module alone: `signal` loads enum and functools, 2 ms in every cold command.
import _signal as signal  # type: ignore[import-not-found]
import os

from walg_core.errors import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_PATIENCE = 3


class _State:
    count = 0


def install() -> "list[tuple[int, Any]]":
    """Take over SIGINT, SIGTERM, SIGHUP and SIGQUIT; one that the parent ignores (nohup) stays ignored.

    The first raises Interrupted; while things are undone the next is only counted; the third ends the process at
    once. Does nothing outside the main thread. Returns what `restore` takes.
    """
    _State.count = 0
    before: list[tuple[int, Any]] = []
    for number in _CAUGHT:
        handler = signal.getsignal(number)
        if handler is not signal.SIG_IGN:
            try:
                signal.signal(number, _handle)
            except ValueError:
                break
            before.append((number, handler))
    return before


def restore(before: "list[tuple[int, Any]]") -> None:
    """Put the handlers back that `install` replaced."""
    for number, handler in before:
        signal.signal(number, handler)


def _handle(number: int, _frame: "FrameType | None") -> None:
    _State.count += 1
    if _State.count == 1:
        from signal import Signals

        raise Interrupted(f"interrupted by {Signals(number).name}")
    if _State.count >= _PATIENCE:
        os._exit(Interrupted.exit_code)
