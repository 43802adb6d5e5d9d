"""The envelope scheme: a key that a service unlocks stands before the data (spec/compression-crypto.md 12)."""

import hashlib
import threading
import time

from walg_core.declarations import load
from walg_core.errors import ConfigError, IntegrityError, MissingPlugin, WalgError
from walg_core.observe import log
from walg_core.pipeline.reader import Reader, read_exactly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAGIC, VERSION = b"envelope-yc-kms", 1
MAX_HEADER = 8192
_MAX_KEY = 1 << 16
_HINT = "was the object written with another cipher, or is it damaged?"


def pack_header(key_ids: str, sealed_key: bytes) -> bytes:
    """The header. `key_ids` is informative. Raises ConfigError above 8192 bytes, which the original refuses as well."""
    names = key_ids.encode()
    header = MAGIC + bytes((VERSION,)) + len(names).to_bytes(4, "little") + names
    header += len(sealed_key).to_bytes(4, "little") + sealed_key
    if len(header) > MAX_HEADER:
        raise ConfigError(
            f"the encrypted keyring makes a header of {len(header)} bytes, more than {MAX_HEADER}",
            hint="use a keyring with fewer or smaller keys",
        )
    return header


def unpack_header(source: Reader) -> tuple[str, bytes]:
    """(key ids, sealed key), reading exactly the header. Raises IntegrityError."""
    head = read_exactly(source, len(MAGIC) + 1)
    if len(head) <= len(MAGIC) or not head.startswith(MAGIC):
        raise IntegrityError("envelope yc kms: invalid encrypted header format", hint=_HINT)
    if head[-1] != VERSION:
        raise IntegrityError(
            f"envelope yc kms: scheme version is not supported: {head[-1]}", hint="a newer program wrote this object"
        )
    names = _field(source, MAX_HEADER)
    return names.decode("utf-8", "replace"), _field(source, _MAX_KEY)


def _field(source: Reader, limit: int) -> bytes:
    head = read_exactly(source, 4)
    size = int.from_bytes(head, "little")
    if len(head) == 4 and size <= limit:
        data = read_exactly(source, size)
        if len(data) == size:
            return data
    raise IntegrityError("envelope yc kms: invalid encrypted header format: cut, or a length is absurd", hint=_HINT)


class OpenedKeys:
    """Keys that the service has unlocked, for `lifetime` seconds each; 0: for the whole run.

    An expired one still serves when the service fails, as in the original: a restore must not die of an outage.
    """

    def __init__(
        self, unlock: "Callable[[bytes], bytes]", lifetime: float, clock: "Callable[[], float]" = time.monotonic
    ) -> None:
        self._unlock = unlock
        self._lifetime = lifetime
        self._clock = clock
        self._known: dict[bytes, tuple[float, bytes]] = {}
        self._lock = threading.Lock()

    def get(self, sealed: bytes) -> bytes:
        name = hashlib.sha256(sealed).digest()
        with self._lock:
            now = self._clock()
            known = self._known.get(name)
            if known and (self._lifetime <= 0 or now < known[0]):
                return known[1]
            try:
                plain = self._unlock(sealed)
            except WalgError as error:
                if known is None:
                    raise
                log.warning(f"the key service fails, the key unlocked before is used on: {error}")
                return known[1]
            self._known[name] = (now + self._lifetime, plain)
            return plain


def load_service(path: str, distribution: str) -> "Any":
    """What a key service's own distribution gives (`module:attribute`). Raises MissingPlugin naming it."""
    try:
        return load(path)
    except ModuleNotFoundError as error:
        raise MissingPlugin(
            f"the key management service needs the distribution {distribution} ({error})",
            hint=f"run: pip install {distribution}",
        ) from error
