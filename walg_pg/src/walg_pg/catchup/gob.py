"""The subset of Go's gob encoding that the catchup protocol uses (spec/postgres-backup.md 15.3).

A stream is a row of messages: an unsigned length, then a signed type id: negative for the definition of a type,
positive for a value. Python's side of the values: bool, int, bytes, str, list, dict for maps and for structs (fields
with zero values are left out of both), and for types that encode themselves (times) their bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from walg_core.errors import IntegrityError

BOOL, INT, UINT, BYTES, STRING = 1, 2, 3, 5, 6
"""Built-in type ids."""
_FIRST_FREE = 64
_MESSAGE_LIMIT = 1 << 30
_DEPTH_LIMIT = 24


class GobError(IntegrityError):
    """The bytes are not a gob stream of the expected kind."""


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct: its name in Go and its fields in order. A field's type is a built-in id or another type."""

    name: str
    fields: tuple[tuple[str, Type], ...]


@dataclass(frozen=True, slots=True)
class Map:
    """A map."""

    name: str
    key: Type
    value: Type


@dataclass(frozen=True, slots=True)
class Slice:
    """A list."""

    name: str
    item: Type


@dataclass(frozen=True, slots=True)
class Opaque:
    """A type that encodes itself: bytes here."""

    name: str


Type = int | Struct | Map | Slice | Opaque

_COMMON = Struct("", (("Name", STRING), ("Id", INT)))
_FIELD = Struct("", (("Name", STRING), ("Id", INT)))
_WIRE = Struct(
    "",
    (
        ("ArrayT", Struct("", (("Common", _COMMON), ("Elem", INT), ("Len", INT)))),
        ("SliceT", Struct("", (("Common", _COMMON), ("Elem", INT)))),
        ("StructT", Struct("", (("Common", _COMMON), ("Field", Slice("", _FIELD))))),
        ("MapT", Struct("", (("Common", _COMMON), ("Key", INT), ("Elem", INT)))),
        ("GobEncoderT", Struct("", (("Common", _COMMON),))),
        ("BinaryMarshalerT", Struct("", (("Common", _COMMON),))),
        ("TextMarshalerT", Struct("", (("Common", _COMMON),))),
    ),
)
"""How types themselves are described on the wire."""


def uint(value: int) -> bytes:
    """An unsigned number: one byte below 128, else 256 minus the count of big-endian bytes, and those."""
    if value < 128:
        return bytes((value,))
    body = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes((256 - len(body),)) + body


def sint(value: int) -> bytes:
    """A signed number."""
    return uint(value << 1 if value >= 0 else (~value << 1) | 1)


class Encoder:
    """Makes the messages of one stream; the definition of a type precedes its first value."""

    def __init__(self) -> None:
        self._ids: dict[Type, int] = {}

    def message(self, kind: Type, value: Any) -> bytes:
        """One value, with the definitions that the peer has not seen yet."""
        definitions: list[bytes] = []
        number = self._define(kind, definitions)
        body = sint(number) + (b"" if isinstance(kind, Struct) else b"\0") + self._value(kind, value)
        return b"".join((*definitions, uint(len(body)), body))

    def _define(self, kind: Type, definitions: list[bytes]) -> int:
        if isinstance(kind, int):
            return kind
        known = self._ids.get(kind)
        if known is not None:
            return known
        number = self._ids[kind] = _FIRST_FREE + len(self._ids)
        place = len(definitions)
        described = self._describe(kind, number, definitions)
        body = sint(-number) + self._value(_WIRE, described)
        definitions.insert(place, uint(len(body)) + body)
        return number

    def _describe(self, kind: Type, number: int, definitions: list[bytes]) -> dict[str, Any]:
        assert not isinstance(kind, int)
        common = {"Name": kind.name, "Id": number}
        if isinstance(kind, Struct):
            fields = [{"Name": name, "Id": self._define(each, definitions)} for name, each in kind.fields]
            return {"StructT": {"Common": common, "Field": fields}}
        if isinstance(kind, Map):
            key, item = self._define(kind.key, definitions), self._define(kind.value, definitions)
            return {"MapT": {"Common": common, "Key": key, "Elem": item}}
        if isinstance(kind, Slice):
            return {"SliceT": {"Common": common, "Elem": self._define(kind.item, definitions)}}
        return {"GobEncoderT": {"Common": common}}

    def _value(self, kind: Type, value: Any) -> bytes:
        if isinstance(kind, Struct):
            return self._struct(kind, value)
        if isinstance(kind, Map):
            rows = (self._value(kind.key, key) + self._value(kind.value, item) for key, item in value.items())
            return uint(len(value)) + b"".join(rows)
        if isinstance(kind, Slice):
            return uint(len(value)) + b"".join(self._value(kind.item, item) for item in value)
        if kind == INT:
            return sint(value)
        if kind in (BOOL, UINT):
            return uint(int(value))
        raw: bytes = value.encode("utf-8", "surrogateescape") if kind == STRING else value
        return uint(len(raw)) + raw

    def _struct(self, kind: Struct, value: dict[str, Any]) -> bytes:
        parts, last = [], -1
        for number, (name, inner) in enumerate(kind.fields):
            held = value.get(name)
            if held or (isinstance(inner, Struct) and held is not None):
                parts.append(uint(number - last) + self._value(inner, held))
                last = number
        return b"".join(parts) + b"\0"


class Decoder:
    """Reads the messages of one stream, whatever numbers the peer gives its types. Raises GobError.

    `fill` gives some more bytes each time, none at the end of the stream; no more is asked for than is needed.
    """

    def __init__(self, fill: Callable[[], bytes]) -> None:
        self._fill = fill
        self._data = b""
        self._at = 0
        self._end = 0
        self._types: dict[int, Type | dict[str, Any]] = {}

    def value(self, expected: str) -> Any:
        """The next value; `expected` names it in errors. Definitions on the way are remembered."""
        while True:
            self._message(expected)
            number = self._sint()
            if number >= 0:
                break
            self._types[-number] = self._read(_WIRE, 0)
            self._check_end()
        kind = self._type(number, 0)
        if not isinstance(kind, Struct) and self._byte() != 0:
            raise GobError(f"instead of {expected} came something that is no value")
        found = self._read(kind, 0)
        self._check_end()
        return found

    def finish(self) -> None:
        """Read on to the end of the stream, which must be here."""
        if self._at != len(self._data) or self._fill():
            raise GobError("the other side says more than it has to")

    def _message(self, expected: str) -> None:
        """Make the next message available from `_at` to `_end`."""
        self._need(1, expected)
        first = self._data[self._at]
        width = 256 - first if first >= 128 else 0
        if width > 8:
            raise GobError(f"instead of {expected} came a message whose length has {width} bytes")
        self._need(1 + width, expected)
        self._end = len(self._data)
        length = self._uint()
        if not 0 < length <= _MESSAGE_LIMIT:
            raise GobError(f"instead of {expected} came a message of {length} bytes")
        self._need(length, expected)
        self._end = self._at + length

    def _need(self, count: int, expected: str) -> None:
        have = len(self._data) - self._at
        if have >= count:
            return
        parts = [self._data[self._at :]]
        while have < count:
            piece = self._fill()
            if not piece:
                raise GobError(
                    f"the connection ended where {expected} was expected", hint="see what the other side reports"
                )
            parts.append(piece)
            have += len(piece)
        self._data, self._at = b"".join(parts), 0

    def _check_end(self) -> None:
        if self._at != self._end:
            raise GobError(f"a message has {self._end - self._at} bytes too many")

    def _byte(self) -> int:
        if self._at >= self._end:
            raise GobError("a message is shorter than its content")
        self._at += 1
        return self._data[self._at - 1]

    def _uint(self) -> int:
        first = self._byte()
        if first < 128:
            return first
        width = 256 - first
        if width > 8:
            raise GobError(f"a number of {width} bytes")
        return int.from_bytes(self._bytes(width), "big")

    def _sint(self) -> int:
        value = self._uint()
        return ~(value >> 1) if value & 1 else value >> 1

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > self._end:
            raise GobError("a message is shorter than its content")
        out = self._data[self._at : end]
        self._at = end
        return out

    def _type(self, number: int, depth: int) -> Type:
        """The type of that number, made of the peer's definitions when it is first needed."""
        known = self._types.get(number)
        if known is None:
            if number in (BOOL, INT, UINT, BYTES, STRING):
                return number
            raise GobError(f"a value of type {number}, which was not defined")
        if not isinstance(known, dict):
            return known
        if depth > _DEPTH_LIMIT:
            raise GobError("types that contain each other")
        made = self._types[number] = self._made(known, depth)
        return made

    def _made(self, wire: dict[str, Any], depth: int) -> Type:
        if len(wire) != 1:
            raise GobError("a type definition of no known form")
        ((form, body),) = wire.items()
        name = body.get("Common", {}).get("Name", "")
        if form == "StructT":
            fields = body.get("Field", [])
            return Struct(
                name, tuple((each.get("Name", ""), self._type(each.get("Id", 0), depth + 1)) for each in fields)
            )
        if form == "MapT":
            return Map(name, self._type(body.get("Key", 0), depth + 1), self._type(body.get("Elem", 0), depth + 1))
        if form == "SliceT":
            return Slice(name, self._type(body.get("Elem", 0), depth + 1))
        if form == "ArrayT":
            raise GobError(f"an array ({name}), which the protocol does not have")
        return Opaque(name)

    def _read(self, kind: Type, depth: int) -> Any:
        if depth > _DEPTH_LIMIT:
            raise GobError("values that are nested too deep")
        if isinstance(kind, int):
            return self._builtin(kind)
        if isinstance(kind, Opaque):
            return self._bytes(self._uint())
        if isinstance(kind, Struct):
            return dict(self._fields(kind, depth))
        count = self._uint()
        if count > self._end - self._at:
            raise GobError(f"{count} elements in {self._end - self._at} bytes")
        if isinstance(kind, Slice):
            return [self._read(kind.item, depth + 1) for _ in range(count)]
        return {self._key(kind.key): self._read(kind.value, depth + 1) for _ in range(count)}

    def _key(self, kind: Type) -> Any:
        if not isinstance(kind, int):
            raise GobError("a map with keys that are no names")
        return self._builtin(kind)

    def _builtin(self, kind: int) -> Any:
        if kind == BOOL:
            return self._uint() != 0
        if kind == INT:
            return self._sint()
        if kind == UINT:
            return self._uint()
        raw = self._bytes(self._uint())
        return raw.decode("utf-8", "surrogateescape") if kind == STRING else raw

    def _fields(self, kind: Struct, depth: int) -> Iterator[tuple[str, Any]]:
        number = -1
        while step := self._uint():
            number += step
            if number >= len(kind.fields):
                raise GobError(f"{kind.name or 'a type'} has a field too many")
            name, inner = kind.fields[number]
            yield name, self._read(inner, depth + 1)
