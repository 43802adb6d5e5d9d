"""The connection of a catchup: gob, encrypted when a crypter is configured, in one lz4 frame a direction (spec 15.3).

The plain frame has no end: the original reads nothing after the last value, and a byte that stays unread in the
receiver's socket would look to the sender as if the receiver had died. It is decoded block by block as blocks arrive.
An encrypted stream has an end, and so has its frame: without it the last package cannot be recognised (the original
leaves it out, and its encrypted catchups never finish).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

from walg_core.compression.framing import Stage
from walg_core.compression.lz4 import compressor
from walg_core.context import Context
from walg_core.errors import EngineError, IntegrityError, UsageError
from walg_core.observe import log
from walg_core.pipeline.reader import CHUNK, IterReader, Reader

from walg_pg.catchup.gob import Decoder, GobError

_MAGIC = b"\x04\x22\x4d\x18"
_STORED = 0x80000000
_WINDOW = 1 << 16
_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 8))


def parse_address(text: str) -> tuple[str, int]:
    """`host:port` (an IPv6 address in brackets), or a port alone: all interfaces. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"{text!r} is not an address", hint="give host:port, for example replica.example.com:7000")
    return host.removeprefix("[").removesuffix("]"), int(port)


def listen(address: str) -> socket.socket:
    """A socket on which the sender is awaited. Raises EngineError."""
    host, port = parse_address(address)
    try:
        if host:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, port), family=family, backlog=1)
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=1, dualstack_ipv6=True)
        return socket.create_server(("", port), backlog=1)
    except OSError as error:
        busy = error.errno == errno.EADDRINUSE
        raise EngineError(
            f"cannot listen at {address}: {error.strerror or error}",
            hint="another program uses that port: choose another one on both sides" if busy else None,
        ) from error


def connect(address: str, context: Context) -> Connection:
    """The connection to a receiver. Raises EngineError, UsageError."""
    host, port = parse_address(address)
    try:
        return Connection(socket.create_connection((host or "localhost", port), timeout=60), "receiver", context)
    except OSError as error:
        raise EngineError(
            f"cannot connect to the receiver at {address}: {error.strerror or error}",
            hint="start wal-g catchup-receive on the replica first, and look at firewalls between the hosts",
        ) from error


class Connection:
    """One side. `peer` names the other one in errors. Use as a context manager: leaving it by an exception resets the
    connection, so that the other side fails too instead of taking what it has for everything."""

    def __init__(self, connected: socket.socket, peer: str, context: Context) -> None:
        self.peer = peer
        self._config = context.config
        self._crypter = context.crypter()
        self._socket = connected
        connected.settimeout(None)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            if hasattr(socket, option):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def send(self, messages: Iterator[bytes]) -> None:
        """Everything that this side has to say. Raises EngineError when the peer is gone; what `messages` raises."""
        source: Reader = IterReader(messages)
        if self._crypter:
            packed = compressor.compress(self._crypter.encrypt(source), self._config)
        else:
            packed = compressor.open_frame(source)
        try:
            while piece := packed.read(CHUNK):
                try:
                    self._socket.sendall(piece)
                except OSError as error:
                    raise self._gone(error) from error
        finally:
            packed.close()

    def decoder(self) -> Decoder:
        """What the peer says. Its methods raise EngineError when the peer is gone."""
        source: Reader = Stage(_blocks(_Incoming(self)), IterReader(()))
        if self._crypter:
            source = self._crypter.decrypt(source)
        return Decoder(lambda: source.read(4 * CHUNK))

    def finish(self, decoder: Decoder) -> None:
        """After the last value: an encrypted stream proves here that it is whole. Raises IntegrityError."""
        if self._crypter:
            decoder.finish()

    def receive(self, size: int) -> bytes:
        """Up to `size` bytes from the socket, none at its end. Raises EngineError."""
        try:
            return self._socket.recv(size)
        except OSError as error:
            raise self._gone(error) from error

    def wait_for_end(self) -> None:
        """Say that nothing more comes, and wait until the peer has finished. Raises EngineError when it failed."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._gone(error) from error
        while self.receive(CHUNK):
            log.debug(f"the {self.peer} says more than it has to")

    def _gone(self, error: OSError) -> EngineError:
        return EngineError(
            f"lost the {self.peer}: {error.strerror or error}",
            hint=f"see what wal-g on the {self.peer}'s side reports; then run both commands again",
        )

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class _Incoming:
    """Exact reads from the socket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._data = b""

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end of the connection."""
        parts, have = [self._data], len(self._data)
        while have < size:
            piece = self._connection.receive(CHUNK)
            if not piece:
                break
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        self._data = data[size:]
        return data[:size]


def _blocks(source: _Incoming) -> Iterator[bytes]:
    """The plain blocks of one lz4 frame, each as soon as it is there. Raises IntegrityError."""
    head = source.take(7)
    if not head:
        return
    if len(head) < 7 or head[:4] != _MAGIC or head[4] >> 6 != 1 or head[4] & 1:
        raise GobError(
            f"the other side does not speak the catchup protocol: it starts with {head.hex()}",
            hint="is it wal-g, and do both have the same encryption settings?",
        )
    flags, limit = head[4], 1 << (8 + 2 * (head[5] >> 4 & 7))
    if flags & 8:
        source.take(8)
    linked, checked = not flags & 0x20, bool(flags & 0x10)
    window = b""
    raw = b""
    while len(raw := source.take(4)) == 4 and (size := int.from_bytes(raw, "little")):
        body = source.take(size & ~_STORED) if size & ~_STORED <= limit else b""
        if len(body) < size & ~_STORED or (checked and len(source.take(4)) < 4):
            raise IntegrityError(
                "the connection ended in the middle of a block", hint="see what the other side reports"
            )
        plain = body if size & _STORED else _decompress(body, limit, window)
        if linked:
            window = (window + plain)[-_WINDOW:]
        yield plain
    if raw and flags & 4:
        source.take(4)


def _decompress(body: bytes, limit: int, window: bytes) -> bytes:
    from lz4.block import LZ4BlockError, decompress

    try:
        if window:
            return bytes(decompress(body, uncompressed_size=limit, dict=window))
        return bytes(decompress(body, uncompressed_size=limit))
    except LZ4BlockError as error:
        raise IntegrityError(f"the data on the connection is damaged: {error}") from error
