"""Logins at the binlog server as each kind of client makes them; those of MySQL 8 by its documented packets."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from walg_mysql.binlogserver.packets import NATIVE, SHA2, ProtocolError, Wire, authenticate, parse_login

PASSWORD = "s3cret"


def native(scramble: bytes) -> bytes:
    first = hashlib.sha1(PASSWORD.encode()).digest()
    mask = hashlib.sha1(scramble + hashlib.sha1(first).digest()).digest()
    return bytes(a ^ b for a, b in zip(first, mask, strict=True))


def sha2(scramble: bytes) -> bytes:
    first = hashlib.sha256(PASSWORD.encode()).digest()
    mask = hashlib.sha256(hashlib.sha256(first).digest() + scramble).digest()
    return bytes(a ^ b for a, b in zip(first, mask, strict=True))


def packet(connection: socket.socket) -> bytes:
    header = connection.recv(4, socket.MSG_WAITALL)
    return connection.recv(int.from_bytes(header[:3], "little"), socket.MSG_WAITALL)


def log_in(plugin: str, answer: Callable[[bytes], bytes], second: Callable[[bytes], bytes] | None) -> list[bytes]:
    """The server's packets after its greeting."""
    ours, theirs = socket.socketpair()
    failures: list[Exception] = []

    def serve() -> None:
        try:
            authenticate(Wire(ours), "5.7.42", 1, "walg", PASSWORD, "here")
        except ProtocolError as error:
            failures.append(error)
        ours.close()

    thread = threading.Thread(target=serve)
    thread.start()
    greeting = packet(theirs)
    start = greeting.index(b"\0", 1) + 5
    scramble = greeting[start : start + 8] + greeting[start + 27 : start + 39]
    proof = answer(scramble)
    body = struct.pack("<IIB23x", 0x00088200, 1 << 24, 33) + b"walg\0" + bytes([len(proof)]) + proof
    body += plugin.encode() + b"\0"
    theirs.sendall(len(body).to_bytes(3, "little") + b"\1" + body)
    packets = [packet(theirs)]
    if packets[0][:1] == b"\xfe":
        assert second
        proof = second(scramble)
        theirs.sendall(len(proof).to_bytes(3, "little") + b"\3" + proof)
        packets.append(packet(theirs))
    while packets[-1][:1] == b"\x01":
        packets.append(packet(theirs))
    thread.join(5)
    theirs.close()
    assert bool(failures) == (packets[-1][:1] == b"\xff")
    return packets


def test_each_kind_of_client() -> None:
    assert [p[:1] for p in log_in(NATIVE, native, None)] == [b"\0"]
    assert [p[:2] for p in log_in(SHA2, sha2, None)] == [b"\x01\x03", b"\0\0"]


def test_a_client_of_mysql_8_names_its_plugin_and_waits() -> None:
    packets = log_in(SHA2, lambda _: b"", sha2)
    assert packets[0].startswith(b"\xfecaching_sha2_password\0")
    assert [p[:2] for p in packets[1:]] == [b"\x01\x03", b"\0\0"]


def test_an_unknown_plugin_is_told_the_native_one() -> None:
    packets = log_in("client_ed25519", lambda _: b"x", native)
    assert packets[0].startswith(b"\xfemysql_native_password\0")
    assert packets[1][:1] == b"\0"


@pytest.mark.parametrize("plugin", [NATIVE, SHA2, "dialog"])
def test_a_wrong_password_is_refused(plugin: str) -> None:
    last = log_in(plugin, lambda _: bytes(20), lambda _: bytes(32))[-1]
    assert last[:3] == b"\xff" + (1045).to_bytes(2, "little")


@given(st.binary(max_size=200))
def test_any_login_is_read_or_refused(data: bytes) -> None:
    try:
        assert isinstance(parse_login(data).user, str)
    except ProtocolError:
        return
