"""The crypter contract (spec/compression-crypto.md 5): one object is one compressed stream inside one encrypted one."""

from walg_core.pipeline.reader import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Crypter(Protocol):
        """A configured cipher. Made once per backup or per single file; may be used by several threads at once."""

        name: str
        """What the original stores as the crypter's name, e.g. `Libsodium`."""

        def encrypt(self, source: Reader) -> Reader:
            """A reader of the encrypted stream. Raises ConfigError when no usable key is configured."""

        def decrypt(self, source: Reader) -> Reader:
            """A reader of the plain bytes.

            Truncation, damage, reordering, a wrong key and an empty input raise IntegrityError, at the latest
            instead of the end of data; closing it closes `source`.
            """
else:

    class Crypter:
        """A configured cipher: `name`, `encrypt(source)`, `decrypt(source)`."""
