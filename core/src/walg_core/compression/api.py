"""The compressor contract: a module or an object with these four members (spec/compression-crypto.md 3)."""

from walg_core.pipeline.reader import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from walg_core.settings.config import Config

    class Compressor(Protocol):
        """One compression method. Both directions stream in bounded memory and release the interpreter lock."""

        name: str
        """The value of `WALG_COMPRESSION_METHOD`; `gzip` and `lzo` are read only."""
        extension: str
        """Last part of the object's name, without the dot; empty for `none`."""

        def compress(self, source: Reader, config: Config) -> Reader:
            """A reader of the compressed stream. Raises ConfigError when the method can only be read."""

        def decompress(self, source: Reader) -> Reader:
            """A reader of the plain bytes, in memory bounded whatever the frame size.

            Reads across concatenated frames where the format allows them. Raises IntegrityError on damage, on
            truncation, and on bytes after the end; closing it closes `source`.
            """
else:

    class Compressor:
        """One compression method: `name`, `extension`, `compress(source, config)`, `decompress(source)`."""
