"""ASCII armor of keyrings (RFC 9580 6; spec/compression-crypto.md 6.1). The first block counts; its CRC does not."""

import binascii

from walg_core.errors import ConfigError

_KEYS = ("PGP PUBLIC KEY BLOCK", "PGP PRIVATE KEY BLOCK")
_BEGIN, _DASHES = b"-----BEGIN ", b"-----"


def dearmor_keyring(text: bytes, where: str) -> bytes:
    """The packets of the first armored block of `text`. `where` says for errors what was read. Raises ConfigError."""
    lines = iter(text.replace(b"\r\n", b"\n").split(b"\n"))
    kind = next((line.strip() for line in lines if line.strip().startswith(_BEGIN)), None)
    if kind is None or not kind.endswith(_DASHES):
        raise _bad(where, "openpgp: invalid argument: no armored data found", "an ASCII-armored keyring is expected")
    name = kind[len(_BEGIN) : -len(_DASHES)].decode("ascii", "replace")
    if name not in _KEYS:
        raise _bad(where, f"openpgp: invalid argument: expected public or private key block, got: {name}", "")
    for line in lines:
        if not line.strip():
            break
    body: list[bytes] = []
    for line in lines:
        line = line.strip()
        if line.startswith((b"-----END", b"=")):
            return _decode(b"".join(body), where)
        body.append(line)
    raise _bad(where, "unexpected EOF", "the armored block is cut: its END line is missing")


def _decode(text: bytes, where: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True) if text else b""
    except binascii.Error:
        raise _bad(where, "illegal base64 data", "the armored block is damaged") from None


def _bad(where: str, text: str, hint: str) -> ConfigError:
    return ConfigError(f"{where}: {text}", hint=hint or "`gpg -a --export KEY` writes what is expected")
