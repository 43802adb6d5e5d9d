"""gzip: read only, of archives of other tools; several members read as one stream."""

from walg_core.compression.framing import Input, Stage
from walg_core.errors import ConfigError
from walg_core.pipeline.reader import CHUNK, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from walg_core.settings.config import Config


class Gzip:
    """The compressor object."""

    name = "gzip"
    extension = "gz"

    def compress(self, source: Reader, config: "Config") -> Reader:  # noqa: ARG002 - the contract's form
        raise ConfigError("gzip can only be read", hint="choose lz4, zstd, brotli, lzma or none")

    def decompress(self, source: Reader) -> Reader:
        return Stage(self._decompress(Input(source, "gzip")), source)

    def _decompress(self, data: Input) -> "Iterator[bytes]":
        import zlib

        members = 0
        while piece := data.fill():
            if members and not piece.strip(b"\0") and not data.up_to(1):
                return  # zero padding after the last member, as tape-minded tools write it
            decoder = zlib.decompressobj(wbits=31)
            try:
                while not decoder.eof:
                    out = decoder.decompress(decoder.unconsumed_tail or piece, CHUNK)
                    if out:
                        yield out
                    if decoder.eof:
                        break
                    if not decoder.unconsumed_tail:
                        piece = data.fill()
                        if not piece:
                            raise data.cut()
            except zlib.error as error:
                raise data.damaged(error) from error
            data.back(decoder.unused_data)
            members += 1
        if not members:
            raise data.cut()


compressor = Gzip()
