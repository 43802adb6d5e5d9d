"""The few forms of protocol buffers that the service's messages need: fields of bytes and of numbers."""

from walg_core.errors import PermanentError


def message(fields: "dict[int, bytes | str | int]") -> bytes:
    """A message of these fields; empty ones are left out, as the format wants it."""
    out = b""
    for number, value in fields.items():
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value) if value else b""
            continue
        data = value.encode() if isinstance(value, str) else value
        out += _varint(number << 3 | 2) + _varint(len(data)) + data if data else b""
    return out


def fields(data: bytes) -> dict[int, list[bytes]]:
    """The fields of bytes of a message; numbers are skipped. Raises PermanentError for what is none."""
    out: dict[int, list[bytes]] = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == 0:
            _, at = _read_varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise PermanentError("YC KMS: the service's answer is cut")
            out.setdefault(key >> 3, []).append(data[at : at + size])
            at += size
        else:
            raise PermanentError("YC KMS: the service's answer is no protocol buffer")
    return out


def first(data: bytes, number: int) -> bytes:
    """A field's value; empty when it is absent."""
    return fields(data).get(number, [b""])[0]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise PermanentError("YC KMS: the service's answer is no protocol buffer")
