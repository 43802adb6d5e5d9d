"""zstd: consecutive frames of 4 MiB of plain bytes each, with checksums (spec/compression-crypto.md 3.3).

Readers, the original among them, take consecutive frames as one stream, so pieces are compressed independently.
"""

from walg_core.compression.framing import Input, Stage, full_pieces
from walg_core.compression.workers import ordered
from walg_core.errors import ConfigError
from walg_core.pipeline.reader import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from walg_core.settings.config import Config

PIECE = 4 << 20
LEVELS = {"fastest": 1, "default": 3, "better": 7, "best": 11}
EMPTY = bytes.fromhex("28b52ffd0468010000" + "99e9d851")
MAX_WINDOW = 512 << 20


class Zstd:
    """The compressor object."""

    name = "zstd"
    extension = "zst"

    def compress(self, source: Reader, config: "Config") -> Reader:
        wanted = config.get("WALG_ZSTD_LEVEL") or "default"
        level = LEVELS.get(wanted.lower())
        if level is None:
            raise ConfigError(f"WALG_ZSTD_LEVEL is {wanted!r}: expected one of {', '.join(LEVELS)}")
        return Stage(self._compress(source, level), source)

    def _compress(self, source: Reader, level: int) -> "Iterator[bytes]":
        from zstandard import ZstdCompressor

        def pack(piece: bytes) -> bytes:
            # One compressor a piece: its context is not safe to share between threads.
            return ZstdCompressor(level=level, write_checksum=True, write_content_size=False).compress(piece)

        empty = True
        for packed in ordered(pack, full_pieces(source, PIECE)):
            empty = False
            yield packed
        if empty:
            yield EMPTY

    def decompress(self, source: Reader) -> Reader:
        return Stage(self._decompress(Input(source, "zstd")), source)

    def _decompress(self, data: Input) -> "Iterator[bytes]":
        while head := data.up_to(4):
            magic = int.from_bytes(head, "little")
            if len(head) == 4 and magic in SKIPPABLE:
                left = int.from_bytes(data.take(4), "little")
                while left:
                    left -= len(data.take(min(left, 1 << 20)))
            elif len(head) == 4 and magic == MAGIC:
                yield from _frame(data, head)
            else:
                raise data.damaged(f"no frame begins with {head.hex()}")


def _frame(data: Input, magic: bytes) -> "Iterator[bytes]":
    """One frame, block by block (RFC 8878 3.1.1): a block holds at most 128 KiB of plain bytes, so a few at a time
    bound the output of each call, which the binding does not do by itself, and show where a stream is cut."""
    from zstandard import ZstdDecompressor, ZstdError

    header, checksum = _frame_header(data)
    decoder = ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj(write_size=1 << 20)
    try:
        parts, blocks, last = [magic, header], 0, False
        while not last:
            head = data.take(3)
            value = int.from_bytes(head, "little")
            last, kind, size = bool(value & 1), value >> 1 & 3, value >> 3
            parts += [head, data.take(1 if kind == RLE else size)]
            blocks += 1
            if last and checksum:
                parts.append(data.take(4))
            if last or blocks == BATCH:
                out = decoder.decompress(b"".join(parts))
                if out:
                    yield out
                parts, blocks = [], 0
    except ZstdError as error:
        raise data.damaged(error) from error
    if not decoder.eof:
        raise data.damaged("its last block does not end the frame")


def _frame_header(data: Input) -> "tuple[bytes, bool]":
    """The frame header after the magic, and whether a checksum follows the last block."""
    descriptor = data.take(1)
    value = descriptor[0]
    single = bool(value & 0x20)
    dictionary = (0, 1, 2, 4)[value & 3]
    content = (1 if single else 0, 2, 4, 8)[value >> 6]
    rest = data.take((0 if single else 1) + dictionary + content)
    return descriptor + rest, bool(value & 0x04)


MAGIC = 0xFD2FB528
SKIPPABLE = range(0x184D2A50, 0x184D2A60)
RLE = 1
BATCH = 8

compressor = Zstd()
