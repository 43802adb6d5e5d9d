"""PostgreSQL's data page checksum over many pages at once (storage/checksum_impl.h; spec/postgres-backup.md 7)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 32
_PRIME = np.uint32(16777619)
_SHIFT = np.uint32(17)
_BASES = np.frombuffer(
    bytes.fromhex(
        "5B1F36E9B852596002AB50AA1DE66D2A79FF467A9BB9F8A3217E7CD283E13D2C"
        "F8D4474FE39EB97042C6AE16993216FA7B093B5D98DAFF3CF718902A0B1C9CDB"
        "E58F764B187636BC5D7B3BB1E73DE7DE92BEC979CCA6C0B2304A097985AA43D4"
        "783125BB6CA8EAA2E407EAC64B5CFC3E9FBF8C7615CA20BEF2CA9FD3959BD756"
    ),
    ">u4",
).astype(np.uint32)


def checksums(data: Any, count: int, page: int, blocks: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """The checksums that `count` pages of `page` bytes at the beginning of the buffer `data` should carry.

    `blocks`: their absolute block numbers in the relation (over all segments).
    """
    words = np.frombuffer(data, "<u4", count * page // 4).reshape(count, -1, LANES)
    # Lane-major blocks of one row each: every step then runs over contiguous memory.
    first = words[:, 0, :].copy()
    first[:, 2] &= np.uint32(0xFFFF0000)  # pd_checksum itself counts as zero
    sums = np.broadcast_to(_BASES, (count, LANES)).copy()
    shifted = np.empty_like(sums)
    for row in range(words.shape[1]):
        np.bitwise_xor(sums, words[:, row, :] if row else first, out=sums)
        _mix(sums, shifted)
    _mix(sums, shifted)
    _mix(sums, shifted)
    folded = np.bitwise_xor.reduce(sums, axis=1) ^ blocks
    result: NDArray[np.uint16] = (folded % np.uint32(65535) + np.uint32(1)).astype(np.uint16)
    return result


def _mix(sums: NDArray[np.uint32], shifted: NDArray[np.uint32]) -> None:
    np.right_shift(sums, _SHIFT, out=shifted)
    np.multiply(sums, _PRIME, out=sums)
    np.bitwise_xor(sums, shifted, out=sums)
