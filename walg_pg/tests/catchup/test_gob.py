"""The gob codec: values of every type come back, the bytes are Go's, and nothing but gob is taken for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_pg.catchup import messages
from walg_pg.catchup.gob import BOOL, BYTES, INT, STRING, UINT, Decoder, Encoder, GobError, Map, Opaque, Slice, Struct
from walg_pg.catchup.messages import Body, Command, CommandWriter, Control, read_command, read_hello, write_hello

CONTROL = (
    "527f0301010d5067436f6e74726f6c4461746101ff80000103011053797374656d4964656e746966696572010600010f43757272656e"
    "7454696d656c696e65010600010a436865636b706f696e740106000000"
)
COMMAND = (
    "ffa6ff8b0301011143617463687570436f6d6d616e6444746f01ff8c00010901064973446f6e65010200010d4973496e6372656d656e"
    "74616c0102000106497346756c6c0102000108497344656c657465010200010d497342696e436f6e74656e7473010200010846696c65"
    "53697a65010600010846696c654e616d65010c00010e42696e617279436f6e74656e7473010a00010d46696c6573546f44656c657465"
    "01ff8e00000016ff8d020101085b5d737472696e6701ff8e00010c0000"
)
LISTS = (
    "1fff890401010e4261636b757046696c654c69737401ff8a00010c01ff8200005bff81030102ff82000105010d4973496e6372656d65"
    "6e74656401020001094973536b697070656401020001054d54696d6501ff8400010d436f7272757074426c6f636b7301ff8600010c55"
    "706461746573436f756e74010600000010ff830501010454696d6501ff840000004dff8503010111436f7272757074426c6f636b7349"
    "6e666f01ff860001020112436f7272757074426c6f636b73436f756e740104000111536f6d65436f7272757074426c6f636b7301ff88"
    "00000016ff87020101085b5d75696e74333201ff880001060000"
)
"""What Go writes for the protocol's types (spec/postgres-backup.md 15.3)."""


def pieces(data: bytes, size: int = 7) -> Callable[[], bytes]:
    """`data` as a connection gives it: a little at a time."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return lambda: parts.pop(0) if parts else b""


TYPES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([BOOL, INT, UINT, BYTES, STRING]),
    lambda inner: st.one_of(
        st.builds(Slice, st.just("list"), inner),
        st.builds(Map, st.just("map"), st.sampled_from([INT, UINT, STRING]), inner),
        st.builds(
            lambda types: Struct("row", tuple((f"F{n}", each) for n, each in enumerate(types))),
            st.lists(inner, max_size=5),
        ),
        st.builds(Opaque, st.just("Time")),
    ),
    max_leaves=6,
)


def values(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, Struct):
        return st.fixed_dictionaries({name: values(inner) for name, inner in kind.fields}).map(
            lambda row: {
                name: held for name, held in row.items() if held or isinstance(dict(kind.fields)[name], Struct)
            }
        )
    if isinstance(kind, Slice):
        return st.lists(values(kind.item), max_size=4)
    if isinstance(kind, Map):
        return st.dictionaries(values(kind.key), values(kind.value), max_size=4)
    if isinstance(kind, Opaque):
        return st.binary(min_size=1, max_size=20)
    simple = {
        BOOL: st.booleans(),
        INT: st.integers(-(1 << 63), (1 << 63) - 1),
        UINT: st.integers(0, (1 << 64) - 1),
        BYTES: st.binary(max_size=300),
        STRING: st.text(max_size=20),
    }
    return simple[kind]


@settings(max_examples=400)
@given(st.data())
def test_every_value_comes_back(data: st.DataObject) -> None:
    encoder, stream, expected = Encoder(), b"", []
    for kind in data.draw(st.lists(TYPES, min_size=1, max_size=3)):
        for value in data.draw(st.lists(values(kind), min_size=1, max_size=2)):
            stream += encoder.message(kind, value)
            expected.append(value)
    decoder = Decoder(pieces(stream, data.draw(st.integers(1, 50))))
    assert [decoder.value("it") for _ in expected] == expected
    with pytest.raises(GobError, match="the connection ended where more was expected"):
        decoder.value("more")


@settings(max_examples=400)
@given(
    st.binary(max_size=60), st.sampled_from([b"", bytes.fromhex(CONTROL), bytes.fromhex(COMMAND), bytes.fromhex(LISTS)])
)
def test_noise_is_an_error(noise: bytes, before: bytes) -> None:
    decoder = Decoder(pieces(before + noise))
    with pytest.raises(GobError):
        list(iter(lambda: decoder.value("something"), object()))


@settings(max_examples=300)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_damaged_messages_are_errors_or_values(place: int, bit: int) -> None:
    stream = bytearray(b"".join(write_hello(Control(5, 1, 9), {"base/1/2": 17, "": 3})))
    stream[place % len(stream)] ^= 1 << bit
    try:
        control, files = read_hello(Decoder(pieces(bytes(stream))))
    except GobError:
        return
    assert isinstance(control.system, int)
    assert all(isinstance(name, str) for name in files)


def split(stream: bytes) -> list[bytes]:
    """The messages of a stream, without their lengths."""
    found, at = [], 0
    while at < len(stream):
        width = 256 - stream[at] if stream[at] >= 128 else 0
        size = int.from_bytes(stream[at + 1 : at + 1 + width], "big") if width else stream[at]
        at += 1 + width + size
        found.append(stream[at - size : at])
    return found


def test_definitions_are_those_of_go() -> None:
    hello = b"".join(write_hello(Control(0x1234, 1, 0x3000060), {"base/1/2": 1_700_000_000_123_456_789}))
    assert hello.hex().startswith(CONTROL)
    *_, last = messages_of_hello = split(hello)
    lists = messages_of_hello[2:-1]
    # Go's order of these definitions, and the numbers that it gives the types, are others; what they say is the same.
    numbers = {"8a": "82", "82": "84", "84": "86", "86": "88", "88": "8a"}
    odd = {"89": "81", "81": "83", "83": "85", "85": "87", "87": "89"}
    expected = set()
    for each in split(bytes.fromhex(LISTS)):
        text = each.hex()
        head, rest = text[:4], text[4:]
        for old in {**numbers, **odd}:
            rest = rest.replace(f"ff{old}", f"FF{ {**numbers, **odd}[old] }")
        expected.add(f"ff{odd[head[2:]]}" + rest.lower())
    assert {each.hex() for each in lists} == expected
    assert (
        last.hex() == "ff8200" + "01" + "08" + b"base/1/2".hex() + "03" + "0f010000000edce5e800" + "075bcd15ffff" + "00"
    )
    ours = split(CommandWriter().command(Command(kind="done")))
    theirs = [each.hex() for each in split(bytes.fromhex(COMMAND))]
    ids = {"ff8b": "ff7f", "ff8c": "ff80", "ff8d": "ff81", "ff8e": "ff82"}
    for old, new in ids.items():
        theirs = [text.replace(old, new) for text in theirs]
    # The first free number takes one byte as a negative, two as Go's later one.
    assert [each.hex() for each in ours] == [theirs[0].replace("ff7f", "7f", 1), theirs[1], "ff80010100"]


def test_streams_of_go_are_read() -> None:
    orders = bytes.fromhex(COMMAND + "11ff8c030103050108626173652f312f3200" + "080a000568656c6c6f" + "05ff8c010100")
    decoder = Decoder(pieces(orders, 3))
    command = read_command(decoder)
    assert (command.kind, command.name, command.size) == ("full", "base/1/2", 5)
    assert Body(decoder, command.size, command.name).read() == b"hello"
    assert read_command(decoder).kind == "done"
    hello = b"".join(write_hello(Control(0x1234, 1, 0x3000060), {"base/1/2": 1_700_000_000_123_456_789}))
    control, value, *_, last = split(hello)
    listed = b"\xff\x8a" + last[2:]
    stream = bytes((len(control),)) + control + bytes((len(value),)) + value + bytes.fromhex(LISTS)
    found = read_hello(Decoder(pieces(stream + bytes((len(listed),)) + listed)))
    assert found == (Control(0x1234, 1, 0x3000060), {"base/1/2": 1_700_000_000_123_456_789})


@given(st.dictionaries(st.text(max_size=30), st.integers(-(1 << 62), 1 << 62), max_size=8))
def test_file_lists_come_back(files: dict[str, int]) -> None:
    control = Control((1 << 64) - 1, 7, 1 << 40)
    assert read_hello(Decoder(pieces(b"".join(write_hello(control, files)), 11))) == (control, files)


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=4), st.integers(1, 30_000))
def test_data_comes_back_in_any_portions(sizes: list[int], portion: int) -> None:
    writer = CommandWriter()
    contents = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    stream = b"".join(
        writer.command(Command(kind="full", name=f"f{len(data)}", size=len(data))) + writer.data(data)
        for data in contents
    )
    decoder = Decoder(pieces(stream, 5000))
    for data in contents:
        command = read_command(decoder)
        body = Body(decoder, command.size, command.name)
        first = body.read_exactly(min(portion, len(data)))
        assert first + b"".join(iter(body.read, b"")) == data
        assert body.left == 0


def test_control_files_of_old_servers() -> None:
    old = bytearray(8192)
    old[:12] = (77).to_bytes(8, "little") + (1002).to_bytes(4, "little")
    old[48:60] = (0x5000028).to_bytes(8, "little") + (3).to_bytes(4, "little")
    assert messages.read_control(bytes(old), "it") == Control(77, 3, 0x5000028)
    with pytest.raises(Exception, match="not a control file"):
        messages.read_control(bytes(8192), "it")
