"""The crash harness: run Python code under strace, kill it at any system call, look at the order of its calls.

Linux only, needs `strace`. A kill point is the n-th call of one kind, counted in a first, complete run.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

CHANGING = (
    "open,openat,creat,write,pwrite64,writev,copy_file_range,sendfile,ftruncate,fsync,fdatasync,close,rename,renameat,"
    "renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fchmod,chmod,symlink,symlinkat"
)
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+|\?)")
_FD = re.compile(r"^(\d+|AT_FDCWD)<((?:[^<>\\]|\\.)*)>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Call(NamedTuple):
    """One system call: its number among those of its name, the file of its descriptor, its path arguments."""

    name: str
    number: int
    fd_path: str
    paths: tuple[str, ...]
    arguments: str
    result: int

    @property
    def opens_for_writing(self) -> bool:
        return self.name in ("open", "openat", "creat") and any(
            flag in self.arguments for flag in ("O_WRONLY", "O_RDWR", "O_CREAT")
        )


def available() -> bool:
    """Whether strace is here and may trace."""
    if not shutil.which("strace"):
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def _command(code: str, arguments: Sequence[str], *options: str) -> list[str]:
    return ["strace", "-f", "-y", *options, sys.executable, "-B", "-c", code, *arguments]


def _environment() -> dict[str, str]:
    # The same start-up every time, so that calls keep their numbers.
    return {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def trace(code: str, arguments: Sequence[str], below: str, scratch: Path) -> list[Call]:
    """Run Python `code` to its end; the calls that concern files below the directory `below`, in order."""
    log = scratch / "trace"
    command = _command(code, arguments, "-o", str(log), "-e", f"trace={CHANGING}")
    subprocess.run(command, check=True, env=_environment(), capture_output=True)
    numbers: Counter[str] = Counter()
    calls = []
    for line in log.read_text(errors="replace").splitlines():
        found = _LINE.match(line)
        if not found:
            continue
        name, arguments_text, result = found.groups()
        numbers[name] += 1
        descriptor = _FD.match(arguments_text)
        fd_path = descriptor.group(2) if descriptor else ""
        paths = tuple(_QUOTED.findall(arguments_text)) if "write" not in name else ()
        if any(path.startswith(below) for path in (fd_path, *paths)):
            calls.append(
                Call(name, numbers[name], fd_path, paths, arguments_text, int(result) if result != "?" else -1)
            )
    return calls


def changes(calls: Sequence[Call]) -> Iterator[Call]:
    """Those calls that change something, or make a change durable."""
    for call in calls:
        if call.name not in ("open", "openat", "creat", "close") or call.opens_for_writing:
            yield call


def kill_at(code: str, arguments: Sequence[str], call: Call) -> bool:
    """Run `code` again and kill it when it enters this call, which then never happens; whether it was killed so."""
    inject = f"inject={call.name}:signal=KILL:when={call.number}"
    command = _command(code, arguments, "-o", os.devnull, "-e", f"trace={call.name}", "-e", inject)
    return subprocess.run(command, env=_environment(), capture_output=True, check=False).returncode in (-9, 137)


def fail_at(code: str, arguments: Sequence[str], call: Call, error: str) -> "subprocess.CompletedProcess[bytes]":
    """Run `code` again and let this call fail with an errno (`ENOSPC`, `EIO`)."""
    inject = f"inject={call.name}:error={error}:when={call.number}"
    command = _command(code, arguments, "-o", os.devnull, "-e", f"trace={call.name}", "-e", inject)
    return subprocess.run(command, env=_environment(), capture_output=True, check=False)


def ordering_problems(calls: Sequence[Call]) -> list[str]:
    """What breaks "data, fsync, rename, fsync of the directory; new directories synced in their parents"."""
    problems = []
    for at, call in enumerate(calls):
        if call.result < 0:
            continue
        if call.name.startswith(("rename", "link")):
            source, target = call.paths[0], call.paths[-1]
            if not _synced_before(calls[:at], source):
                problems.append(f"{call.name} to {target} before its data was synced")
            if not _synced_after(calls[at:], os.path.dirname(target)):
                problems.append(f"{call.name} to {target} is never made durable")
        elif call.name.startswith("mkdir") and not _synced_after(calls[at:], os.path.dirname(call.paths[0])):
            problems.append(f"the new directory {call.paths[0]} is never made durable")
    return problems


def _synced_before(calls: Sequence[Call], path: str) -> bool:
    """An fsync of the file after its last write."""
    for call in reversed(calls):
        if call.fd_path == path and call.name in ("fsync", "fdatasync"):
            return True
        if call.fd_path == path and "write" in call.name:
            return False
    return False


def _synced_after(calls: Sequence[Call], directory: str) -> bool:
    return any(call.name == "fsync" and call.fd_path == directory and call.result == 0 for call in calls)
