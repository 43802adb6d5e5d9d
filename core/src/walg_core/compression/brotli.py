"""brotli: one stream, quality 3, window 22 bits (spec/compression-crypto.md 3.4). Streams cannot be joined."""

from walg_core.compression.framing import Input, Stage
from walg_core.pipeline.reader import CHUNK, Reader, pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from walg_core.settings.config import Config

QUALITY, WINDOW_BITS = 3, 22
_OUTPUT = 1 << 20


class Brotli:
    """The compressor object."""

    name = "brotli"
    extension = "br"

    def compress(self, source: Reader, config: "Config") -> Reader:  # noqa: ARG002 - the contract's form
        return Stage(self._compress(source), source)

    def _compress(self, source: Reader) -> "Iterator[bytes]":
        import brotli

        encoder = brotli.Compressor(quality=QUALITY, lgwin=WINDOW_BITS)
        for piece in pieces(source, CHUNK):
            yield encoder.process(piece)
        yield encoder.finish()

    def decompress(self, source: Reader) -> Reader:
        return Stage(self._decompress(Input(source, "brotli")), source)

    def _decompress(self, data: Input) -> "Iterator[bytes]":
        import brotli

        decoder = brotli.Decompressor()
        piece = data.fill()
        if not piece:
            return  # a zero-byte object reads as empty, as in the original
        try:
            while True:
                out = decoder.process(piece, output_buffer_limit=_OUTPUT)
                if out:
                    yield out
                if decoder.is_finished():
                    break
                piece = b""
                # The library says that it can take more even while a full buffer waits inside.
                if not out and decoder.can_accept_more_data():
                    piece = data.fill()
                    if not piece:
                        raise data.cut()
        except brotli.error as error:
            raise data.damaged(error) from error
        if data.fill():
            raise data.damaged("bytes follow its end")


compressor = Brotli()
