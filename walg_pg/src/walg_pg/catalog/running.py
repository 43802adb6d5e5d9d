"""Backups in progress as deletion sees them (walg_core.backups.claims): their parts, their bases, their WAL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from walg_core.backups import claims

from walg_pg.catalog.history import Record, position_in

if TYPE_CHECKING:
    from walg_core.storage.api import Storage

_NO_END = 1 << 60


def claim_values(base: str | None, start_lsn: int, finish_lsn: int | None = None) -> dict[str, Any]:
    """What a claim says besides the name: the base of a delta, and the WAL that the backup needs (LSNs)."""
    return {"base": base or "", "start_lsn": start_lsn, "finish_lsn": finish_lsn}


def running(storages: Sequence[Storage], segment_size: int) -> list[Record]:
    """The backups that are being made or copied to `storages`. Raises StorageError.

    To be called before the finished ones are read: a backup that ends in between is seen at least once.
    """
    return [
        _record(claim, storage.name, segment_size)
        for storage in storages
        for claim in claims.live(storage, claims.BACKUP)
    ]


def _record(claim: claims.Claim, storage: str, segment_size: int) -> Record:
    position = position_in(claim.name, segment_size)
    timeline, own = position or (0, 0)
    start, finish = _number(claim, "start_lsn"), _number(claim, "finish_lsn")
    return Record(
        name=claim.name,
        storage=storage,
        time_ns=0,
        start_ns=None,
        position=position,
        base=claim.base or None,
        first_segment=(start - 1) // segment_size if start else own,
        last_segment=(finish - 1) // segment_size if finish else _NO_END,
        timeline=timeline,
        note=f"it is {claim}",
    )


def _number(claim: claims.Claim, name: str) -> int:
    value = claim.values.get(name)
    return value if isinstance(value, int) else 0
