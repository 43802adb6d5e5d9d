"""What an object looks like by its first bytes: most failures are the right object with the wrong settings."""

_PLAIN = (
    (b"\x04\x22\x4d\x18", "an lz4 frame"),
    (b"\x28\xb5\x2f\xfd", "a zstd frame"),
    (b"\x5d\x00\x00", "an lzma stream"),
    (b"\x1f\x8b\x08", "a gzip stream"),
    (b"\x89LZO", "an lzop container"),
)
_SEALED = (
    (b"yckms", "a Yandex KMS object"),
    (b"envelope-yc-kms", "an envelope PGP object"),
    (b"-----BEGIN PGP", "an armored OpenPGP message"),
    (b"age-encryption.org", "a file of age"),
)
_PGP_FIRST_BYTES = (0xC1, 0x84, 0x85, 0x86)


def looks_plain(head: bytes) -> str:
    """Which compressed form `head` begins like ("" for none): then the object was stored unencrypted."""
    return next((what for magic, what in _PLAIN if head.startswith(magic)), "")


def looks_sealed(head: bytes) -> str:
    """Which encrypted form `head` begins like ("" for none)."""
    for magic, what in _SEALED:
        if head.startswith(magic):
            return what
    # A packet of tag 1 (spec/compression-crypto.md 6.2): its length, then version 3 or 6.
    if head[:1] and head[0] in _PGP_FIRST_BYTES and (3 in head[2:5] or 6 in head[2:5]):
        return "an OpenPGP message"
    return ""


def hint(head: bytes, otherwise: str) -> str:
    """The hint of an error about an object that begins with `head` and that the configured cipher cannot read."""
    plain, sealed = looks_plain(head), looks_sealed(head)
    if plain:
        return f"it begins like {plain}: it was stored unencrypted; read it without the cipher's settings"
    if sealed:
        return f"it begins like {sealed}: configure the cipher and key it was written with"
    return otherwise
