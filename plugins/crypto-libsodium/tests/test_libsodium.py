"""The libsodium cipher: known answers, every length around a chunk, damage, keys, and the program as a whole."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.errors import ConfigError, IntegrityError
from walg_core.pipeline.reader import BytesReader, IterReader, read_all
from walg_core.settings.config import Config
from walg_crypto_libsodium.crypter import BATCH, CHUNK, SEALED, Libsodium, create
from walg_crypto_libsodium.key import transform
from walg_crypto_libsodium.plugin import SETTINGS

KEY = bytes(range(32))
GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
CIPHER = Libsodium(KEY)
BOUNDARIES = sorted(
    {0, 1, *(n * CHUNK + d for n in (1, 2, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH) for d in (-1, 0, 1))}
)


def pattern(size: int) -> bytes:
    return bytes((7 * i + i // 256) % 256 for i in range(size))


def seal(data: bytes) -> bytes:
    return read_all(CIPHER.encrypt(BytesReader(data)))


def opened(data: bytes, cipher: Libsodium = CIPHER) -> bytes:
    return read_all(cipher.decrypt(BytesReader(data)))


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        ("1eea30d9c6aec88e7ea5ab50d94bc27935040c91d55196b9be72a78802ef8e8d02851cb0c234cf5f9e5f", b"h"),
        ("bb543fea94af3554673344c3f7e83cca7e894f0a74b1ddd32d0a72968450494cc7ae19d4a06c9b4c26eefb4e8f24", b"hello"),
        ("8b8ba3279e3b40f9e3c4474125557b548c11282120def65f18758295f26bc0c11639e471217846e567", b""),
    ],
)
def test_known_answers(stored: str, plain: bytes) -> None:
    assert opened(bytes.fromhex(stored)) == plain


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden archives are not beside the project")
@pytest.mark.parametrize("size", [8191, 8192, 8193])
def test_objects_of_the_original(size: int) -> None:
    folder = GOLDEN / "vectors"
    row = json.loads((folder / "vectors.json").read_text())[f"libsodium-{size}.bin"]
    plain = opened((folder / f"libsodium-{size}.bin").read_bytes(), Libsodium(bytes.fromhex(row["key"])))
    assert hashlib.sha256(plain).hexdigest() == row["plain_sha256"]
    assert plain == pattern(size)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden archives are not beside the project")
def test_a_whole_archive_of_the_original_decrypts() -> None:
    from walg_core.compression.lz4 import compressor

    root = GOLDEN / "pg18-lz4-libsodium"
    given = dict(line.split("=", 1) for line in (root / "settings.env").read_text().splitlines() if "=" in line)
    cipher = create(Config(SETTINGS, environment=given))
    objects = sorted((root / "storage").rglob("*.lz4"))
    assert len(objects) > 10
    for path in objects:
        with path.open("rb") as file:
            plain = compressor.decompress(cipher.decrypt(IterReader(iter(lambda f=file: f.read(50000), b""))))
            assert sum(len(piece) for piece in iter(lambda p=plain: p.read(1 << 20), b"")) > 0


@pytest.mark.parametrize("size", BOUNDARIES)
def test_round_trip_and_size_around_every_boundary(size: int) -> None:
    data = os.urandom(size)
    stored = seal(data)
    assert len(stored) == 24 + size + 17 * (size // CHUNK + 1)
    assert opened(stored) == data


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 30000), step=st.integers(1, 20000))
def test_any_read_size(size: int, step: int) -> None:
    data = pattern(size)
    source = IterReader(data[at : at + step] for at in range(0, size, step))
    stored = CIPHER.encrypt(source)
    sealed = b"".join(iter(lambda: stored.read(step), b""))
    plain = CIPHER.decrypt(IterReader(sealed[at : at + step] for at in range(0, len(sealed), step)))
    assert b"".join(iter(lambda: plain.read(step), b"")) == data


@settings(max_examples=3000, deadline=None)
@given(data=st.data())
def test_every_mutation_is_refused_or_harmless(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([0, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 9]))
    stored = bytearray(_SEALED[size])
    kind = data.draw(st.sampled_from(["flip", "cut", "grow", "swap", "drop", "double"]))
    at = data.draw(st.integers(0, len(stored) - 1))
    if kind == "flip":
        stored[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del stored[at:]
    elif kind == "grow":
        stored[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    elif size > 2 * CHUNK:
        first, second = stored[24 : 24 + SEALED], stored[24 + SEALED : 24 + 2 * SEALED]
        stored[24 : 24 + 2 * SEALED] = {"swap": second + first, "drop": second, "double": first + first + second}[kind]
    try:
        assert opened(bytes(stored)) == pattern(size)
    except IntegrityError:
        return
    assert bytes(stored) == _SEALED[size]


_SEALED = {size: seal(pattern(size)) for size in (0, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 9)}


def test_every_cut_is_noticed_even_after_a_full_chunk() -> None:
    stored = _SEALED[3 * CHUNK + 9]
    for at in [*range(60), 24 + SEALED, 24 + 2 * SEALED, 24 + 3 * SEALED, len(stored) - 1]:
        with pytest.raises(IntegrityError):
            opened(stored[:at])


def test_the_original_form_of_no_data_at_all() -> None:
    stored = bytes.fromhex("9c08f276d1f4bc1e88fd630d9ff14d74bf")
    assert opened(stored) == b""
    with pytest.raises(IntegrityError, match="unexpected EOF"):
        opened(stored[:-1] + b"!")


def test_a_broken_stream_stays_broken() -> None:
    reader = CIPHER.decrypt(BytesReader(_SEALED[5][:-1]))
    for _ in range(2):
        with pytest.raises(IntegrityError):
            reader.read(100)


def test_wrong_key_and_unencrypted_object_say_what_they_are() -> None:
    with pytest.raises(IntegrityError, match="corrupted chunk"):
        opened(_SEALED[5], Libsodium(bytes(32)))
    with pytest.raises(IntegrityError) as caught:
        opened(bytes.fromhex("04224d186470b9") + bytes(100))
    assert "unencrypted" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "name", "key"),
    [
        (b"x" * 25, "none", b"x" * 25 + bytes(7)),
        (b"y" * 40, "none", b"y" * 32),
        (KEY.hex().upper().encode(), "hex", KEY),
        (b"AAECAwQFBgcICQoLDA0O\r\nDxAREhMUFRYXGBkaGxwdHh8=\n", "base64", KEY),
    ],
)
def test_key_transforms(text: bytes, name: str, key: bytes) -> None:
    assert transform(text, name) == key


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (b"x" * 24, "none", "must not be less than 25, got 24"),
        (b"00" * 31, "hex", r"exactly 32 bytes \(got 31 bytes\)"),
        (b"0" * 63, "hex", "odd length"),
        (b"00" * 31 + b"zz", "hex", "invalid byte"),
        (b"00" * 32 + b"\n", "hex", "invalid byte"),
        (b"AAEC*", "base64", "illegal base64"),
        (b"x" * 32, "HEX", "unknown key transform 'HEX'"),
    ],
)
def test_bad_keys_are_refused_without_being_shown(text: bytes, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        transform(text, name)
    assert text.decode() not in str(caught.value)


def test_key_sources(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"\n {KEY.hex()} \n")
    by_file = {"WALG_LIBSODIUM_KEY_PATH": str(file), "WALG_LIBSODIUM_KEY_TRANSFORM": "hex"}
    assert read_all(create(Config(SETTINGS, environment=by_file)).decrypt(BytesReader(_SEALED[5]))) == pattern(5)
    both = {**by_file, "WALG_LIBSODIUM_KEY": KEY.hex(), "WALG_LIBSODIUM_KEY_PATH": "/nowhere"}
    assert read_all(create(Config(SETTINGS, environment=both)).decrypt(BytesReader(_SEALED[5]))) == pattern(5)
    with pytest.raises(ConfigError, match="unable to read key from file"):
        create(Config(SETTINGS, environment={"WALG_LIBSODIUM_KEY_PATH": "/nowhere"}))


def test_a_long_stream_needs_little_memory() -> None:
    import subprocess
    import sys

    script = (
        "from walg_crypto_libsodium.crypter import Libsodium\n"
        "from walg_core.pipeline.reader import IterReader\n"
        "cipher = Libsodium(bytes(32))\n"
        "plain = cipher.decrypt(cipher.encrypt(IterReader(bytes(1 << 20) for _ in range(256))))\n"
        "total = sum(len(p) for p in iter(lambda: plain.read(1 << 20), b''))\n"
        "assert total == 256 << 20, total\n"
        "status = open('/proc/self/status').read()\n"
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60 * 1024


def test_the_same_bytes_are_never_sealed_alike() -> None:
    assert seal(b"same") != seal(b"same")
