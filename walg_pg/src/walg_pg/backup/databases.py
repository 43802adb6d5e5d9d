"""Names of databases and relations with their file numbers: `DatabasesByNames`, for partial restores (spec 8.3).

Unlike the original, partitions in other schemas than their parent's and indexes of partitions are listed too: a
parent is found by its own oid, and partitioned indexes count as kept (spec 16, item 26).
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from walg_core.errors import EngineError
from walg_core.observe import log

from walg_pg.server import Server

_DATABASES = "select datname, oid::int8, datallowconn from pg_database order by datname"
_RELATIONS = """
select c.oid::int8, n.nspname, c.relname, c.relkind::text, c.relfilenode::int8,
       case when c.relfilenode = 0 then pg_relation_filepath(c.oid) end, i.inhparent::int8
from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_inherits i on i.inhrelid = c.oid
"""


class _Relation(NamedTuple):
    name: str
    oid: int
    node: int
    kept: bool
    parents: tuple[int, ...]


def collect() -> dict[str, Any]:
    """The value of `DatabasesByNames`. A database that cannot be read is left out with a warning."""
    found: dict[str, Any] = {}
    with Server.connect() as server:
        databases = server.query(_DATABASES)
    for name, oid, connectable in databases:
        if not connectable:
            continue
        try:
            with Server.connect(name) as server:
                tables = relations(server)
        except EngineError as error:
            log.warning(f"relations of database {name} are not listed: {error}")
            continue
        found[name] = {"oid": oid, **({"tables_new": tables} if tables else {})}
    return found


def relations(server: Server) -> dict[str, Any]:
    """`tables_new` of the database that the session is connected to."""
    rows: dict[int, _Relation] = {}
    for oid, schema, name, kind, node, path, parent in server.query(_RELATIONS):
        if path:
            node = int(path.rsplit("/", 1)[-1])
        kept = bool(node) or kind in ("p", "I")
        earlier = rows[oid].parents if oid in rows else ()
        parents = (*earlier, parent) if parent is not None else earlier
        rows[oid] = _Relation(f"{schema}.{name}", oid, node, kept, parents)
    tops: dict[str, Any] = {}
    for relation in rows.values():
        if not relation.kept:
            continue
        value = {"oid": relation.oid, "relfilenode": relation.node}
        top = _top(relation, rows)
        if top is relation:
            tops.setdefault(relation.name, {}).update(value)
        elif top.kept:
            tops.setdefault(top.name, {}).setdefault("subtables", {})[relation.name] = value
    # `subtables` stands last, as in the original's structure.
    return {
        name: {**{k: v for k, v in value.items() if k != "subtables"}, **_subtables(value)}
        for name, value in tops.items()
        if "oid" in value
    }


def _subtables(value: dict[str, Any]) -> dict[str, Any]:
    return {"subtables": value["subtables"]} if "subtables" in value else {}


def _top(relation: _Relation, rows: dict[int, _Relation]) -> _Relation:
    seen = {relation.oid}
    while True:
        parent = next((rows[oid] for oid in relation.parents if oid in rows and oid not in seen), None)
        if parent is None:
            return relation
        seen.add(parent.oid)
        relation = parent


class EarlyCollection:
    """`collect` in a thread beside the copying, so that its failure is known early and costs no time at the end."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, name="database names", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = collect()
        except EngineError as error:
            log.warning(f"names of databases are not recorded, partial restore will not work: {error}")

    def result(self, patience: float = 300) -> dict[str, Any]:
        """What was found; empty after a failure or when the server needs longer than `patience` seconds."""
        self._thread.join(patience)
        return self._found
