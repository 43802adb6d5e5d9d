"""Every compressor: known answers, round trips of any size, damage and bombs."""

import gzip
import random
import resource
import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.compression.brotli import compressor as brotli
from walg_core.compression.gzip import compressor as gz
from walg_core.compression.lz4 import BLOCK
from walg_core.compression.lz4 import compressor as lz4
from walg_core.compression.lzma import compressor as lzma
from walg_core.compression.lzo import compressor as lzo
from walg_core.compression.none import compressor as none
from walg_core.compression.zstd import compressor as zstd
from walg_core.errors import ConfigError, IntegrityError
from walg_core.pipeline.reader import BytesReader, read_all
from walg_core.settings.config import Config
from walg_core.settings.declare import Setting

WRITERS = [lz4, zstd, brotli, lzma, none]
CONFIG = Config([Setting("WALG_ZSTD_LEVEL", "level")])
SIZES = [0, 1, 65535, (1 << 20) + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7]


def sample(size: int, seed: int = 1) -> bytes:
    """Half text that compresses, half noise that does not."""
    generator = random.Random(seed)
    noise = generator.randbytes(size // 2)
    return (b"pages of a table " * (size // 17 + 1))[: size - len(noise)] + noise


def pack(codec, data: bytes, config: Config = CONFIG) -> bytes:
    return read_all(codec.compress(BytesReader(data), config))


def unpack(codec, data: bytes) -> bytes:
    return read_all(codec.decompress(BytesReader(data)))


@pytest.mark.parametrize("codec", WRITERS, ids=lambda c: c.name)
@pytest.mark.parametrize("size", SIZES)
def test_round_trip_around_every_boundary(codec, size: int) -> None:
    if codec is lzma and size > BLOCK:
        size //= 8  # lzma does a few MB/s
    data = sample(size)
    assert unpack(codec, pack(codec, data)) == data


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=5000), step=st.integers(1, 700), name=st.sampled_from(range(len(WRITERS))))
def test_any_read_size_gives_the_same_bytes(data: bytes, step: int, name: int) -> None:
    codec = WRITERS[name]
    packed = codec.compress(BytesReader(data), CONFIG)
    stored = b"".join(iter(lambda: packed.read(step), b""))
    plain = codec.decompress(BytesReader(stored))
    assert b"".join(iter(lambda: plain.read(step), b"")) == data


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        (lz4, "04224d186470b900000000055dcc02"),
        (zstd, "28b52ffd046801000099e9d851"),
        (brotli, "3b"),
        (none, ""),
    ],
    ids=["lz4", "zstd", "brotli", "none"],
)
def test_empty_forms_are_the_original_ones(codec, expected: str) -> None:
    assert pack(codec, b"").hex() == expected


def test_lz4_is_one_frame_of_independent_blocks_with_checksum() -> None:
    data = sample(BLOCK + 100)
    packed = pack(lz4, data)
    assert packed[:7].hex() == "04224d186470b9"
    first = int.from_bytes(packed[7:11], "little") & 0x7FFFFFFF
    second_at = 11 + first
    second = int.from_bytes(packed[second_at : second_at + 4], "little") & 0x7FFFFFFF
    end = second_at + 4 + second
    assert packed[end : end + 4] == b"\0\0\0\0"
    assert len(packed) == end + 8


def test_lzma_header_is_the_original_one() -> None:
    assert pack(lzma, b"abc")[:13].hex() == "5d00008000" + "ff" * 8


def test_zstd_header_has_a_checksum_and_no_content_size() -> None:
    assert pack(zstd, sample(100000))[:5].hex() == "28b52ffd04"


@pytest.mark.parametrize("level", ["fastest", "Default", "BETTER", "best"])
def test_zstd_levels(level: str) -> None:
    config = Config([Setting("WALG_ZSTD_LEVEL", "level")], flags={"WALG_ZSTD_LEVEL": level})
    assert unpack(zstd, pack(zstd, sample(300000), config)) == sample(300000)


def test_unknown_zstd_level_names_the_setting() -> None:
    config = Config([Setting("WALG_ZSTD_LEVEL", "level")], flags={"WALG_ZSTD_LEVEL": "9"})
    with pytest.raises(ConfigError, match="WALG_ZSTD_LEVEL"):
        pack(zstd, b"x", config)


@pytest.mark.parametrize("codec", [lz4, zstd], ids=["lz4", "zstd"])
def test_concatenated_frames_read_as_one(codec) -> None:
    first, second = sample(100000, 1), sample(70000, 2)
    assert unpack(codec, pack(codec, first) + pack(codec, b"") + pack(codec, second)) == first + second


@pytest.mark.parametrize("codec", [lz4, zstd], ids=["lz4", "zstd"])
def test_skippable_frames_are_skipped(codec) -> None:
    skippable = struct.pack("<II", 0x184D2A53, 5) + b"hello"
    assert unpack(codec, skippable + pack(codec, b"data") + skippable) == b"data"


def test_legacy_lz4_frames() -> None:
    import cramjam

    block = bytes(cramjam.lz4.compress_block(b"legacy " * 1000, store_size=False))
    stream = struct.pack("<II", 0x184C2102, len(block)) + block
    assert unpack(lz4, stream) == b"legacy " * 1000
    assert unpack(lz4, stream + pack(lz4, b"modern")) == b"legacy " * 1000 + b"modern"


def test_lz4_blocks_of_any_allowed_size_and_every_damage_in_them() -> None:
    from lz4 import frame

    def packed_as_the_original_does(data: bytes) -> bytes:
        largest = frame.BLOCKSIZE_MAX4MB
        return bytes(
            frame.compress(data, block_size=largest, block_linked=False, content_checksum=True, store_size=False)
        )

    generator = random.Random(9)
    data = b"".join(generator.randbytes(40) + b"words that repeat " * 3 for _ in range(100_000))
    stream = packed_as_the_original_does(data)
    assert stream[:7] == bytes.fromhex("04224d186470b9")
    assert unpack(lz4, stream) == data
    assert unpack(lz4, stream + pack(lz4, b"next") + packed_as_the_original_does(b"")) == data + b"next"
    small = bytearray(pack(lz4, data[: 3 << 20]))
    first = int.from_bytes(small[7:11], "little") & 0x7FFFFFFF
    # The first block's length, its first and last byte, the next length, the end mark, the checksum.
    for at in (7, 9, 11, 10 + first, 11 + first, len(small) - 6, len(small) - 1):
        damaged = bytearray(small)
        damaged[at] ^= 0x11
        with pytest.raises(IntegrityError):
            unpack(lz4, bytes(damaged))
    for cut in (7, 9, 11, 500, 11 + first, len(small) - 5, len(small) - 1):
        with pytest.raises(IntegrityError):
            unpack(lz4, bytes(small[:cut]))


@pytest.mark.parametrize("codec", [lz4, zstd, brotli, lzma], ids=lambda c: c.name)
def test_every_truncation_is_noticed(codec) -> None:
    data = sample(60000)
    packed = pack(codec, data)
    for cut in {1, 2, 5, len(packed) // 3, len(packed) // 2, len(packed) - 4, len(packed) - 1}:
        with pytest.raises(IntegrityError):
            unpack(codec, packed[:cut])


def test_a_zero_byte_object() -> None:
    assert unpack(zstd, b"") == b""
    assert unpack(brotli, b"") == b""
    for codec in (lz4, lzma, gz):
        with pytest.raises(IntegrityError):
            unpack(codec, b"")


@pytest.mark.parametrize("codec", [lz4, zstd, brotli], ids=lambda c: c.name)
def test_bytes_after_the_end_are_damage(codec) -> None:
    with pytest.raises(IntegrityError):
        unpack(codec, pack(codec, b"data") + b"\0\0garbage")


@pytest.mark.parametrize("codec", [lz4, zstd], ids=["lz4", "zstd"])
def test_every_bit_flip_is_noticed_where_the_codec_has_a_checksum(codec) -> None:
    data = sample(4000)
    packed = pack(codec, data)
    generator = random.Random(7)
    for _ in range(400):
        at = generator.randrange(len(packed))
        damaged = bytearray(packed)
        damaged[at] ^= 1 << generator.randrange(8)
        try:
            assert unpack(codec, bytes(damaged)) == data
        except IntegrityError:
            continue


def test_gzip_members_and_their_damage() -> None:
    packed = gzip.compress(b"one ") + gzip.compress(b"two")
    assert unpack(gz, packed) == b"one two"
    with pytest.raises(IntegrityError):
        unpack(gz, packed[:-3])
    with pytest.raises(ConfigError, match="only be read"):
        pack(gz, b"x")


def lzop(data: bytes, *, stored: bool) -> bytes:
    """An lzop container with all checksums, made from its documented layout."""
    header = struct.pack(">HHHBBIIII", 0x1030, 0x20A0, 0x0940, 1, 5, 0x303, 0o100644, 0, 0) + b"\4name"
    out = bytes.fromhex("894c5a4f000d0a1a0a") + header + struct.pack(">I", zlib.adler32(header))
    packed = data
    if not stored:
        from lzallright import LZOCompressor

        packed = bytes(LZOCompressor().compress(data))
        assert len(packed) < len(data)
    sums = struct.pack(">II", zlib.adler32(data), zlib.crc32(data))
    if not stored:
        sums += struct.pack(">II", zlib.adler32(packed), zlib.crc32(packed))
    return out + struct.pack(">II", len(data), len(packed)) + sums + packed + b"\0\0\0\0"


@pytest.mark.parametrize("stored", [False, True])
def test_lzop_containers(stored: bool) -> None:
    pytest.importorskip("lzallright", reason="the lzo extra is not installed")
    data = b"a table's pages " * 500
    assert unpack(lzo, lzop(data, stored=stored)) == data
    damaged = bytearray(lzop(data, stored=stored))
    damaged[-10] ^= 1
    with pytest.raises(IntegrityError):
        unpack(lzo, bytes(damaged))


BOMB = """
import sys
from walg_core.compression.{name} import compressor
from walg_core.pipeline.reader import IterReader
from walg_core.settings.config import Config
from walg_core.settings.declare import Setting
config = Config([Setting("WALG_ZSTD_LEVEL", "level")])
total = {megabytes} << 20
packed = compressor.compress(IterReader(bytes(1 << 20) for _ in range({megabytes})), config)
plain, seen = compressor.decompress(packed), 0
while piece := plain.read(1 << 20):
    seen += len(piece)
assert seen == total, seen
# Not ru_maxrss, which a process inherits from the one that started it.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize(("name", "megabytes"), [("lz4", 600), ("zstd", 600), ("brotli", 400), ("lzma", 60)])
def test_a_bomb_streams_in_bounded_memory(name: str, megabytes: int) -> None:
    script = BOMB.format(name=name, megabytes=megabytes)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150 * 1024, "peak memory in KiB"


def test_a_zstd_bomb_in_one_frame_streams_too() -> None:
    import zstandard

    encoder = zstandard.ZstdCompressor(level=3).compressobj()
    packed = b"".join(encoder.compress(bytes(1 << 20)) for _ in range(400)) + encoder.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader, seen = zstd.decompress(BytesReader(packed)), 0
    while piece := reader.read(1 << 20):
        seen += len(piece)
    assert seen == 400 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_a_failing_source_fails_the_stream() -> None:
    class Broken:
        def read(self, size: int = -1, /) -> bytes:
            raise OSError("the disk is gone")

        def close(self) -> None:
            pass

    for codec in (lz4, zstd, brotli, lzma):
        with pytest.raises(OSError, match="the disk is gone"):
            read_all(codec.compress(Broken(), CONFIG))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lz4", "zstd", "brotli", "lzma"])
def test_ten_gigabytes_of_zeros_stream_in_bounded_memory(name: str) -> None:
    script = BOMB.format(name=name, megabytes=10240)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 * 1024, "peak memory in KiB"


@pytest.mark.parametrize(
    ("codec", "stored", "plain"),
    [
        (lz4, "04224d186470b900000000055dcc02", b""),
        (lz4, "04224d186470b90500008068656c6c6f00000000f97700fb", b"hello"),
        (zstd, "28b52ffd046801000099e9d851", b""),
        (zstd, "28b52ffd040029000068656c6c6fa36d9f88", b"hello"),
        (lzma, "5d00008000ffffffffffffffff0083fffbffffc0000000", b""),
        (lzma, "5d00008000ffffffffffffffff00341949ee8e6821ffffffb9e00000", b"hello"),
        (brotli, "3b", b""),
        (brotli, "0b028068656c6c6f03", b"hello"),
    ],
)
def test_objects_of_the_original(codec, stored: str, plain: bytes) -> None:
    assert unpack(codec, bytes.fromhex(stored)) == plain
