"""The 32-byte key: its sources and transforms (spec/compression-crypto.md 8.1)."""

import binascii

from walg_core.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.settings.config import Config

SIZE, SHORTEST = 32, 25


def read_key(config: "Config") -> bytes:
    """The key, from the setting itself or the file. Raises ConfigError; no text of an error shows a part of it."""
    found = config.find("WALG_LIBSODIUM_KEY")
    text = str(found[0]).encode() if found else _from_file(str(config.require("WALG_LIBSODIUM_KEY_PATH")))
    return transform(text, config.get("WALG_LIBSODIUM_KEY_TRANSFORM") or "none")


def _from_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 16).strip()
    except OSError as error:
        raise ConfigError(
            f"libsodium Crypter: unable to read key from file: open {path}: {error.strerror}",
            hint="WALG_LIBSODIUM_KEY_PATH names this file; can the database's user read it?",
        ) from error


def transform(text: bytes, name: str) -> bytes:
    """The key that `text` means. `name`: none, hex or base64, as it stands."""
    if name == "none":
        if len(text) < SHORTEST:
            raise _wrong(f"key length must not be less than {SHORTEST}, got {len(text)}")
        return text[:SIZE].ljust(SIZE, b"\0")
    if name == "hex":
        key = _from_hex(text)
    elif name == "base64":
        key = _from_base64(text)
    else:
        raise _wrong(f"unknown key transform '{name}' (must be base64, hex or none)")
    if len(key) != SIZE:
        raise _wrong(f"key must be exactly {SIZE} bytes (got {len(key)} bytes)")
    return key


def _from_hex(text: bytes) -> bytes:
    try:
        return binascii.unhexlify(text)
    except binascii.Error:
        pass
    place = next((at for at, byte in enumerate(text) if byte not in b"0123456789abcdefABCDEF"), None)
    if place is None:
        raise _wrong("while hex decoding key: encoding/hex: odd length hex string")
    raise _wrong(f"while hex decoding key: encoding/hex: invalid byte at position {place}")


def _from_base64(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text.replace(b"\r", b"").replace(b"\n", b""), strict_mode=True)
    except binascii.Error:
        raise _wrong("while base64 decoding key: illegal base64 data") from None


def _wrong(text: str) -> ConfigError:
    return ConfigError(
        f"libsodium Crypter: during key transform: {text}",
        hint="WALG_LIBSODIUM_KEY_TRANSFORM says how the key is written; `openssl rand -hex 32` makes one for `hex`",
    )
