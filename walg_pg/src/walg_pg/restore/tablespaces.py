"""Where tablespaces go on restore (spec/postgres-backup.md 8.4, 11.3 and 16 item 6)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from walg_core.errors import ConfigError, EngineError, IntegrityError
from walg_core.io.destination import Destination, components
from walg_core.observe import log

RELOCATED = "tablespaces"
"""Directory in the destination for tablespaces of a cluster that is restored elsewhere than it was."""


@dataclass(frozen=True, slots=True)
class Tablespace:
    """One tablespace: its oid, where its link stands (relative to the data directory) and what it points at."""

    oid: str
    link: str
    location: str


@dataclass(frozen=True, slots=True)
class Spec:
    """A tablespace spec; `base_prefix` is the data directory that it was made for."""

    base_prefix: str
    tablespaces: tuple[Tablespace, ...]


def parse_spec(values: Any, where: str) -> Spec:
    """A spec as stored or as given by `--restore-spec`. Raises IntegrityError that names `where`."""
    if not isinstance(values, dict):
        raise IntegrityError(f"{where} is not a JSON object")
    prefix = values.get("base_prefix")
    if not isinstance(prefix, str):
        raise IntegrityError(f"{where} has no base_prefix")
    names = values.get("tablespaces") or []
    if not isinstance(names, list):
        raise IntegrityError(f"{where}: tablespaces must be a list of oids")
    return Spec(prefix.rstrip("/") or "/", tuple(_tablespace(name, values.get(name), where) for name in names))


def _tablespace(name: Any, row: Any, where: str) -> Tablespace:
    if not isinstance(name, str) or not name.isascii() or not name.isdigit():
        raise IntegrityError(f"{where}: {name!r} is not the oid of a tablespace")
    location, link = (row.get("loc"), row.get("link")) if isinstance(row, dict) else (None, None)
    if not isinstance(location, str) or not isinstance(link, str):
        raise IntegrityError(f"{where}: tablespace {name} needs the texts loc and link")
    if components(link) != (b"pg_tblspc", name.encode()):
        raise IntegrityError(f"{where}: the link of tablespace {name} must be pg_tblspc/{name}, not {link!r}")
    if not location.startswith("/") or "\0" in location or ".." in location.split("/"):
        raise IntegrityError(f"{where}: the location of tablespace {name} must be an absolute path, not {location!r}")
    return Tablespace(name, f"pg_tblspc/{name}", os.path.normpath(location))


def read_map(contents: bytes) -> list[tuple[str, str]]:
    """The lines of a `tablespace_map`: oid and location, whose line ends and backslashes are escaped by a backslash.

    (PostgreSQL's access/transam/xlogrecovery.c, read_tablespace_map; before 15 backslashes were not.) Raises
    IntegrityError.
    """
    rows, line, escaped = [], bytearray(), False
    for byte in contents:
        if escaped or byte not in b"\\\n\r":
            line.append(byte)
            escaped = False
        elif byte == ord("\\"):
            escaped = True
        elif line:
            oid, _, location = os.fsdecode(bytes(line)).partition(" ")
            row = _tablespace(oid, {"loc": location, "link": f"pg_tblspc/{oid}"}, "the tablespace map")
            rows.append((row.oid, row.location))
            line.clear()
    if line:
        raise IntegrityError("the tablespace map ends in the middle of a line")
    return rows


def read_restore_spec(path: str) -> Spec:
    """The file given by `--restore-spec`. Raises ConfigError."""
    import json

    try:
        with open(path, "rb") as file:
            values = json.loads(file.read())
        return parse_spec(values, f"the restore spec {path}")
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"the restore spec {path} cannot be read: {error}") from error
    except IntegrityError as error:
        raise ConfigError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Layout:
    """The tablespaces of this restore. `moved`: their locations are not those of the backup's tablespace map."""

    tablespaces: tuple[Tablespace, ...]
    moved: bool

    def describe(self) -> list[str]:
        return [f"tablespace {each.oid} in {each.location}" for each in self.tablespaces]


def plan_layout(destination: str, stored: Any, restore_spec: Spec | None, where: str) -> Layout:
    """Locations for a restore into `destination` (a resolved path).

    A restore spec decides. Without one, the original data directory gets its tablespaces at their original
    locations; in any other directory they are placed below the destination, because the original locations may
    belong to a running server.
    """
    if restore_spec is not None:
        _check_prefix(restore_spec, destination)
        return Layout(restore_spec.tablespaces, moved=True)
    if stored is None:
        return Layout((), moved=False)
    spec = parse_spec(stored, where)
    if os.path.realpath(spec.base_prefix) == destination:
        return Layout(spec.tablespaces, moved=False)
    return Layout(
        tuple(
            Tablespace(each.oid, each.link, os.path.join(destination, RELOCATED, each.oid)) for each in spec.tablespaces
        ),
        moved=bool(spec.tablespaces),
    )


def _check_prefix(spec: Spec, destination: str) -> None:
    if spec.tablespaces and os.path.realpath(spec.base_prefix) != destination:
        log.warning(
            f"the restore spec was made for {spec.base_prefix}; the links are made in {destination}, where data goes"
        )


def check_locations(layout: Layout, destination: str) -> None:
    """Before anything is written: every location outside the destination is missing or an empty directory."""
    for each in layout.tablespaces:
        if each.location.startswith(os.path.join(destination, "")):
            continue
        try:
            names = os.listdir(each.location)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise EngineError(f"the location {each.location} of tablespace {each.oid}: {error.strerror}") from error
        if names:
            raise EngineError(
                f"the location {each.location} of tablespace {each.oid} is not empty: a running server may use it",
                hint="empty it, or give another location with --restore-spec",
            )


def prepare(layout: Layout, root: Destination, *, fsync: bool) -> None:
    """Open every location as a root of its own and let the members of the tablespace go there."""
    for each in layout.tablespaces:
        if each.location.startswith(os.path.join(root.path, "")):
            inside = components(os.path.relpath(each.location, root.path))
            for depth in range(1, len(inside) + 1):
                root.make_dir(inside[:depth], 0o700)
        root.mount(components(each.link), Destination(each.location, mode=0o700, fsync=fsync))


def link(layout: Layout, root: Destination) -> None:
    """Make the links, after what they point at is there."""
    for each in layout.tablespaces:
        root.symlink(components(each.link), each.location)
    if layout.moved and layout.tablespaces:
        log.info("tablespaces are not where the backup had them: " + ", ".join(layout.describe()))
