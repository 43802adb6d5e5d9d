"""`backup-fetch --dry-run`: what a restore would do, and whether it can succeed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from walg_core.observe.progress import human

from walg_pg.journal.archive import timelines
from walg_pg.lsn import format_lsn, segment_name
from walg_pg.names import WAL_FOLDER, timeline_of

if TYPE_CHECKING:
    from walg_core.context import Context

    from walg_pg.restore.fetch import Plan


def report(context: Context, plan: Plan) -> dict[str, Any]:
    """The plan as plain values: chain, bytes, WAL from the backup on and its gaps, space. Writes nothing."""
    newest = plan.newest
    return {
        "backup": newest.name,
        "storage": newest.backup.storage.name,
        "destination": plan.destination,
        "chain": [
            {
                "name": link.name,
                "kind": "delta" if link.sentinel.is_delta else "full",
                "parts": len(parts),
                "stored_bytes": sum(part.size for part in parts),
            }
            for link, parts in plan.steps
        ],
        "download_bytes": plan.download_size,
        "needed_bytes": plan.needed_space,
        "free_bytes": _free(plan.destination),
        "tablespaces": {each.oid: each.location for each in plan.layout.tablespaces},
        "wal": wal_range(context, plan),
        "settings": dict(plan.request.recovery),
    }


def wal_range(context: Context, plan: Plan) -> dict[str, Any]:
    """The WAL that makes the backup consistent, what of it is missing, and how far the archive goes on."""
    size = int(context.config.get("WALG_PG_WAL_SIZE")) << 20
    newest = plan.newest
    sentinel, timeline = newest.sentinel, timeline_of(newest.name)
    first = ((sentinel.start_lsn or 1) - 1) // size if sentinel.start_lsn else 0
    last = ((sentinel.finish_lsn or 1) - 1) // size
    first = min(max(first, (sentinel.start_lsn or 0) // size), last)
    archived = timelines(context, newest.backup.storage.folder(WAL_FOLDER), size).get(timeline)
    there = set(archived.segments) if archived else set()
    until = last
    while until + 1 in there:
        until += 1
    missing = [segment_name(timeline, number, size) for number in range(first, last + 1) if number not in there]
    return {
        "start_lsn": format_lsn(sentinel.start_lsn or 0),
        "finish_lsn": format_lsn(sentinel.finish_lsn or 0),
        "first": segment_name(timeline, first, size),
        "last": segment_name(timeline, last, size),
        "continuous_to": segment_name(timeline, until, size),
        "missing": missing,
        "complete": not missing,
    }


def _free(path: str) -> int:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def as_text(values: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"Restore of {values['backup']} (storage {values['storage']}) into {values['destination']}"]
    lines += [
        f"  {each['kind']:5} {each['name']}: {each['parts']} part{'s' * (each['parts'] != 1)}, "
        f"{human(each['stored_bytes'])}"
        for each in values["chain"]
    ]
    lines.append(f"  to download: {human(values['download_bytes'])}")
    enough = "" if values["free_bytes"] >= values["needed_bytes"] else "  NOT ENOUGH"
    lines.append(f"  space: {human(values['needed_bytes'])} needed, {human(values['free_bytes'])} free{enough}")
    lines += [f"  tablespace {oid}: {location}" for oid, location in values["tablespaces"].items()]
    wal = values["wal"]
    state = "complete" if wal["complete"] else f"MISSING {', '.join(wal['missing'][:5])}"
    lines.append(
        f"  WAL to consistency: {wal['first']} to {wal['last']}, {state}; archive goes on to {wal['continuous_to']}"
    )
    lines += [f"  {name} = {value}" for name, value in values["settings"].items()]
    return "\n".join(lines)
