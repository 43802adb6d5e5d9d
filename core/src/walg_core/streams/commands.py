"""The user's create and restore commands: `$SHELL -c TEXT`, the exit status decides (spec/stream-backups.md 6).

A command runs in a process group of its own. Whoever stops early stops all of it: SIGTERM, and SIGKILL after a grace
time. Its standard error is passed on to the log while it runs, and its last lines are part of the failure's message.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import IO

from walg_core.errors import CommandFailed, ConfigError
from walg_core.observe import log
from walg_core.pipeline.reader import CHUNK, Reader
from walg_core.settings.config import Config

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
_TAIL_LINES = 20
_LINE_LIMIT = 4096
_POLL = 0.02


def command_text(config: Config, name: str) -> str:
    """The command that the setting `name` holds. Raises ConfigError when it is not set or blank."""
    text = config.get(name)
    if text is None:
        raise ConfigError(f"command not configured: {name} is not set", hint=f"set {name} to a shell command")
    if not str(text).strip():
        raise ConfigError(f"{name} not configured: it is empty", hint=f"set {name} to a shell command")
    return str(text)


class Command:
    """A running shell command. `label` names it in messages (`backup create command`), `setting` where it comes from.

    `feed`: its input is a pipe; `input_fd`: its input is this file. Either way its output is discarded.
    `quiet`: its standard error is only kept for a failure's message, not logged while it runs.
    """

    def __init__(
        self,
        text: str,
        *,
        label: str,
        setting: str = "",
        feed: bool = False,
        input_fd: int | None = None,
        extra: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        self.label = label
        self.setting = setting
        self._quiet = quiet
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        shell = os.environ.get("SHELL") or "/bin/sh"
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [shell, "-c", text],
                stdin=subprocess.PIPE if feed else subprocess.DEVNULL if input_fd is None else input_fd,
                stdout=subprocess.PIPE if input_fd is None and not feed else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, **(extra or {})},
                bufsize=0,
                process_group=0,
            )
        except OSError as error:
            raise CommandFailed(
                f"{label} cannot be started: {shell}: {error.strerror}", hint="the variable SHELL names the shell"
            ) from error
        self._listener = threading.Thread(target=self._listen, name="command-stderr", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        stream: IO[bytes] | None = self.process.stderr
        while stream and (line := stream.readline(_LINE_LIMIT)):
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self._tail.append(text)
                (log.debug if self._quiet else log.info)(f"{self.label}: {text}")

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end; raises CommandFailed with the last output when the exit status is not 0."""
        status = self.process.wait(timeout)
        # A child left in the background may hold standard error open for ever.
        self._listener.join(1.0)
        if status:
            raise self.failure(status)

    def failure(self, status: int) -> CommandFailed:
        """What a non-zero exit status means."""
        if status < 0:
            try:
                how = f"killed by {signal.Signals(-status).name}"
            except ValueError:
                how = f"killed by signal {-status}"
        else:
            how = f"exit status {status}"
        tail = "\n".join(self._tail)
        said = f"; its last output:\n{tail}" if tail else "; it said nothing"
        hint = f"run the command of {self.setting} by hand to see why" if self.setting else None
        if status == 127:
            hint = f"a program of {self.setting or 'the command'} was not found: check PATH and the spelling"
        return CommandFailed(f"{self.label} failed: {how}{said}", hint=hint)

    def kill(self) -> None:
        """End the whole process group if it still runs: SIGTERM, after the grace time SIGKILL. Idempotent."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                log.warning(f"{self.label} does not end after SIGTERM; killing it")
        self._signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """`kill`, and release the pipes; no other thread may use them any more. Idempotent."""
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                try:
                    stream.close()
                except OSError:
                    continue
        self._listener.join(1.0)
        if self.process.stderr and not self._listener.is_alive():
            self.process.stderr.close()

    def _signal(self, number: int) -> None:
        """To the group, which may outlive its leader."""
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            return


class CommandReader:
    """A create command's output. The end of data is only reported once the command has ended with status 0.

    So nothing that reads it (an upload) ever takes a failed command's output for whole: `read` raises CommandFailed
    instead of returning the end. Closing stops a command that still runs.
    """

    def __init__(
        self,
        text: str,
        *,
        label: str = "backup create command",
        setting: str = "WALG_STREAM_CREATE_COMMAND",
        extra: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        self.command = Command(text, label=label, setting=setting, extra=extra, quiet=quiet)
        self._ended = False
        _widen(self.command.process.stdout)

    def read(self, size: int = -1, /) -> bytes:
        stream = self.command.process.stdout
        if self._ended or not stream or stream.closed or size == 0:
            return b""
        piece = os.read(stream.fileno(), CHUNK if size < 0 else min(size, CHUNK))
        if not piece:
            self.command.wait()
            self._ended = True
        return piece

    def cancel(self) -> None:
        """End the command while another thread may be reading: that one gets the failure."""
        self.command.kill()

    def close(self) -> None:
        self.command.stop()


def feed_command(
    text: str,
    source: Reader,
    *,
    label: str = "restore command",
    setting: str = "WALG_STREAM_RESTORE_COMMAND",
    extra: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> int:
    """Run a restore command with all of `source` on its standard input; returns the bytes given. Closes `source`.

    Raises CommandFailed when the command fails or ends before it has read everything. When reading `source` raises,
    the command is killed before its input ends, so that it cannot take what it got for the whole.
    """
    try:
        command = Command(text, label=label, setting=setting, feed=True, extra=extra, quiet=quiet)
        try:
            count = _pour(command, source)
            command.wait()
        finally:
            command.stop()
    finally:
        source.close()
    return count


def feed_file(
    text: str,
    path: str,
    *,
    label: str = "restore command",
    setting: str = "WALG_STREAM_RESTORE_COMMAND",
    extra: Mapping[str, str] | None = None,
) -> None:
    """Run a restore command whose standard input is the file at `path`.

    Unlike a pipe the file does not end early when this process is killed. Raises CommandFailed like `feed_command`.
    """
    with open(path, "rb", buffering=0) as file:
        command = Command(text, label=label, setting=setting, input_fd=file.fileno(), extra=extra)
        try:
            command.wait()
        finally:
            command.stop()
        # The command shares the file's position.
        if os.lseek(file.fileno(), 0, os.SEEK_CUR) < os.fstat(file.fileno()).st_size:
            raise _incomplete(command)


def _pour(command: Command, source: Reader) -> int:
    stdin = command.process.stdin
    assert stdin is not None
    fd = stdin.fileno()
    _widen(stdin)
    count = 0
    while piece := source.read(CHUNK):
        view = memoryview(piece)
        while view:
            try:
                done = os.write(fd, view)
            except BrokenPipeError:
                command.wait(GRACE)
                raise _incomplete(command) from None
            count += done
            view = view[done:]
    if not _drained(command, fd):
        command.wait()
        raise _incomplete(command)
    stdin.close()
    return count


def _drained(command: Command, fd: int) -> bool:
    """Wait until the command has taken everything out of the pipe; False when it ends without doing so."""
    import fcntl
    import struct
    import termios

    while True:
        ended = command.process.poll() is not None
        try:
            (waiting,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))
        except OSError:
            return True
        if not waiting:
            return True
        if ended:
            return False
        time.sleep(_POLL)


def _incomplete(command: Command) -> CommandFailed:
    return CommandFailed(
        f"{command.label} ended before it had read the whole backup",
        hint=f"the command of {command.setting or 'the restore'} must read its input to the end",
    )


def _widen(stream: IO[bytes] | None) -> None:
    """A larger pipe means fewer switches between the processes; not every system allows it."""
    import fcntl

    if stream and hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, CHUNK)
        except OSError:
            return
