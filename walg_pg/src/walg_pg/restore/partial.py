"""`--restore-only`: which files belong to the chosen databases and relations (spec/postgres-backup.md 11.5).

Beside the relations that match, what depends on them is taken: partitions, TOAST tables with their indexes, and
indexes, which are recognised by PostgreSQL's naming: the table's name and `_` in front, in the same schema.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from walg_core.errors import UsageError

from walg_pg.restore.chain import Link, bare

_FIRST_USER_OID = 16384
_NUMBER = re.compile(r"^[1-9][0-9]*")


class Pattern(NamedTuple):
    """One item of the list, as anchored expressions; `relation` None: the whole database."""

    text: str
    database: re.Pattern[str]
    relation: re.Pattern[str] | None


def parse(texts: Sequence[str]) -> list[Pattern]:
    """The comma-separated lists (quoted as in CSV), of which the option may bring several. Raises UsageError."""
    rows = list(csv.reader(texts, skipinitialspace=True))
    items = [item.strip() for row in rows for item in row if item.strip()]
    if not items:
        raise UsageError("--restore-only names nothing")
    return [_pattern(item) for item in items]


def _pattern(item: str) -> Pattern:
    parts = item.split("/")
    if len(parts) > 3 or not all(parts):
        raise UsageError(
            f"--restore-only: {item!r} is not of the form db, db/table, db/schema.table or db/schema/table"
        )
    relation = None
    if len(parts) == 3:
        relation = f"{parts[1]}.{parts[2]}"
    elif len(parts) == 2:
        relation = parts[1] if "." in parts[1] else f"public.{parts[1]}"
    return Pattern(item, _expression(parts[0]), _expression(relation) if relation else None)


def _expression(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text.replace("*", ".*"))
    except re.error as error:
        raise UsageError(f"--restore-only: {text!r} is not a valid expression: {error}") from error


def selector(texts: Sequence[str]) -> Callable[[Link], Callable[[str], bool] | None]:
    """A function from the newest backup to the filter over its files. Raises UsageError for what matches nothing."""
    patterns = parse(texts)

    def select(link: Link) -> Callable[[str], bool]:
        databases = link.files.databases if link.files else {}
        if not databases:
            raise UsageError(
                f"backup {link.name} does not know the names of its databases: --restore-only cannot be used",
                hint="remote backups and those made with WALG_DISABLE_PARTIAL_RESTORE can only be restored whole",
            )
        allowed = _allowed(databases, patterns)
        return lambda name: _keeps(name, allowed)

    return select


def _allowed(databases: dict[str, dict[str, Any]], patterns: list[Pattern]) -> dict[int, set[int] | None]:
    """Database oid → the file numbers to restore beside the catalogs; None: all of them."""
    out: dict[int, set[int] | None] = {}
    unmatched = {pattern.text for pattern in patterns}
    for name, row in databases.items():
        relations: dict[str, dict[str, Any]] = row.get("tables_new") or {}
        oid = int(row.get("oid") or 0)
        chosen: set[int] | None = {
            number
            for each in relations.values()
            if int(each.get("oid") or 0) < _FIRST_USER_OID
            for number in _numbers(each)
        }
        for pattern in patterns:
            if not pattern.database.fullmatch(name):
                continue
            if pattern.relation is None:
                chosen = None
                unmatched.discard(pattern.text)
                continue
            found = _relations(relations, pattern.relation)
            if found:
                unmatched.discard(pattern.text)
            if chosen is not None:
                chosen.update(found)
        out[oid] = chosen
    if unmatched:
        raise UsageError(
            f"--restore-only: no database or relation of the backup matches {', '.join(sorted(unmatched))}",
            hint="names are matched as they were when the backup was made: db, db/table, db/schema.table",
        )
    return out


def _relations(relations: dict[str, dict[str, Any]], wanted: re.Pattern[str]) -> set[int]:
    out: set[int] = set()
    for name, row in relations.items():
        inner = {child: values for child, values in (row.get("subtables") or {}).items() if wanted.fullmatch(child)}
        if wanted.fullmatch(name):
            inner = {name: row, **(row.get("subtables") or {})}
        for each, values in inner.items():
            out.update(_numbers(values))
            out.update(_dependents(relations, each, int(values.get("oid") or 0)))
    return out


def _dependents(relations: dict[str, dict[str, Any]], name: str, oid: int) -> Iterator[int]:
    toast = f"pg_toast.pg_toast_{oid}"
    for each in (toast, f"{toast}_index"):
        if each in relations:
            yield from _numbers(relations[each])
    for other, row in relations.items():
        if other.startswith(name + "_"):
            yield from _numbers(row)


def _numbers(row: dict[str, Any]) -> Iterator[int]:
    if number := int(row.get("relfilenode") or 0):
        yield number
    for child in (row.get("subtables") or {}).values():
        if number := int(child.get("relfilenode") or 0):
            yield number


def _keeps(name: str, allowed: dict[int, set[int] | None]) -> bool:
    parts = bare(name).split("/")
    if parts[0] not in ("base", "pg_tblspc") or len(parts) < 3 or not parts[-2].isdigit():
        return True
    database, number = int(parts[-2]), _NUMBER.match(parts[-1])
    if database < _FIRST_USER_OID or number is None:
        return True
    chosen = allowed.get(database, set())
    return chosen is None or int(number.group()) in chosen
