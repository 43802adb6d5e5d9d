"""The cipher: one secretstream of 8192-byte chunks per object (spec/compression-crypto.md 8.2)."""

from walg_core.compression.framing import Stage
from walg_core.crypto.sniff import hint
from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import Reader, read_exactly

from walg_crypto_libsodium.key import read_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nacl.bindings import crypto_secretstream_xchacha20poly1305_state
    from walg_core.settings.config import Config

CHUNK, OVERHEAD, HEADER = 8192, 17, 24
SEALED = CHUNK + OVERHEAD
BATCH = 64
"""Chunks worked on at once: half a MiB of plain bytes in memory."""
_MESSAGE, _FINAL = 0, 3
# What the original stores for no data at all: it closes a stream that it never began, so the final chunk is sealed
# under a state of zeros and is the same for every key.
_EMPTY_OF_THE_ORIGINAL = bytes.fromhex("9c08f276d1f4bc1e88fd630d9ff14d74bf")
_HINT = "the object is damaged or truncated, or was written with another key or another cipher"


class Libsodium:
    """The crypter object. Its key is read once; each stream has a state of its own, so threads may share it."""

    name = "Libsodium"

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, source: Reader) -> Reader:
        return Stage(self._encrypt(source), source)

    def _encrypt(self, source: Reader) -> "Iterator[bytes]":
        from nacl import bindings

        state = bindings.crypto_secretstream_xchacha20poly1305_state()
        header = bindings.crypto_secretstream_xchacha20poly1305_init_push(state, self._key)
        push = bindings.crypto_secretstream_xchacha20poly1305_push
        out = [header]
        while True:
            batch = read_exactly(source, BATCH * CHUNK)
            full = len(batch) - len(batch) % CHUNK
            out += [push(state, batch[at : at + CHUNK], None, _MESSAGE) for at in range(0, full, CHUNK)]
            if len(batch) < BATCH * CHUNK:
                # The last chunk is always a short one, empty when the data fill whole chunks: the original's reader
                # takes a full chunk as one that others follow.
                out.append(push(state, batch[full:], None, _FINAL))
                yield b"".join(out)
                return
            yield b"".join(out)
            out = []

    def decrypt(self, source: Reader) -> Reader:
        return Stage(self._decrypt(source), source)

    def _decrypt(self, source: Reader) -> "Iterator[bytes]":
        from nacl import bindings

        header = read_exactly(source, HEADER)
        if header == _EMPTY_OF_THE_ORIGINAL:
            return
        if len(header) < HEADER:
            what = "EOF" if not header else "unexpected EOF"
            raise IntegrityError(f"failed to read libsodium header: {what}", hint="the object is empty or truncated")
        state = bindings.crypto_secretstream_xchacha20poly1305_state()
        bindings.crypto_secretstream_xchacha20poly1305_init_pull(state, header, self._key)
        number, tag = 0, _MESSAGE
        while tag != _FINAL:
            batch = read_exactly(source, BATCH * SEALED)
            if not batch:
                raise IntegrityError(
                    "the libsodium stream is cut: its final chunk is missing",
                    hint="the object is truncated; fetch it from another copy",
                )
            out = []
            for at in range(0, len(batch), SEALED):
                plain, tag = self._open(state, batch[at : at + SEALED], header, number)
                out.append(plain)
                number += 1
                if tag == _FINAL and (len(plain) == CHUNK or at + SEALED < len(batch)):
                    raise IntegrityError("corrupted chunk: premature end: bytes follow the final chunk", hint=_HINT)
            if tag == _FINAL and source.read(1):
                raise IntegrityError("corrupted chunk: bytes follow the final chunk", hint=_HINT)
            yield b"".join(out)

    def _open(
        self, state: "crypto_secretstream_xchacha20poly1305_state", sealed: bytes, header: bytes, number: int
    ) -> tuple[bytes, int]:
        from nacl import bindings, exceptions

        try:
            plain, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(state, sealed)
        except (exceptions.CryptoError, ValueError):
            why = hint(header, _HINT) if number == 0 else "the object is damaged; fetch it from another copy"
            raise IntegrityError(f"corrupted chunk: number {number} fails its proof", hint=why) from None
        return plain, tag


def create(config: "Config") -> Libsodium:
    """The configured cipher. Raises ConfigError for an unreadable or malformed key."""
    return Libsodium(read_key(config))
