"""Objects encrypted under a data key that a key management service wraps (spec/compression-crypto.md 10 and 11)."""

import hashlib
import threading
import time
from collections import OrderedDict

from walg_core.compression.framing import Stage
from walg_core.crypto import dare
from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import Reader
from walg_core.settings.declare import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    class KeyService(Protocol):
        """A key management service. Methods may be called by several threads at once."""

        def generate(self) -> tuple[bytes, bytes]:
            """A new data key: its 32 plain bytes, and the same wrapped by the service."""

        def unwrap(self, wrapped: bytes) -> bytes:
            """The plain key. Raises IntegrityError when the service says that `wrapped` is not its own."""

    class Framing(Protocol):
        """How the wrapped key stands before the stream."""

        def pack(self, wrapped: bytes) -> bytes:
            """The object's header. Raises ConfigError when the format cannot hold this wrapped key."""

        def unpack(self, source: Reader) -> bytes:
            """The wrapped key, read exactly up to the stream. Raises IntegrityError."""


LIFETIME = Setting(
    "WALG_KMS_DATA_KEY_LIFETIME",
    "how long a data key of the key management service is kept in memory and used again; 0s: never",
    kind="duration",
    default="5m",
)
_KEPT = 64


class DataKeys:
    """The data keys of one run: one for writing, those that were unwrapped for reading; none older than `lifetime` s.

    One run makes one call per lifetime instead of one per object; concurrent first users wait for the same call.
    """

    def __init__(self, service: "KeyService", lifetime: float, clock: "Callable[[], float]" = time.monotonic) -> None:
        self._service = service
        self._lifetime = lifetime
        self._clock = clock
        self._writing: tuple[float, tuple[bytes, bytes]] | None = None
        self._reading: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def for_writing(self) -> tuple[bytes, bytes]:
        """(plain, wrapped)."""
        with self._lock:
            now = self._clock()
            if self._writing is None or now >= self._writing[0]:
                self._writing = None
                made = self._service.generate()
                if self._lifetime <= 0:
                    return made
                self._writing = (now + self._lifetime, made)
            return self._writing[1]

    def for_reading(self, wrapped: bytes) -> bytes:
        name = hashlib.sha256(wrapped).digest()
        with self._lock:
            now = self._clock()
            for old in [key for key, (until, _) in self._reading.items() if now >= until]:
                del self._reading[old]
            if name in self._reading:
                self._reading.move_to_end(name)
                return self._reading[name][1]
            plain = self._service.unwrap(wrapped)
            if len(plain) != 32:
                raise IntegrityError(f"the key management service gave a data key of {len(plain)} bytes instead of 32")
            if self._lifetime > 0:
                self._reading[name] = (now + self._lifetime, plain)
                if len(self._reading) > _KEPT:
                    self._reading.popitem(last=False)
            return plain


class DataKeyCrypter:
    """A cipher made of a key service, a framing of its wrapped keys, and DARE for the data."""

    def __init__(
        self,
        name: str,
        keys: DataKeys,
        framing: "Framing",
        *,
        ciphers: tuple[int, ...] = (dare.AES_256_GCM, dare.CHACHA20_POLY1305),
    ) -> None:
        self.name = name
        self._keys = keys
        self._framing = framing
        self._ciphers = ciphers

    def encrypt(self, source: Reader) -> Reader:
        """Asks the service on the first read."""
        return Stage(self._encrypt(source), source)

    def _encrypt(self, source: Reader) -> "Iterator[bytes]":
        plain, wrapped = self._keys.for_writing()
        yield self._framing.pack(wrapped)
        yield from dare.encrypt(source, plain, dare.AES_256_GCM)

    def decrypt(self, source: Reader) -> Reader:
        return Stage(self._decrypt(source), source)

    def _decrypt(self, source: Reader) -> "Iterator[bytes]":
        key = self._keys.for_reading(self._framing.unpack(source))
        yield from dare.decrypt(source, key, self._ciphers)
