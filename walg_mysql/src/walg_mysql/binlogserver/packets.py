"""The client/server protocol of MySQL as far as a replication source needs it (spec/mysql.md 8).

A packet is a length of 3 bytes, a sequence number and the payload; integers are little-endian.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import struct
from dataclasses import dataclass

from walg_core.errors import WalgError

MAX_PAYLOAD = 0xFFFFFF
_LIMIT = 16 << 20
_CONNECT_WITH_DB, _PROTOCOL_41, _PLUGIN_AUTH, _LENENC_AUTH = 0x8, 0x200, 0x80000, 0x200000
CAPABILITIES = 0x00BEA20D
NATIVE, SHA2 = "mysql_native_password", "caching_sha2_password"
_CHARSET = 33


class ProtocolError(WalgError):
    """The client does not speak the protocol, or has gone."""


class Wire:
    """Packets over a connected socket. `write` is for one thread, `read` for one."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._input = connection.makefile("rb")
        self.sequence = 0

    def read(self) -> bytes:
        """One payload. Raises ProtocolError at the end of the connection."""
        parts: list[bytes] = []
        while True:
            header = self._input.read(4)
            if len(header) < 4:
                raise ProtocolError("the client has closed the connection")
            size = int.from_bytes(header[:3], "little")
            self.sequence = (header[3] + 1) & 0xFF
            if sum(len(part) for part in parts) + size > _LIMIT:
                raise ProtocolError("the client sent a packet of more than 16 MiB")
            parts.append(self._input.read(size))
            if len(parts[-1]) < size:
                raise ProtocolError("the client has closed the connection within a packet")
            if size < MAX_PAYLOAD:
                return b"".join(parts)

    def write(self, payload: bytes) -> None:
        """One payload, in pieces where it is long."""
        view = memoryview(payload)
        while True:
            piece = view[:MAX_PAYLOAD]
            header = len(piece).to_bytes(3, "little") + bytes([self.sequence])
            self.sequence = (self.sequence + 1) & 0xFF
            self._socket.sendall(header + piece)
            view = view[MAX_PAYLOAD:]
            if len(piece) < MAX_PAYLOAD:
                return

    def ok(self) -> None:
        self.write(b"\x00\x00\x00\x00\x00\x00\x00")

    def eof(self) -> None:
        self.write(b"\xfe\x00\x00\x00\x00")

    def error(self, code: int, state: str, message: str) -> None:
        self.write(b"\xff" + code.to_bytes(2, "little") + b"#" + state.encode() + message.encode())

    def row(self, columns: list[str], values: list[str]) -> None:
        """A result of one row of texts."""
        self.write(bytes([len(columns)]))
        for name in columns:
            definition = b"".join(map(text, ("def", "", "", "", name, "")))
            self.write(definition + struct.pack("<BHIBHBxx", 0x0C, _CHARSET, 0, 253, 0, 0))
        self.eof()
        self.write(b"".join(map(text, values)))
        self.eof()


def text(value: str) -> bytes:
    """A text after its length; those of the protocol's answers here are short."""
    data = value.encode()
    if len(data) < 251:
        return bytes([len(data)]) + data
    return b"\xfc" + len(data).to_bytes(2, "little") + data


@dataclass(frozen=True, slots=True)
class Login:
    """What a client says about itself."""

    user: str
    answer: bytes
    plugin: str


def greeting(version: str, connection_id: int, scramble: bytes) -> bytes:
    """Protocol 10 with `mysql_native_password`; `scramble` has 20 bytes."""
    return (
        b"\x0a" + version.encode() + b"\0" + struct.pack("<I", connection_id) + scramble[:8] + b"\0"
        + struct.pack("<HBHH", CAPABILITIES & 0xFFFF, 255, 0, CAPABILITIES >> 16)
        + bytes([len(scramble) + 1]) + bytes(10) + scramble[8:] + b"\0" + NATIVE.encode() + b"\0"
    )  # fmt: skip


def new_scramble() -> bytes:
    """20 random bytes without NUL and `$`, which some clients cannot take."""
    return bytes(secrets.choice(b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789") for _ in range(20))


def parse_login(payload: bytes) -> Login:
    """The handshake response. Raises ProtocolError."""
    try:
        return _parse_login(payload)
    except (IndexError, ValueError, struct.error) as error:
        raise ProtocolError(f"the client's login is malformed: {error}") from error


def _parse_login(payload: bytes) -> Login:
    (capabilities,) = struct.unpack_from("<I", payload)
    if not capabilities & _PROTOCOL_41:
        raise ValueError("it is of a protocol before 4.1")
    end = payload.index(b"\0", 32)
    user, at = payload[32:end].decode(), end + 1
    size = payload[at]
    if size == 0xFC and capabilities & _LENENC_AUTH:
        size, at = int.from_bytes(payload[at + 1 : at + 3], "little"), at + 2
    answer, at = payload[at + 1 : at + 1 + size], at + 1 + size
    if capabilities & _CONNECT_WITH_DB:
        at = payload.index(b"\0", at) + 1
    plugin = NATIVE
    if capabilities & _PLUGIN_AUTH and at < len(payload):
        plugin = payload[at:].split(b"\0", 1)[0].decode()
    return Login(user, answer, plugin)


def proves(plugin: str, answer: bytes, password: str, scramble: bytes) -> bool:
    """Whether `answer` shows knowledge of the password, by either plugin."""
    secret = password.encode()
    if not secret:
        return answer in (b"", b"\0")
    if plugin == SHA2:
        first = hashlib.sha256(secret).digest()
        mask = hashlib.sha256(hashlib.sha256(first).digest() + scramble).digest()
    else:
        first = hashlib.sha1(secret).digest()  # noqa: S324 - the protocol's
        mask = hashlib.sha1(scramble + hashlib.sha1(first).digest()).digest()  # noqa: S324
    return hmac.compare_digest(answer, bytes(a ^ b for a, b in zip(first, mask, strict=True)))


def authenticate(wire: Wire, version: str, connection_id: int, user: str, password: str, peer: str) -> None:
    """Greet and log in; on return the client may send commands. Raises ProtocolError after telling the client."""
    scramble = new_scramble()
    wire.sequence = 0
    wire.write(greeting(version, connection_id, scramble))
    login = parse_login(wire.read())
    plugin, answer = login.plugin, login.answer
    if plugin != NATIVE and not (plugin == SHA2 and proves(plugin, answer, password, scramble)):
        # A client of MySQL 8 or 9 names its own plugin and waits to be told to use it; 9 has no native one any more.
        plugin = SHA2 if plugin == SHA2 else NATIVE
        wire.write(b"\xfe" + plugin.encode() + b"\0" + scramble + b"\0")
        answer = wire.read()
    known = hmac.compare_digest(login.user.encode(), user.encode())
    if not proves(plugin, answer, password, scramble) or not known:
        wire.error(1045, "28000", f"Access denied for user '{login.user}'@'{peer}'")
        raise ProtocolError(f"access denied for user '{login.user}' from {peer}")
    if plugin == SHA2 and password:
        wire.write(b"\x01\x03")
    wire.ok()
