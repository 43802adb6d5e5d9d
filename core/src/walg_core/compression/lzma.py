"""lzma: the `.lzma` ("alone") container, not xz (spec/compression-crypto.md 3.2)."""

from walg_core.compression.framing import Input, Stage
from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import CHUNK, Reader, pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from walg_core.settings.config import Config

DICTIONARY = 8 << 20
PRESET = 0
"""Preset 0 does 12 MB/s on database pages, presets 1 to 6 do 1 to 3 MB/s for a few per cent less output."""
MEMORY = 3 << 30
"""Limit for reading: the largest dictionary that the original accepts is 2 GiB."""


class Lzma:
    """The compressor object."""

    name = "lzma"
    extension = "lzma"

    def compress(self, source: Reader, config: "Config") -> Reader:  # noqa: ARG002 - the contract's form
        return Stage(self._compress(source), source)

    def _compress(self, source: Reader) -> "Iterator[bytes]":
        import lzma

        filters = [{"id": lzma.FILTER_LZMA1, "preset": PRESET, "dict_size": DICTIONARY, "lc": 3, "lp": 0, "pb": 2}]
        encoder = lzma.LZMACompressor(format=lzma.FORMAT_ALONE, filters=filters)
        for piece in pieces(source, CHUNK):
            yield encoder.compress(piece)
        yield encoder.flush()

    def decompress(self, source: Reader) -> Reader:
        return Stage(self._decompress(Input(source, "lzma")), source)

    def _decompress(self, data: Input) -> "Iterator[bytes]":
        import lzma

        decoder = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=MEMORY)
        try:
            while not decoder.eof:
                piece = b""
                if decoder.needs_input:
                    piece = data.fill()
                    if not piece:
                        raise data.cut()
                out = decoder.decompress(piece, max_length=CHUNK)
                if out:
                    yield out
        except lzma.LZMAError as error:
            raise data.damaged(error) from error
        except MemoryError as error:
            raise IntegrityError("the lzma stream asks for a dictionary larger than 2 GiB") from error


compressor = Lzma()
