"""The server's tars cut into parts: entries renamed, nothing else changed (spec/postgres-backup.md 10)."""

from __future__ import annotations

import os
from collections.abc import Collection

from walg_core.backups import times
from walg_core.errors import IntegrityError
from walg_core.observe.progress import Tracker
from walg_core.pipeline import tar
from walg_core.pipeline.reader import CHUNK

from walg_pg.backup.base_backup import BaseBackup
from walg_pg.backup.parts import Ledger
from walg_pg.sentinel import FileEntry

CONTROL = "global/pg_control"
_CONTROL_LIMIT = 1 << 16


class ServerTar:
    """The present archive of `backup` as a stream of entries. `raw` counts the bytes received over all archives."""

    def __init__(self, backup: BaseBackup) -> None:
        self._backup = backup
        self._rest = b""
        self.raw = 0
        self.waiting: tar.Entry | None = None

    def begin(self) -> None:
        """A new archive starts."""
        self._rest = b""

    def next(self) -> tar.Entry | None:
        """The next header, None at the end of the archive, whose remaining bytes are passed over."""
        if self.waiting is not None:
            entry, self.waiting = self.waiting, None
            return entry
        block = self.exactly(tar.BLOCK)
        if len(block) < tar.BLOCK or not any(block):
            while self.some(CHUNK):
                continue
            return None
        return parse(block)

    def some(self, size: int) -> bytes:
        """Up to `size` bytes."""
        if not self._rest:
            self._rest = self._backup.data()
            self.raw += len(self._rest)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def exactly(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end of the archive."""
        parts, have = [], 0
        while have < size and (piece := self.some(size - have)):
            parts.append(piece)
            have += len(piece)
        return b"".join(parts)


def parse(block: bytes) -> tar.Entry:
    """A ustar header as the server writes it. Raises IntegrityError."""
    number = _number(block, 148, 156)
    if number != sum(block[:148]) + sum(block[156:]) + 256:
        raise IntegrityError("the server sent a tar header with a wrong checksum")
    name, prefix = _text(block, 0, 100), _text(block, 345, 500)
    return tar.Entry(
        name=prefix + b"/" + name if prefix else name,
        size=_number(block, 124, 136),
        mode=_number(block, 100, 108),
        uid=_number(block, 108, 116),
        gid=_number(block, 116, 124),
        uname=_text(block, 265, 297),
        gname=_text(block, 297, 329),
        mtime=_number(block, 136, 148),
        type=tar.FILE if block[156:157] == b"\0" else block[156:157],
        link=_text(block, 157, 257),
    )


def _text(block: bytes, start: int, end: int) -> bytes:
    return block[start:end].split(b"\0", 1)[0]


def _number(block: bytes, start: int, end: int) -> int:
    field = block[start:end]
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise IntegrityError(f"the server sent a tar header with the number {field!r}") from None


class RemotePart:
    """One part as a reader: entries of the present archive until the next would make it exceed `threshold` bytes.

    `exhausted`: the archive has no more entries. `control` is `global/pg_control`, once it has passed. `names` stays
    empty: the members of such parts are in no list.
    """

    def __init__(
        self, source: ServerTar, oid: str, ledger: Ledger, threshold: int, tracker: Tracker | None = None
    ) -> None:
        self.names: Collection[str] = ()
        self._begun = False
        self.data = 0
        self.exhausted = False
        self.control: tuple[tar.Entry, bytes] | None = None
        self._source = source
        self._prefix = f"pg_tblspc/{oid}/".encode() if oid else b""
        self._ledger = ledger
        self._threshold = threshold
        self._tracker = tracker
        self._pending = b""
        self._left = 0
        self._padding = 0
        self._done = False

    def start(self) -> bool:
        """Draw the first entry; False when there is none."""
        return self._next()

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; empty only at the end."""
        size = size if size > 0 else CHUNK
        while True:
            if self._pending:
                piece, self._pending = self._pending[:size], self._pending[size:]
                return piece
            if self._left:
                return self._from_file(size)
            if self._done:
                return b""
            if not self._next():
                self._done = True
                self._pending = tar.TRAILER

    def _from_file(self, size: int) -> bytes:
        piece = self._source.some(min(size, self._left))
        if not piece:
            raise IntegrityError("the server's archive ends within a file", hint="run backup-push again")
        self._left -= len(piece)
        if self._tracker:
            self._tracker.advance(len(piece))
        if not self._left and self._padding:
            # The server may leave out the padding of its very last entry.
            self._source.exactly(self._padding)
            self._pending = bytes(self._padding)
        return piece

    def _next(self) -> bool:
        entry = self._source.next()
        if entry is None:
            self.exhausted = True
            return False
        if self._begun and self.data + entry.size > self._threshold:
            self._source.waiting = entry
            return False
        named = entry._replace(name=self._prefix + entry.name)
        name = os.fsdecode(named.name).removeprefix("./")
        self._begun = True
        self.data += entry.size
        if entry.type != tar.DIRECTORY:
            mtime = times.format_local(entry.mtime * times.SECOND)
            self._ledger.record(name, FileEntry(mtime=mtime))
        self._pending = tar.header(named)
        self._left = entry.size
        self._padding = -entry.size % tar.BLOCK
        if name == CONTROL and not self._prefix:
            self._keep_control(named)
        return True

    def _keep_control(self, entry: tar.Entry) -> None:
        if entry.size > _CONTROL_LIMIT:
            raise IntegrityError(f"the server's pg_control has {entry.size} bytes")
        data = self._source.exactly(entry.size)
        self._source.exactly(self._padding)
        if len(data) < entry.size:
            raise IntegrityError("the server's archive ends within pg_control", hint="run backup-push again")
        self.control = (entry, data)
        self._pending += data + bytes(self._padding)
        self._left = self._padding = 0

    def close(self) -> None:
        """Nothing to release: the connection belongs to the whole backup."""
