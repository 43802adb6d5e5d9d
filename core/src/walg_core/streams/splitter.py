"""Cutting a stream into partitions and joining them again (spec/stream-backups.md 4 and 5).

Block i of exactly `block_size` bytes (the last may be shorter) belongs to partition i mod P. A partition's blocks form
its raw stream; with a maximum file size that is cut again, at multiples of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from walg_core.errors import ConfigError, IntegrityError
from walg_core.pipeline.reader import CHUNK, Reader, read_exactly
from walg_core.settings.config import Config
from walg_core.streams.channel import Channel


class Split(NamedTuple):
    """How a stream is cut: number of partitions, bytes of a block, most bytes of a file before compression (0: any)."""

    partitions: int
    block_size: int
    max_file_size: int = 0

    @classmethod
    def from_config(cls, config: Config) -> Split | None:
        """The settings `WALG_STREAM_SPLITTER_*`; None when they ask for one plain stream. Raises ConfigError."""
        partitions = config.get("WALG_STREAM_SPLITTER_PARTITIONS") or 0
        largest = config.get("WALG_STREAM_SPLITTER_MAX_FILE_SIZE") or 0
        if partitions < 0 or partitions > 9999:
            raise ConfigError(f"WALG_STREAM_SPLITTER_PARTITIONS: expected 0 to 9999 but is {partitions}")
        if largest < 0:
            raise ConfigError(f"WALG_STREAM_SPLITTER_MAX_FILE_SIZE: expected a number of bytes but is {largest}")
        if partitions <= 1 and not largest:
            return None
        block = config.get("WALG_STREAM_SPLITTER_BLOCK_SIZE") or 0
        if block < 1:
            raise ConfigError(f"WALG_STREAM_SPLITTER_BLOCK_SIZE: expected at least 1 byte but is {block}")
        return cls(max(1, partitions), block, largest)


def deal(source: Reader, split: Split, channels: Sequence[Channel]) -> int:
    """Distribute all of `source` over one channel a partition and end them; returns the bytes read.

    Holds at most 1 MiB (or a stripe of small blocks) at a time. What `source` raises goes to every channel and on.
    """
    try:
        count = 0
        for partition, piece in _pieces(source, split):
            channels[partition].put(piece)
            count += len(piece)
        for channel in channels:
            channel.end()
    except BaseException as error:
        for channel in channels:
            channel.fail(error)
        raise
    return count


def _pieces(source: Reader, split: Split) -> Iterator[tuple[int, bytes]]:
    stripe = split.partitions * split.block_size
    if split.partitions == 1:
        while piece := source.read(CHUNK):
            yield 0, piece
    elif stripe <= CHUNK:
        size = CHUNK // stripe * stripe
        while data := read_exactly(source, size):
            yield from _stripes(data, split)
    else:
        yield from _blocks(source, split)


def _stripes(data: bytes, split: Split) -> Iterator[tuple[int, bytes]]:
    """Whole stripes (the last may be cut) at once: small blocks one by one would cost more than their bytes."""
    block, stripe = split.block_size, split.partitions * split.block_size
    for partition in range(split.partitions):
        first = partition * block
        piece = b"".join([data[at : at + block] for at in range(first, len(data), stripe)])
        if piece:
            yield partition, piece


def _blocks(source: Reader, split: Split) -> Iterator[tuple[int, bytes]]:
    partition = 0
    while True:
        left = split.block_size
        while left:
            piece = source.read(min(left, CHUNK))
            if not piece:
                return
            left -= len(piece)
            yield partition, piece
        partition = (partition + 1) % split.partitions


def join(partitions: Sequence[Reader], block_size: int) -> Iterator[bytes]:
    """The original stream, in pieces of at most 1 MiB.

    Raises IntegrityError when a partition goes on after the stream must have ended, which means that another one lost
    a piece (the original then interleaves wrongly without a word).
    """
    if block_size < 1:
        raise IntegrityError(f"the stream's metadata has a block size of {block_size}")
    number = -1
    ended = -1
    while True:
        number = (number + 1) % len(partitions)
        left = block_size
        while left:
            piece = partitions[number].read(min(left, CHUNK))
            if not piece:
                break
            if ended >= 0:
                raise IntegrityError(
                    f"partition {ended} of the backup ends before partition {number}: a piece of it is missing",
                    hint="the backup is incomplete; use another one",
                )
            left -= len(piece)
            yield piece
        if left and ended < 0:
            ended = number
        elif ended >= 0 and (number + 1) % len(partitions) == ended:
            return
        if ended >= 0 and len(partitions) == 1:
            return
