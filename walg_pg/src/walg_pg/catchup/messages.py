"""What the two sides of a catchup tell each other (spec/postgres-backup.md 15.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from walg_core.errors import IntegrityError

from walg_pg.catchup.gob import BOOL, BYTES, INT, STRING, UINT, Decoder, Encoder, GobError, Map, Opaque, Slice, Struct

PG_CONTROL, LABEL, TABLESPACE_MAP = "global/pg_control", "backup_label", "tablespace_map"
PIECE = 8192
"""Most bytes of a file in one value."""

_CONTROL = Struct("PgControlData", (("SystemIdentifier", UINT), ("CurrentTimeline", UINT), ("Checkpoint", UINT)))
_BLOCKS = Struct("CorruptBlocksInfo", (("CorruptBlocksCount", INT), ("SomeCorruptBlocks", Slice("[]uint32", UINT))))
_DESCRIPTION = Struct(
    "",
    (
        ("IsIncremented", BOOL),
        ("IsSkipped", BOOL),
        ("MTime", Opaque("Time")),
        ("CorruptBlocks", _BLOCKS),
        ("UpdatesCount", UINT),
    ),
)
_FILES = Map("BackupFileList", STRING, _DESCRIPTION)
_COMMAND = Struct(
    "CatchupCommandDto",
    (
        ("IsDone", BOOL),
        ("IsIncremental", BOOL),
        ("IsFull", BOOL),
        ("IsDelete", BOOL),
        ("IsBinContents", BOOL),
        ("FileSize", UINT),
        ("FileName", STRING),
        ("BinaryContents", BYTES),
        ("FilesToDelete", Slice("[]string", STRING)),
    ),
)

_EPOCH = 62135596800
"""Seconds from the year 1, where Go's times begin, to 1970."""
_FULL_PIECE = bytes.fromhex("fe20050a00fe2000")
"""What precedes a piece of exactly `PIECE` bytes: lengths of message and value, type id, a zero."""
_PIECES_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Control:
    """Which cluster a data directory is of and how far it got: from its `global/pg_control`."""

    system: int
    timeline: int
    position: int
    """All changes before this LSN are in the files."""


def read_control(data: bytes, where: str) -> Control:
    """From the bytes of `pg_control` (PostgreSQL's catalog/pg_control.h). Raises IntegrityError.

    The position is the REDO position of the last checkpoint, not the place of its record, which the original sends: a
    replica that was not shut down may lack changes between the two.
    """
    if len(data) < 64:
        raise IntegrityError(f"{where} has only {len(data)} bytes")
    system, version = struct.unpack_from("<QI", data)
    redo = 40 if version >= 1100 else 48
    position, timeline = struct.unpack_from("<QI", data, redo)
    if not 0 < version < 1 << 16 or not timeline:
        raise IntegrityError(f"{where} is not a control file of PostgreSQL", hint="was it written on another platform?")
    return Control(system, timeline, position)


def write_hello(control: Control, files: Mapping[str, int]) -> Iterator[bytes]:
    """What the receiver sends: where it stands, and its files with their modification times (ns since 1970)."""
    encoder = Encoder()
    yield encoder.message(
        _CONTROL,
        {"SystemIdentifier": control.system, "CurrentTimeline": control.timeline, "Checkpoint": control.position},
    )
    yield encoder.message(_FILES, {name: {"MTime": _time(mtime)} for name, mtime in files.items()})


def read_hello(decoder: Decoder) -> tuple[Control, dict[str, int]]:
    """The inverse of `write_hello`. Raises GobError."""
    row = _fields(decoder.value("the receiver's control data"), "the receiver's control data")
    control = Control(_number(row, "SystemIdentifier"), _number(row, "CurrentTimeline"), _number(row, "Checkpoint"))
    files = decoder.value("the receiver's file list")
    if not isinstance(files, dict) or not all(isinstance(each, dict) for each in files.values()):
        raise GobError("the receiver's file list has an unknown form")
    return control, {str(name): _nanoseconds(each.get("MTime", b"")) for name, each in files.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One step that the sender orders. `size` bytes of data follow a file; an increment is in the format "wi1"."""

    kind: str
    """`full`, `increment`, `contents`, `delete` or `done`."""
    name: str = ""
    size: int = 0
    contents: bytes = b""
    names: tuple[str, ...] = ()


_FLAGS = {
    "done": "IsDone",
    "increment": "IsIncremental",
    "full": "IsFull",
    "delete": "IsDelete",
    "contents": "IsBinContents",
}


class CommandWriter:
    """The sender's half of a stream."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def command(self, command: Command) -> bytes:
        """The message that orders this."""
        return self._encoder.message(
            _COMMAND,
            {
                _FLAGS[command.kind]: True,
                "FileSize": command.size,
                "FileName": command.name,
                "BinaryContents": command.contents,
                "FilesToDelete": list(command.names),
            },
        )

    def data(self, data: bytes) -> bytes:
        """The values that carry these bytes of a file."""
        parts: list[bytes | memoryview] = []
        view = memoryview(data)
        whole = len(data) // PIECE
        for number in range(whole):
            parts.append(_FULL_PIECE)
            parts.append(view[number * PIECE : (number + 1) * PIECE])
        if len(data) % PIECE:
            parts.append(self._encoder.message(BYTES, data[whole * PIECE :]))
        return b"".join(parts)


def read_command(decoder: Decoder) -> Command:
    """The sender's next order. Raises GobError."""
    row = _fields(decoder.value("the sender's next order"), "an order")
    kinds = [kind for kind, flag in _FLAGS.items() if row.get(flag)]
    if len(kinds) != 1:
        raise GobError(f"the sender orders {' and '.join(kinds) or 'nothing'}: another version of the protocol?")
    names = row.get("FilesToDelete", [])
    name, contents = row.get("FileName", ""), row.get("BinaryContents", b"")
    if not isinstance(name, str) or not isinstance(contents, bytes) or not isinstance(names, list):
        raise GobError("the sender's order has fields of unknown types")
    return Command(
        kind=kinds[0], name=name, size=_number(row, "FileSize"), contents=contents, names=tuple(map(str, names))
    )


class Body:
    """The data that follows an order: exactly `left` more bytes."""

    def __init__(self, decoder: Decoder, size: int, name: str) -> None:
        self.left = size
        self._decoder = decoder
        self._name = name
        self._rest = b""

    def read(self) -> bytes:
        """Some bytes, up to 1 MiB; none at the end. Raises GobError."""
        if self._rest:
            out, self._rest = self._rest, b""
            self.left -= len(out)
            return out
        parts: list[bytes] = []
        while self.left and len(parts) < _PIECES_AT_ONCE:
            parts.append(self._piece())
            self.left -= len(parts[-1])
        return b"".join(parts)

    def read_exactly(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises GobError when fewer are announced."""
        if size > self.left:
            raise GobError(f"{self._name}: {size} bytes are needed where the sender announced {self.left}")
        parts, have = [self._rest], len(self._rest)
        while have < size:
            parts.append(self._piece(self.left - have))
            have += len(parts[-1])
        data = b"".join(parts)
        self._rest = data[size:]
        self.left -= size
        return data[:size]

    def _piece(self, left: int | None = None) -> bytes:
        left = self.left if left is None else left
        piece = self._decoder.value(f"data of {self._name}")
        if not isinstance(piece, bytes) or not 0 < len(piece) <= left:
            raise GobError(f"{self._name}: instead of {left} more bytes of data came something else")
        return piece


def _fields(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GobError(f"instead of {what} came {type(value).__name__}")
    return value


def _number(row: dict[str, Any], name: str) -> int:
    value = row.get(name, 0)
    if not isinstance(value, int) or value < 0:
        raise GobError(f"{name} is not a number")
    return value


def _time(nanoseconds: int) -> bytes:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return struct.pack(">Bqih", 1, seconds + _EPOCH, rest, -1)


def _nanoseconds(data: Any) -> int:
    """0 for a time that is missing. Zones do not matter: the moment is what is compared."""
    if not data:
        return 0
    if not isinstance(data, bytes) or not 15 <= len(data) <= 16 or data[0] not in (1, 2):
        raise GobError("a file's time has an unknown form")
    seconds, rest = struct.unpack_from(">qi", data, 1)
    return int((seconds - _EPOCH) * 1_000_000_000 + rest)
