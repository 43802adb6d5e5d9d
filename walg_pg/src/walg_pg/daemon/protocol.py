"""The frames on the daemon's socket (spec/postgres-wal.md 11.1). Lengths are big-endian.

A request is one type byte, its whole length as u16 (these three bytes included), and a body. A reply is one byte.
"""

CHECK, PUSH, FETCH = 0x43, 0x46, 0x66
OK, ERROR, NOT_FOUND = b"O", b"E", b"N"
HEAD = 3
MAX_FRAME = 0xFFFF


class BadFrame(ValueError):
    """The bytes are no request."""


def frame(kind: int, body: bytes = b"") -> bytes:
    """One request. Raises ValueError when it would not fit."""
    size = HEAD + len(body)
    if size > MAX_FRAME:
        raise ValueError(f"a request of {size} bytes is longer than the protocol allows ({MAX_FRAME})")
    return bytes((kind,)) + size.to_bytes(2, "big") + body


def arguments(*words: str) -> bytes:
    """The argument list of a fetch: their number, then each with its length before it."""
    encoded = [word.encode() for word in words]
    if len(encoded) > 255 or any(len(word) > MAX_FRAME for word in encoded):
        raise ValueError("too many or too long arguments")
    return bytes((len(encoded),)) + b"".join(len(word).to_bytes(2, "big") + word for word in encoded)


def parse_head(head: bytes) -> tuple[int, int]:
    """Type and body length of a request's first three bytes."""
    size = int.from_bytes(head[1:3], "big")
    if len(head) < HEAD or size < HEAD:
        raise BadFrame(f"a request says that it is {size} bytes long")
    return head[0], size - HEAD


def parse_arguments(body: bytes) -> list[str]:
    """The argument list of a fetch; trailing bytes are an error."""
    words: list[str] = []
    at = 1
    for _ in range(body[0] if body else 0):
        size = int.from_bytes(body[at : at + 2], "big")
        word = body[at + 2 : at + 2 + size]
        if at + 2 + size > len(body) or len(word) < size:
            raise BadFrame("an argument is cut")
        words.append(word.decode("utf-8", "strict"))
        at += 2 + size
    if not body or at != len(body):
        raise BadFrame("bytes are left after the last argument")
    return words
