"""Whether restored files are whole RDBs and AOFs, before anything of the old data is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import BinaryIO

from walg_core.errors import IntegrityError
from walg_core.observe import log
from walg_core.pipeline.reader import CHUNK

from walg_redis.backup import manifest

_HINT = "the backup is damaged or is no Redis data; nothing was changed. --skip-checks restores it all the same"
_VALKEY = b"VALKEY"
_HEADER = 9
_TAIL = 8
_MARK = 40


def check_rdb(path: str) -> None:
    """Header and end mark, and the checker of the file's own family; where that is not installed, the checksum.

    The checker reads every value and the checksum, too. Raises IntegrityError. A checksum of zero means that the server
    was told to write none. Redis knows nothing of the format under the header `VALKEY` (Valkey 9 and later), Valkey
    reads both.
    """
    with open(path, "rb") as file:
        valkey = file.read(len(_VALKEY)) == _VALKEY
        file.seek(0)
        _check_ends(path, file, end_of_rdb(file))
        if not _run_tool(("valkey-check-rdb",) if valkey else ("redis-check-rdb", "valkey-check-rdb"), path):
            _check_sum(path, file, end_of_rdb(file))


def end_of_rdb(file: BinaryIO) -> int:
    """Where the RDB ends: `redis-cli --rdb -` leaves the mark of a diskless transfer after it, 40 hex digits.

    An RDB itself has 0xff nine bytes before its end, so its last 40 bytes are never all digits.
    The file stands at its beginning afterwards.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MARK))
    tail = file.read()
    file.seek(0)
    return size - _MARK if len(tail) == _MARK and not set(tail) - set(b"0123456789abcdef") else size


def _check_ends(path: str, file: BinaryIO, size: int) -> None:
    head = file.read(_HEADER)
    known = (head[:5] == b"REDIS" and head[5:].isdigit()) or (head[:6] == _VALKEY and head[6:].isdigit())
    if not known:
        raise IntegrityError(f"{path} is not an RDB: it begins with {head!r}", hint=_HINT)
    if size < _HEADER + 1 + _TAIL:
        raise IntegrityError(f"{path} is not a whole RDB: it has only {size} bytes", hint=_HINT)
    file.seek(size - _TAIL - 1)
    if file.read(1) != b"\xff":
        raise IntegrityError(f"{path} is torn or damaged: it does not end like an RDB", hint=_HINT)


def _check_sum(path: str, file: BinaryIO, size: int) -> None:
    """Of the first `size` bytes of the file, which stands at its beginning."""
    from walg_redis.restore import crc64

    checksum, left = 0, size - _TAIL
    while left:
        piece = file.read(min(CHUNK, left))
        if not piece:
            raise IntegrityError(f"{path} became shorter while it was read", hint=_HINT)
        checksum = crc64.update(checksum, piece)
        left -= len(piece)
    stored = int.from_bytes(file.read(_TAIL), "little")
    if stored and stored != checksum:
        raise IntegrityError(f"{path} is torn or damaged: its checksum is wrong", hint=_HINT)


def _run_tool(names: tuple[str, ...], *words: str) -> bool:
    """Whether a server's checker has found the file whole; False where none is installed, or it is too old for it."""
    tool = next((found for name in names if (found := shutil.which(name))), None)
    if not tool:
        return False
    done = subprocess.run([tool, *words], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        output = done.stdout + done.stderr
        if "Can't handle RDB format version" in output:
            log.warning(f"{tool} is older than the backup's server and cannot check it")
            return False
        tail = "\n".join(output.splitlines()[-5:])
        raise IntegrityError(f"{tool} finds {words[-1]} damaged:\n{tail}", hint=_HINT)
    return True


def check_aof(directory: str, name: str) -> None:
    """The manifest, that every file it names is there, the base and every increment. Raises IntegrityError.

    Only the last increment may end inside a command, as one does that was being written: the server cuts it there.
    """
    path = os.path.join(directory, name)
    try:
        with open(path, "rb") as file:
            files = manifest.parse(file.read(), path)
    except FileNotFoundError:
        raise IntegrityError(f"the backup has no AOF manifest {name}", hint=_HINT) from None
    loaded = [each for each in files if each.kind != "h"]
    for each in loaded:
        part = os.path.join(directory, each.name)
        if not os.path.isfile(part):
            raise IntegrityError(f"the backup lacks {each.name}, which its manifest names", hint=_HINT)
        _check_part(part, last=each is loaded[-1])


def _check_part(path: str, *, last: bool) -> None:
    with open(path, "rb") as file:
        head = file.read(6)
    if head[:5] == b"REDIS" or head == _VALKEY:
        check_rdb(path)
        return
    with open(path, "rb") as file:
        _check_commands(path, file, may_be_cut=last)


def _check_commands(path: str, file: BinaryIO, *, may_be_cut: bool) -> None:
    """RESP commands and `#` annotations, one after another."""
    while line := file.readline(1 << 20):
        if line.startswith(b"#"):
            continue
        whole = line.startswith(b"*") and line[1:].strip().isdigit()
        if whole:
            whole = _skip_words(path, file, int(line[1:]))
        elif not (may_be_cut and not line.endswith(b"\n")):
            raise IntegrityError(f"{path} is damaged before byte {file.tell()}: not a command", hint=_HINT)
        if not whole:
            if may_be_cut:
                log.info(f"{path} ends inside a command; the server will cut it there")
                return
            raise IntegrityError(f"{path} is torn: it ends inside a command", hint=_HINT)


def _skip_words(path: str, file: BinaryIO, count: int) -> bool:
    """Read `count` bulk strings; False when the file ends before."""
    for _ in range(count):
        head = file.readline(64)
        if not head.endswith(b"\n"):
            return False
        if not head.startswith(b"$") or not head[1:].strip().isdigit():
            raise IntegrityError(f"{path} is damaged before byte {file.tell()}: not a command", hint=_HINT)
        size = int(head[1:]) + 2
        data = file.read(size) if size <= CHUNK else _skip(file, size)
        if len(data) < min(size, 2):
            return False
        if size <= CHUNK and len(data) < size:
            return False
        if data[-2:] != b"\r\n":
            raise IntegrityError(f"{path} is damaged before byte {file.tell()}: not a command", hint=_HINT)
    return True


def _skip(file: BinaryIO, size: int) -> bytes:
    """Over a long value; its last two bytes, fewer when the file ends before."""
    file.seek(size - 2, os.SEEK_CUR)
    return file.read(2)
