"""Messages: vectors of the original, another implementation as the judge, every length, every kind of damage."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.errors import ConfigError, IntegrityError, WalgError
from walg_core.pipeline.reader import BytesReader, IterReader, read_all
from walg_core.settings.config import Config
from walg_crypto_openpgp import algorithms as alg
from walg_crypto_openpgp import packets, reading
from walg_crypto_openpgp.armor import dearmor_keyring
from walg_crypto_openpgp.crypter import OpenPgp, create
from walg_crypto_openpgp.keys import read_ring
from walg_crypto_openpgp.plugin import OPENPGP

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden archives are not beside the project")


def pattern(size: int) -> bytes:
    return bytes((7 * i + i // 256) % 256 for i in range(size))


def cipher(ring: bytes, passphrase: bytes = b"") -> OpenPgp:
    return OpenPgp(lambda: ring, lambda: ring, "the ring", lambda: passphrase)


def armored(packets_: bytes) -> bytes:
    body = base64.encodebytes(packets_)
    return b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + body + b"-----END PGP PRIVATE KEY BLOCK-----\n"


def seal(crypter: OpenPgp, data: bytes) -> bytes:
    return read_all(crypter.encrypt(BytesReader(data)))


def opened(crypter: OpenPgp, data: bytes) -> bytes:
    return read_all(crypter.decrypt(BytesReader(data)))


@pytest.fixture(scope="module")
def tsk() -> bytes:
    """A private keyring, made by Sequoia."""
    pysequoia = pytest.importorskip("pysequoia", reason="pysequoia is not installed")
    return bytes(pysequoia.Tsk.generate("walg <walg@example.org>").__bytes__())


@pytest.fixture(scope="module")
def ring(tsk: bytes) -> bytes:
    return armored(tsk)


@pytest.fixture(scope="module")
def crypter(ring: bytes) -> OpenPgp:
    return cipher(ring)


VECTORS = [
    "pgp-fixture-5", "pgp-fixture-100000", "pgp-fixture-lz4-100000", "pgp-fixture-gpg-zlib-aes256",
    "pgp-fixture-gpg-hidden-bzip2", "pgp-cv25519-5", "pgp-v6-seipd2-5",
]  # fmt: skip


@golden
@pytest.mark.parametrize("name", VECTORS)
def test_stored_objects_decrypt(name: str) -> None:
    row = json.loads((GOLDEN / "vectors" / "vectors.json").read_text())[f"{name}.bin"]
    plain = opened(
        cipher((GOLDEN / row["key"]).read_bytes(), b"fixture"), (GOLDEN / "vectors" / f"{name}.bin").read_bytes()
    )
    if row.get("compression") == "lz4":
        from walg_core.compression.lz4 import compressor

        plain = read_all(compressor.decompress(BytesReader(plain)))
    expected = b"hello" if row["plain"] == "hello" else pattern(int(row["plain"][8:-1]))
    assert plain == expected


@golden
@pytest.mark.parametrize("name", ["pgp-fixture-5", "pgp-cv25519-5"])
def test_session_keys_are_the_recorded_ones(name: str) -> None:
    """The packets alone, without the keyring."""
    row = json.loads((GOLDEN / "vectors" / "vectors.json").read_text())[f"{name}.bin"]
    key = (row["cipher"], bytes.fromhex(row["session_key"]))
    stored = (GOLDEN / "vectors" / f"{name}.bin").read_bytes()
    assert b"".join(reading.decrypted([stored], lambda _: [key])) == b"hello"


@golden
def test_a_whole_archive_of_the_original_decrypts() -> None:
    from walg_core.compression.brotli import compressor

    root = GOLDEN / "pg18-brotli-pgp-waldelta"
    environment = {
        "WALG_PGP_KEY_PATH": str(GOLDEN / "keys" / "pgp-private.asc"),
        "WALG_PGP_KEY_PASSPHRASE": "fixture\n",
    }
    shared = create(Config(OPENPGP, environment=environment))
    objects = sorted((root / "storage").rglob("*.br"))
    assert len(objects) > 40
    for path in objects:
        with path.open("rb") as file:
            plain = compressor.decompress(shared.decrypt(IterReader(iter(lambda f=file: f.read(70000), b""))))
            assert sum(len(piece) for piece in iter(lambda p=plain: p.read(1 << 20), b"")) > 0


@golden
def test_the_public_fixture_key_writes_what_the_private_reads() -> None:
    public, private = ((GOLDEN / "keys" / f"pgp-{kind}.asc").read_bytes() for kind in ("public", "private"))
    assert opened(cipher(private, b"fixture"), seal(cipher(public), b"hello")) == b"hello"


SUITES = [
    ("RFC4880", "Cv25519"), ("RFC4880", "P256"), ("RFC4880", "P521"), ("RFC4880", "RSA2k"),
    ("RFC9580", "Cv25519"), ("RFC9580", "Cv448"), ("RFC9580", "P384"), ("RFC9580", "RSA2k"),
]  # fmt: skip


@pytest.mark.parametrize(("profile", "suite"), SUITES)
def test_another_implementation_reads_and_writes(profile: str, suite: str) -> None:
    """Version 4 and 6 keys; to the latter it writes PKESK version 6 and AEAD."""
    pysequoia = pytest.importorskip("pysequoia", reason="pysequoia is not installed")
    secret = pysequoia.Tsk.generate(
        "s <s@example.org>",
        profile=getattr(pysequoia.Profile, profile),
        cipher_suite=getattr(pysequoia.CipherSuite, suite),
    )
    crypter = cipher(armored(secret.__bytes__()))
    for data in (b"", b"x\r\n", os.urandom(300_000)):
        assert pysequoia.decrypt(bytes=seal(crypter, data), decryptor=secret.decryptor()).bytes == data
        theirs = pysequoia.encrypt(bytes=data, recipients=[secret.extract_certificate()], armor=False)
        assert opened(crypter, bytes(theirs)) == data


CHUNK = 1 << packets.PARTIAL
LENGTHS = sorted(
    {0, 1, 5, 484, 485, 512, *(base + d for base in (CHUNK, 2 * CHUNK, 1 << 20, 2 << 20) for d in range(-70, 4, 1))}
)


def test_every_length_around_every_boundary(crypter: OpenPgp) -> None:
    data = os.urandom(max(LENGTHS))
    for size in LENGTHS:
        assert opened(crypter, seal(crypter, data[:size])) == data[:size], size


def test_the_form_of_a_short_message(crypter: OpenPgp) -> None:
    sealed = seal(crypter, b"hello")
    feed = packets.Feed([sealed])
    seen = []
    while header := packets.read_header(feed):
        seen.append((header[0], len(packets.whole(header[1]))))
    assert [tag for tag, _ in seen] == [packets.PKESK, packets.SEIPD]
    # Version, prefix 18, literal 2 + 6 + 5, proof 22.
    assert seen[1][1] == 1 + 18 + 13 + 22


@settings(max_examples=40, deadline=None)
@given(size=st.integers(0, 200_000), step=st.integers(1, 50_000))
def test_any_read_size(size: int, step: int) -> None:
    crypter = _shared()
    data = pattern(size)
    stream = crypter.encrypt(IterReader(data[at : at + step] for at in range(0, size, step)))
    sealed = b"".join(iter(lambda: stream.read(step), b""))
    plain = crypter.decrypt(IterReader(sealed[at : at + step] for at in range(0, len(sealed), step)))
    assert b"".join(iter(lambda: plain.read(step), b"")) == data


_CACHE: dict[str, OpenPgp] = {}
_SEALED: dict[int, bytes] = {}


def _shared() -> OpenPgp:
    """The crypter for hypothesis, which takes no fixtures of a narrower scope."""
    if "one" not in _CACHE:
        pysequoia = pytest.importorskip("pysequoia", reason="pysequoia is not installed")
        _CACHE["one"] = cipher(armored(pysequoia.Tsk.generate("fuzz <fuzz@example.org>").__bytes__()))
        for size in (0, 5, 700, CHUNK + 9, 2 * CHUNK + 1):
            _SEALED[size] = seal(_CACHE["one"], pattern(size))
    return _CACHE["one"]


@settings(max_examples=2500, deadline=None)
@given(data=st.data())
def test_every_mutation_is_refused_or_harmless(data: st.DataObject) -> None:
    crypter = _shared()
    size = data.draw(st.sampled_from(sorted(_SEALED)))
    stored = bytearray(_SEALED[size])
    for _ in range(data.draw(st.integers(1, 3))):
        at = min(data.draw(st.one_of(st.integers(0, 200), st.integers(0, len(stored)))), len(stored) - 1)
        kind = data.draw(st.sampled_from(["flip", "set", "cut", "grow", "drop"]))
        if kind == "flip":
            stored[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "set":
            stored[at] = data.draw(st.integers(0, 255))
        elif kind == "cut" and at:
            del stored[at:]
        elif kind == "grow":
            stored[at:at] = data.draw(st.binary(min_size=1, max_size=30))
        elif kind == "drop":
            del stored[at : at + data.draw(st.integers(1, 40))]
        if not stored:
            break
    try:
        plain = opened(crypter, bytes(stored))
    except IntegrityError:
        return
    assert plain == pattern(size)


@settings(max_examples=1500, deadline=None)
@given(data=st.binary(max_size=300), known=st.booleans())
def test_packets_of_noise(data: bytes, known: bool) -> None:
    """With and without a session key: a clear error, or data without one (an empty literal made of noise)."""
    keys = [(alg.AES_128, bytes(16))] if known else []
    try:
        b"".join(reading.decrypted([data], lambda _: keys))
    except IntegrityError:
        return
    raise AssertionError("noise was taken for a message")


@settings(max_examples=1500, deadline=None)
@given(data=st.data())
def test_mutated_keyrings_are_refused_or_lose_a_key(data: st.DataObject) -> None:
    _shared()
    body = bytearray(dearmor_keyring(_CACHE["one"]._public_ring(), "ring"))
    at = data.draw(st.integers(0, len(body) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "grow"]))
    if kind == "flip":
        body[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del body[at:]
    else:
        body[at:at] = data.draw(st.binary(min_size=1, max_size=10))
    try:
        for certificate in read_ring(bytes(body), "ring"):
            certificate.recipient(4e9 if data.draw(st.booleans()) else 1.9e9)
    except WalgError:
        return


def message(*inner: bytes, proof: bool = True, version: int = 1) -> bytes:
    """An encrypted data packet, made by hand, around packets; its session key is 16 zeros."""
    plain = bytes(16) + bytes(2) + b"".join(inner) + b"\xd3\x14"
    plain = plain + hashlib.sha1(plain).digest() if proof else plain[:-2]
    encryptor = alg.cfb(alg.AES_128, bytes(16), bytes(16)).encryptor()
    return packets.packet(packets.SEIPD, bytes((version,)) + encryptor.update(plain))


def by_hand(data: bytes) -> bytes:
    return b"".join(reading.decrypted([data], lambda _: [(alg.AES_128, bytes(16))]))


LITERAL = packets.packet(packets.LITERAL, b"b\0\0\0\0\0data")


def test_what_stands_around_a_literal_is_skipped() -> None:
    import zlib

    marker, padding = packets.packet(packets.MARKER, b"PGP"), packets.packet(packets.PADDING, b"123")
    signed = packets.packet(packets.ONE_PASS, bytes(13)) + LITERAL + packets.packet(packets.SIGNATURE, b"whatever")
    packed = packets.packet(packets.COMPRESSED, b"\x02" + zlib.compress(signed))
    nested = packets.packet(packets.COMPRESSED, b"\x00" + packed)
    for inner in ((LITERAL,), (marker, padding, LITERAL), (signed,), (packed,), (nested,), (LITERAL, LITERAL)):
        assert by_hand(marker + message(*inner)) == b"data"
    assert by_hand(message(b"\xaf" + LITERAL[2:-4] + b"old form", proof=True)[:0] + message(LITERAL)) == b"data"


def test_old_headers_and_small_partial_lengths() -> None:
    body = b"t\4name" + bytes(4) + b"0123456789"
    old = bytes((0x80 | packets.LITERAL << 2, len(body))) + body
    two = bytes((0x80 | packets.LITERAL << 2 | 1,)) + len(body).to_bytes(2, "big") + body
    partial = bytes((0xC0 | packets.LITERAL, 0xE0 | 2)) + body[:4] + bytes((0xE0 | 3,)) + body[4:12]
    partial += bytes((len(body) - 12,)) + body[12:]
    for inner in (old, two, partial):
        assert by_hand(message(inner)) == b"0123456789"


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (b"", "EOF"),
        (message(), "no literal"),
        (message(LITERAL, proof=False), "parsing error"),
        (message(LITERAL)[:-5], "unexpected EOF"),
        (message(LITERAL)[:-1] + b"\0", "MDC hash mismatch"),
        (packets.packet(packets.SED, bytes(30)), "not integrity protected"),
        (LITERAL, "not encrypted"),
        (message(LITERAL, version=3), "encrypted data version 3"),
        (b"-----BEGIN PGP MESSAGE-----\n", "MSB"),
        (bytes.fromhex("04224d186470b9"), "MSB"),
        (packets.packet(packets.COMPRESSED, b"\0" + LITERAL), "not encrypted"),
        (message(packets.packet(packets.COMPRESSED, b"\x01\xff\xff")), "damaged"),
        (message(packets.packet(packets.COMPRESSED, b"\x09x")), "compression algorithm 9"),
        (message(message(LITERAL)), "out of its place"),
    ],
    ids=[str(number) for number in range(14)],
)
def test_each_kind_of_damage_has_its_words(stored: bytes, words: str) -> None:
    with pytest.raises(IntegrityError, match=words):
        by_hand(stored)


def test_nesting_is_bounded() -> None:
    inner = LITERAL
    for _ in range(20):
        inner = packets.packet(packets.COMPRESSED, b"\0" + inner)
    with pytest.raises(IntegrityError, match="nested too deep"):
        by_hand(message(inner))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no armored data found"),
        (b"\x99\x01binary", "no armored data found"),
        (b"-----BEGIN PGP MESSAGE-----\n\nYQ==\n-----END PGP MESSAGE-----\n", "got: PGP MESSAGE"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEX", "unexpected EOF"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n-----END PGP PUBLIC KEY BLOCK-----\n", "illegal base64"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nYWJj\n-----END PGP PUBLIC KEY BLOCK-----\n", "MSB"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n\n-----END PGP PUBLIC KEY BLOCK-----\n", "no key in the ring"),
    ],
)
def test_bad_keyrings(text: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        seal(cipher(text), b"x")


def test_key_sources(ring: bytes, tmp_path: Path) -> None:
    file = tmp_path / "ring.asc"
    file.write_bytes(b"some text before\r\n" + ring.replace(b"\n", b"\r\n"))
    by_file = create(Config(OPENPGP, environment={"WALG_PGP_KEY_PATH": str(file)}))
    inline = {"WALG_PGP_KEY": ring.decode().replace("\n", "\\n"), "WALG_PGP_KEY_PATH": "/nowhere"}
    assert opened(create(Config(OPENPGP, environment=inline)), seal(by_file, b"both")) == b"both"
    with pytest.raises(ConfigError, match="open /nowhere: no such file"):
        seal(create(Config(OPENPGP, environment={"WALG_PGP_KEY_PATH": "/nowhere"})), b"x")


def test_a_tampered_self_signature_does_not_count(ring: bytes) -> None:
    body = bytearray(dearmor_keyring(ring, "ring"))
    certificates = read_ring(bytes(body), "ring")
    bindings = sum(len(key.bindings) for key in certificates[0].keys)
    feed, at, counts = packets.Feed([bytes(body)]), 0, []
    while header := packets.read_header(feed):
        content = packets.whole(header[1])
        at = body.index(content, at)
        if header[0] == packets.SIGNATURE:
            changed = bytearray(body)
            changed[at + len(content) - 3] ^= 1
            counts.append(sum(len(key.bindings) for key in read_ring(bytes(changed), "ring")[0].keys))
        at += len(content)
    assert len(counts) == bindings
    assert set(counts) == {bindings - 1}


def test_long_streams_and_bombs_need_little_memory(ring: bytes, tmp_path: Path) -> None:
    file = tmp_path / "ring.asc"
    file.write_bytes(ring)
    script = f"""
import zlib
from walg_core.pipeline.reader import IterReader
from walg_crypto_openpgp.crypter import OpenPgp
from walg_crypto_openpgp import algorithms, packets, reading
ring = open({str(file)!r}, "rb").read()
crypter = OpenPgp(lambda: ring, lambda: ring, "ring")
plain = crypter.decrypt(crypter.encrypt(IterReader(bytes(1 << 20) for _ in range(300))))
assert sum(len(p) for p in iter(lambda: plain.read(1 << 20), b"")) == 300 << 20
zeros = zlib.compressobj()
head = packets.packet(packets.LITERAL, bytes(6))[:1] + b"\\xff" + (6 + (300 << 20)).to_bytes(4, "big") + b"b" + bytes(5)
bomb = zeros.compress(head) + b"".join(zeros.compress(bytes(1 << 20)) for _ in range(300)) + zeros.flush()
inner = packets.packet(packets.COMPRESSED, b"\\x02" + bomb)
import hashlib
text = bytes(18) + inner + b"\\xd3\\x14"
text += hashlib.sha1(text).digest()
sealed = packets.packet(packets.SEIPD, b"\\x01" + algorithms.cfb(7, bytes(16), bytes(16)).encryptor().update(text))
assert sum(len(p) for p in reading.decrypted([sealed], lambda _: [(7, bytes(16))])) == 300 << 20
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 80 * 1024
