"""lzop containers: read only, of WAL-E's archives (spec/compression-crypto.md 3.5)."""

import zlib

from walg_core.compression.framing import Input, Stage
from walg_core.errors import ConfigError, IntegrityError
from walg_core.pipeline.reader import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from walg_core.settings.config import Config

MAGIC = bytes.fromhex("894c5a4f000d0a1a0a")
ADLER_PLAIN, ADLER_PACKED, CRC_PLAIN, CRC_PACKED = 0x1, 0x2, 0x100, 0x200
FILTER, HEADER_CRC = 0x800, 0x1000
MAX_BLOCK = 64 << 20


class Lzo:
    """The compressor object."""

    name = "lzo"
    extension = "lzo"

    def compress(self, source: Reader, config: "Config") -> Reader:  # noqa: ARG002 - the contract's form
        raise ConfigError("lzo can only be read", hint="choose lz4, zstd, brotli, lzma or none")

    def decompress(self, source: Reader) -> Reader:
        return Stage(self._decompress(Input(source, "lzop")), source)

    def _decompress(self, data: Input) -> "Iterator[bytes]":
        flags = _header(data)
        while plain_size := int.from_bytes(data.take(4), "big"):
            yield _block(data, plain_size, flags)


def _header(data: Input) -> int:
    """Read and check the container's header; its flags."""
    if data.take(len(MAGIC)) != MAGIC:
        raise data.damaged("it does not begin with the magic of lzop")
    seen = bytearray()

    def number(size: int) -> int:
        seen.extend(data.take(size))
        return int.from_bytes(seen[-size:], "big")

    version = number(2)
    if version < 0x0900:
        raise data.damaged(f"version {version:#06x} of the container is too old")
    number(2)
    if version >= 0x0940 and number(2) > version:
        raise data.damaged("it needs a newer version of the container than its own")
    if not number(1):
        raise data.damaged("its method is 0")
    if version >= 0x0940:
        number(1)
    flags = number(4)
    if flags & FILTER:
        number(4)
    number(8)
    if version >= 0x0940:
        number(4)
    name = number(1)
    if name:
        number(name)
    check = zlib.crc32(seen) if flags & HEADER_CRC else zlib.adler32(seen)
    if check != int.from_bytes(data.take(4), "big"):
        raise data.damaged("the checksum of its header does not match")
    return flags


def _block(data: Input, plain_size: int, flags: int) -> bytes:
    packed_size = int.from_bytes(data.take(4), "big")
    if plain_size > MAX_BLOCK or not 0 < packed_size <= plain_size:
        raise data.damaged(f"a block of {packed_size} bytes claims to hold {plain_size}")
    packed_differs = packed_size < plain_size
    wanted = [
        (flag, zlib.crc32 if flag & (CRC_PLAIN | CRC_PACKED) else zlib.adler32, int.from_bytes(data.take(4), "big"))
        for flag in (ADLER_PLAIN, CRC_PLAIN, ADLER_PACKED, CRC_PACKED)
        if flags & flag and (packed_differs or flag in (ADLER_PLAIN, CRC_PLAIN))
    ]
    packed = data.take(packed_size)
    plain = _expand(data, packed, plain_size) if packed_differs else packed
    for flag, function, value in wanted:
        if function(packed if flag in (ADLER_PACKED, CRC_PACKED) else plain) != value:
            raise data.damaged("the checksum of a block does not match")
    return plain


def _expand(data: Input, packed: bytes, plain_size: int) -> bytes:
    try:
        from lzallright import LZOCompressor
    except ImportError as error:
        raise ConfigError("reading lzo needs the package lzallright", hint="pip install walg-core[lzo]") from error
    try:
        plain = bytes(LZOCompressor.decompress(packed, output_size_hint=plain_size))
    except Exception as error:  # the binding documents no error class
        raise data.damaged(error) from error
    if len(plain) != plain_size:
        raise IntegrityError(f"an lzop block holds {len(plain)} bytes instead of {plain_size}")
    return plain


compressor = Lzo()
