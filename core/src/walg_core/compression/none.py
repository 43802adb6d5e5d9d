"""none: bytes as they are, and no extension."""

from walg_core.pipeline.reader import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.settings.config import Config


class Plain:
    """The compressor object."""

    name = "none"
    extension = ""

    def compress(self, source: Reader, config: "Config") -> Reader:  # noqa: ARG002 - the contract's form
        return source

    def decompress(self, source: Reader) -> Reader:
        return source


compressor = Plain()
