"""Mutated xbstreams and page deltas: each ends in an error of ours or is taken for what its checksums say."""

from __future__ import annotations

import os
import random
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import BytesReader

chunks = pytest.importorskip("walg_mysql.xbstream.chunks")
delta = pytest.importorskip("walg_mysql.xbstream.delta")
writer = pytest.importorskip("walg_mysql.xbstream.writer")

PAGE = 1024


def mutated(draw: random.Random, stored: bytes) -> bytes:
    """One to three changes: bits, bytes, extreme numbers, cuts, insertions, doubled or lost pieces."""
    out = bytearray(stored)
    for _ in range(draw.randint(1, 3)):
        if not out:
            break
        at = draw.randrange(len(out))
        kind = draw.randrange(7)
        if kind == 0:
            out[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            out[at] = draw.randrange(256)
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            out[at:at] = draw.randbytes(draw.randint(1, 40))
        elif kind == 4:
            del out[at : at + draw.randint(1, 40)]
        elif kind == 5:
            out[at : at + 4] = draw.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
        else:
            out[at:at] = out[at : at + draw.randint(1, 400)]
    return bytes(out)


def stream() -> bytes:
    out: list[bytes] = []
    made = writer.Writer(out.append, 300)
    made.add("shop/t.ibd", BytesReader(bytes(range(256)) * 5))
    made.add("empty", BytesReader(b""))
    out.append(writer.sparse_chunk("s", 7, [(3, 50), (1000, 0), (0, 30)], b"p" * 80) + writer.end_chunk("s"))
    made.add("holes", BytesReader(b"abc"), [(1, 5000)])
    return b"".join(out)


def parse(data: bytes, _: int) -> None:
    for chunk in chunks.read_chunks(BytesReader(data)):
        assert len(chunk.payload()) == chunk.size


def page_delta() -> bytes:
    draw = random.Random(5)
    out = []
    for magic, numbers in ((b"xtra", [0, 1, 2, 9]), (b"XTRA", [20, 21, 700])):
        out.append((magic + struct.pack(f">{len(numbers) + 1}I", *numbers, 0xFFFFFFFF)).ljust(PAGE, b"\0"))
        out += [draw.randbytes(PAGE) for _ in numbers]
    return b"".join(out)


def apply(data: bytes, fd: int) -> None:
    try:
        small = delta.apply_delta(BytesReader(data), fd, "t.ibd", PAGE)
    except OSError:
        # A page number beyond the largest file that the file system has.
        return
    assert small.startswith(b"XTRA")


def run(make: Callable[[], bytes], check: Callable[[bytes, int], None], rounds: int, fd: int) -> None:
    draw = random.Random(20261124)
    stored = make()
    check(stored, fd)
    refused = 0
    slowest = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(rounds):
        started = time.process_time()
        try:
            check(mutated(draw, stored), fd)
        except IntegrityError:
            refused += 1
        slowest = max(slowest, time.process_time() - started)
        os.ftruncate(fd, 0)
    assert slowest < 1
    assert refused > rounds // 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10


CASES = pytest.mark.parametrize(("make", "check"), [(stream, parse), (page_delta, apply)])


@CASES
def test_mutations(tmp_path: Path, make: Callable[[], bytes], check: Callable[[bytes, int], None]) -> None:
    with (tmp_path / "t.ibd").open("wb") as file:
        run(make, check, 20_000, file.fileno())


@pytest.mark.slow
@CASES
def test_many_mutations(tmp_path: Path, make: Callable[[], bytes], check: Callable[[bytes, int], None]) -> None:
    with (tmp_path / "t.ibd").open("wb") as file:
        run(make, check, 200_000, file.fileno())
