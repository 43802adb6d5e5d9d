"""The data set over the replication protocol: what a replica gets first is an RDB (`PSYNC`, Redis' replication.c).

No external command is needed, nothing is written on the server's disk when it replicates diskless.
"""

from walg_core.errors import EngineError, IntegrityError
from walg_core.pipeline.reader import CHUNK

from walg_redis.resp import Connection, Refused

_MARK = 40
"""Bytes of the mark that ends a diskless transfer."""


class ReplicationReader:
    """The RDB that the server sends to a new replica. Closing ends the replication and its connection `server`.

    Raises EngineError when the server refuses or breaks off; the end of data is only reported when all has come.
    """

    def __init__(self, server: Connection) -> None:
        self._server = server
        self._left = 0
        self._mark = b""
        self._done = False
        try:
            self._begin(server)
        except BaseException:
            self.close()
            raise
        self._buffer = server.rest()

    def _begin(self, server: Connection) -> None:
        # In Redis 7 `rdb-only` ends the replication after the RDB, instead of collecting later writes for us; older
        # servers do not know it.
        for words in (("capa", "eof"), ("rdb-only", "1")):
            try:
                server.ask("REPLCONF", *words)
            except Refused:
                continue
        try:
            answer = server.ask("PSYNC", "?", "-1")
        except Refused as error:
            answer = error.text.encode()
        if not (isinstance(answer, bytes) and answer.startswith(b"FULLRESYNC")):
            raise EngineError(
                f"the server at {server.where.shown} does not replicate to us: {_text(answer)}",
                hint="the user needs the rights +psync +replconf +ping, and a replica must itself be in sync",
            )
        header = server.line()
        if header.startswith(b"$EOF:") and len(header) == 5 + _MARK:
            self._mark = header[5:]
        elif header.startswith(b"$") and header[1:].isdigit():
            self._left = int(header[1:])
        else:
            raise EngineError(f"the server at {server.where.shown} answers PSYNC with {_text(header)!r}")

    def read(self, size: int = -1, /) -> bytes:
        if self._done or size == 0:
            return b""
        wanted = CHUNK if size < 0 else min(size, CHUNK)
        return self._read_marked(wanted) if self._mark else self._read_sized(wanted)

    def _read_sized(self, wanted: int) -> bytes:
        if not self._left:
            self._done = True
            return b""
        piece = self._buffer or self._server.receive(min(wanted, self._left))
        piece, self._buffer = piece[: min(wanted, self._left)], piece[min(wanted, self._left) :]
        self._left -= len(piece)
        return piece

    def _read_marked(self, wanted: int) -> bytes:
        """All but the last bytes, which may be the mark: the data ends where the stream ends in it.

        A server sends small pieces; they are gathered, and only the mark's length is looked at in each.
        """
        parts, have = [self._buffer], len(self._buffer)
        tail = self._buffer[-_MARK:]
        while tail != self._mark and have < wanted + _MARK:
            piece = self._server.receive(wanted)
            parts.append(piece)
            have += len(piece)
            tail = piece[-_MARK:] if len(piece) >= _MARK else (tail + piece)[-_MARK:]
        data = b"".join(parts)
        if tail == self._mark:
            self._done = True
            return data[:-_MARK]
        ready = have - _MARK
        self._buffer = data[ready:]
        return data[:ready]

    def cancel(self) -> None:
        """Wake a `read` of another thread, which then fails."""
        self._server.cancel()

    def close(self) -> None:
        self._server.close()


class RdbTail:
    """Passes an RDB through; raises IntegrityError when it does not begin and end like one."""

    def __init__(self, source: ReplicationReader) -> None:
        self._source = source
        self._head = b""
        self._tail = b""

    def read(self, size: int = -1, /) -> bytes:
        piece = self._source.read(size)
        if len(self._head) < 9:
            self._head += piece[: 9 - len(self._head)]
        self._tail = (self._tail + piece)[-9:] if len(piece) < 9 else piece[-9:]
        if not piece and size and not (_is_header(self._head) and self._tail[:1] == b"\xff"):
            raise IntegrityError("the server did not send a whole RDB")
        return piece

    def cancel(self) -> None:
        self._source.cancel()

    def close(self) -> None:
        self._source.close()


def _is_header(head: bytes) -> bool:
    return (head[:5] == b"REDIS" and head[5:9].isdigit()) or (head[:6] == b"VALKEY" and head[6:9].isdigit())


def _text(answer: object) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else repr(answer)
