"""The authenticated chunk format: vectors of an independent implementation, boundaries, and every kind of damage."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.crypto import dare
from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import BytesReader, IterReader

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
KEY = bytes(range(32))
NONCE = bytes(range(0x10, 0x1C))
P = dare.PACKAGE
GCM, CHACHA = dare.AES_256_GCM, dare.CHACHA20_POLY1305


def pattern(size: int) -> bytes:
    return bytes((7 * i + i // 256) % 256 for i in range(size))


def seal(data: bytes, cipher: int = GCM, nonce: bytes = NONCE) -> bytes:
    return b"".join(dare.encrypt_with(BytesReader(data), KEY, cipher, nonce))


def opened(stored: bytes, key: bytes = KEY) -> bytes:
    return b"".join(dare.decrypt(BytesReader(stored), key))


@pytest.mark.parametrize(
    ("cipher", "stored"),
    [
        (GCM, "20000400901112131415161718191a1b0e9a543c349de881503bdef39e3939b44274101b47"),
        (CHACHA, "20010400901112131415161718191a1b4585654634eb56f386dee4aec18b0a859c6408a7be"),
    ],
)
def test_hello(cipher: int, stored: str) -> None:
    assert seal(b"hello", cipher).hex() == stored
    assert opened(bytes.fromhex(stored)) == b"hello"


@pytest.mark.parametrize(
    ("size", "cipher", "length", "digest"),
    [
        (65536, GCM, 65568, "517aa1827cc1a5ec8c8b93c73a9c16ad0cab0b644af935a0b298bc0520fc5647"),
        (65537, GCM, 65601, "a5916a9ae0a223b383202a6354273edc34271126e8d90adbeae1a78c98f45e6a"),
        (65537, CHACHA, 65601, "5019cf369e98372d7745c5273926887646f0af37820fd92356c95c2840e9cf65"),
    ],
)
def test_long_vectors(size: int, cipher: int, length: int, digest: str) -> None:
    stored = seal(pattern(size), cipher)
    assert (len(stored), hashlib.sha256(stored).hexdigest()) == (length, digest)
    assert opened(stored) == pattern(size)


def test_package_borders_of_a_known_stream() -> None:
    stored = seal(b"h" * 65537)
    assert stored[:22].hex() == "2000ffff101112131415161718191a1b1596f07e21a1"
    assert stored[65568:].hex() == "20000000901112131415161718191a1b155a8baaa308f737cc329f2fb4fa5f5306"
    assert seal(b"h" * 65537, CHACHA)[65568:].hex() == (
        "20010000901112131415161718191a1bcc94b9f53c8707b53db28da352a385d645"
    )


@pytest.mark.parametrize(
    "stored",
    [
        "100004000000000010111213141516176faa1441a38e00b71642cb652a64c805e72db1f3c3",
        "10010400000000001011121314151617664bd12d53ef3af0faee3617e911993582a55a49b0",
    ],
)
def test_version_1_is_read(stored: str) -> None:
    assert opened(bytes.fromhex(stored)) == b"hello"
    with pytest.raises(IntegrityError, match="sequence number mismatch"):
        opened(bytes.fromhex(stored) * 2)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden archives are not beside the project")
@pytest.mark.parametrize("name", ["awskms-5", "awskms-65536", "awskms-65537", "awskms-chacha-5"])
def test_objects_of_the_original(name: str) -> None:
    row = json.loads((GOLDEN / "vectors" / "vectors.json").read_text())[f"{name}.bin"]
    stored = (GOLDEN / "vectors" / f"{name}.bin").read_bytes()[184:]
    plain = opened(stored, bytes.fromhex(row["dek"]))
    assert plain == (b"hello" if row["plain"] == "hello" else pattern(int(row["plain"][8:-1])))


@pytest.mark.parametrize("cipher", [GCM, CHACHA])
@pytest.mark.parametrize("size", [0, 1, P - 1, P, P + 1, 2 * P - 1, 2 * P, 2 * P + 1, 5 * P])
def test_round_trip_around_every_boundary(size: int, cipher: int) -> None:
    data = os.urandom(size)
    stored = b"".join(dare.encrypt(IterReader(data[at : at + 1000] for at in range(0, size, 1000)), KEY, cipher))
    assert len(stored) == size + 32 * -(-size // P)
    assert opened(stored) == data


_STORED = {size: seal(pattern(size)) for size in (1, 5, P - 1, P, P + 1, 3 * P + 7)}
_WHOLE = P + 32


@settings(max_examples=2500, deadline=None)
@given(data=st.data())
def test_every_mutation_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from(sorted(_STORED)))
    stored = bytearray(_STORED[size])
    kind = data.draw(st.sampled_from(["flip", "head", "cut", "grow", "swap", "drop", "double"]))
    at = data.draw(st.integers(0, len(stored) - 1))
    if kind == "flip":
        stored[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "head":
        stored[at % 16 + data.draw(st.sampled_from([0, _WHOLE])) % (len(stored) // _WHOLE * _WHOLE or 16)] ^= 0x80
    elif kind == "cut":
        del stored[max(at, 1) :]
    elif kind == "grow":
        stored[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    elif size > 2 * P:
        first, second = stored[:_WHOLE], stored[_WHOLE : 2 * _WHOLE]
        stored[: 2 * _WHOLE] = {"swap": second + first, "drop": second, "double": first + first + second}[kind]
    if bytes(stored) == _STORED[size]:
        return
    with pytest.raises(IntegrityError):
        opened(bytes(stored))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s[:_WHOLE], "unexpected EOF"),
        (lambda s: s[:-1], "invalid payload size"),
        (lambda s: s + b"x", "invalid payload size"),
        (lambda s: s + s[:_WHOLE], "invalid payload size"),
        (lambda s: b"\x30" + s[1:], "unsupported version"),
        (lambda s: s[:1] + b"\x02" + s[2:], "unsupported cipher suite"),
        (lambda s: s[:_WHOLE] + seal(b"z", GCM, bytes(12)), "header nonce mismatch"),
        (lambda s: s[:50] + b"!" + s[51:], "authentication failed"),
    ],
)
def test_each_kind_of_damage_has_its_words(change, words: str) -> None:
    with pytest.raises(IntegrityError, match=words):
        opened(change(_STORED[P + 1]))


def test_a_wrong_key() -> None:
    with pytest.raises(IntegrityError, match="authentication failed"):
        opened(_STORED[5], bytes(32))
