"""A client of the server's own protocol, RESP2: as much as a backup asks (redis.io, "Redis serialization protocol").

redis-py would take longer to import than a small backup takes as a whole. Sentinels and everything unusual use it.
"""

import _socket

from walg_core.errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from walg_redis.connection import Address

    Answer = bytes | int | None | list[Any]

_LINE_LIMIT = 4096
_BULK_LIMIT = 16 << 20
_PIECE = 1 << 16


class Refused(EngineError):
    """The server's answer is an error: `text` as it gives it."""

    def __init__(self, where: str, text: str) -> None:
        super().__init__(f"the server at {where} answers: {text}")
        self.text = text


class Connection:
    """One logged-in connection. `close` ends it; `cancel` wakes another thread that waits in `receive`."""

    def __init__(self, where: "Address") -> None:
        """Raises EngineError: nobody there, TLS refused, login refused."""
        self.where = where
        self._buffer = b""
        self._socket: Any = _connect(where)
        try:
            self._log_in()
        except BaseException:
            self.close()
            raise

    def _log_in(self) -> None:
        where = self.where
        try:
            if where.password:
                named = () if where.username == "default" else (where.username,)
                self.ask("AUTH", *named, where.password)
        except Refused as error:
            raise EngineError(
                f"the server at {where.shown} refuses the login: {error.text}",
                hint="check WALG_REDIS_USERNAME and WALG_REDIS_PASSWORD",
            ) from None
        try:
            self.ask("PING")
        except Refused as error:
            if error.text.startswith("NOAUTH"):
                raise EngineError(
                    f"the server at {where.shown} wants a password: {error.text}", hint="set WALG_REDIS_PASSWORD"
                ) from None

    def ask(self, *words: str) -> "Answer":
        """One command's answer. Raises Refused, EngineError."""
        parts = [word.encode("utf-8", "surrogateescape") for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        try:
            self._socket.sendall(request)
        except OSError as error:
            raise self.lost(error) from error
        return self._answer()

    def _answer(self, depth: int = 0) -> "Answer":
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise Refused(self.where.shown, rest.decode("utf-8", "replace"))
        try:
            number = int(rest)
        except ValueError:
            number = -2
        if kind == b":" and number != -2:
            return number
        if kind == b"$" and -1 <= number <= _BULK_LIMIT:
            return None if number < 0 else self._exactly(number + 2)[:-2]
        if kind == b"*" and -1 <= number < 1000 and depth < 4:
            return None if number < 0 else [self._answer(depth + 1) for _ in range(number)]
        raise EngineError(f"{self.where.shown} does not speak the Redis protocol")

    def line(self) -> bytes:
        """The next line that is not empty: a server sends bare newlines while it prepares."""
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                if line.strip():
                    return line.strip()
                continue
            if len(self._buffer) > _LINE_LIMIT:
                raise EngineError(f"{self.where.shown} does not speak the Redis protocol")
            self._buffer += self.receive(_LINE_LIMIT)

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self.receive(_PIECE)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def rest(self) -> bytes:
        """What was received beyond the last line or answer; it is the caller's now."""
        data, self._buffer = self._buffer, b""
        return data

    def receive(self, size: int) -> bytes:
        """What comes next, at least one byte. Raises EngineError."""
        try:
            piece: bytes = self._socket.recv(size)
        except OSError as error:
            raise self.lost(error) from error
        if not piece:
            raise self.lost(None)
        return piece

    def receive_into(self, view: memoryview) -> int:
        """The same into a buffer; the bytes that came."""
        try:
            count: int = self._socket.recv_into(view)
        except OSError as error:
            raise self.lost(error) from error
        if not count:
            raise self.lost(None)
        return count

    def lost(self, error: "OSError | None") -> EngineError:
        why = "it closed the connection" if error is None else str(error.strerror or error)
        return EngineError(
            f"the server at {self.where.shown} broke off: {why}",
            hint="its log says why; client-output-buffer-limit for replicas and repl-timeout are frequent reasons",
        )

    def cancel(self) -> None:
        try:
            self._socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        self._socket.close()


def _connect(where: "Address") -> "Any":
    try:
        if where.socket:
            made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            return _opened(made, where.socket, where.timeout)
        if where.tls:
            # TLS wants the full socket object.
            import socket

            return where.tls.context().wrap_socket(
                socket.create_connection((where.host, where.port), where.timeout), server_hostname=where.host
            )
        return _connect_tcp(where)
    except (OSError, UnicodeError) as error:
        setting = "WALG_REDIS_SOCKET" if where.socket else "WALG_REDIS_HOST and WALG_REDIS_PORT"
        raise EngineError(
            f"cannot connect to the server at {where.shown}: {getattr(error, 'strerror', '') or error}",
            hint=f"is it running? check {setting}; or set WALG_STREAM_CREATE_COMMAND to dump with a command",
        ) from error


def _connect_tcp(where: "Address") -> "_socket.socket":
    """The first of the host's addresses that takes the connection."""
    failure: OSError | None = None
    # As bytes: for a text Python would load its tables of international names, 5 ms.
    host = where.host.encode("ascii" if where.host.isascii() else "idna")
    found = _socket.getaddrinfo(host, where.port, _socket.AF_UNSPEC, _socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        try:
            made = _opened(_socket.socket(family, kind, protocol), address, where.timeout)
        except OSError as error:
            failure = error
            continue
        made.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        return made
    raise failure or OSError(f"{where.host} has no address")


def _opened(made: "_socket.socket", address: "Any", timeout: float) -> "_socket.socket":
    try:
        made.settimeout(timeout)
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made
