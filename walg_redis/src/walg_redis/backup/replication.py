"""The data set over the replication protocol: what a replica gets first is an RDB (`PSYNC`, Redis' replication.c).

No external command is needed, nothing is written on the server's disk when it replicates diskless.
"""

from __future__ import annotations

import socket

from walg_core.errors import EngineError, IntegrityError
from walg_core.pipeline.reader import CHUNK

from walg_redis.connection import Address

_MARK = 40
"""Bytes of the mark that ends a diskless transfer."""
_LINE_LIMIT = 4096


class ReplicationReader:
    """The RDB that the server sends to a new replica. Closing ends the replication.

    Raises EngineError when the server refuses or breaks off; the end of data is only reported when all has come.
    """

    def __init__(self, where: Address) -> None:
        self._where = where
        self._buffer = b""
        self._left = 0
        self._mark = b""
        self._done = False
        self._socket = self._connect()
        try:
            self._log_in()
            self._begin()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> socket.socket:
        where = self._where
        try:
            if where.socket:
                made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                made.settimeout(where.timeout)
                made.connect(where.socket)
                return made
            made = socket.create_connection((where.host, where.port), where.timeout)
            return where.tls.context().wrap_socket(made, server_hostname=where.host) if where.tls else made
        except OSError as error:
            setting = "WALG_REDIS_SOCKET" if where.socket else "WALG_REDIS_HOST and WALG_REDIS_PORT"
            raise EngineError(
                f"cannot connect to the server at {where.shown}: {error.strerror or error}",
                hint=f"is it running? check {setting}; or set WALG_STREAM_CREATE_COMMAND to dump with a command",
            ) from error

    def _log_in(self) -> None:
        where = self._where
        if where.password:
            words = (
                ("AUTH", where.password) if where.username == "default" else ("AUTH", where.username, where.password)
            )
            answer = self._ask(*words)
            if answer.startswith(b"-"):
                raise EngineError(
                    f"the server at {where.shown} refuses the login: {_text(answer)}",
                    hint="check WALG_REDIS_USERNAME and WALG_REDIS_PASSWORD",
                )
        answer = self._ask("PING")
        if answer.startswith(b"-NOAUTH"):
            raise EngineError(
                f"the server at {where.shown} wants a password: {_text(answer)}", hint="set WALG_REDIS_PASSWORD"
            )

    def _begin(self) -> None:
        self._ask("REPLCONF", "capa", "eof")
        # Redis 7 then ends after the RDB instead of collecting later writes for us; older servers do not know it.
        self._ask("REPLCONF", "rdb-only", "1")
        answer = self._ask("PSYNC", "?", "-1")
        if not answer.startswith(b"+FULLRESYNC"):
            raise EngineError(
                f"the server at {self._where.shown} does not replicate to us: {_text(answer)}",
                hint="the user needs the rights +psync +replconf +ping, and a replica must itself be in sync",
            )
        header = self._line()
        if header.startswith(b"$EOF:") and len(header) == 5 + _MARK:
            self._mark = header[5:]
        elif header.startswith(b"$") and header[1:].isdigit():
            self._left = int(header[1:])
        else:
            raise EngineError(f"the server at {self._where.shown} answers PSYNC with {_text(header)!r}")

    def _ask(self, *words: str) -> bytes:
        parts = [word.encode() for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        try:
            self._socket.sendall(request)
        except OSError as error:
            raise self._lost(error) from error
        return self._line()

    def _line(self) -> bytes:
        """The next line that is not empty: the server sends bare newlines while it prepares."""
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                if line.strip():
                    return line.strip()
                continue
            if len(self._buffer) > _LINE_LIMIT:
                raise EngineError(f"{self._where.shown} does not speak the Redis protocol")
            self._buffer += self._receive(_LINE_LIMIT)

    def _receive(self, size: int) -> bytes:
        try:
            piece = self._socket.recv(size)
        except OSError as error:
            raise self._lost(error) from error
        if not piece:
            raise self._lost(None)
        return piece

    def _lost(self, error: OSError | None) -> EngineError:
        why = "it closed the connection" if error is None else str(error.strerror or error)
        return EngineError(
            f"the server at {self._where.shown} broke off: {why}",
            hint="its log says why; client-output-buffer-limit for replicas and repl-timeout are frequent reasons",
        )

    def read(self, size: int = -1, /) -> bytes:
        if self._done or size == 0:
            return b""
        wanted = CHUNK if size < 0 else min(size, CHUNK)
        return self._read_marked(wanted) if self._mark else self._read_sized(wanted)

    def _read_sized(self, wanted: int) -> bytes:
        if not self._left:
            self._done = True
            return b""
        piece = self._buffer or self._receive(min(wanted, self._left))
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
            piece = self._receive(wanted)
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
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        self._socket.close()


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


def _text(answer: bytes) -> str:
    return answer.decode("utf-8", "replace").lstrip("-+")
